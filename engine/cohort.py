"""The rows of a simulation: who is simulated, with which numbers, checked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.dosing.pharmacokinetics import Pharmacokinetics
from engine.dosing.regimen import Regimen
from engine.dosing.schedule import DosingSchedule, compile_schedule
from engine.dosing.starting import starting_at
from engine.errors import InvalidInput
from engine.kinetics.drift import resolve_parameters
from engine.kinetics.evaluate import evaluate
from engine.network.expressions import TIME, Expression, Number, symbols
from engine.network.network import ReactionNetwork
from engine.network.quantities import check_number


@dataclass(frozen=True, eq=False)
class Cohort:
    """Patients and replicates, resolved to numbers.

    Attributes:
        network: the network, with a reaction added for every species that is infused.
        start: when the trajectories begin and `counts` hold.
        ts: save times, (T,).
        patient_ids: (P,) uint32.
        num_replicates: rows per patient.
        params: every parameter, () or (P,) float64.
        counts: initial value of every species, () or (P,) float64.
        variables: initial value of every variable, () or (P,) float64.
        schedule: inputs and doses from `start`, shared or P rows.
    """

    network: ReactionNetwork
    start: float
    ts: np.ndarray
    patient_ids: np.ndarray
    num_replicates: int
    params: Mapping[str, np.ndarray]
    counts: list[np.ndarray]
    variables: list[np.ndarray]
    schedule: DosingSchedule

    @property
    def elapsed(self) -> np.ndarray:
        """The save times from the start, (T,)."""
        return self.ts - self.start

    @property
    def num_rows(self) -> int:
        """Number of trajectories."""
        return len(self.patient_ids) * self.num_replicates

    def members(self, rows: np.ndarray) -> np.ndarray:
        """The patient (by position) of each row."""
        return rows // self.num_replicates

    @staticmethod
    def take(values: np.ndarray, members: np.ndarray) -> np.ndarray:
        """A patient's number for each row; shared numbers stay scalars."""
        return values if np.ndim(values) == 0 else values[members]


def prepare(
    network: ReactionNetwork,
    ts: Sequence[float] | np.ndarray,
    num_patients: int,
    num_replicates: int,
    patient_ids: Sequence[int] | np.ndarray | None,
    params: Mapping[str, Any] | None,
    x0: Mapping[str, Any] | None,
    inputs: Mapping[str, Pharmacokinetics] | None,
    regimen: Regimen | Sequence[Regimen] | None,
    start: float = 0.0,
    is_counting: bool = True,
) -> Cohort:
    """Check the arguments of `simulate` and resolve them to arrays.

    `is_counting`: the method counts whole molecules, so that initial counts must be whole.

    Raises:
        InvalidInput: see `simulate`.
    """
    for name, number in (("num_patients", num_patients), ("num_replicates", num_replicates)):
        if not isinstance(number, int | np.integer) or number < 1:
            raise InvalidInput(f"{name}={number!r}: give a whole number of at least 1")
    times = save_times(ts)
    begin = _beginning(network, start, times)
    ids = _identities(patient_ids, num_patients)
    _refuse_unused_compartments(network, params or {})
    given = {
        name: _per_patient(f"parameter '{name}'", value, num_patients)
        for name, value in (params or {}).items()
    }
    numbers = resolve_parameters(network, given)
    counts = _initial_counts(network, numbers, x0 or {}, num_patients, is_counting)
    variables = [_initial(v.name, v.initial, numbers) for v in network.variables]
    extended, schedule = compile_schedule(network, inputs or {}, regimen, num_patients, times)
    _refuse_inexact_rescue(extended, schedule)
    schedule = starting_at(schedule, begin)
    return Cohort(
        extended, begin, times, ids, int(num_replicates), numbers, counts, variables, schedule
    )


def save_times(ts: Sequence[float] | np.ndarray) -> np.ndarray:
    """Increasing, finite, non-negative save times as float64 (T,)."""
    try:
        times = np.asarray(ts, np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"ts={ts!r} is not a list of numbers") from None
    if times.ndim != 1 or not len(times):
        raise InvalidInput("ts is empty or not one-dimensional; give increasing save times")
    if not np.all(np.isfinite(times)):
        raise InvalidInput(f"ts has {times[~np.isfinite(times)][0]}; give finite save times")
    if times[0] < 0:
        raise InvalidInput(f"ts begins at {times[0]:g}; simulations begin at time 0")
    falls = np.flatnonzero(np.diff(times) <= 0)
    if len(falls):
        i = int(falls[0])
        raise InvalidInput(
            f"ts does not increase: ts[{i}]={times[i]:g} is followed by {times[i + 1]:g}"
        )
    if not times[-1] > 0:
        raise InvalidInput("ts ends at 0; give a horizon after time 0")
    return times


def _beginning(network: ReactionNetwork, start: float, times: np.ndarray) -> float:
    """The start as a number; after 0 the network must not look at the clock."""
    begin = check_number("start", start)
    if begin == 0.0:
        return begin
    if times[0] < begin or not times[-1] > begin:
        raise InvalidInput(
            f"ts goes from {times[0]:g} to {times[-1]:g} with start={begin:g}; save times lie at "
            "or after the start, the last one after it"
        )
    for what, expressions in _looks_at_time(network):
        if any(TIME in symbols(expression) for expression in expressions):
            raise InvalidInput(
                f"{what} mentions 'time', which start={begin:g} would shift; simulate from time 0"
            )
    return begin


def _looks_at_time(network: ReactionNetwork) -> Iterator[tuple[str, Iterable[Expression]]]:
    """Everything of a network that could mention the time, with what it is."""
    for reaction in network.reactions:
        yield f"reaction '{reaction.name}'", [reaction.propensity]
    for target, rule in network.rules.items():
        yield f"the assignment rule of '{target}'", [rule]
    for rate_rule in network.rate_rules:
        yield f"the rate rule of '{rate_rule.target}'", [rate_rule.expression]
    for event in network.events:
        others = (event.delay, event.priority)
        given = [*event.assignments.values(), *event.doses.values()]
        given += [expression for expression in others if expression is not None]
        yield f"event '{event.name}'", [event.trigger, *given]
    for name, initial in network.initial_expressions.items():
        yield f"the initial value of '{name}'", [initial]


def _identities(patient_ids: Sequence[int] | np.ndarray | None, num_patients: int) -> np.ndarray:
    if patient_ids is None:
        return np.arange(num_patients, dtype=np.uint32)
    ids = np.asarray(patient_ids)
    if ids.shape != (num_patients,) or ids.dtype.kind not in "iu":
        raise InvalidInput(
            f"patient_ids has shape {ids.shape} and type {ids.dtype}; "
            f"give {num_patients} whole numbers"
        )
    if ids.min() < 0 or ids.max() >= 2**32:
        raise InvalidInput(f"patient_ids reach {ids.max()}; give numbers from 0 to 2**32 - 1")
    if len(np.unique(ids)) < num_patients:
        raise InvalidInput("patient_ids has an identity twice; two patients would be the same one")
    return ids.astype(np.uint32)


def _per_patient(what: str, value: Any, num_patients: int) -> np.ndarray:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{what} is {value!r}; give a number or one per patient") from None
    if array.shape not in ((), (num_patients,)):
        raise InvalidInput(
            f"{what} has shape {array.shape}; give a scalar or ({num_patients},), one per patient"
        )
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        where = f" for patient row {bad[0]}" if array.ndim else ""
        raise InvalidInput(f"{what} is {array.flat[bad[0]]}{where}; give a finite number")
    return array


def _initial_counts(
    network: ReactionNetwork,
    numbers: Mapping[str, np.ndarray],
    x0: Mapping[str, Any],
    num_patients: int,
    is_counting: bool,
) -> list[np.ndarray]:
    """Initial counts; an expression of parameters is rounded to the nearest whole molecule."""
    for name in x0:
        network.require(name, "species", what="x0")
    counts = []
    for species in network.species:
        what = f"initial count of species '{species.name}'"
        if species.name in x0:
            count = _per_patient(what, x0[species.name], num_patients)
            is_rounded = False
        else:
            count = _initial(species.name, species.initial, numbers)
            is_rounded = not isinstance(species.initial, Number)
        if species.is_continuous:
            counts.append(count)
            continue
        if np.any(count < 0):
            raise InvalidInput(f"{what} is {count.min():g}; it cannot be negative")
        if not is_counting:
            counts.append(count)
            continue
        whole = np.rint(count)
        if not is_rounded and np.any(np.abs(count - whole) > 1e-9 * np.maximum(1.0, whole)):
            culprit = count[count != whole].flat[0] if count.ndim else float(count)
            raise InvalidInput(f"{what} is {culprit:g}; exact simulation counts whole molecules")
        if np.any(whole >= 2**31 - 2**22):
            raise InvalidInput(f"{what} is {whole.max():g}, beyond 2**31; rescale the model")
        counts.append(whole)
    return counts


def _initial(name: str, expression: Expression, numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    missing = symbols(expression) - numbers.keys() - {TIME}
    if missing:
        raise InvalidInput(
            f"the initial value of '{name}' mentions '{min(missing)}', which is not a parameter"
        )
    value = evaluate(expression, {TIME: np.float64(0.0), **numbers}, np, np.float64)
    return np.asarray(value, np.float64)


def _refuse_unused_compartments(network: ReactionNetwork, params: Mapping[str, Any]) -> None:
    """A volume of 1 that a file's import folded away cannot be changed afterwards."""
    volumes = {c.name for c in network.compartments} & params.keys()
    if not volumes:
        return
    used = set().union(*(symbols(r.propensity) for r in network.reactions))
    used |= set().union(set(), *(symbols(rule) for rule in network.rules.values()))
    for name in sorted(volumes - used):
        raise InvalidInput(
            f"parameter '{name}' is a compartment that no rate law mentions; changing its volume "
            "would do nothing"
        )


def _refuse_inexact_rescue(network: ReactionNetwork, schedule: DosingSchedule) -> None:
    exact = dict(zip(schedule.layout.names, schedule.is_bolus_exact, strict=True))
    for event in network.events:
        for target in event.doses:
            if not exact.get(target, True):
                raise InvalidInput(
                    f"event '{event.name}' doses '{target}', whose pharmacokinetics take no bolus "
                    "(zero-order absorption, a constant level or an infusion); give it first-order "
                    "or no absorption"
                )
