"""The values that the lane machine passes around."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from engine.kernel import clock
from engine.kernel.levels import Levels
from engine.kernel.materialise import Running
from engine.kernel.patients import Results, Written
from engine.kernel.queue import Pending


class Constants(NamedTuple):
    """What a lane holds between two of its stops.

    Attributes:
        coefficients: one () or (L,) float32 array per coefficient of the program.
        variables: one (L,) float32 array per variable.
        levels: the inputs' amplitudes and rates.
        stop: time of the next stop, (L,) float32.
        span: length of the segment, (L,) float32.
        truths: whether each watched trigger held when the segment began, (L,) bool.
        passed: whether each time threshold of the triggers has passed, (L,) bool.
        is_running: scalar, whether any lane is alive in this block, or the constant True; what
            `materialise` is told.
        cells: one (L,) float32 array per number that changes with the save interval; one ()
            where there is one number for all of them.
    """

    coefficients: tuple[Array, ...]
    variables: tuple[Array, ...]
    levels: Levels
    stop: Array
    span: Array
    truths: tuple[Array, ...]
    passed: tuple[Array, ...]
    is_running: Running
    cells: tuple[Array, ...] = ()


class Lanes(NamedTuple):
    """What a step changes.

    Attributes:
        counts: one (L,) int32 array per species, or as the method's `Packing` has them.
        generator: the four words of the random generator.
        remaining: time to the next stop; a negative number -r is a lane held at r, -inf a lane
            that has reached its stop.
        compensation: Kahan's compensation of `remaining`.
        scale: the last total propensity; where there are events, negative while a rare reaction is
            to be chosen (without events nothing else holds a lane); NaN where it is no number, +inf
            where a step was too long.
        num_steps: candidate events so far, int32.
        num_events: reactions fired so far, int32.
        tallies: state of every tally.
        cache: what a method keeps from step to step beside these; mostly nothing.
    """

    counts: tuple[Array, ...]
    generator: tuple[Array, Array, Array, Array]
    remaining: Array
    compensation: Array
    scale: Array
    num_steps: Array
    num_events: Array
    tallies: tuple[tuple[Array, ...], ...]
    cache: tuple[Array, ...] = ()


class Course(NamedTuple):
    """Where a lane's patient stands.

    Attributes:
        row: the patient's row in the chunk; -1 is an idle lane.
        key: the patient's key, two words.
        segment: number of the segment, the counter of the random stream.
        stop: time of the next stop.
        due: the next save time.
        save_index, dose_index: of the next save time and dose.
        num_stops: steps that ended at a stop instead of an event.
        status: why the lane ends, or COMPLETE.
        truths: every trigger's truth.
        pending: the event queue.
    """

    row: Array
    key: tuple[Array, Array]
    segment: Array
    stop: clock.Time
    due: clock.Time
    save_index: Array
    dose_index: Array
    num_stops: Array
    status: Array
    truths: tuple[Array, ...]
    pending: Pending


class Driver(NamedTuple):
    """How a block of steps is run, and how much work a device wants at once; see `driver`.

    Attributes:
        name: what `ENGINE_DRIVER` calls it.
        advance: (step, constants, lanes, number of steps) -> lanes after them.
        most_lanes: lanes that run side by side at most; None leaves it to the processor's cache.
        longest_block: steps between two looks at the lanes at most.
        most_visits: visits to the lanes' stops between two writes of results at most.
        largest_chunk: rows of a chunk at most.
        chunk_bytes: size of a chunk's results at most.
        most_workers: chunks that are driven at once at most; None for one per core.
        service_factor: how many times as many steps serving the stops costs as on a CPU.
    """

    name: str
    advance: Callable[[Callable[[Constants, Lanes], Lanes], Constants, Lanes, Array], Lanes]
    most_lanes: int | None
    longest_block: int
    most_visits: int
    largest_chunk: int
    chunk_bytes: int
    most_workers: int | None
    service_factor: float


class Packing(NamedTuple):
    """How a method's steps want the counts, where that is not an array per species.

    Attributes:
        stacked: (model, a number or (L,) per species, num_lanes) -> counts as they stand in
            `Lanes`.
        columns: (model, counts as they stand in `Lanes`) -> one (L,) array per species.
        rows: (counts as they stand in `Lanes`, positions of species) -> arrays (L,) or (k, L) that
            hold just those, in order.
        empty: (model, constants) -> the cache of lanes that have not begun.
        filled: (model, constants, lanes, is_stopped, is_stale) -> the cache for the steps of a
            block; the stopped lanes have come to a stop since their last step, and in the stale
            ones counts, or what stands still between stops, may have changed there.
    """

    stacked: Callable[[Any, tuple[Array, ...], int], tuple[Array, ...]]
    columns: Callable[[Any, tuple[Array, ...]], tuple[Array, ...]]
    rows: Callable[[tuple[Array, ...], Sequence[int]], list[Array]]
    empty: Callable[[Any, Constants], tuple[Array, ...]]
    filled: Callable[[Any, Constants, Lanes, Array, Array], tuple[Array, ...]]


AS_THEY_ARE = Packing(
    stacked=lambda model, counts, num_lanes: tuple(jnp.broadcast_to(c, num_lanes) for c in counts),
    columns=lambda model, counts: counts,
    rows=lambda counts, positions: [counts[i] for i in positions],
    empty=lambda model, constants: (),
    filled=lambda model, constants, lanes, is_stopped, is_stale: lanes.cache,
)


class Stepper(NamedTuple):
    """What a method gives the machine.

    Attributes:
        step: (model, options, constants, lanes) -> lanes, advanced by one step.
        resolve: (model, constants, lanes, is_rare) -> lanes: fires the reactions that `step` left
            to the end of the block.
        options: what `step` needs to know of the method; hashable.
        is_counting: whether `step` counts its firings in `num_events`; otherwise every step that
            does not end at a stop is one.
        max_events: candidate events per trajectory.
        real: species whose counts are real numbers (float32) and not int32.
        service_cost: what serving the stops of a block costs, in steps without tallies.
        queue_size: slots of the event queue.
        lanes: number of lanes L.
        block: steps per block K, or None to adapt it to the distance between stops.
        driver: how a block of steps is run.
        packing: how `step` wants the counts.
        is_elementwise: whether `step` computes lane by lane, without gathers or scatters, so that
            it can run as a kernel on a GPU.
    """

    step: Callable[[Any, Any, Constants, Lanes], Lanes]
    resolve: Callable[[Any, Constants, Lanes, Array], Lanes]
    options: Any
    is_counting: bool
    max_events: int
    real: frozenset[str]
    service_cost: float
    queue_size: int
    lanes: int
    block: int | None
    driver: Driver
    packing: Packing
    is_elementwise: bool


class Machine(NamedTuple):
    """The state of the whole machine between blocks.

    Attributes:
        lanes, constants, course: the lanes.
        next_row: the first patient that has no lane yet.
        block: steps of the last block.
        num_waited: lanes that waited at its end.
        num_idle: lanes without a patient.
        recent_steps, recent_stops: of all lanes over the last blocks, float32.
        written: what the last visit to the stops adds to the results.
        results: what has been written.
    """

    lanes: Lanes
    constants: Constants
    course: Course
    next_row: Array
    block: Array
    num_waited: Array
    num_idle: Array
    recent_steps: Array
    recent_stops: Array
    written: Written
    results: Results
