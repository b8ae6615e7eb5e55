"""The lane machine: runs any number of patients on a fixed number of lanes.

`vmap` of a `while_loop` makes every patient wait for the slowest. Here a lane that reaches a stop
(a save time, a dose, an event) waits only for the end of its block of steps, where `boundary`
serves all waiting lanes at once; a lane whose patient is finished takes the next patient, after a
few blocks at most.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from engine.kernel import clock, driver, random
from engine.kernel.boundary import serve, write
from engine.kernel.levels import Levels
from engine.kernel.model import LaneModel
from engine.kernel.patients import Patients, Results, Rows, Written
from engine.kernel.state import Constants, Course, Lanes, Machine, Stepper
from engine.kernel.status import Status
from engine.kernel.tallies import Jump


def build(model: LaneModel, stepper: Stepper) -> Callable[[Patients], Results]:
    """The compiled function that runs a chunk of patients; it never raises.

    Args:
        model: the network and its tallies.
        stepper: the method.

    Returns:
        A jitted function from `Patients` to `Results`.
    """

    def run(patients: Patients) -> Results:
        machine = _start(model, stepper, patients)
        num_visits = machine.written.saved.position.shape[0]

        def is_running(machine: Machine) -> Array:
            is_busy = machine.num_idle < jnp.int32(stepper.lanes)
            return is_busy | (machine.next_row < patients.num_valid)

        def is_enough(machine: Machine) -> Array:
            """Whether patients wait for more than a few lanes, or no lane has one."""
            few = jnp.int32(stepper.lanes // MOST_IDLE)
            is_wanted = (machine.num_idle > few) & (machine.next_row < patients.num_valid)
            return is_wanted | (machine.num_idle == jnp.int32(stepper.lanes))

        def stop_and_go(visit_number: Array, machine: Machine) -> Machine:
            is_stopped = is_stale = ~(machine.lanes.remaining >= 0) & (machine.course.row >= 0)
            if not model.is_changed_at_stops:
                # Then a stop only saves; what is new is a patient before its first segment.
                is_stale = is_stopped & (machine.course.segment == jnp.uint32(0))
            machine = _paced(
                stepper, machine, serve(model, stepper, patients, machine, visit_number)
            )
            constants = machine.constants
            # Where no lane is alive no step is taken: what it computes once would be nothing, and a
            # lane keeps its patient's last state until it is refilled.
            is_any = constants.is_running
            steps = jnp.where(is_any, _block_length(model, stepper, machine), jnp.int32(0))
            filled = stepper.packing.filled(model, constants, machine.lanes, is_stopped, is_stale)
            ready = machine.lanes._replace(cache=filled)
            lanes = driver.advance(stepper, model, constants, ready, steps)
            return machine._replace(lanes=lanes, block=steps)

        def block(machine: Machine) -> Machine:
            machine = _refill(model, stepper, patients, machine)
            results = machine.results
            machine = driver.together(
                stepper.driver,
                num_visits,
                is_enough,
                stop_and_go,
                machine._replace(results=(), written=_nothing_written(stepper, results)),  # type: ignore[arg-type]
            )
            machine = machine._replace(results=results)
            return machine._replace(results=write(model, stepper, machine))

        return lax.while_loop(is_running, block, machine).results

    return jax.jit(run)


SHORTEST_BLOCK = 4
# Where more than one in so many lanes is without a patient, others begin at once: trajectories of
# 5, 20 and 200 events took 0.54, 0.51 and 0.80 microseconds without this rule, 0.17, 0.22 and 0.61
# with it.
MOST_IDLE = 8
# How much of what is known about the distance between stops each block forgets.
FORGETTING = 0.125


def _paced(stepper: Stepper, before: Machine, machine: Machine) -> Machine:
    """Account for the last block: the steps that its lanes took and the stops they came to.

    Lanes without a patient took none, and where patients begin nobody stepped to.
    """
    last, keep = machine.block.astype(jnp.float32), jnp.float32(1 - FORGETTING)
    is_new = (before.course.row >= 0) & (before.course.segment == jnp.uint32(0))
    waited = (machine.num_waited - jnp.sum(is_new, dtype=jnp.int32)).astype(jnp.float32)
    stepping = (jnp.int32(stepper.lanes) - before.num_idle).astype(jnp.float32)
    # A lane that stopped has waited for half the block on average.
    steps = last * (stepping - jnp.float32(0.5) * waited)
    return machine._replace(
        recent_steps=keep * machine.recent_steps + steps,
        recent_stops=keep * machine.recent_stops + waited,
    )


def _block_length(model: LaneModel, stepper: Stepper, machine: Machine) -> Array:
    """How many steps to take before looking at the lanes again.

    A lane that stops waits half a block on average, and serving a block costs as much as c steps
    (of these, with their tallies): with n steps between stops the time per stop,
    n + K/2 + c n / K, is smallest at K = sqrt(2 c n). n is an average over the last blocks: lanes
    that stop together make single blocks mislead. The trajectories do not depend on K.
    """
    if stepper.block is not None:
        return jnp.int32(stepper.block)
    between = machine.recent_steps / jnp.maximum(machine.recent_stops, jnp.float32(0.5))
    cost = stepper.service_cost / model.relative_cost
    best = jnp.sqrt(jnp.float32(2 * cost) * jnp.maximum(between, jnp.float32(1)))
    return jnp.clip(best, SHORTEST_BLOCK, stepper.driver.longest_block).astype(jnp.int32)


def _start(model: LaneModel, stepper: Stepper, patients: Patients) -> Machine:
    """All lanes idle."""
    shape = (stepper.lanes,)
    zero = jnp.zeros(shape, jnp.float32)
    none = jnp.zeros(shape, jnp.int32)
    word = jnp.zeros(shape, jnp.uint32)
    truths, pending = model.events.start(stepper.lanes, stepper.queue_size)
    rows = jnp.full(shape, -1, jnp.int32)
    now = clock.Time(zero, zero)
    course = Course(rows, (word, word), word, now, now, none, none, none, none, truths, pending)
    constants = Constants(
        tuple(_lanes_of(c, rows) for c in patients.coefficients),
        tuple(jnp.broadcast_to(_lanes_of(v, rows), shape) for v in patients.variables),
        Levels(
            tuple(zero for _ in range(model.layout.total)),
            tuple(_lanes_of(r, rows) for r in patients.rates),
        ),
        zero,
        zero,
        truths,
        tuple(jnp.zeros(shape, bool) for _ in model.events.atoms),
        jnp.asarray(True),
        tuple(table[0] if len(table) == 1 else zero for table in patients.cells),
    )
    counts = tuple(zero if is_real else none for is_real in model.is_real)
    idle = jnp.full(shape, -jnp.inf, jnp.float32)
    lanes = Lanes(counts, (word, word, word, word), idle, zero, zero, none, none, ())
    lanes = lanes._replace(tallies=_start_tallies(model, constants, lanes))
    results = _no_results(model, patients, lanes)
    lanes = lanes._replace(
        counts=stepper.packing.stacked(model, counts, stepper.lanes),
        cache=stepper.packing.empty(model, constants),
    )
    return Machine(
        lanes,
        constants,
        course,
        next_row=jnp.int32(0),
        block=jnp.int32(0),
        num_waited=jnp.int32(0),
        num_idle=jnp.int32(stepper.lanes),
        recent_steps=jnp.float32(0),
        recent_stops=jnp.float32(0),
        written=_nothing_written(stepper, results),
        results=results,
    )


def _lanes_of(values: Array, rows: Array) -> Array:
    """One value per lane from one per patient; a value shared by all patients stays a scalar."""
    return values if values.ndim == 0 else values[jnp.maximum(rows, 0)]


def _start_tallies(model: LaneModel, constants: Constants, lanes: Lanes) -> tuple[Any, ...]:
    values = model.values(constants, lanes.counts, jnp.zeros_like(lanes.remaining))
    everywhere = jnp.ones(lanes.remaining.shape, bool)
    jump = Jump(values, jnp.zeros_like(lanes.remaining), None, everywhere)
    pairs = enumerate(model.tallies)
    return tuple(tally.start(jump, model.observe(index)) for index, tally in pairs)


def _refill(model: LaneModel, stepper: Stepper, patients: Patients, machine: Machine) -> Machine:
    """Give every idle lane the next patient; the lane then waits at time 0."""

    def fill(_: Any, machine: Machine) -> Machine:
        is_idle = machine.course.row < 0
        rank = jnp.cumsum(is_idle, dtype=jnp.int32) - 1
        candidate = machine.next_row + rank
        is_new = is_idle & (candidate < patients.num_valid)
        rows = jnp.where(is_new, candidate, machine.course.row)
        fresh = _fresh(model, stepper, patients, rows, machine)

        def pick(new: Array, old: Array) -> Array:
            # Lanes are the last axis everywhere; shared scalars have no lanes to choose between.
            return new if jnp.ndim(new) == 0 else jnp.where(is_new, new, old)

        # The cache of a new patient is filled when it has come through its first stop.
        old = machine.lanes._replace(cache=())
        lanes, constants, course = jax.tree.map(
            pick, fresh, (old, machine.constants, machine.course)
        )
        lanes = lanes._replace(cache=machine.lanes.cache)
        taken = jnp.sum(is_new, dtype=jnp.int32)
        return machine._replace(
            lanes=lanes, constants=constants, course=course, next_row=machine.next_row + taken
        )

    # The results stay outside of the conditional: passing them through could copy them.
    results = machine.results
    light = machine._replace(results=())  # type: ignore[arg-type]
    is_wanted = (machine.num_idle > 0) & (machine.next_row < patients.num_valid)
    light = driver.if_needed(stepper.driver, is_wanted, fill, light)
    return light._replace(results=results)


def _fresh(
    model: LaneModel, stepper: Stepper, patients: Patients, rows: Array, machine: Machine
) -> tuple[Lanes, Constants, Course]:
    """Lanes at time 0 of the given patients."""
    take = jnp.maximum(rows, 0)
    zero = jnp.zeros(rows.shape, jnp.float32)
    none = jnp.zeros(rows.shape, jnp.int32)
    key = random.patient_key(
        (patients.key[0], patients.key[1]), patients.patient[take], patients.replicate[take]
    )
    truths, pending = model.events.start(stepper.lanes, stepper.queue_size)
    idle = jnp.full(rows.shape, -jnp.inf, jnp.float32)

    def gathered(values: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(_lanes_of(v, rows) for v in values)

    def widened(values: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(jnp.broadcast_to(v, rows.shape) for v in gathered(values))

    constants = Constants(
        gathered(patients.coefficients),
        widened(patients.variables),
        Levels(widened(patients.initial_amplitudes), gathered(patients.rates)),
        zero,
        zero,
        truths,
        machine.constants.passed,
        machine.constants.is_running,
        machine.constants.cells,
    )
    word = jnp.zeros(rows.shape, jnp.uint32)
    start = clock.Time(zero, zero)
    due = clock.Time(zero + patients.save_high[0], zero + patients.save_low[0])
    course = Course(rows, key, word, start, due, none, none, none, none, truths, pending)
    counts = gathered(patients.counts)
    columns = tuple(jnp.broadcast_to(c, rows.shape) for c in counts)
    lanes = Lanes(columns, (word, word, word, word), idle, zero, zero, none, none, ())
    tallies = _start_tallies(model, constants, lanes)
    lanes = lanes._replace(
        counts=stepper.packing.stacked(model, counts, stepper.lanes), tallies=tallies
    )
    return lanes, constants, course


def _nothing_written(stepper: Stepper, results: Results) -> Written:
    """No lane has a row for any table yet."""
    length, width = results.saved.shape
    visits, lanes = _num_visits(stepper, width), stepper.lanes
    position = jnp.full((visits, lanes), length, jnp.int32)
    rows = Rows(position, jnp.zeros((visits, lanes, width), jnp.int32))
    return Written(rows, jnp.full(lanes, results.final.shape[0], jnp.int32))


# How many bytes the rows of some visits may take together until they are written to the results.
VISITS_BYTES = 2**16


def _num_visits(stepper: Stepper, width: int) -> int:
    """How many visits to the stops share a refill and a write, an operation a dispatch each."""
    fitting = VISITS_BYTES // (4 * stepper.lanes * (width + 1))
    return max(1, min(stepper.driver.most_visits, fitting))


def _no_results(model: LaneModel, patients: Patients, lanes: Lanes) -> Results:
    """Tables with nothing written yet: counts -1, real numbers NaN, status NOT_RUN."""
    rows = patients.patient.shape[0]
    times = patients.save_high.shape[0] - 1
    nan_bits = 0x7FC00000
    missing = [nan_bits if model.is_real[i] else -1 for i in model.recorded]
    counts = jnp.broadcast_to(jnp.asarray(missing, jnp.int32), (rows * times, len(missing)))
    floats = jnp.full((rows * times, len(model.float_names)), nan_bits, jnp.int32)
    width = 4 + len(model.network.species) + sum(map(len, lanes.tallies))
    final = jnp.zeros((rows, width), jnp.int32).at[:, 0].set(jnp.int32(Status.NOT_RUN))
    return Results(jnp.concatenate([counts, floats], axis=1), final)
