"""Inputs inside a lane: amplitudes of exponential modes, their values and their bounds.

An input is level + sum_m A_m exp(-lambda_m s), s the time since the lane's segment began; its
amplitudes are lane state, so that a hundred repeated doses or a rescue dose given on a condition
cost no more than one. A tangent, see `InputLayout`, has A'_m - A_m lambda'_m s in place of A_m.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from engine.inputs.layout import InputLayout

# What the rounding of a sum of modes may amount to, as a share of its terms.
ROUNDING = 2.0**-21


class Levels(NamedTuple):
    """Amplitudes and rates, one array per entry of the layout (level first, then modes)."""

    amplitudes: tuple[Array, ...]
    rates: tuple[Array, ...]


class Decay(NamedTuple):
    """What modes of one rate do in a time, or on average over a stretch of times s.

    Attributes:
        plain: exp(-lambda s).
        timed: s exp(-lambda s); tangents have amplitudes that grow with s.
    """

    plain: Array
    timed: Array


# Of every position whose rate is its own.
Decays = Mapping[int, Decay]
Once = Callable[[Callable[[], Any]], Any]


def at_once(compute: Callable[[], Any]) -> Any:
    """What `compute` makes, wherever it is used."""
    return compute()


def values_at(
    layout: InputLayout, levels: Levels, since: Array, once: Once = at_once
) -> dict[str, Array]:
    """Every input at a time since the segment began; rounding below zero is clipped.

    Args:
        layout, levels: the inputs.
        since: the time.
        once: makes the exponentials, where much follows from them.
    """
    return _values(layout, levels, once(lambda: _decays_at(layout, levels, since)))


def averages_over(
    layout: InputLayout, levels: Levels, since: Array, elapsed: Array, once: Once = at_once
) -> dict[str, Array]:
    """The mean of every input over a stretch, in closed form; arguments as of `values_at`."""
    return _values(layout, levels, once(lambda: _decays_over(layout, levels, since, elapsed)))


def bounds_over(
    layout: InputLayout, levels: Levels, since: Array, until: Array
) -> dict[str, tuple[Array, Array]]:
    """Bounds of every input over a window: modes are monotone, so their ends bound them."""
    decays = [_decays_at(layout, levels, at) for at in (since, until)]
    result = {}
    for name, entries in layout.entries():
        terms = [_bounds(layout, levels, entry, (since, until), decays) for entry in entries]
        low, high = (_total(ends) for ends in zip(*terms, strict=True))
        if len(terms) > 1:
            # Modes of both signs cancel: their sum is off by the rounding of the largest.
            size = _total([_higher(jnp.abs(a), jnp.abs(b)) for a, b in terms])
            margin = jnp.float32(ROUNDING) * size
            low, high = low - margin, high + margin
        result[name] = (_clipped(layout, name, low), _clipped(layout, name, high))
    return result


def decayed(layout: InputLayout, levels: Levels, elapsed: Array) -> tuple[Array, ...]:
    """The amplitudes after a time, as the amplitudes of a segment that begins then."""
    decays = _decays_at(layout, levels, elapsed)
    return tuple(_mode(layout, levels, entry, decays) for entry in range(layout.total))


def _values(layout: InputLayout, levels: Levels, decays: Decays) -> dict[str, Array]:
    return {
        name: _clipped(layout, name, _total([_mode(layout, levels, e, decays) for e in entries]))
        for name, entries in layout.entries()
    }


def _decays_at(layout: InputLayout, levels: Levels, since: Array) -> Decays:
    def decay(rate: Array) -> Decay:
        plain = jnp.exp(-rate * since)
        return Decay(plain, plain * since)

    return {source: decay(levels.rates[source]) for source in layout.own_rates}


def _decays_over(layout: InputLayout, levels: Levels, since: Array, elapsed: Array) -> Decays:
    """With x = lambda h: exp(-lambda s) (1 - exp(-x)) / x, and the mean of s exp(-lambda s)."""

    def decay(rate: Array) -> Decay:
        first = jnp.exp(-rate * since)
        mean, growing = _means(rate * elapsed)
        return Decay(first * mean, first * (since * mean + elapsed * growing))

    return {source: decay(levels.rates[source]) for source in layout.own_rates}


# (1 - exp(-x)) / x = sum_k (-x)^k / (k + 1)! and (1 - (1 + x) exp(-x)) / x^2 =
# sum_k (-x)^k (k + 1) / (k + 2)!, to 5e-7 of them below 1/2.
TERMS = range(7)
MEAN = tuple(1 / math.factorial(k + 1) for k in TERMS)
GROWING = tuple((k + 1) / math.factorial(k + 2) for k in TERMS)


def _means(x: Array) -> tuple[Array, Array]:
    """(1 - exp(-x)) / x and (1 - (1 + x) exp(-x)) / x^2, the means of exp(-x t) and t exp(-x t)."""
    is_long = x > jnp.float32(0.5)
    last, inverse = jnp.exp(-x), jnp.float32(1) / jnp.where(is_long, x, jnp.float32(1))
    mean = jnp.where(is_long, (jnp.float32(1) - last) * inverse, _series(MEAN, x))
    return mean, jnp.where(is_long, (mean - last) * inverse, _series(GROWING, x))


def _series(terms: Sequence[float], x: Array) -> Array:
    """sum_k terms_k (-x)^k."""
    return reduce(lambda total, term: jnp.float32(term) - x * total, reversed(terms), 0.0 * x)


def _mode(layout: InputLayout, levels: Levels, entry: int, decays: Decays) -> Array:
    """A level; or A exp(-lambda s), of a tangent (A' - A lambda' s) exp(-lambda s)."""
    if layout.is_level(entry):
        return levels.amplitudes[entry]
    decay = decays[layout.sources[entry]]
    mode = levels.amplitudes[entry] * decay.plain
    if layout.is_tangent[entry]:
        mode = mode - _growth(layout, levels, entry) * decay.timed
    return mode


def _growth(layout: InputLayout, levels: Levels, entry: int) -> Array:
    """A lambda' of a tangent's mode."""
    return levels.amplitudes[layout.sources[entry]] * levels.rates[entry]


def _bounds(
    layout: InputLayout,
    levels: Levels,
    entry: int,
    times: tuple[Array, Array],
    decays: Sequence[Decays],
) -> tuple[Array, Array]:
    """The smallest and largest that a mode can be between two times."""
    if layout.is_tangent[entry] and not layout.is_level(entry):
        # A line times a decay: no further out than the products of their ends.
        amplitude, growth = levels.amplitudes[entry], _growth(layout, levels, entry)
        source = layout.sources[entry]
        ends = [(amplitude - growth * s) * decay[source].plain for s in times for decay in decays]
    else:
        ends = [_mode(layout, levels, entry, decay) for decay in decays]
    return reduce(_lower, ends), reduce(_higher, ends)


def _clipped(layout: InputLayout, name: str, value: Array) -> Array:
    return value if name in layout.signed else jnp.where(value < 0, jnp.float32(0), value)


# An operation each, and `jnp.minimum` three, as it also hands on an a that is no number. Ends of a
# mode are numbers both, or neither is.


def _lower(a: Array, b: Array) -> Array:
    return jnp.where(a < b, a, b)


def _higher(a: Array, b: Array) -> Array:
    return jnp.where(a > b, a, b)


def _total(terms: Sequence[Array]) -> Array:
    return reduce(operator.add, terms)
