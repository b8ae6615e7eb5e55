"""Inputs inside a lane: amplitudes of exponential modes, their values and their bounds.

An input is level + sum_m A_m exp(-lambda_m s), s the time since the lane's segment began; its
amplitudes are lane state, so that a hundred repeated doses or a rescue dose given on a condition
cost no more than one. A tangent, see `InputLayout`, has A'_m - A_m lambda'_m s in place of A_m.
"""

import math
import operator
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from engine.inputs.layout import InputLayout

# What the rounding of a sum of modes may amount to, as a share of its terms.
ROUNDING = 2.0**-21


class Levels(NamedTuple):
    """Amplitudes and rates, one array per entry of the layout (level first, then modes)."""

    amplitudes: tuple[Array, ...]
    rates: tuple[Array, ...]


def values_at(layout: InputLayout, levels: Levels, since: Array) -> dict[str, Array]:
    """Every input at a time since the segment began; rounding below zero is clipped."""
    result = {}
    for name, entries in layout.entries():
        total = _total([_mode(layout, levels, entry, since) for entry in entries])
        result[name] = _clipped(layout, name, total)
    return result


def bounds_over(
    layout: InputLayout, levels: Levels, since: Array, until: Array
) -> dict[str, tuple[Array, Array]]:
    """Bounds of every input over a window: each mode is monotone, so its ends bound it."""
    result = {}
    for name, entries in layout.entries():
        terms = [_bounds(layout, levels, entry, since, until) for entry in entries]
        low, high = (_total(ends) for ends in zip(*terms, strict=True))
        if len(terms) > 1:
            # Modes of both signs cancel: their sum is off by the rounding of the largest.
            size = _total([jnp.maximum(jnp.abs(a), jnp.abs(b)) for a, b in terms])
            margin = jnp.float32(ROUNDING) * size
            low, high = low - margin, high + margin
        result[name] = (_clipped(layout, name, low), _clipped(layout, name, high))
    return result


def averages_over(
    layout: InputLayout, levels: Levels, since: Array, elapsed: Array
) -> dict[str, Array]:
    """The mean of every input over a stretch, in closed form."""
    result = {}
    for name, entries in layout.entries():
        total = _total([_average(layout, levels, entry, since, elapsed) for entry in entries])
        result[name] = _clipped(layout, name, total)
    return result


def decayed(layout: InputLayout, levels: Levels, elapsed: Array) -> tuple[Array, ...]:
    """The amplitudes after a time, as the amplitudes of a segment that begins then."""
    return tuple(_mode(layout, levels, entry, elapsed) for entry in range(layout.total))


def _mode(layout: InputLayout, levels: Levels, entry: int, since: Array) -> Array:
    if layout.is_level(entry):
        return levels.amplitudes[entry]
    return _amplitude(layout, levels, entry, since) * _decay(layout, levels, entry, since)


def _amplitude(layout: InputLayout, levels: Levels, entry: int, since: Array) -> Array:
    """A mode's amplitude; a tangent's grows with the time."""
    amplitude = levels.amplitudes[entry]
    if layout.is_tangent(entry):
        amplitude = amplitude - _growth(layout, levels, entry) * since
    return amplitude


def _growth(layout: InputLayout, levels: Levels, entry: int) -> Array:
    """A_m lambda'_m of a tangent's mode."""
    return levels.amplitudes[layout.sources[entry]] * levels.rates[entry]


def _decay(layout: InputLayout, levels: Levels, entry: int, since: Array) -> Array:
    # The same rate written the same way: XLA computes one exponential for all of its modes.
    return jnp.exp(-levels.rates[layout.sources[entry]] * since)


def _bounds(
    layout: InputLayout, levels: Levels, entry: int, since: Array, until: Array
) -> tuple[Array, Array]:
    """The smallest and largest that a mode can be between two times."""
    if not layout.is_tangent(entry) or layout.is_level(entry):
        ends = [_mode(layout, levels, entry, at) for at in (since, until)]
    else:
        # A line times a decay: no further out than the products of their ends.
        ends = [
            _amplitude(layout, levels, entry, a) * _decay(layout, levels, entry, b)
            for a in (since, until)
            for b in (since, until)
        ]
    return reduce(jnp.minimum, ends), reduce(jnp.maximum, ends)


def _average(
    layout: InputLayout, levels: Levels, entry: int, since: Array, elapsed: Array
) -> Array:
    """The mean of a mode over a stretch.

    With x = lambda h: exp(-lambda s) (A (1 - exp(-x)) / x), and of a tangent's growth G in
    addition -G h (1 - (1 + x) exp(-x)) / x^2.
    """
    if layout.is_level(entry):
        return levels.amplitudes[entry]
    x = levels.rates[layout.sources[entry]] * elapsed
    mean = _amplitude(layout, levels, entry, since) * _mean_decay(x)
    if layout.is_tangent(entry):
        mean = mean - _growth(layout, levels, entry) * elapsed * _mean_growing_decay(x)
    return mean * _decay(layout, levels, entry, since)


def _mean_decay(x: Array) -> Array:
    """(1 - exp(-x)) / x."""
    is_long = x > jnp.float32(1e-4)
    safe = jnp.where(is_long, x, jnp.float32(1))
    short = jnp.float32(1) - jnp.float32(0.5) * x
    return jnp.where(is_long, -jnp.expm1(-safe) / safe, short)


# (1 - (1 + x) exp(-x)) / x^2 = sum_k (-x)^k (k + 1) / (k + 2)!, to 5e-7 below 1/2.
SERIES = tuple((k + 1) / math.factorial(k + 2) for k in range(7))


def _mean_growing_decay(x: Array) -> Array:
    """(1 - (1 + x) exp(-x)) / x^2."""
    is_long = x > jnp.float32(0.5)
    safe = jnp.where(is_long, x, jnp.float32(1))
    short = jnp.zeros_like(x)
    for term in reversed(SERIES):
        short = jnp.float32(term) - x * short
    return jnp.where(is_long, (_mean_decay(safe) - jnp.exp(-safe)) / safe, short)


def _clipped(layout: InputLayout, name: str, value: Array) -> Array:
    return value if name in layout.signed else jnp.maximum(value, jnp.float32(0))


def _total(terms: Sequence[Array]) -> Array:
    return reduce(operator.add, terms)
