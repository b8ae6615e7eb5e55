"""What methods share that fire one reaction a step: clock, events on counts, tallies."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from engine.kernel.materialise import compute_once, materialise
from engine.kernel.model import LaneModel
from engine.kernel.state import Constants, Lanes
from engine.kernel.tallies import Interval, Jump

# Stretches without an event are cut so that a tally of a moving input is looked at this often
# between two stops at least.
LOOKS = 64


class Countdown(NamedTuple):
    """The time to go after a wait, by Kahan's compensated sum.

    Attributes:
        wanted: what was to be taken off: the wait and the compensation.
        remaining: what is left.
        is_inside: whether the wait ends before the stop; NaN and overshoot both end as "reached".
    """

    wanted: Array
    remaining: Array
    is_inside: Array


def count_down(lanes: Lanes, wanted: Array) -> Countdown:
    """Take a wait, with its compensation, off the time to go."""
    remaining = lanes.remaining - wanted
    return Countdown(wanted, remaining, remaining >= 0)


def watched(
    model: LaneModel,
    constants: Constants,
    counts: tuple[Array, ...],
    remaining: Array,
    is_fired: Array,
) -> Array | None:
    """Lanes whose reaction changed a trigger on counts; None where no trigger is watched."""
    if not model.events:
        return None
    after = model.values(constants, counts, jnp.maximum(remaining, jnp.float32(0)))
    changed = model.events.watched_changed(after, constants.truths)
    return None if changed is None else is_fired & changed


def compensation(lanes: Lanes, countdown: Countdown) -> Array:
    """What the next wait owes for the rounding of this one.

    Of lanes that wait it is no number: their stop sets it to zero.
    """
    return countdown.wanted - (lanes.remaining - countdown.remaining)


def arrival(lanes: Lanes, countdown: Countdown, is_alive: Array, is_held: Array | None) -> Array:
    """The time to go after a step."""
    remaining, is_inside = countdown.remaining, countdown.is_inside
    moved = remaining
    if is_held is not None:
        # A held lane keeps its time as a negative number, which must not be zero.
        moved = jnp.where(is_held, jnp.float32(-1e-37) - remaining, remaining)
    moved = jnp.where(is_inside, moved, jnp.float32(-jnp.inf))
    return jnp.where(is_alive, moved, lanes.remaining)


def tally(
    model: LaneModel,
    constants: Constants,
    lanes: Lanes,
    wait: Array,
    is_alive: Array,
    counts: tuple[Array, ...],
    fired: Callable[[str], Array],
    is_fired: Array,
    before: Mapping[str, Array] | None = None,
) -> tuple[tuple[Array, ...], ...]:
    """Every tally after the stretch of a wait and the jump, if there was one.

    `before` is the environment just before the jump, where the step has it already.
    """
    if not model.tallies:
        return ()

    def length() -> Array:
        reach = jnp.minimum(wait, lanes.remaining)
        return jnp.where(is_alive & (reach > 0), reach, jnp.float32(0))

    # Many sums look at it: computed by each of them again it took 8 % of a step with 13.
    elapsed = compute_once(constants.is_running, length)
    time_left = lanes.remaining - elapsed

    # A proposal was made at the beginning of the stretch where rates are constant, and beyond the
    # end of one that was cut; otherwise at its end.
    is_at_end = not model.is_moving or (model.is_thinned and not model.is_looking)
    last = before
    if last is None or not is_at_end:
        last = model.values(constants, lanes.counts, time_left)

    def share(values: Any) -> Any:
        return materialise(constants.is_running, values)

    shared = compute_once(constants.is_running, lambda: model.shared_values(last, lanes.tallies))
    # Each of many sums would compute the exponentials again.
    once = partial(compute_once, constants.is_running)

    def at(fraction: float | Array) -> Mapping[str, Array]:
        left = lanes.remaining - jnp.asarray(fraction, jnp.float32) * elapsed
        return model.values(constants, lanes.counts, left, once) | shared

    def average() -> Mapping[str, Array]:
        return model.averages(constants, lanes.counts, lanes.remaining, elapsed, once) | shared

    after = model.values(constants, counts, time_left)
    whole = {**last, **shared}
    jump = Jump(after, constants.stop - time_left, fired, is_fired, whole, share)
    states = []
    for index, (tally, state) in enumerate(zip(model.tallies, lanes.tallies, strict=True)):
        observe = model.observe(index)
        stretch = Interval(
            elapsed,
            time_left,
            at,
            average,
            model.tally_moves(index),
            partial(model.part_is_affine, index),
            share,
            end=whole,
        )
        passed = tally.interval(state, stretch, observe)
        if tally.is_additive:
            states.append(passed)
            continue
        states.append(tuple(jnp.where(is_alive, a, b) for a, b in zip(passed, state, strict=True)))
    return model.jump_tallies(tuple(states), jump)
