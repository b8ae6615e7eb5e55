"""What the methods without random numbers share: differential equations between exact doses.

A method gives a `System`, a function of the network alone that makes a right-hand side of the
drift's form; here every patient is solved from time 0, dose after dose, save time after save time.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix

from engine.errors import InvalidInput
from engine.inputs.layout import InputLayout
from engine.kinetics.drift import Drift, resolve_parameters, state_names
from engine.kinetics.evaluate import evaluate
from engine.network.expressions import TIME
from engine.network.network import ReactionNetwork

Array = Any
System = Callable[[ReactionNetwork], Drift]
Entries = tuple[tuple[str, int, int], ...]  # an input, and where its level and modes begin and end
# Patients solved side by side: no more than this, and no more Jacobians than fit these bytes.
MAX_CHUNK = 256
CHUNK_BYTES = 2**28


class Tolerances(Protocol):
    """What a solver needs of a method, which must be hashable."""

    @property
    def rtol(self) -> float:
        """Relative tolerance of a step."""

    @property
    def atol(self) -> float:
        """Absolute tolerance of a step."""

    @property
    def max_steps(self) -> int:
        """Largest number of steps between two doses."""

    def linear_solver(self, network: ReactionNetwork) -> Any:
        """What solves the linear systems of an implicit step."""


def check_tolerances(method: Tolerances) -> None:
    """Raise unless every number of a method is positive."""
    for name in ("rtol", "atol", "max_steps"):
        value = getattr(method, name)
        if not value > 0:
            raise InvalidInput(f"{type(method).__name__} {name} is {value}; give a positive number")


class Plan(NamedTuple):
    """A dosing schedule for every patient: leading axis N; a null dose at time 0 comes first."""

    rates: Array  # (N, total)
    initial: Array  # (N, total)
    gains: Array  # what a unit bolus adds, (N, total)
    times: Array  # (N, D)
    keep: Array  # (N, D, total)
    increments: Array  # (N, D, total)
    state_increments: Array  # (N, D, Y)


class Rows(NamedTuple):
    """Everything about the patients that is a number: leading axis N in every array."""

    params: dict[str, Array]
    y0: Array  # (N, Y)
    plan: Plan


def integrate(
    method: Tolerances,
    system: System,
    network: ReactionNetwork,
    ts: np.ndarray,
    params: Mapping[str, Array],
    x0: np.ndarray,
    schedule: Any,
    num_extra: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve a system of every patient from time 0, in chunks.

    Between doses an input is its level plus sum_m A_m exp(-rate_m (t - t_segment)), analytically;
    the solver stops at every dose and restarts behind it, and steps exactly onto the save times.
    A save time that is a dose time is saved after the dose.

    Args:
        method: tolerances.
        system: makes the right-hand side; compiled once for every network structure.
        network: the network.
        ts: save times, increasing, first >= 0, float64 (T,).
        params: every or some of the parameters and compartments, scalars or (N,), by name.
        x0: state at time 0, (N, S): the species, and optionally behind them the variables that a
            rate rule changes (their initial values otherwise).
        schedule: a compiled `DosingSchedule`, its leading axis 1 (shared) or N; None where the
            network has no inputs and nothing is dosed.
        num_extra: further unknowns of the system behind the states, 0 at time 0.

    Returns:
        The solution (N, T, S + num_extra), float64, and a boolean (N,) that is False where the
        solver ran out of steps or left the finite numbers.

    Raises:
        InvalidInput: an input without a schedule, or arrays of the wrong shape.
    """
    times = save_times(ts)
    rows = prepare_rows(network, params, x0, schedule, num_extra)
    shared = representative(network)
    values, is_ok = in_chunks(
        lambda chunk: _solve_chunk(method, system, shared, entries(schedule), times, chunk), rows
    )
    return values, is_ok


def in_chunks(solve: Callable[[Rows], tuple[Array, ...]], rows: Rows) -> tuple[np.ndarray, ...]:
    """Solve chunk after chunk in float64; a chunk's rows are padded to a power of two.

    Args:
        solve: compiled, of the rows of a chunk.
        rows: all patients.

    Returns:
        The results of all patients, leading axis N.
    """
    count, width = rows.y0.shape
    size = min(_chunk_size(width), 1 << max(count - 1, 0).bit_length())
    pieces = []
    with jax.enable_x64(True):
        for start in range(0, count, size):
            pick = np.minimum(np.arange(start, start + size), count - 1)
            chunk = jax.tree.map(lambda a, pick=pick: a[pick], rows)
            pieces.append([np.asarray(part) for part in solve(chunk)])
    return tuple(np.concatenate(parts)[:count] for parts in zip(*pieces, strict=True))


def _chunk_size(width: int) -> int:
    size = MAX_CHUNK
    while size > 1 and size * width**2 * 8 > CHUNK_BYTES:
        size //= 2
    return size


class _Structure:
    """A network, equal to others that differ in numbers only: those share compiled code."""

    def __init__(self, network: ReactionNetwork) -> None:
        self.network = network

    def __hash__(self) -> int:
        return hash(self.network.structure)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Structure) and self.network.structure == other.network.structure


@lru_cache(maxsize=64)
def _first(structure: _Structure) -> ReactionNetwork:
    return structure.network


def representative(network: ReactionNetwork) -> ReactionNetwork:
    """The first network of the same structure, so that equal ones compile once."""
    return _first(_Structure(network))


# Device side: one patient, vmapped over a chunk.


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _solve_chunk(
    method: Tolerances,
    system: System,
    network: ReactionNetwork,
    inputs: Entries,
    ts: Array,
    rows: Rows,
) -> tuple[Array, Array]:
    return jax.vmap(partial(solve_patient, method, system, network, inputs, ts))(rows)


def solve_patient(
    method: Tolerances,
    system: System,
    network: ReactionNetwork,
    inputs: Entries,
    ts: Array,
    rows: Rows,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> tuple[Array, Array]:
    """One patient (no leading axes): a scan over the segments between doses.

    A pure function of arrays that can be differentiated in them (`jax.grad`, `jax.jacrev`); call
    it under `jax.enable_x64(True)`. For `jax.jvp` and `jax.jacfwd` give diffrax.ForwardMode().

    Returns:
        The solution (T, Y), and whether the solver succeeded.
    """
    plan = rows.plan
    derivative = system(network)

    def segment(carry: tuple[Array, ...], dose: tuple[Array, ...]) -> tuple[tuple, None]:
        y, amplitudes, before, values, is_ok = carry
        time, end, keep, increments, state_increments = dose
        y = y + state_increments
        amplitudes = amplitudes * jnp.exp(-plan.rates * (time - before)) * keep + increments

        def field(t: Array, y: Array, args: Any) -> Array:
            params, rates, start, amplitudes = args
            levels = input_levels(inputs, rates, amplitudes, t - start)
            return derivative(t, y, params, levels)

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver_of(method, network),
            time,
            end,
            None,
            y,
            args=(rows.params, plan.rates, time, amplitudes),
            saveat=diffrax.SaveAt(ts=jnp.clip(ts, time, end), t1=True),
            stepsize_controller=controller_of(method, ts),
            max_steps=method.max_steps,
            throw=False,
            adjoint=adjoint or diffrax.RecursiveCheckpointAdjoint(),
        )
        values = jnp.where((ts >= time)[:, None], solution.ys[:-1], values)
        is_ok = is_ok & (solution.result == diffrax.RESULTS.successful)
        return (solution.ys[-1], amplitudes, time, values, is_ok), None

    is_due = plan.times <= ts[-1]
    starts = jnp.minimum(plan.times, ts[-1])
    doses = (
        starts,
        jnp.append(starts[1:], ts[-1]),
        jnp.where(is_due[:, None], plan.keep, 1.0),
        jnp.where(is_due[:, None], plan.increments, 0.0),
        jnp.where(is_due[:, None], plan.state_increments, 0.0),
    )
    nothing = jnp.zeros((len(ts), len(rows.y0)))
    carry = (rows.y0, plan.initial, starts[0], nothing, jnp.asarray(True))
    (_, _, _, values, is_ok), _ = jax.lax.scan(segment, carry, doses)
    return values, is_ok & jnp.all(jnp.isfinite(values))


def solver_of(method: Tolerances, network: ReactionNetwork) -> diffrax.AbstractSolver:
    """The implicit method of order 5 for possibly stiff equations.

    optimistix.Chord and a PI controller took a quarter of the steps that Diffrax's defaults
    (VeryChord, an I controller) took on the stiff IL-2 receptor model, with the same accuracy.
    """
    chord: Any = optimistix.Chord(
        rtol=method.rtol, atol=method.atol, linear_solver=method.linear_solver(network)
    )
    return diffrax.Kvaerno5(root_finder=chord)


def controller_of(method: Tolerances, stops: Array) -> diffrax.AbstractStepSizeController:
    """The step size controller that steps exactly onto `stops`."""
    pid = diffrax.PIDController(rtol=method.rtol, atol=method.atol, pcoeff=0.3, icoeff=0.3)
    return diffrax.ClipStepSizeController(pid, step_ts=stops)


def input_levels(
    inputs: Entries, rates: Array, amplitudes: Array, elapsed: Array
) -> dict[str, Array]:
    """The value of every input some time after its amplitudes held."""
    modes = amplitudes * jnp.exp(-rates * elapsed)
    # Modes of both signs cancel to rounding error where nothing is left; a level is not negative.
    return {name: jnp.maximum(modes[a:b].sum(), 0.0) for name, a, b in inputs}


# Host side.


def check_inputs(network: ReactionNetwork, schedule: Any) -> None:
    """Raise unless every input has a value, which is not below 0."""
    layout = InputLayout() if schedule is None else schedule.layout
    for name in sorted(layout.signed):
        raise InvalidInput(f"input '{name}' can be below 0, which rate equations do not follow")
    for item in network.inputs:
        if item.name not in layout.names:
            raise InvalidInput(
                f"input '{item.name}' of {network.name} has no value; give inputs={{'{item.name}': "
                "...}}, a constant or a pharmacokinetic model"
            )


def save_times(ts: np.ndarray) -> np.ndarray:
    """Increasing save times as float64, the first not before 0."""
    times = np.asarray(ts, np.float64)
    if times.ndim != 1 or not len(times) or times[0] < 0 or np.any(np.diff(times) <= 0):
        raise InvalidInput("ts must be increasing save times, the first >= 0")
    return times


def prepare_rows(
    network: ReactionNetwork,
    params: Mapping[str, Array],
    x0: np.ndarray,
    schedule: Any,
    num_extra: int = 0,
) -> Rows:
    """The numbers of every patient, checked: arguments as in `integrate`."""
    check_inputs(network, schedule)
    resolved = resolve_parameters(network, params)
    variables = _initial_variables(network, resolved)
    state = _initial_state(network, np.asarray(x0, np.float64), variables)
    count = len(state)
    rows = {name: _rows(f"parameter '{name}'", value, count) for name, value in resolved.items()}
    for name in variables.keys() - set(state_names(network)):
        rows[name] = _rows(f"variable '{name}'", variables[name], count)
    plan = _plan(network, schedule, count)
    boluses = plan.state_increments
    longer = np.zeros((*boluses.shape[:-1], num_extra))
    plan = plan._replace(state_increments=np.concatenate([boluses, longer], axis=-1))
    return Rows(rows, np.concatenate([state, np.zeros((count, num_extra))], axis=1), plan)


def _initial_variables(
    network: ReactionNetwork, params: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    known = {TIME: np.float64(0.0), **params}
    return {v.name: evaluate(v.initial, known, np, np.float64) for v in network.variables}


def _initial_state(
    network: ReactionNetwork, x0: np.ndarray, variables: Mapping[str, np.ndarray]
) -> np.ndarray:
    names = state_names(network)
    num_species = len(network.species_names)
    if x0.ndim != 2 or not len(x0) or x0.shape[1] not in (num_species, len(names)):
        raise InvalidInput(f"x0 has shape {x0.shape}; give (patients, {num_species})")
    if x0.shape[1] == len(names):
        return x0
    columns = [
        _rows(f"variable '{name}'", variables[name], len(x0)) for name in names[num_species:]
    ]
    return np.concatenate([x0, np.stack(columns, axis=1)], axis=1)


def _rows(what: str, value: Array, count: int) -> np.ndarray:
    """A value per patient."""
    array = np.asarray(value, np.float64)
    if array.shape not in ((), (1,), (count,)):
        raise InvalidInput(f"{what} has shape {array.shape}; give a scalar or ({count},)")
    return np.broadcast_to(array, (count,))


def entries(schedule: Any) -> Entries:
    """Where each input lies in the flat amplitudes of a schedule."""
    result, start = [], 0
    if schedule is not None:
        for name, modes in zip(schedule.layout.names, schedule.layout.num_modes, strict=True):
            result.append((name, start, start + 1 + modes))
            start += 1 + modes
    return tuple(result)


def _plan(network: ReactionNetwork, schedule: Any, count: int) -> Plan:
    """The schedule's arrays patient by patient, a null dose at time 0 in front."""
    names = state_names(network)
    if schedule is None:
        empty = np.zeros((count, 1, 0))
        no_state = np.zeros((count, 1, len(names)))
        none = empty[:, 0]
        return Plan(none, none, none, np.zeros((count, 1)), empty, empty, no_state)
    sizes = [end - start for _, start, end in entries(schedule)]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    boluses = np.asarray(schedule.species_increments, np.float64)
    state_increments = np.zeros((*boluses.shape[:2], len(names)))
    for column, name in enumerate(schedule.species):
        state_increments[..., names.index(name)] = boluses[..., column]
    arrays = (
        np.asarray(schedule.rates, np.float64).T,
        np.asarray(schedule.initial, np.float64).T,
        np.asarray(schedule.gains, np.float64).T,
        _with_null_dose(schedule.times, 0.0),
        _with_null_dose(np.asarray(schedule.keep)[..., owners], 1.0),
        _with_null_dose(schedule.increments, 0.0),
        _with_null_dose(state_increments, 0.0),
    )
    for array in arrays:
        if len(array) not in (1, count):
            raise InvalidInput(f"the schedule is for {len(array)} patients, there are {count}")
    return Plan(*(np.broadcast_to(a, (count, *a.shape[1:])) for a in arrays))


def _with_null_dose(array: Array, value: float) -> np.ndarray:
    """The array with one more entry, `value`, in front on its dose axis."""
    array = np.asarray(array, np.float64)
    first = np.full((len(array), 1, *array.shape[2:]), value)
    return np.concatenate([first, array], axis=1)
