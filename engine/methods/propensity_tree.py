"""A tree of sums over propensities, one per lane: kept up to date, and descended to choose one.

Every sum is computed anew from its children whenever one of them may have changed, never by adding
a difference, so nothing drifts. A descent works with pairs of float32 (a number and its rounding
error, Dekker 1971, doi:10.1007/BF01397083), on a uniform of 44 bits.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from engine.kernel.materialise import Running, materialise
from engine.methods.sparse_arrays import placed, taken
from engine.methods.sparse_tables import FAN_OUT, STRIDE, Lists, Tables


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


class Tree(NamedTuple):
    """The propensities of every lane and their sums.

    Attributes:
        leaves: propensities, each lane's in a row, and one spare place; (L * num_leaves + 1,).
        nodes: sums of FAN_OUT of them, lanes side by side, and a spare row; (num_nodes + 1, L).
    """

    leaves: Array
    nodes: Array


def blank(tables: Tables, num_lanes: int) -> Tree:
    """Trees in which every propensity is zero."""
    leaves = jnp.zeros((num_lanes * tables.num_leaves + 1,), jnp.float32)
    return Tree(leaves, jnp.zeros((tables.num_nodes + 1, num_lanes), jnp.float32))


def replaced(tables: Tables, tree: Tree, lane: Array, propensities: Array) -> Tree:
    """One lane's tree made anew from its propensities, (R,) in the order of the leaves."""
    fill = tables.num_leaves - propensities.shape[0]
    leaves = jnp.pad(propensities, (0, fill))
    groups = leaves.reshape(-1, FAN_OUT)
    sums = total([groups[:, k] for k in range(FAN_OUT)])
    sums = jnp.pad(sums, (0, tables.num_nodes + 1 - sums.shape[0]))
    return Tree(
        lax.dynamic_update_slice(tree.leaves, leaves, (lane * jnp.int32(tables.num_leaves),)),
        lax.dynamic_update_slice(tree.nodes, sums[:, None], (jnp.int32(0), lane)),
    )


def refreshed(is_running: Running, tables: Tables, tree: Tree, fired: Array) -> Tree:
    """The trees after the propensities that follow the fired reactions have changed."""

    def update(lane: Array, node: Array, nodes: Array) -> Array:
        is_spare = node == jnp.int32(tables.num_nodes)
        first = jnp.where(is_spare, jnp.int32(0), node * jnp.int32(FAN_OUT))
        sums = total(_family(tables, tree.leaves, lane, first))
        return placed(nodes, (node, lane), sums)

    return tree._replace(nodes=for_each(is_running, tables.nodes, fired, update, tree.nodes))


def _family(tables: Tables, leaves: Array, lane: Array, first: Array) -> list[Array]:
    """FAN_OUT leaves of lanes from given ones on."""
    found = runs(leaves, lane * jnp.int32(tables.num_leaves) + first, FAN_OUT)
    return [found[..., k] for k in range(FAN_OUT)]


def for_each(
    is_running: Running,
    lists: Lists,
    fired: Array,
    body: Callable[[Array, Array, Array], Array],
    state: Array,
) -> Array:
    """Apply `body` (lanes, entries, state) to all entries of the fired reactions' lists.

    The lists of all lanes are worked off as one, STRIDE entries at a time: lanes differ much in how
    much follows their reaction, and padding them to the longest list would cost three times as
    much.
    """
    if not lists.lengths.any():
        return state
    length = taken(jnp.asarray(lists.lengths), fired)
    ends = jnp.cumsum(length, dtype=jnp.int32)
    first = taken(jnp.asarray(lists.starts), fired) - (ends - length)
    number = ends[-1]
    padding = (1 << (fired.shape[0] - 1).bit_length()) - fired.shape[0]
    ends = jnp.pad(ends, (0, padding), constant_values=np.iinfo(np.int32).max)
    ends, first = materialise(is_running, (ends, first))
    items = jnp.asarray(lists.items)
    within = jnp.arange(STRIDE, dtype=jnp.int32)

    def turn(k: Array, state: Array) -> Array:
        item = k * jnp.int32(STRIDE) + within
        lane = _owner(ends, item, fired.shape[0])
        is_one = item < number
        entry = taken(items, jnp.where(is_one, taken(first, lane) + item, jnp.int32(0)))
        return body(lane, jnp.where(is_one, entry, jnp.int32(lists.filler)), state)

    trips = (number + jnp.int32(STRIDE - 1)) // jnp.int32(STRIDE)
    return lax.fori_loop(jnp.int32(0), trips, turn, state)


def _owner(ends: Array, item: Array, num_lanes: int) -> Array:
    """Which lane's list an item of the joined list is in: the first that ends beyond it."""
    lane = jnp.zeros_like(item)
    half = ends.shape[0] // 2
    while half:
        is_later = taken(ends, lane + jnp.int32(half - 1)) <= item
        lane = jnp.where(is_later, lane + jnp.int32(half), lane)
        half //= 2
    return jnp.minimum(lane, jnp.int32(num_lanes - 1))


def descend(is_running: Running, tables: Tables, tree: Tree, share: "Share") -> tuple[Array, Array]:
    """The leaf at a share of the total of every lane; and the total.

    The sums above the nodes are made anew at every step: lanes stand side by side in them, which
    makes this cheaper than to look up what has changed.
    """
    levels = [tree.nodes[:-1]]
    while levels[0].shape[0] > FAN_OUT:
        below = levels[0].reshape(-1, FAN_OUT, levels[0].shape[1])
        above = total([below[:, k] for k in range(FAN_OUT)])
        above = jnp.pad(above, ((0, -above.shape[0] % FAN_OUT), (0, 0)))
        levels.insert(0, materialise(is_running, above))
    top = [levels[0][k] for k in range(FAN_OUT)]
    whole = total(top)
    whole, point = materialise(is_running, (whole, share.of(whole)))
    lane = jnp.arange(whole.shape[0], dtype=jnp.int32)
    child, point = materialise(is_running, _choose(top, point))
    for level in levels[1:]:
        first = child * jnp.int32(FAN_OUT)
        family = [taken(level, first + jnp.int32(k), lane) for k in range(FAN_OUT)]
        below, point = materialise(is_running, _choose(family, point))
        child = first + below
    first = child * jnp.int32(FAN_OUT)
    below, point = _choose(_family(tables, tree.leaves, lane, first), point)
    return materialise(is_running, first + below), whole


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
