"""Times in double-float32: a pair (high, low) whose sum carries about 48 bits.

A float32 clock stalls: at t = 4096 a wait of 1e-4 is lost. The lane's step therefore counts down
the time that remains to its next stop, compensated (Kahan), and absolute times appear only at
stops, as pairs.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array


class Time(NamedTuple):
    """The number high + low, |low| at most half a unit in the last place of high."""

    high: Array
    low: Array


def split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 values as float32 (high, low); infinities have low 0."""
    high = np.asarray(values, np.float64).astype(np.float32)
    finite = np.isfinite(high)
    low = np.where(finite, values - np.where(finite, high, 0.0).astype(np.float64), 0.0)
    return high, low.astype(np.float32)


def is_before(a: Time, b: Time) -> Array:
    """Whether a < b."""
    return (a.high < b.high) | ((a.high == b.high) & (a.low < b.low))


def is_same(a: Time, b: Time) -> Array:
    """Whether a == b; infinities are never the same."""
    return (a.high == b.high) & (a.low == b.low) & jnp.isfinite(a.high)


# Relative rounding of a sum of pairs, and of a time that was computed in float32.
PAIR_ROUNDING, SINGLE_ROUNDING = 2.0**-40, 2.0**-21


def has_come(now: Time, due: Time, rounding: float = PAIR_ROUNDING) -> Array:
    """Whether now >= due up to rounding: 1 + 0.3 is due at a save time of 1.3."""
    return ~is_before(now, due) | (difference(due, now) < jnp.float32(rounding) * due.high)


def earlier(a: Time, b: Time) -> Time:
    """The smaller of two times."""
    return select(is_before(b, a), b, a)


def select(condition: Array, a: Time, b: Time) -> Time:
    """a where the condition holds, else b."""
    return Time(jnp.where(condition, a.high, b.high), jnp.where(condition, a.low, b.low))


def difference(a: Time, b: Time) -> Array:
    """a - b as float32; infinite where a is."""
    return jnp.where(jnp.isfinite(a.high), (a.high - b.high) + (a.low - b.low), a.high)


def shift(a: Time, delta: Array) -> Time:
    """a + delta, normalised (Knuth's two-sum)."""
    total = a.high + delta
    back = total - a.high
    error = (a.high - (total - back)) + (delta - back)
    low = a.low + error
    high = total + low
    return Time(high, low - (high - total))
