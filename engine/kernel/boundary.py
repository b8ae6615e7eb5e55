"""The end of a block: everything that happens to lanes that wait."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from engine.kernel import clock, driver, levels, random
from engine.kernel.happenings import World, apply_doses, run_events
from engine.kernel.materialise import Running
from engine.kernel.model import LaneModel
from engine.kernel.patients import Patients, Results, Rows, Written
from engine.kernel.queue import LARGEST_REAL, combine
from engine.kernel.state import Constants, Course, Lanes, Machine, Packing, Stepper
from engine.kernel.status import Status
from engine.kernel.tallies import Jump, Stop

# Counts may grow by a few steps of a block beyond this before a lane is stopped.
LARGEST_COUNT = 2**31 - 2**21


def serve(
    model: LaneModel, stepper: Stepper, patients: Patients, machine: Machine, visit_number: Array
) -> Machine:
    """Bring every waiting lane through its stop and set its next one.

    The results are not touched: `write` puts into them what is left in `written`, so that all
    this can be compiled into one function, whatever the size of the results.
    """
    lanes, constants, course = machine.lanes, machine.constants, machine.course
    is_live = course.row >= 0
    is_waiting = is_live & ~(lanes.remaining >= 0)
    is_held = is_waiting & jnp.isfinite(lanes.remaining)
    is_reached = is_waiting & ~is_held
    left = jnp.where(is_held, -lanes.remaining, jnp.float32(0))
    now = clock.select(is_reached, course.stop, clock.shift(course.stop, -left))

    status = _failures(model, stepper, lanes, course.status, is_waiting, is_live)
    # Nothing more happens to a lane that failed: no dose, no event, no saved row.
    is_sound = status == jnp.int32(Status.COMPLETE)
    lanes, segment = _new_segment(course, lanes, is_waiting)
    lanes = _resolve_rare(model, stepper, constants, lanes, is_held)
    since = constants.span - left
    constants = _moved_constants(model, constants, is_waiting, since, now)
    lanes = _settled(model, stepper, constants, lanes, is_waiting, since, left)

    is_saved = is_reached & is_sound & clock.is_same(now, course.due)
    if model.is_trough_saved:
        saved = _to_save(model, stepper.packing, constants, lanes)
    visit = Visit(is_reached & is_sound, is_waiting & is_sound, is_waiting, now)
    lanes, constants, course, next_event = _happen(
        model,
        stepper,
        patients,
        lanes,
        constants,
        course._replace(segment=segment, status=status),
        visit,
    )
    if not model.is_trough_saved:
        is_saved = is_saved & (course.status == jnp.int32(Status.COMPLETE))
        saved = _to_save(model, stepper.packing, constants, lanes)
    num_times = patients.save_high.shape[0] - 1
    num_rows = patients.patient.shape[0]
    row_of_time = course.row * jnp.int32(num_times) + course.save_index
    saved_at = jnp.where(is_saved, row_of_time, jnp.int32(num_rows * num_times))
    save_index, status = course.save_index + is_saved.astype(jnp.int32), course.status
    is_over = is_live & ((save_index >= num_times) | (status != jnp.int32(Status.COMPLETE)))
    num_stops = course.num_stops + (is_reached & (lanes.num_steps > 0)).astype(jnp.int32)
    ended = jnp.where(is_over, course.row, machine.written.ended)

    due = clock.Time(patients.save_high[save_index], patients.save_low[save_index])
    stop = _next_stop(patients, course.row, due, course.dose_index, next_event)
    remaining = jnp.where(
        is_held & clock.is_same(stop, course.stop), left, clock.difference(stop, now)
    )
    course = course._replace(
        row=jnp.where(is_over, jnp.int32(-1), course.row),
        stop=clock.select(is_waiting, stop, course.stop),
        due=due,
        save_index=save_index,
        num_stops=num_stops,
    )
    remaining = jnp.where(is_waiting, remaining, lanes.remaining)
    remaining = jnp.where(course.row >= 0, remaining, jnp.float32(-jnp.inf))
    constants = constants._replace(
        stop=course.stop.high,
        span=jnp.where(is_waiting, remaining, constants.span),
        is_running=jnp.any(remaining >= 0),
        cells=_cells(patients, save_index, constants.cells, is_waiting),
    )
    lanes = lanes._replace(
        remaining=remaining,
        compensation=jnp.where(is_waiting, jnp.float32(0), lanes.compensation),
        tallies=_begun(model, stepper, constants, lanes, is_waiting),
    )
    return machine._replace(
        lanes=lanes,
        constants=constants,
        course=course,
        num_waited=jnp.sum(is_waiting, dtype=jnp.int32),
        num_idle=jnp.sum(course.row < 0, dtype=jnp.int32),
        written=Written(_with_rows(machine.written.saved, visit_number, saved_at, saved), ended),
    )


def _with_rows(rows: Rows, visit_number: Array, position: Array, values: Array) -> Rows:
    return Rows(
        rows.position.at[visit_number].set(position), rows.values.at[visit_number].set(values)
    )


def write(model: LaneModel, stepper: Stepper, machine: Machine) -> Results:
    """The results with the rows of the last visits in place."""
    results, saved, ended = machine.results, machine.written.saved, machine.written.ended
    table = results.saved
    if table.shape[1]:
        table = _put(table, Rows(saved.position.ravel(), saved.values.reshape(-1, table.shape[1])))

    def end(_: Any, table: Array) -> Array:
        # A lane without a patient keeps what its last one left.
        kept = _to_keep(model, stepper.packing, machine.lanes, machine.course)
        return _put(table, Rows(ended, kept))

    if stepper.driver is not driver.XLA:
        return Results(table, end(True, results.final))
    # Few visits end a trajectory. A conditional might copy the table; a loop does not.
    is_any_over = jnp.any(ended < jnp.int32(results.final.shape[0])).astype(jnp.int32)
    return Results(table, lax.fori_loop(0, is_any_over, end, results.final))


def _put(table: Array, rows: Rows) -> Array:
    return table.at[rows.position].set(rows.values, mode="drop", wrap_negative_indices=False)


class Visit(NamedTuple):
    """Which lanes something may happen to, and when.

    Attributes:
        is_dosing: lanes at a stop of their clock.
        is_triggering: lanes whose events are to be looked at.
        is_waiting: all lanes that wait, failed ones too.
        now: each lane's time.
    """

    is_dosing: Array
    is_triggering: Array
    is_waiting: Array
    now: clock.Time


def _happen(
    model: LaneModel,
    stepper: Stepper,
    patients: Patients,
    lanes: Lanes,
    constants: Constants,
    course: Course,
    visit: Visit,
) -> tuple[Lanes, Constants, Course, clock.Time]:
    """Doses, then events; also returns the time of the next event that is known already."""
    is_first = visit.is_waiting & (course.segment == 1)
    counts = stepper.packing.columns(model, lanes.counts)
    world = World(counts, constants.variables, constants.levels.amplitudes)
    world, dose_index, is_dosed = apply_doses(
        model,
        stepper.driver,
        patients,
        course.row,
        course.dose_index,
        visit.is_dosing,
        visit.now,
        world,
    )
    happened = run_events(model, patients, constants, course, visit.is_triggering, visit.now, world)
    status = combine(course.status, happened.is_overflow, Status.EVENT_QUEUE_OVERFLOW)
    status = combine(status, happened.is_cascade, Status.EVENT_CASCADE)
    status = combine(status, happened.is_invalid, Status.INVALID_ASSIGNMENT)
    after = happened.world.counts
    changed = tuple(a for a, b in zip(after, counts, strict=True) if a is not b)
    if changed:
        is_large = (course.row >= 0) & _is_large(changed)
        status = combine(status, is_large, Status.POPULATION_OVERFLOW)
        lanes = lanes._replace(counts=stepper.packing.stacked(model, after, course.row.shape[0]))
    constants = constants._replace(
        variables=happened.world.variables,
        levels=constants.levels._replace(amplitudes=happened.world.amplitudes),
        truths=happened.truths,
        passed=happened.passed,
    )
    is_changed = is_dosed | happened.is_changed
    lanes = _tally_change(model, constants, lanes, after, is_changed, visit, is_first)
    course = course._replace(
        dose_index=dose_index, status=status, truths=happened.truths, pending=happened.pending
    )
    return lanes, constants, course, happened.next_time


def _failures(
    model: LaneModel,
    stepper: Stepper,
    lanes: Lanes,
    status: Array,
    is_waiting: Array,
    is_live: Array,
) -> Array:
    """Reasons for which a lane cannot go on."""
    status = combine(status, is_waiting & jnp.isposinf(lanes.scale), Status.STEP_TOO_LONG)
    status = combine(status, is_waiting & ~jnp.isfinite(lanes.scale), Status.INVALID_PROPENSITY)
    is_spent = is_live & (lanes.num_steps >= jnp.int32(stepper.max_events))
    status = combine(status, is_spent, Status.EVENT_BUDGET_SPENT)
    return combine(status, is_live & _is_large(lanes.counts), Status.POPULATION_OVERFLOW)


def _is_large(counts: tuple[Array, ...]) -> Array:
    """Where a count comes near 2**31, or wrapped around and is negative, or is not finite."""
    is_large = jnp.zeros(counts[0].shape[-1:], bool)
    for count in counts:
        if count.dtype == jnp.int32:
            is_beyond = (count > jnp.int32(LARGEST_COUNT)) | (count < 0)
        else:
            is_beyond = ~(jnp.abs(count) < jnp.float32(LARGEST_REAL))
        is_large = is_large | (jnp.any(is_beyond, axis=0) if count.ndim > 1 else is_beyond)
    return is_large


def _new_segment(course: Course, lanes: Lanes, is_waiting: Array) -> tuple[Lanes, Array]:
    segment = course.segment + is_waiting.astype(jnp.uint32)
    fresh = random.segment_state(course.key, segment)
    generator = random.choose(is_waiting, fresh, lanes.generator)
    return lanes._replace(generator=generator), segment


def _resolve_rare(
    model: LaneModel, stepper: Stepper, constants: Constants, lanes: Lanes, is_held: Array
) -> Lanes:
    # Where no event is watched nothing else holds a lane.
    is_rare = is_held & (lanes.scale < 0) if model.events else is_held

    def resolve(is_any: Running, lanes: Lanes) -> Lanes:
        resolved: Lanes = stepper.resolve(
            model, constants._replace(is_running=is_any), lanes, is_rare
        )
        return resolved

    return driver.if_needed(stepper.driver, jnp.any(is_rare), resolve, lanes)


def _moved_constants(
    model: LaneModel, constants: Constants, is_waiting: Array, since: Array, now: clock.Time
) -> Constants:
    """Constants of a segment that begins now: amplitudes decayed, clock of zero length."""
    moved = levels.decayed(model.layout, constants.levels, since)
    amplitudes = tuple(
        jnp.where(is_waiting, new, old)
        for new, old in zip(moved, constants.levels.amplitudes, strict=True)
    )
    return constants._replace(
        levels=constants.levels._replace(amplitudes=amplitudes),
        stop=jnp.where(is_waiting, now.high, constants.stop),
        span=jnp.where(is_waiting, jnp.float32(0), constants.span),
    )


def _settled(
    model: LaneModel,
    stepper: Stepper,
    constants: Constants,
    lanes: Lanes,
    is_waiting: Array,
    since: Array,
    left: Array,
) -> Lanes:
    """Tallies at a stop, before anything happens there."""
    if not model.tallies:
        return lanes
    now = _environment(model, stepper.packing, constants, lanes)
    settled = model.settled_tallies(lanes.tallies, Stop(now, since, left), is_waiting)
    return lanes._replace(tallies=settled)


def _begun(
    model: LaneModel, stepper: Stepper, constants: Constants, lanes: Lanes, is_waiting: Array
) -> Any:
    """Tallies of the lanes that begin a segment, with its numbers."""
    if not model.tallies:
        return ()
    now = _environment(model, stepper.packing, constants, lanes)
    return model.begun_tallies(lanes.tallies, now, is_waiting)


def _environment(
    model: LaneModel, packing: Packing, constants: Constants, lanes: Lanes
) -> dict[str, Array]:
    """The values of every lane where its segment begins."""
    return model.values(constants, packing.columns(model, lanes.counts), constants.span)


def _tally_change(
    model: LaneModel,
    constants: Constants,
    lanes: Lanes,
    counts: tuple[Array, ...],
    is_changed: Array,
    visit: Visit,
    is_first: Array,
) -> Lanes:
    """Tallies after a stop's doses and events; they start from what those of time 0 leave."""
    if not model.tallies:
        return lanes
    values = model.values(constants, counts, jnp.zeros_like(lanes.remaining))
    jump = Jump(values, visit.now.high, None, is_changed)
    tallies = []
    for index, after in enumerate(model.jump_tallies(lanes.tallies, jump)):
        fresh = model.tallies[index].start(jump, model.observe(index))
        tallies.append(tuple(jnp.where(is_first, a, b) for a, b in zip(fresh, after, strict=True)))
    return lanes._replace(tallies=tuple(tallies))


def _cells(
    patients: Patients, save_index: Array, cells: tuple[Array, ...], is_waiting: Array
) -> tuple[Array, ...]:
    """What holds until the next save time; what always does needs no looking up."""
    return tuple(
        old
        if old.ndim == 0
        else jnp.where(is_waiting, table[jnp.minimum(save_index, jnp.int32(len(table) - 1))], old)
        for table, old in zip(patients.cells, cells, strict=True)
    )


def _next_stop(
    patients: Patients, row: Array, due: clock.Time, dose_index: Array, event: clock.Time
) -> clock.Time:
    stop = clock.earlier(due, event)
    if patients.dose_high.shape[1] == 1:
        return stop
    table_row = row if patients.dose_high.shape[0] > 1 else jnp.zeros_like(row)
    position = (jnp.maximum(table_row, 0), dose_index)
    return clock.earlier(
        stop, clock.Time(patients.dose_high[position], patients.dose_low[position])
    )


def _to_save(model: LaneModel, packing: Packing, constants: Constants, lanes: Lanes) -> Array:
    """What is saved of every lane at a save time, (L, width) int32."""
    columns: list[Array] = [_bits(c) for c in packing.rows(lanes.counts, model.recorded)]
    if model.float_names:
        values = _environment(model, packing, constants, lanes)
        columns += [_bits(values[name]) for name in model.float_names]
    return _side_by_side(columns, lanes.remaining.shape[0])


def _to_keep(model: LaneModel, packing: Packing, lanes: Lanes, course: Course) -> Array:
    """What is kept of every lane when its trajectory is over, (L, width) int32."""
    columns: list[Array] = [course.status, lanes.num_steps, lanes.num_events, course.num_stops]
    everything = range(len(model.network.species))
    for state in (packing.rows(lanes.counts, everything), *lanes.tallies):
        columns += [_bits(array) for array in state]
    return _side_by_side(columns, lanes.remaining.shape[0])


def _side_by_side(columns: list[Array], num_lanes: int) -> Array:
    """Arrays (L,), () or (k, L) as the columns of a table (L, width)."""
    wide = [c.T if c.ndim > 1 else jnp.broadcast_to(c, num_lanes)[:, None] for c in columns]
    return jnp.concatenate([jnp.zeros((num_lanes, 0), jnp.int32), *wide], axis=1)


def _bits(array: Array) -> Any:
    return array if array.dtype == jnp.int32 else lax.bitcast_convert_type(array, jnp.int32)
