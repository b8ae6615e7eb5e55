"""Inputs inside a lane: amplitudes of exponential modes, their values and their bounds.

An input is level + sum_m A_m exp(-lambda_m s), s the time since the lane's segment began; its
amplitudes are lane state, so that a hundred repeated doses or a rescue dose given on a condition
cost no more than one.
"""

from collections.abc import Sequence
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
        terms = [_mode(layout, levels, entry, since) for entry in entries]
        result[name] = jnp.maximum(_total(terms), jnp.float32(0))
    return result


def bounds_over(
    layout: InputLayout, levels: Levels, since: Array, until: Array
) -> dict[str, tuple[Array, Array]]:
    """Bounds of every input over a window: each mode is monotone, so its ends bound it."""
    result = {}
    for name, entries in layout.entries():
        lows, highs = [], []
        for entry in entries:
            a = _mode(layout, levels, entry, since)
            b = _mode(layout, levels, entry, until)
            lows.append(jnp.minimum(a, b))
            highs.append(jnp.maximum(a, b))
        zero = jnp.float32(0)
        # Modes of both signs cancel: their sum is off by the rounding of the largest.
        size = [jnp.maximum(jnp.abs(a), jnp.abs(b)) for a, b in zip(lows, highs, strict=True)]
        margin = jnp.float32(ROUNDING) * _total(size) if len(size) > 1 else zero
        low, high = _total(lows) - margin, _total(highs) + margin
        result[name] = (jnp.maximum(low, zero), jnp.maximum(high, zero))
    return result


def averages_over(
    layout: InputLayout, levels: Levels, since: Array, elapsed: Array
) -> dict[str, Array]:
    """The mean of every input over a stretch, in closed form."""
    result = {}
    for name, entries in layout.entries():
        terms = []
        for entry in entries:
            term = _mode(layout, levels, entry, since)
            if not layout.is_level(entry):
                x = levels.rates[layout.rate_of(entry)] * elapsed
                is_long = x > jnp.float32(1e-4)
                safe = jnp.where(is_long, x, jnp.float32(1))
                short = jnp.float32(1) - jnp.float32(0.5) * x
                term = term * jnp.where(is_long, -jnp.expm1(-safe) / safe, short)
            terms.append(term)
        result[name] = jnp.maximum(_total(terms), jnp.float32(0))
    return result


def decayed(layout: InputLayout, levels: Levels, elapsed: Array) -> tuple[Array, ...]:
    """The amplitudes after a time, as the amplitudes of a segment that begins then."""
    return tuple(_mode(layout, levels, entry, elapsed) for entry in range(layout.total))


def _mode(layout: InputLayout, levels: Levels, entry: int, since: Array) -> Array:
    if layout.is_level(entry):
        return levels.amplitudes[entry]
    # The same rate written the same way: XLA computes one exponential for all of its modes.
    return levels.amplitudes[entry] * jnp.exp(-levels.rates[layout.rate_of(entry)] * since)


def _total(terms: Sequence[Array]) -> Array:
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result
