"""What methods share whose steps change many counts at once: clock, events on counts, tallies."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from engine.kernel.model import LaneModel
from engine.kernel.state import Constants, Lanes
from engine.kernel.tallies import Interval, Jump


class Change(NamedTuple):
    """What a step did to every lane.

    Attributes:
        elapsed: its length, 0 for lanes that did not move.
        drifted: counts to which they moved in the course of it.
        counts: counts after it, with what fired at its end.
        fired: how often the reaction of a given name fired, or None where nothing is counted.
        is_taken: lanes that took the step.
    """

    elapsed: Array
    drifted: tuple[Array, ...]
    counts: tuple[Array, ...]
    fired: Callable[[str], Array] | None
    is_taken: Array


def counted_down(lanes: Lanes, elapsed: Array, is_reached: Array) -> tuple[Array, Array]:
    """Kahan's compensated countdown, -inf at the stop; and the new compensation."""
    wanted = elapsed + lanes.compensation
    remaining = lanes.remaining - wanted
    compensation = wanted - (lanes.remaining - remaining)
    # Rounding may spend the last of the time; then the stop is reached too.
    is_over = is_reached | ~(remaining > 0)
    return jnp.where(is_over, jnp.float32(-jnp.inf), remaining), compensation


def held_for_events(
    model: LaneModel,
    constants: Constants,
    counts: tuple[Array, ...],
    remaining: Array,
    is_taken: Array,
) -> Array:
    """The time to go; its negative for lanes whose step changed a trigger on counts."""
    if not model.events:
        return remaining
    after = model.values(constants, counts, jnp.maximum(remaining, jnp.float32(0)))
    changed = model.events.watched_changed(after, constants.truths)
    if changed is None:
        return remaining
    return jnp.where(is_taken & changed & (remaining > 0), -remaining, remaining)


def tallied(
    model: LaneModel, constants: Constants, lanes: Lanes, change: Change
) -> tuple[tuple[Array, ...], ...]:
    """Every tally after the step; in the course of it the counts are taken to move linearly."""
    if not model.tallies:
        return ()
    elapsed, is_taken = change.elapsed, change.is_taken
    time_left = jnp.maximum(lanes.remaining - elapsed, jnp.float32(0))

    def at(fraction: float | Array) -> dict[str, Array]:
        part = jnp.asarray(fraction, jnp.float32)
        between = tuple(
            a.astype(jnp.float32) + part * (b - a).astype(jnp.float32)
            for a, b in zip(lanes.counts, change.drifted, strict=True)
        )
        return model.values(constants, between, lanes.remaining - part * elapsed)

    stretch = Interval(elapsed, time_left, at, lambda: at(0.5), True, lambda _: False, is_leap=True)
    after = model.values(constants, change.counts, time_left)
    jump = Jump(after, constants.stop - time_left, change.fired, is_taken)
    states = []
    for index, (tally, state) in enumerate(zip(model.tallies, lanes.tallies, strict=True)):
        passed = tally.interval(state, stretch, model.observe(index))
        states.append(tuple(jnp.where(is_taken, a, b) for a, b in zip(passed, state, strict=True)))
    return model.jump_tallies(tuple(states), jump)


def nothing_rare(model: LaneModel, constants: Constants, lanes: Lanes, is_rare: Array) -> Lanes:
    """For methods that leave no reaction to the end of a block: no lane is ever marked."""
    return lanes
