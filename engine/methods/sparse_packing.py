"""How the sparse step lays out its counts, and what it keeps from step to step.

Counts stand in one array, so that a firing changes a few of its rows; the cache holds the tree of
propensities and of their sums, the numbers that stand still between two stops, and, where laws
move, the ends of the lanes' windows.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from engine.kernel import levels
from engine.kernel.model import LaneModel
from engine.kernel.state import Constants, Lanes, Packing
from engine.methods.propensity_tree import Tree, blank, replaced
from engine.methods.sparse_arrays import taken
from engine.methods.sparse_laws import entrants, propensities, slots
from engine.methods.sparse_tables import tables_of
from engine.methods.sparse_thinning import NO_WINDOW


def stacked(model: LaneModel, counts: tuple[Array, ...], num_lanes: int) -> tuple[Array, ...]:
    """One array (S + 2, L): behind the species a count of one, and a spare one."""
    # What all lanes share is one column, broadcast: an array per species would be compiled apart.
    shared = [count if count.ndim == 0 else jnp.int32(0) for count in counts]
    column = jnp.stack([*shared, jnp.int32(1), jnp.int32(0)])
    own = {row: count for row, count in enumerate(counts) if count.ndim}
    if len(own) == len(counts):
        ends = jnp.broadcast_to(column[-2:, None], (2, num_lanes))
        return (jnp.concatenate([jnp.stack(list(own.values())), ends]),)
    table = jnp.broadcast_to(column[:, None], (len(counts) + 2, num_lanes))
    if own:
        table = table.at[np.array(list(own))].set(jnp.stack(list(own.values())))
    return (table,)


def columns(model: LaneModel, counts: tuple[Array, ...]) -> tuple[Array, ...]:
    """An array per species again."""
    return tuple(counts[0][i] for i in range(len(model.network.species)))


def rows(counts: tuple[Array, ...], positions: Sequence[int]) -> list[Array]:
    """The counts of some species, (k, L)."""
    if not positions:
        return []
    chosen = np.asarray(positions)
    if np.array_equal(chosen, np.arange(chosen[0], chosen[0] + len(chosen))):
        return [counts[0][int(chosen[0]) : int(chosen[-1]) + 1]]
    return [counts[0][chosen]]


def empty(model: LaneModel, constants: Constants) -> tuple[Array, ...]:
    """Trees of lanes that have not begun, the fixed numbers, and the windows of what moves."""
    tables = tables_of(model.program)
    none = jnp.full_like(constants.stop, NO_WINDOW)
    ends = (none,) if model.is_thinned else ()
    return (*blank(tables, constants.stop.shape[0]), _fixed(model, constants), *ends)


def filled(
    model: LaneModel, constants: Constants, lanes: Lanes, is_stopped: Array, is_stale: Array
) -> tuple[Array, ...]:
    """The trees, those of stale lanes made anew, and the rest.

    What moves is left at 0 there: the first step of the next segment bounds it.
    """
    tables = tables_of(model.program)
    (counts,) = lanes.counts
    # Numbers that all patients share never change.
    fixed = lanes.cache[2] if lanes.cache[2].shape[0] == 1 else _fixed(model, constants)
    ends = tuple(jnp.where(is_stopped, jnp.float32(NO_WINDOW), e) for e in lanes.cache[3:])
    order = jnp.nonzero(is_stale, size=is_stale.shape[0], fill_value=0)[0].astype(jnp.int32)

    def rebuild(k: Array, tree: Tree) -> Tree:
        lane = order[k]
        mine = counts[:, lane]
        numbers = fixed[lane if fixed.shape[0] > 1 else 0]
        leaves = jnp.zeros((len(tables.leaves),), jnp.float32)
        for template in tables.templates.templates:
            if template.moving:
                continue
            values = slots(
                template,
                jnp.asarray(entrants(template)[:-1]),
                lambda column: taken(mine, column),
                lambda column: taken(numbers, column),
            )
            found = propensities(template, values, template.reactions.shape)
            positions = jnp.asarray(tables.leaves[template.reactions])
            leaves = leaves.at[positions].set(found, mode="promise_in_bounds", unique_indices=True)
        return replaced(tables, tree, lane, leaves)

    number = jnp.sum(is_stale, dtype=jnp.int32)
    old = Tree(*lanes.cache[:2])
    return (*lax.fori_loop(jnp.int32(0), number, rebuild, old), fixed, *ends)


def _fixed(model: LaneModel, constants: Constants) -> Array:
    """What stands still between two stops, (L, F), or (1, F) where all patients share it."""
    tables = tables_of(model.program)
    inputs = levels.values_at(model.layout, constants.levels, constants.span)
    still = (inputs[name] for name in tables.templates.levels)
    values = (*constants.coefficients, *constants.variables, *still)
    is_shared = all(value.ndim == 0 for value in values)
    num_rows = 1 if is_shared else constants.stop.shape[0]
    # One more number, so that there is one: a law may be made of counts alone.
    literals = [jnp.float32(value) for value in (*tables.templates.literals, 1.0)]
    return jnp.stack([jnp.broadcast_to(v, (num_rows,)) for v in (*values, *literals)], axis=1)


PACKING = Packing(stacked, columns, rows, empty, filled)
