"""What happens to a lane from outside its reactions: doses and SBML events."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from engine.kernel import clock, random
from engine.kernel.driver import if_needed
from engine.kernel.model import LaneModel
from engine.kernel.patients import Patients
from engine.kernel.queue import (
    MAX_CASCADE,
    CompiledEvent,
    Pending,
    World,
    as_count,
    choose,
    exact_value,
    push,
)
from engine.kernel.state import Constants, Course, Driver
from engine.kinetics.evaluate import evaluate

Columns = tuple[Array, ...]


def apply_doses(
    model: LaneModel,
    driver: Driver,
    patients: Patients,
    row: Array,
    dose_index: Array,
    is_reached: Array,
    now: clock.Time,
    world: World,
) -> tuple[World, Array, Array]:
    """Give the doses that are due; returns the world, the next dose and where one was given."""
    if patients.dose_high.shape[1] == 1:
        return world, dose_index, jnp.zeros_like(is_reached)
    table_row = jnp.maximum(row, 0) if patients.dose_high.shape[0] > 1 else jnp.zeros_like(row)
    position = (table_row, dose_index)
    due = clock.Time(patients.dose_high[position], patients.dose_low[position])
    is_due = is_reached & clock.is_same(now, due)

    def give(_: Any, given: tuple[Columns, Columns]) -> tuple[Columns, Columns]:
        keep = _records(patients.dose_keep, position)
        increments = _records(patients.dose_increments, position)
        amplitudes = []
        for entry, amplitude in enumerate(given[0]):
            dosed = amplitude * keep(entry) + increments(entry)
            amplitudes.append(jnp.where(is_due, dosed, amplitude))
        numbers, counts = _records(patients.dose_counts, position), []
        for column, count in enumerate(given[1]):
            molecules = jnp.where(is_due, numbers(column), jnp.int32(0))
            counts.append(count + molecules.astype(count.dtype))
        return tuple(amplitudes), tuple(counts)

    # Only what doses can change: a network may have a thousand species.
    old = (world.amplitudes, tuple(world.counts[species] for species in model.dosed))
    amplitudes, dosed = if_needed(driver, jnp.any(is_due), give, old)
    counts = list(world.counts)
    for species, count in zip(model.dosed, dosed, strict=True):
        counts[species] = count
    world = world._replace(counts=tuple(counts), amplitudes=amplitudes)
    return world, dose_index + is_due.astype(jnp.int32), is_due


# Of so few doses, the same for everybody, each lane's is chosen; looking it up takes an operation a
# lane and entry: the two doses of a switch with twelve levels took 5 % of a critic's time.
FEW_DOSES = 8


def _records(table: Array, position: tuple[Array, Array]) -> Callable[[int], Array]:
    """Every lane's own record of a table (regimens, doses, entries), an entry at a time."""
    if table.shape[0] > 1 or table.shape[1] > FEW_DOSES + 1:
        rows = table[position]
        return lambda entry: rows[:, entry]
    dose = position[1]

    def chosen(entry: int) -> Array:
        found = jnp.broadcast_to(table[0, 0, entry], dose.shape)
        for number in range(1, table.shape[1]):
            found = jnp.where(dose == number, table[0, number, entry], found)
        return found

    return chosen


class Happened(NamedTuple):
    """The outcome of running events at a stop."""

    world: World
    truths: tuple[Array, ...]
    passed: tuple[Array, ...]
    pending: Pending
    next_time: clock.Time
    is_changed: Array
    is_overflow: Array
    is_cascade: Array
    is_invalid: Array


class _Cascade(NamedTuple):
    """State of the loop over executions at one time."""

    world: World
    truths: tuple[Array, ...]
    pending: Pending
    turn: Array
    is_busy: Array
    is_changed: Array
    is_overflow: Array
    is_invalid: Array


def run_events(
    model: LaneModel,
    patients: Patients,
    constants: Constants,
    course: Course,
    is_waiting: Array,
    now: clock.Time,
    world: World,
) -> Happened:
    """Detect triggers and execute what is due, until nothing is, in every waiting lane."""
    nowhere = jnp.zeros_like(is_waiting)
    if not model.events:
        never = clock.Time(jnp.full_like(now.high, jnp.inf), jnp.zeros_like(now.high))
        quiet = (nowhere, nowhere, nowhere, nowhere)
        return Happened(world, course.truths, (), course.pending, never, *quiet)
    tie_key = random.threefry(course.key, (course.segment, jnp.full_like(course.segment, 2)))

    def turn(state: _Cascade) -> _Cascade:
        return _turn(model, patients, constants, course.row, tie_key, now, state)

    def is_going(state: _Cascade) -> Array:
        return jnp.any(state.is_busy) & (state.turn < MAX_CASCADE)

    begin = _Cascade(
        world, course.truths, course.pending, jnp.int32(0), is_waiting, nowhere, nowhere, nowhere
    )
    end = lax.while_loop(is_going, turn, begin)
    values, low = _environment(model, patients, constants, course.row, end.world)
    roots = model.events.roots(values, low)
    have_come = model.events.have_come(now, roots)
    passed = tuple(
        jnp.where(is_waiting, new, old)
        for new, old in zip(have_come, constants.passed, strict=True)
    )
    next_time = _next_time(roots, have_come, end.pending, now)
    return Happened(
        end.world,
        end.truths,
        passed,
        end.pending,
        next_time,
        end.is_changed,
        end.is_overflow,
        end.is_busy,
        end.is_invalid,
    )


def _environment(
    model: LaneModel, patients: Patients, constants: Constants, row: Array, world: World
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The lane's environment now, and the low words of its coefficients."""
    constants = constants._replace(
        variables=world.variables, levels=constants.levels._replace(amplitudes=world.amplitudes)
    )
    values = model.values(constants, world.counts, jnp.zeros_like(constants.stop))
    take = jnp.maximum(row, 0)
    low = {
        f"_c{i}": word if word.ndim == 0 else word[take]
        for i, word in enumerate(patients.low_words)
    }
    return values, {n: jnp.broadcast_to(w, constants.stop.shape) for n, w in low.items()}


def _next_time(
    roots: list[clock.Time], have_come: tuple[Array, ...], pending: Pending, now: clock.Time
) -> clock.Time:
    never = clock.Time(jnp.full_like(now.high, jnp.inf), jnp.zeros_like(now.high))
    result = never
    for root, is_past in zip(roots, have_come, strict=True):
        ahead = clock.select(is_past, never, root)
        result = clock.earlier(result, ahead)
    for slot in range(pending.event.shape[0]):
        due = clock.Time(pending.high[slot], pending.low[slot])
        result = clock.earlier(result, clock.select(pending.event[slot] >= 0, due, never))
    return result


def _turn(
    model: LaneModel,
    patients: Patients,
    constants: Constants,
    row: Array,
    tie_key: tuple[Array, Array],
    now: clock.Time,
    state: _Cascade,
) -> _Cascade:
    """Queue what has just triggered, then execute the first execution that is due."""
    values, low = _environment(model, patients, constants, row, state.world)
    roots = model.events.roots(values, low)
    passed = model.events.have_come(now, roots)
    values |= model.events.atom_values(passed)
    truths = model.events.truths(values)
    pending, overflow, is_bad_delay = state.pending, state.is_overflow, state.is_invalid
    for index, compiled in enumerate(model.events.events):
        is_new = state.is_busy & truths[index] & ~state.truths[index]
        is_gone = state.is_busy & ~truths[index] & (not compiled.event.is_persistent)
        cancelled = is_gone[None, :] & (pending.event == index)
        pending = pending._replace(event=jnp.where(cancelled, jnp.int32(-1), pending.event))
        pending, is_full, is_bad = _queue(compiled, index, is_new, now, values, low, pending)
        overflow, is_bad_delay = overflow | is_full, is_bad_delay | is_bad
    truths = tuple(
        jnp.where(state.is_busy, new, old) for new, old in zip(truths, state.truths, strict=True)
    )
    slots = clock.Time(pending.high, pending.low)
    here = clock.Time(now.high[None, :], now.low[None, :])
    is_due = state.is_busy[None, :] & (pending.event >= 0) & clock.has_come(here, slots)
    priorities = [_priority(compiled, values, now.high) for compiled in model.events.events]
    chosen = choose(pending, is_due, priorities, tie_key, state.turn)
    world, invalid = _execute(model, patients, row, pending, chosen, values, state.world)
    is_executed = jnp.any(chosen, axis=0)
    return _Cascade(
        world,
        truths,
        pending._replace(event=jnp.where(chosen, jnp.int32(-1), pending.event)),
        state.turn + jnp.int32(1),
        state.is_busy & is_executed,
        state.is_changed | is_executed,
        overflow,
        is_bad_delay | invalid,
    )


def _queue(
    compiled: CompiledEvent,
    index: int,
    is_new: Array,
    now: clock.Time,
    values: dict[str, Array],
    low: dict[str, Array],
    pending: Pending,
) -> tuple[Pending, Array, Array]:
    """The queue with a new execution; where it was full, and where the delay was no delay."""
    due, is_bad = now, jnp.zeros_like(is_new)
    if compiled.delay is not None:
        delay = exact_value(compiled.delay, values, low)
        is_bad = is_new & ~(delay.high >= 0)
        is_later = jnp.broadcast_to(delay.high > 0, now.high.shape)
        due = clock.select(is_later, clock.shift(clock.shift(now, delay.high), delay.low), now)
    stored: list[Array] = []
    if compiled.event.uses_trigger_time_values:
        expressions = compiled.assignments.values()
        stored = [evaluate(e, values, jnp, jnp.float32) for e in expressions]
    pending, is_full = push(pending, index, is_new, due, stored, compiled.first_value)
    return pending, is_full, is_bad


def _priority(compiled: CompiledEvent, values: dict[str, Array], like: Array) -> Array:
    if compiled.priority is None:
        return jnp.full_like(like, -jnp.inf)
    return jnp.broadcast_to(evaluate(compiled.priority, values, jnp, jnp.float32), like.shape)


def _execute(
    model: LaneModel,
    patients: Patients,
    row: Array,
    pending: Pending,
    chosen: Array,
    values: dict[str, Array],
    world: World,
) -> tuple[World, Array]:
    """Carry out the chosen execution of every lane; returns where an assignment was invalid."""
    counts, variables = list(world.counts), list(world.variables)
    amplitudes = list(world.amplitudes)
    species = model.network.species_names
    variable_names = [v.name for v in model.network.variables]
    invalid = jnp.zeros(row.shape, bool)
    for index, compiled in enumerate(model.events.events):
        is_here = jnp.any(chosen & (pending.event == index), axis=0)
        for position, (target, expression) in enumerate(compiled.assignments.items()):
            value = evaluate(expression, values, jnp, jnp.float32)
            if compiled.event.uses_trigger_time_values:
                stored = pending.values[compiled.first_value + position]
                value = jnp.sum(jnp.where(chosen, stored, jnp.float32(0)), axis=0)
            if target in species:
                place = species.index(target)
                count, is_bad = as_count(value, model.is_real[place])
                invalid = invalid | (is_here & is_bad)
                counts[place] = jnp.where(is_here, count, counts[place])
            else:
                invalid = invalid | (is_here & ~jnp.isfinite(value))
                place = variable_names.index(target)
                variables[place] = jnp.where(is_here, value, variables[place])
        for target, expression in compiled.doses.items():
            amount = evaluate(expression, values, jnp, jnp.float32)
            if target in species:
                place = species.index(target)
                count, is_bad = as_count(amount, model.is_real[place])
                invalid = invalid | (is_here & is_bad)
                counts[place] = counts[place] + jnp.where(is_here, count, jnp.zeros_like(count))
                continue
            take = jnp.maximum(row, 0)
            for entry in dict(model.layout.entries())[target]:
                gain = patients.gains[entry]
                gain = gain if gain.ndim == 0 else gain[take]
                amplitudes[entry] = amplitudes[entry] + jnp.where(
                    is_here, amount * gain, jnp.float32(0)
                )
    return World(tuple(counts), tuple(variables), tuple(amplitudes)), invalid
