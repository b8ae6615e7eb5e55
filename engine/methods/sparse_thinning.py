"""Thinning for the sparse step: what moves stands in the tree as its bound over a window.

Extrande (Voliotis et al. 2016, doi:10.1371/journal.pcbi.1004923) with a bound per reaction, so that
only the chosen one is looked at (Thanh and Priami 2015, doi:10.1063/1.4927916). The bounds b_j hold
until the end of the lane's window, or until what they depend on fires; candidates come at rate
sum_j b_j, reaction j with probability b_j / sum_j b_j, and are accepted with a_j(t) / b_j. At the
end of a window, and after every stop, the bounds are made anew for the next one: waiting times have
no memory.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from engine.kernel import levels, random
from engine.kernel.model import LaneModel
from engine.kernel.state import Constants, Lanes
from engine.methods.sparse_tables import Tables
from engine.network.expressions import TIME

# A window holds so many expected candidates, and more where a renewal costs more: with a quarter of
# one per reaction that moves, windows renew four bounds per event.
WINDOW, PER_MOVING = 4.0, 0.25
# A window that holds so many times more candidates than it should is cut short at once, ...
TOO_MANY = 4.0
# ... to so much of it at least: a bound that is infinite far ahead may be finite nearby.
SHRINKING = 1 / 16
# The shortest window, as a share of the segment, that is cut short.
NEAREST = 2.0**-20
# A number times this, in float32, is the next smaller one.
BELOW_ONE = 1 - 2.0**-24
# The end of a window that has not begun.
NO_WINDOW = float("inf")


class Window(NamedTuple):
    """Where lanes stand in their windows before a step.

    Attributes:
        room: time to its end, +inf where it reaches to the stop.
        is_renewed_now: the bounds do not hold, or hold too much: they are made anew before
            anything happens.
        next_length: how long the next one is to be.
    """

    room: Array
    is_renewed_now: Array
    next_length: Array


def expected(tables: Tables) -> float:
    """Candidates that a window is to hold."""
    return WINDOW + PER_MOVING * tables.num_moving


def window_of(
    tables: Tables, constants: Constants, lanes: Lanes, end: Array, total: Array
) -> Window:
    """The lanes' windows, given by the time to go at their ends, and the total of the bounds."""
    remaining, zero = lanes.remaining, jnp.float32(0)
    length = jnp.maximum(remaining - end, zero)
    is_due = (end >= remaining) & (end > zero)
    most = jnp.float32(TOO_MANY * expected(tables))
    is_long = ~(total * length <= most) & (length > constants.span * jnp.float32(NEAREST))
    wanted = jnp.float32(expected(tables)) / jnp.maximum(total, jnp.float32(1e-37))
    wanted = jnp.where(total < jnp.inf, wanted, zero)
    cut = jnp.where(is_long, length * jnp.float32(SHRINKING), zero)
    room = jnp.where(end > zero, length, jnp.float32(jnp.inf))
    return Window(room, is_due | is_long, jnp.maximum(wanted, cut))


def next_end(window: Window, left: Array) -> Array:
    """The end of a window that begins now, as the time to go at it; 0 is the stop."""
    # However short it is to be, time passes in it.
    end = jnp.minimum(left - window.next_length, left * jnp.float32(BELOW_ONE))
    return jnp.maximum(end, jnp.float32(0))


def moving_at(model: LaneModel, constants: Constants, left: Array) -> dict[str, Array]:
    """Time and inputs of every lane at a time to go."""
    found = levels.values_at(model.layout, constants.levels, constants.span - left)
    return {TIME: constants.stop - left, **found}


def moving_over(
    model: LaneModel, constants: Constants, left: Array, end: Array
) -> dict[str, tuple[Array, Array]]:
    """Bounds of time and inputs while the time to go falls from `left` to `end`."""
    since, until = constants.span - left, constants.span - end
    found = levels.bounds_over(model.layout, constants.levels, since, until)
    return {TIME: (constants.stop - left, constants.stop - end), **found}


def is_accepted(bits: Array, propensity: Array, bound: Array) -> Array:
    """Whether a candidate of a bound is an event, with probability propensity / bound."""
    return (random.uniform(bits) * bound < propensity) | (propensity == bound)
