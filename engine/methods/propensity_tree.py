"""A tree of sums over propensities, one per lane: kept up to date, and descended to choose one.

Every inner entry is computed anew from its children whenever one of them changes, never by adding
a difference, so nothing drifts. A descent works with pairs of float32 (a number and its rounding
error, Dekker 1971, doi:10.1007/BF01397083), on a uniform of 44 bits.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from engine.kernel.materialise import materialise
from engine.methods.sparse_tables import FAN_OUT, STRIDE, Layout, Lists


class Pair(NamedTuple):
    """The unevaluated sum of two float32 numbers, the second below half a unit of the first."""

    high: Array
    low: Array


def runs(table: Array, starts: Array, length: int) -> Array:
    """`length` consecutive entries of a flat table from each start: (..., length)."""
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(starts.ndim,), collapsed_slice_dims=(), start_index_map=(0,)
    )
    return lax.gather(
        table,
        starts[..., None],
        numbers,
        slice_sizes=(length,),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


def total(children: Sequence[Array]) -> Array:
    """Sum of a node's children, always in the same order: neighbours first."""
    parts = list(children)
    while len(parts) > 1:
        pairs = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


def children_of(flat: Array, row: Array, first: Array) -> list[Array]:
    """The entries of one node of every lane, as (L,) arrays."""
    found = runs(flat, row + first, FAN_OUT)
    return [found[..., k] for k in range(FAN_OUT)]


def built(leaves: Array, layout: Layout) -> Array:
    """A lane's tree (width,) from its propensities (R,)."""
    level = jnp.zeros((layout.sizes[0],), jnp.float32).at[: leaves.shape[0]].set(leaves)
    levels = [level]
    for size in layout.sizes[1:]:
        nodes = level.reshape(-1, FAN_OUT)
        sums = total([nodes[:, k] for k in range(FAN_OUT)])
        level = jnp.pad(sums, (0, size - sums.shape[0]))
        levels.append(level)
    return jnp.concatenate([*levels, jnp.zeros((1,), jnp.float32)])


def refreshed(
    flat: Array, row: Array, layout: Layout, sums: Sequence[Lists], fired: Array
) -> Array:
    """The trees after the propensities that follow the fired reactions have changed."""
    for level, lists in enumerate(sums):
        below, here = layout.starts[level], layout.starts[level + 1]
        spare = layout.width - 1

        def update(
            entries: Array, flat: Array, below: int = below, here: int = here, spare: int = spare
        ) -> Array:
            nodes = jnp.where(entries == spare, jnp.int32(0), entries - jnp.int32(here))
            first = row[:, None] + nodes * jnp.int32(FAN_OUT) + jnp.int32(below)
            found = runs(flat, first, FAN_OUT)
            sums = total([found[..., k] for k in range(FAN_OUT)])
            return flat.at[row[:, None] + entries].set(sums, mode="promise_in_bounds")

        flat = for_each(lists, fired, update, flat)
    return flat


def for_each(
    lists: Lists, fired: Array, body: Callable[[Array, Array], Array], state: Array
) -> Array:
    """Apply `body` to (L, STRIDE) entries of the fired reactions' lists until all are done."""
    if not lists.lengths.any():
        return state
    first = _taken(lists.starts, fired)
    length = _taken(lists.lengths, fired)
    items = jnp.asarray(lists.items)
    trips = (jnp.max(length) + jnp.int32(STRIDE - 1)) // jnp.int32(STRIDE)
    within = jnp.arange(STRIDE, dtype=jnp.int32)

    def turn(k: Array, state: Array) -> Array:
        done = k * jnp.int32(STRIDE)
        start = jnp.where(done < length, first + done, jnp.int32(0))
        entries = runs(items, start, STRIDE)
        is_one = done + within[None, :] < length[:, None]
        return body(jnp.where(is_one, entries, jnp.int32(lists.filler)), state)

    return lax.fori_loop(jnp.int32(0), trips, turn, state)


def _taken(table: np.ndarray, index: Array) -> Array:
    return jnp.asarray(table).at[index].get(mode="promise_in_bounds")


def descend(
    is_running: Array, flat: Array, row: Array, layout: Layout, share: "Share"
) -> tuple[Array, Array]:
    """The leaf at a share of the total of every lane; and the total."""
    top = children_of(flat, row, jnp.int32(layout.starts[-1]))
    whole = total(top)
    whole, point = materialise(is_running, (whole, share.of(whole)))
    child = jnp.zeros_like(row)
    for start in reversed(layout.starts):
        children = children_of(flat, row, child * jnp.int32(FAN_OUT) + jnp.int32(start))
        below, point = materialise(is_running, _choose(children, point))
        child = child * jnp.int32(FAN_OUT) + below
    return child, whole


def _choose(children: Sequence[Array], point: Pair) -> tuple[Array, Pair]:
    """The first child whose running sum exceeds the point, and what is left of the point in it.

    The largest child is left out and taken where no other fits: so it is the one that bears the
    rounding of the sum (a 10**-6 of its share at most), and a rare one is chosen exactly as often
    as its own propensity asks for.
    """
    zero = jnp.float32(0)
    largest = children[0]
    for child in children[1:]:
        largest = jnp.maximum(largest, child)
    is_found = jnp.zeros(largest.shape, bool)
    is_open = jnp.ones(largest.shape, bool)
    position = exempt = jnp.zeros(largest.shape, jnp.int32)
    for k, child in enumerate(children):
        is_exempt = (child == largest) & ~is_found
        is_found = is_found | is_exempt
        exempt = jnp.where(is_exempt, jnp.int32(k), exempt)
        rest = subtract(point, jnp.where(is_exempt, zero, child))
        is_open = is_open & (rest.high >= 0)
        point = Pair(
            jnp.where(is_open, rest.high, point.high), jnp.where(is_open, rest.low, point.low)
        )
        position = position + is_open.astype(jnp.int32)
    return jnp.where(is_open, exempt, position), point


def subtract(a: Pair, b: Array) -> Pair:
    """a - b, to 48 bits."""
    return _normal(*_two_sum(a.high, -b), a.low)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b rounded, and the rounding error (Knuth)."""
    rounded = a + b
    part = rounded - a
    return rounded, (a - (rounded - part)) + (b - part)


def _normal(high: Array, error: Array, low: Array) -> Pair:
    low = error + low
    result = high + low
    return Pair(result, low - (result - high))


class Share(NamedTuple):
    """A uniform number in (0, 1) of 44 bits, as whole numbers of 12, 12, 12 and 8 bits."""

    digits: tuple[Array, Array, Array, Array]

    def of(self, whole: Array) -> Pair:
        """The share of a float32 number, to 44 bits."""
        bits = lax.bitcast_convert_type(whole, jnp.uint32) & jnp.uint32(0xFFFFF000)
        upper = lax.bitcast_convert_type(bits, jnp.float32)
        lower = whole - upper
        # Twelve bits times twelve bits: every product is exact.
        scales = (2.0**-12, 2.0**-24, 2.0**-36, 2.0**-44)
        terms = [
            part * (digit * jnp.float32(scale))
            for digit, scale in zip(self.digits, scales, strict=True)
            for part in (upper, lower)
        ]
        result = Pair(terms[0], jnp.zeros_like(whole))
        for term in terms[1:]:
            result = _normal(*_two_sum(result.high, term), result.low)
        return result


def share_of(bits: Array, extra: Array) -> Share:
    """A share from 32 random bits and the low 12 of `extra`; never 0 or 1."""

    def digit(word: Array, shift: int, width: int) -> Array:
        part = (word >> jnp.uint32(shift)) & jnp.uint32(2**width - 1)
        return part.astype(jnp.int32).astype(jnp.float32)

    third = digit(bits, 0, 8) * jnp.float32(16) + digit(extra, 8, 4)
    last = digit(extra, 0, 8) + jnp.float32(0.5)
    return Share((digit(bits, 20, 12), digit(bits, 8, 12), third, last))
