"""How each method runs a cohort: independent tasks, in order of the rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.cohort import Cohort
from engine.dosing.schedule import concentration
from engine.ensemble import Ensemble
from engine.errors import InvalidInput
from engine.kernel import driver as drivers
from engine.kernel.model import saved_levels
from engine.kernel.runner import Chunk, Outcome, Runner, runner
from engine.kernel.status import Status
from engine.kernel.tallies import FiringCount, FirstPassage, Tally
from engine.kinetics.drift import state_names
from engine.kinetics.evaluate import evaluate
from engine.methods import linear_noise, ode
from engine.methods.direct import Direct
from engine.methods.hybrid import Hybrid
from engine.methods.langevin import Langevin
from engine.methods.linear_noise import LinearNoise
from engine.methods.ode import ODE
from engine.methods.ode_tallies import check_tallies
from engine.methods.tau_leaping import TauLeaping
from engine.network.expressions import TIME, symbols
from engine.network.network import ReactionNetwork

Task = Callable[[], Ensemble]
# Methods that run on the lane machine.
LaneMethod = Direct | TauLeaping | Langevin | Hybrid

# A chunk is padded to a power of two of rows, so that few sizes are ever compiled.
SMALLEST_CHUNK = 128
# Fewer rows are not worth a second core.
MIN_ROWS_PER_TASK = 8


def lane_tasks(
    method: LaneMethod,
    cohort: Cohort,
    key: np.ndarray,
    tallies: Mapping[str, Tally],
    record: Sequence[str] | None,
    is_trough_saved: bool,
    num_workers: int,
    cells: tuple[np.ndarray, ...] = (),
) -> list[Task]:
    """The work of simulating a cohort, as independent pieces in order of the rows."""
    network = cohort.network
    method.check(network)
    recorded = recorded_species(network, record)
    _refuse_clocks(tallies, cohort.start)
    size, num_tasks = _chunks(cohort, recorded, num_workers)
    if isinstance(method, Hybrid):
        method = _partitioned(method, cohort)
    stepper = method.stepper(network, size)
    _refuse_firing_counts(method, network, stepper.real, tallies)
    schedule = cohort.schedule
    run = runner(
        network, tallies, schedule.layout, recorded, schedule.species, is_trough_saved, stepper
    )

    def task(rows: np.ndarray) -> Task:
        return lambda: _simulated(run, cohort, key, recorded, rows, size, cells)

    return [task(rows) for rows in np.array_split(np.arange(cohort.num_rows), num_tasks)]


def recorded_species(network: ReactionNetwork, record: Sequence[str] | None) -> tuple[str, ...]:
    """The species to save, in the network's order."""
    if record is None:
        return network.species_names
    if isinstance(record, str):
        raise InvalidInput(f"record='{record}': give a list of species, record=['{record}']")
    for name in record:
        network.require(name, "species", what="record")
    return tuple(name for name in network.species_names if name in set(record))


def _refuse_clocks(tallies: Mapping[str, Tally], start: float) -> None:
    for name, tally in tallies.items():
        if start and TIME in symbols(tally.expression):
            raise InvalidInput(
                f"tally '{name}' mentions 'time', which start={start:g} would shift; simulate from "
                "time 0"
            )


def _refuse_firing_counts(
    method: LaneMethod, network: ReactionNetwork, real: frozenset[str], tallies: Mapping[str, Tally]
) -> None:
    """Reactions that change real numbers only are integrated and have no firings."""
    reactions = {reaction.name: reaction for reaction in network.reactions}
    for name, tally in tallies.items():
        if not real or not isinstance(tally, FiringCount):
            continue
        reaction = reactions.get(str(tally.expression))
        if reaction and set(network.changes(reaction)) <= real:
            raise InvalidInput(
                f"tally '{name}': {type(method).__name__} integrates reaction '{reaction.name}' "
                "and has no firings to count; use engine.Direct() or engine.TauLeaping()"
            )


# Times at which the pilot of a method looks, and its tolerance.
PILOT_POINTS, PILOT_TOLERANCE = 101, 1e-5


def _partitioned(method: Hybrid, cohort: Cohort) -> Hybrid:
    """The method with its continuous species, from the rate equations of the first patient."""
    if method.continuous is not None:
        return method
    found = _pilot(cohort)
    if not found.is_complete.all():
        raise InvalidInput(
            "Hybrid(continuous=None): the rate equations of the first patient, which choose the "
            "continuous species, could not be solved; name them"
        )
    return method.chosen(cohort.network, found.values[0].mean(axis=0))


def _pilot(cohort: Cohort) -> Ensemble:
    """The rate equations of the first patient."""
    ts = np.linspace(cohort.start, cohort.ts[-1], PILOT_POINTS)[1:]
    alone = replace(cohort, ts=ts, num_replicates=1)
    tolerance = ODE(rtol=PILOT_TOLERANCE, atol=PILOT_TOLERANCE)
    return _integrated(tolerance, alone, {}, cohort.network.species_names, False, np.arange(1))


def _from_time_zero(
    kinds: Mapping[str, Tally], tallies: Mapping[str, np.ndarray], start: float
) -> dict[str, np.ndarray]:
    """The tallies, times of first passage counted from time 0 as the save times are."""
    return {
        name: values + start if start and isinstance(kinds[name], FirstPassage) else values
        for name, values in tallies.items()
    }


def _chunks(cohort: Cohort, recorded: tuple[str, ...], num_workers: int) -> tuple[int, int]:
    """Rows that a chunk is padded to, and the number of chunks: the same work for all cores."""
    levels = saved_levels(cohort.network, cohort.schedule.layout, recorded)
    width = len(recorded) + len(levels)
    row_bytes = 4 * (len(cohort.ts) * width + cohort.schedule.increments[0].size)
    driver = drivers.current()
    num_workers = min(num_workers, driver.most_workers or num_workers)
    largest = driver.largest_chunk
    while largest > SMALLEST_CHUNK and largest * row_bytes > driver.chunk_bytes:
        largest //= 2
    rounds = -(-cohort.num_rows // (largest * num_workers))
    num_tasks = min(rounds * num_workers, -(-cohort.num_rows // MIN_ROWS_PER_TASK))
    size = SMALLEST_CHUNK
    while size * num_tasks < cohort.num_rows:
        size *= 2
    return size, num_tasks


def _simulated(
    run: Runner,
    cohort: Cohort,
    key: np.ndarray,
    recorded: tuple[str, ...],
    rows: np.ndarray,
    num_rows: int,
    cells: tuple[np.ndarray, ...],
) -> Ensemble:
    members = cohort.members(rows)
    params = {name: cohort.take(value, members) for name, value in cohort.params.items()}
    chunk = Chunk(
        key,
        cohort.patient_ids[members],
        (rows % cohort.num_replicates).astype(np.uint32),
        params,
        [cohort.take(c, members) for c in cohort.counts],
        [cohort.take(v, members) for v in cohort.variables],
        cohort.schedule.rows(members),
        cells,
    )
    outcome = run.run(chunk, cohort.elapsed, num_rows)
    levels = {name: outcome.floats[:, :, i] for i, name in enumerate(run.model.float_names)}
    return Ensemble(
        outcome.counts,
        recorded,
        cohort.ts,
        outcome.status,
        outcome.num_events,
        outcome.num_steps,
        chunk.patient,
        chunk.replicate,
        _from_time_zero(
            dict(zip(run.model.tally_names, run.model.tallies, strict=True)),
            outcome.tallies,
            cohort.start,
        ),
        cohort.network,
        params,
        levels,
        _diagnoses(run, cohort, chunk, outcome),
        continuous=run.model.continuous,
    )


def _diagnoses(run: Runner, cohort: Cohort, chunk: Chunk, outcome: Outcome) -> tuple[str, ...]:
    """What the first trajectories that failed say of the reason."""
    found = []
    for status, diagnosis in (
        (Status.INVALID_PROPENSITY, _invalid_propensity),
        (Status.STEP_TOO_LONG, _longest_step),
    ):
        failed = np.flatnonzero(outcome.status == status)
        if len(failed):
            found += diagnosis(run, cohort, _last_values(run, chunk, outcome, failed[0]))
    return tuple(found)


def _last_values(run: Runner, chunk: Chunk, outcome: Outcome, row: int) -> dict[str, Any]:
    """A trajectory's parameters and its state when it ended; no inputs and no time."""
    network = run.model.network
    values = {n: v if np.ndim(v) == 0 else v[row] for n, v in chunk.params.items()}
    counts = zip(network.species_names, outcome.final_counts[row], strict=True)
    values |= {name: float(count) for name, count in counts}
    changed = {target for event in network.events for target in event.assignments}
    for variable, start in zip(network.variables, chunk.variables, strict=True):
        if variable.name not in changed:
            values[variable.name] = float(start if np.ndim(start) == 0 else start[row])
    for name, rule in network.rules.items():
        if symbols(rule) <= values.keys():
            values[name] = evaluate(rule, values, np, np.float64)
    return values


def _longest_step(run: Runner, cohort: Cohort, values: dict[str, Any]) -> list[str]:
    """The species that is used up fastest, where the step failed or in the rate equations."""
    shortest = _shortest_life(run, values)
    pilot = _pilot(cohort)
    if pilot.is_complete.all():
        course = {n: pilot.values[0, :, i] for i, n in enumerate(pilot.species)}
        levels = {n: pilot.levels[n][0] for n in pilot.levels}
        shortest = min(shortest, _shortest_life(run, {**values, **course, **levels}))
    life, name = shortest
    return [f"'{name}' may be used up within {life:.2g}: give a dt below that"] if name else []


def _shortest_life(run: Runner, values: dict[str, Any]) -> tuple[float, str]:
    """The shortest time in which the reactions would use up a species, and its name."""
    network, found = run.model.network, [(np.inf, "")]
    for name in network.species_names:
        takers = [(r, -network.changes(r).get(name, 0)) for r in network.reactions]
        loss = sum(
            number * np.maximum(evaluate(r.propensity, values, np, np.float64), 0.0)
            for r, number in takers
            # What depends on an input, the time or a variable may not be known here.
            if number > 0 and symbols(r.propensity) <= values.keys()
        )
        count, loss = np.atleast_1d(*np.broadcast_arrays(values[name], loss))
        is_lost = (count > 0) & (loss > 0)
        if is_lost.any():
            found.append((float(np.min(count[is_lost] / loss[is_lost])), name))
    return min(found)


def _invalid_propensity(run: Runner, cohort: Cohort, values: dict[str, Any]) -> list[str]:
    """The first reaction whose propensity is invalid, and its value."""
    if run.model.is_thinned:
        # The last values have neither time nor inputs, on which what moves depends.
        return []
    network = run.model.network
    for reaction, guard in zip(network.reactions, run.model.program.guards, strict=True):
        # What depends on an input, the time or a variable that events change is not known here.
        if not symbols(reaction.propensity) <= values.keys():
            continue
        with np.errstate(all="ignore"):
            a = float(evaluate(reaction.propensity, values, np, np.float64))
        short = [name for name, needed in guard.required if values[name] < needed]
        if not np.isfinite(a) or a < 0 or (a > 0 and short):
            named = sorted((symbols(reaction.propensity) | set(short)) & values.keys())
            at = ", ".join(f"{name}={values[name]:g}" for name in named)
            return [f"reaction '{reaction.name}' has propensity {a:g} at {at}"]
    return []


# Patients that one ODE task solves.
ODE_ROWS = 256


def ode_tasks(
    method: ODE | LinearNoise,
    cohort: Cohort,
    tallies: Mapping[str, Tally],
    record: Sequence[str] | None,
    is_trough_saved: bool,
) -> list[Task]:
    """The work of solving the rate equations of a cohort; replicates are equal rows."""
    recorded = recorded_species(cohort.network, record)
    check_tallies(cohort.network, tallies)
    _refuse_clocks(tallies, cohort.start)

    def task(rows: np.ndarray) -> Task:
        return lambda: _integrated(method, cohort, tallies, recorded, is_trough_saved, rows)

    starts = range(0, cohort.num_rows, ODE_ROWS)
    return [task(np.arange(s, min(s + ODE_ROWS, cohort.num_rows))) for s in starts]


def _integrated(
    method: ODE | LinearNoise,
    cohort: Cohort,
    tallies: Mapping[str, Tally],
    recorded: tuple[str, ...],
    is_trough_saved: bool,
    rows: np.ndarray,
) -> Ensemble:
    network, members = cohort.network, cohort.members(rows)
    params = {name: cohort.take(value, members) for name, value in cohort.params.items()}
    names = state_names(network)
    start = dict(zip(network.species_names, cohort.counts, strict=True))
    variables = zip(network.variables, cohort.variables, strict=True)
    start |= {v.name: value for v, value in variables if v.name in names}
    columns = [np.broadcast_to(cohort.take(start[n], members), rows.shape) for n in names]
    x0, schedule = np.stack(columns, axis=1), cohort.schedule.rows(members)
    picked = [names.index(name) for name in recorded]
    covariances = None
    numbers = (network, cohort.elapsed, params, x0, schedule)
    if isinstance(method, LinearNoise):
        values, squares, is_ok = linear_noise.integrate(method, *numbers)
        covariances = squares[:, :, picked][..., picked]
        solution = ode.Solution(values, np.where(is_ok, Status.COMPLETE, Status.SOLVER_FAILED), {})
    else:
        solution = ode.solve(method, *numbers, tallies, is_trough_saved)
    none = np.zeros(len(rows), np.int64)
    return Ensemble(
        solution.values[:, :, picked],
        recorded,
        cohort.ts,
        solution.status,
        none,
        none,
        cohort.patient_ids[members],
        (rows % cohort.num_replicates).astype(np.uint32),
        _from_time_zero(tallies, solution.tallies, cohort.start),
        network,
        params,
        _ode_levels(cohort, members, names, solution.values, recorded),
        covariances=covariances,
    )


def _ode_levels(
    cohort: Cohort,
    members: np.ndarray,
    names: tuple[str, ...],
    values: np.ndarray,
    recorded: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Integrated variables and the analytic inputs at the save times."""
    network, shape = cohort.network, values.shape[:2]
    if not saved_levels(network, cohort.schedule.layout, recorded):
        return {}
    levels = {
        v.name: values[:, :, names.index(v.name)] for v in network.variables if v.name in names
    }
    schedule = cohort.schedule.rows(members)
    for item in network.inputs:
        levels[item.name] = np.broadcast_to(
            concentration(schedule, item.name, cohort.elapsed), shape
        )
    return levels
