"""The deterministic method: reaction-rate equations in counts, with doses at exact times."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix

from engine.errors import InvalidInput
from engine.kinetics.drift import drift, resolve_parameters, state_names
from engine.kinetics.evaluate import evaluate
from engine.network.expressions import TIME
from engine.network.network import ReactionNetwork

Array = Any
Entries = tuple[tuple[str, int, int], ...]  # an input, and where its level and modes begin and end
MAX_CHUNK = 256


@dataclass(frozen=True)
class ODE:
    """Reaction-rate equations by an implicit Runge-Kutta method of order 5 (Kvaerno5).

    Deterministic: no noise, no extinction, no bimodality. It is the mean of the exact process only
    for laws linear in the counts. Cost per step: one Jacobian and one LU factorisation (S^3).
    Use when counts are large, to look at a model first, or as the reference of the mean field.
    It cannot run events yet.

    Args:
        rtol: relative tolerance of a step; 1e-8.
        atol: absolute tolerance of a step, molecules; 1e-8.
        max_steps: largest number of steps between two doses; 1,000,000.

    References:
        Kvaerno 2004, BIT Numerical Mathematics 44:489; Kidger 2021, arXiv:2202.02435 (Diffrax).
    """

    rtol: float = 1e-8
    atol: float = 1e-8
    max_steps: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("rtol", "atol", "max_steps"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"ODE {name} is {getattr(self, name)}; give a positive number")


class _Plan(NamedTuple):
    """A dosing schedule for every patient: leading axis N; a null dose at time 0 comes first."""

    rates: Array  # (N, total)
    initial: Array  # (N, total)
    times: Array  # (N, D)
    keep: Array  # (N, D, total)
    increments: Array  # (N, D, total)
    state_increments: Array  # (N, D, S)


def integrate(
    method: ODE,
    network: ReactionNetwork,
    ts: np.ndarray,
    params: Mapping[str, Array],
    x0: np.ndarray,
    schedule: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the reaction-rate equations of every patient from time 0.

    Between doses an input is its level plus sum_m A_m exp(-rate_m (t - t_segment)), analytically;
    the solver stops at every dose and restarts behind it, and steps exactly onto the save times.
    A save time that is a dose time is saved after the dose.

    Args:
        method: tolerances.
        network: the network, without events.
        ts: save times, increasing, first >= 0, float64 (T,).
        params: every or some of the parameters and compartments, scalars or (N,), by name.
        x0: state at time 0, (N, S): the species, and optionally behind them the variables that a
            rate rule changes (their initial values otherwise).
        schedule: a compiled `DosingSchedule`, its leading axis 1 (shared) or N; None where the
            network has no inputs and nothing is dosed.

    Returns:
        The values, float64 (N, T, S) in the order of `state_names(network)`, molecules; and a
        boolean (N,) that is False where the solver ran out of steps or left the finite numbers.

    Raises:
        InvalidInput: events, an input without a schedule, or arrays of the wrong shape.

    Example:
        >>> from engine.network.rate_laws import MassAction
        >>> from engine.network.reactions import Reaction
        >>> network = ReactionNetwork({"X": 100}, [Reaction("X -> 0", MassAction("k"))], {"k": 1.0})
        >>> values, is_ok = integrate(ODE(), network, np.array([0.0, 1.0]), {}, np.array([[100.0]]))
        >>> values[0, :, 0].round(4).tolist()
        [100.0, 36.7879]
    """
    _check(network, schedule)
    times = np.asarray(ts, np.float64)
    if times.ndim != 1 or not len(times) or times[0] < 0 or np.any(np.diff(times) <= 0):
        raise InvalidInput("ts must be increasing save times, the first >= 0")
    resolved = resolve_parameters(network, params)
    variables = _initial_variables(network, resolved)
    state = _initial_state(network, np.asarray(x0, np.float64), variables)
    count = len(state)
    rows = {name: _rows(f"parameter '{name}'", value, count) for name, value in resolved.items()}
    for name in variables.keys() - set(state_names(network)):
        rows[name] = _rows(f"variable '{name}'", variables[name], count)
    plan = _plan(network, schedule, count)
    inputs = _entries(schedule)
    shared = _representative(_Structure(network))
    size = min(MAX_CHUNK, 1 << max(count - 1, 0).bit_length())
    values, is_ok = [], []
    with jax.enable_x64(True):
        for start in range(0, count, size):
            pick = np.minimum(np.arange(start, start + size), count - 1)
            chunk = jax.tree.map(lambda a, pick=pick: a[pick], (rows, state, plan))
            found = _solve_chunk(method, shared, inputs, times, *chunk)
            values.append(np.asarray(found[0]))
            is_ok.append(np.asarray(found[1]))
    return np.concatenate(values)[:count], np.concatenate(is_ok)[:count]


class _Structure:
    """A network, equal to others that differ in numbers only: those share compiled code."""

    def __init__(self, network: ReactionNetwork) -> None:
        self.network = network

    def __hash__(self) -> int:
        return hash(self.network.structure)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Structure) and self.network.structure == other.network.structure


@lru_cache(maxsize=64)
def _representative(structure: _Structure) -> ReactionNetwork:
    return structure.network


# Device side: one patient, vmapped over a chunk.


@partial(jax.jit, static_argnums=(0, 1, 2))
def _solve_chunk(
    method: ODE,
    network: ReactionNetwork,
    inputs: Entries,
    ts: Array,
    params: dict[str, Array],
    x0: Array,
    plan: _Plan,
) -> tuple[Array, Array]:
    solve = partial(_solve_patient, method, network, inputs, ts)
    return jax.vmap(solve)(params, x0, plan)


def _solve_patient(
    method: ODE,
    network: ReactionNetwork,
    inputs: Entries,
    ts: Array,
    params: dict[str, Array],
    x0: Array,
    plan: _Plan,
) -> tuple[Array, Array]:
    """One patient: a scan over the segments between doses."""
    derivative = drift(network)
    rtol, atol = method.rtol, method.atol
    # optimistix.Chord and a PI controller took a quarter of the steps that Diffrax's defaults
    # (VeryChord, an I controller) took on the stiff IL-2 receptor model, with the same accuracy.
    solver = diffrax.Kvaerno5(root_finder=optimistix.Chord(rtol=rtol, atol=atol))
    pid = diffrax.PIDController(rtol=rtol, atol=atol, pcoeff=0.3, icoeff=0.3)
    controller = diffrax.ClipStepSizeController(pid, step_ts=ts)

    def field(t: Array, x: Array, segment: tuple[Array, Array]) -> Array:
        start, amplitudes = segment
        modes = amplitudes * jnp.exp(-plan.rates * (t - start))
        levels = {name: jnp.maximum(modes[a:b].sum(), 0.0) for name, a, b in inputs}
        return derivative(t, x, params, levels)

    def segment(carry: tuple[Array, ...], dose: tuple[Array, ...]) -> tuple[tuple, None]:
        x, amplitudes, before, values, is_ok = carry
        time, end, keep, increments, state_increments = dose
        x = x + state_increments
        amplitudes = amplitudes * jnp.exp(-plan.rates * (time - before)) * keep + increments
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            time,
            end,
            None,
            x,
            args=(time, amplitudes),
            saveat=diffrax.SaveAt(ts=jnp.clip(ts, time, end), t1=True),
            stepsize_controller=controller,
            max_steps=method.max_steps,
            throw=False,
        )
        values = jnp.where((ts >= time)[:, None], solution.ys[:-1], values)
        is_ok = is_ok & (solution.result == diffrax.RESULTS.successful)
        return (solution.ys[-1], amplitudes, time, values, is_ok), None

    is_due = plan.times <= ts[-1]
    starts = jnp.minimum(plan.times, ts[-1])
    ends = jnp.append(starts[1:], ts[-1])
    doses = (
        starts,
        ends,
        jnp.where(is_due[:, None], plan.keep, 1.0),
        jnp.where(is_due[:, None], plan.increments, 0.0),
        jnp.where(is_due[:, None], plan.state_increments, 0.0),
    )
    carry = (x0, plan.initial, starts[0], jnp.zeros((len(ts), len(x0))), jnp.asarray(True))
    (_, _, _, values, is_ok), _ = jax.lax.scan(segment, carry, doses)
    return values, is_ok & jnp.all(jnp.isfinite(values))


# Host side.


def _check(network: ReactionNetwork, schedule: Any) -> None:
    if network.events:
        raise InvalidInput(
            f"{network.name} has event '{network.events[0].name}'; the ODE method does not run "
            "events yet: use engine.Direct(), or give doses as a regimen"
        )
    given = () if schedule is None else tuple(schedule.layout.names)
    for item in network.inputs:
        if item.name not in given:
            raise InvalidInput(
                f"input '{item.name}' of {network.name} has no value; give inputs={{'{item.name}': "
                "...}}, a constant or a pharmacokinetic model"
            )


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


def _entries(schedule: Any) -> Entries:
    result, start = [], 0
    if schedule is not None:
        for name, modes in zip(schedule.layout.names, schedule.layout.num_modes, strict=True):
            result.append((name, start, start + 1 + modes))
            start += 1 + modes
    return tuple(result)


def _plan(network: ReactionNetwork, schedule: Any, count: int) -> _Plan:
    """The schedule's arrays patient by patient, a null dose at time 0 in front."""
    names = state_names(network)
    if schedule is None:
        empty = np.zeros((count, 1, 0))
        no_state = np.zeros((count, 1, len(names)))
        return _Plan(empty[:, 0], empty[:, 0], np.zeros((count, 1)), empty, empty, no_state)
    sizes = [end - start for _, start, end in _entries(schedule)]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    boluses = np.asarray(schedule.species_increments, np.float64)
    state_increments = np.zeros((*boluses.shape[:2], len(names)))
    for column, name in enumerate(schedule.species):
        state_increments[..., names.index(name)] = boluses[..., column]
    arrays = (
        np.asarray(schedule.rates, np.float64).T,
        np.asarray(schedule.initial, np.float64).T,
        _with_null_dose(schedule.times, 0.0),
        _with_null_dose(np.asarray(schedule.keep)[..., owners], 1.0),
        _with_null_dose(schedule.increments, 0.0),
        _with_null_dose(state_increments, 0.0),
    )
    for array in arrays:
        if len(array) not in (1, count):
            raise InvalidInput(f"the schedule is for {len(array)} patients, there are {count}")
    return _Plan(*(np.broadcast_to(a, (count, *a.shape[1:])) for a in arrays))


def _with_null_dose(array: Array, value: float) -> np.ndarray:
    """The array with one more entry, `value`, in front on its dose axis."""
    array = np.asarray(array, np.float64)
    first = np.full((len(array), 1, *array.shape[2:]), value)
    return np.concatenate([first, array], axis=1)
