"""The direct method for large networks: only the propensities that a firing changes are computed.

Exact in distribution, as the dense step of `direct`. Propensities stand in a tree of sums that is
descended to choose a reaction (a direct method with a logarithmic search and a dependency graph:
Gibson and Bruck 2000, doi:10.1021/jp993732q; Cao, Li and Petzold 2004, doi:10.1063/1.1778376).
Cost per step: the propensities that depend on what the reaction changed, and the sums above them.
Use when reactions number hundreds or more; cannot do laws that move between events (time, inputs).
Fastest when each reaction changes few of the others' propensities.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from engine.kernel import random
from engine.kernel.materialise import materialise
from engine.kernel.model import LaneModel
from engine.kernel.state import Constants, Lanes, Packing, Stepper
from engine.kinetics.evaluate import evaluate
from engine.kinetics.program import guarded
from engine.kinetics.templates import Template
from engine.methods.advancing import nothing_rare
from engine.methods.jumping import LOOKS, arrival, count_down, tally, watched
from engine.methods.options import stepper_of
from engine.methods.propensity_tree import (
    Tree,
    blank,
    descend,
    for_each,
    refreshed,
    replaced,
    share_of,
)
from engine.methods.sparse_tables import Tables, tables_of
from engine.network.expressions import TIME, symbols
from engine.network.network import ReactionNetwork

# From so many reactions on this step is taken. Generated mass-action networks of 100, 200, 300 and
# 500 reactions ran at 24, 12, 8.1 and 1.6 million events per second of processor time with the
# dense step, at 4.9, 4.9, 3.9 and 3.7 with this one, and compiled in 5, 7, 12 and 38 against 4 to
# 6 seconds (a busy machine; AVX-512).
MANY = 400
# With 64, 128 and 256 lanes 1,000 reactions ran at 3.2, 3.2 and 3.4 million events per second.
FEWEST_LANES, MOST_LANES = 32, 128
# What serving the stops of a block costs, in steps.
SERVICE_COST = 25.0


def is_fitting(network: ReactionNetwork) -> bool:
    """Whether the network is large enough, and none of its laws moves between events."""
    if len(network.reactions) < MANY:
        return False
    moving = {TIME, *(i.name for i in network.inputs)}
    for name, rule in network.rules.items():
        if symbols(rule) & moving:
            moving.add(name)
    return not any(symbols(reaction.propensity) & moving for reaction in network.reactions)


def stepper(method: Any, network: ReactionNetwork, num_trajectories: int) -> Stepper:
    """What the lane machine needs to run the direct method in this way."""
    fitting = min(num_trajectories // 8, MOST_LANES)
    lanes = max(FEWEST_LANES, 1 << (max(fitting, 1).bit_length() - 1))
    return stepper_of(
        method,
        network,
        num_trajectories,
        step=step,
        resolve=nothing_rare,
        options=None,
        is_counting=False,
        service_cost=SERVICE_COST,
        packing=PACKING,
    )._replace(lanes=method.lanes or lanes)


def step(model: LaneModel, options: None, constants: Constants, lanes: Lanes) -> Lanes:
    """Advance every lane by one event; lanes that wait stay as they are."""
    tables = tables_of(model.program)
    (counts,) = lanes.counts
    tree, fixed = Tree(*lanes.cache[:2]), lanes.cache[2]
    is_alive = lanes.remaining >= 0
    wait_bits, generator = random.draw(lanes.generator)
    choice_bits, generator = random.draw(generator)
    unit_wait = random.exponential(wait_bits)
    share = share_of(choice_bits, wait_bits)
    chosen, total = descend(constants.is_running, tables, tree, share)
    # An infinite total would freeze the clock: NaN stops the lane with a status instead.
    total = jnp.where(total < jnp.inf, total, jnp.float32(jnp.nan))
    wait = unit_wait / jnp.maximum(total, jnp.float32(1e-37))
    is_event = jnp.ones_like(is_alive)
    if model.is_looking:
        longest = constants.span * jnp.float32(1 / LOOKS)
        is_event, wait = wait <= longest, jnp.where(wait > longest, longest, wait)
    countdown = count_down(lanes, wait)
    is_fired = is_alive & countdown.is_inside & is_event
    fired_row = jnp.where(is_fired, chosen, jnp.int32(len(tables.leaves)))
    fired_row, countdown, generator, total = materialise(
        constants.is_running, (fired_row, countdown, generator, total)
    )

    before = _columns(model, constants, counts)
    counts = fire(tables, counts, fired_row)
    after = _columns(model, constants, counts)
    tree = updated(tables, constants, counts, fixed, tree, fired_row)

    def fired(name: str) -> Array:
        return fired_row == jnp.int32(tables.leaves[model.network.reaction_names.index(name)])

    unpacked = lanes._replace(counts=before)
    tallies = tally(model, constants, unpacked, wait, is_alive, after, fired, is_fired)
    changed = watched(model, constants, after, countdown.remaining, is_fired)
    return Lanes(
        (counts,),
        generator,
        *arrival(lanes, countdown, is_alive, changed),
        jnp.where(is_alive, total, lanes.scale),
        lanes.num_steps + is_alive.astype(jnp.int32),
        lanes.num_events + is_fired.astype(jnp.int32) if model.is_counting else lanes.num_events,
        tallies,
        (*tree, fixed),
    )


def fire(tables: Tables, counts: Array, fired: Array) -> Array:
    """Counts after the fired reactions; the last row of the tables changes nothing."""
    lane = jnp.arange(counts.shape[1], dtype=jnp.int32)[:, None]
    columns = jnp.asarray(tables.changed).at[fired].get(mode="promise_in_bounds")
    changes = jnp.asarray(tables.changes).at[fired].get(mode="promise_in_bounds")
    return counts.at[columns, lane].add(changes, mode="promise_in_bounds")


def updated(
    tables: Tables, constants: Constants, counts: Array, fixed: Array, tree: Tree, fired: Array
) -> Tree:
    """The trees after the fired reactions: what they change, computed anew from the counts."""
    is_running, templates = constants.is_running, tables.templates.templates
    found_leaves = tree.leaves
    for template, members, dependents in zip(
        templates, tables.members, tables.dependents, strict=True
    ):
        entrants, leaves = jnp.asarray(_entrants(template)), jnp.asarray(members)

        def update(
            lane: Array,
            entry: Array,
            known: Array,
            template: Template = template,
            entrants: Array = entrants,
            leaves: Array = leaves,
        ) -> Array:
            owner = lane if fixed.shape[0] > 1 else jnp.zeros_like(lane)
            found = _propensities(
                template,
                _taken(entrants, entry),
                lambda column: counts.at[column, lane].get(mode="promise_in_bounds"),
                lambda column: fixed.at[owner, column].get(mode="promise_in_bounds"),
            )
            leaf = _taken(leaves, entry)
            place = lane * jnp.int32(tables.num_leaves) + leaf
            spare = jnp.int32(known.shape[0] - 1)
            place = jnp.where(leaf == jnp.int32(tables.num_leaves), spare, place)
            return known.at[place].set(found, mode="promise_in_bounds")

        found_leaves = for_each(is_running, dependents, fired, update, found_leaves)
    return refreshed(is_running, tables, tree._replace(leaves=found_leaves), fired)


def _taken(table: Array, index: Array) -> Array:
    return table.at[index].get(mode="promise_in_bounds")


def _entrants(template: Template) -> np.ndarray:
    """Columns, then the offsets of slots that have any, per member; a last row for none."""
    is_offset = template.offsets.any(axis=0)
    table = np.concatenate([template.columns, template.offsets[:, is_offset]], axis=1)
    return np.pad(table, ((0, 1), (0, 0))).astype(np.int32)


def _propensities(
    template: Template,
    entrants: Array,
    count_at: Callable[[Array], Array],
    fixed_at: Callable[[Array], Array],
) -> Array:
    """The template's law on members given by their rows of `_entrants`, (..., columns)."""
    values: dict[str, Array] = {}
    next_offset = len(template.slots)
    for position, name in enumerate(template.slots):
        column = entrants[..., position]
        if not template.is_count[position]:
            values[name] = fixed_at(column)
            continue
        count = count_at(column)
        if template.offsets[:, position].any():
            count = count - entrants[..., next_offset]
            next_offset += 1
        values[name] = count.astype(jnp.float32)
    law = evaluate(template.law, values, jnp, jnp.float32)
    law = jnp.broadcast_to(law, entrants.shape[:-1])
    return guarded(law, template.guard, values, jnp, jnp.float32)


def _columns(model: LaneModel, constants: Constants, counts: Array) -> tuple[Array, ...]:
    """The counts as the rest of the machine knows them, for tallies and triggers to look at."""
    names = model.network.species_names
    looked = _looked(model)
    if not looked:
        return tuple(counts[0] for _ in names)
    found = {name: counts[i] for i, name in enumerate(names) if name in looked}
    # Taken out before the counts are written over, or XLA would keep a copy of all of them.
    found = materialise(constants.is_running, found)
    nothing = jnp.zeros(counts.shape[1:], jnp.int32)
    return tuple(found.get(name, nothing) for name in names)


def _looked(model: LaneModel) -> frozenset[str]:
    """Species that some tally or trigger looks at, or a rule that one of them may use."""
    looked = [*model.program.observables.values()]
    looked += [event.trigger for event in model.network.events]
    if not looked:
        return frozenset()
    return frozenset().union(*map(symbols, [*looked, *model.program.rules.values()]))


# How the counts are laid out, and what is kept from step to step.


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
    """Trees of lanes that have not begun, and the fixed numbers."""
    tables = tables_of(model.program)
    return (*blank(tables, constants.stop.shape[0]), _fixed(tables, constants))


def filled(
    model: LaneModel, constants: Constants, lanes: Lanes, is_stale: Array
) -> tuple[Array, ...]:
    """The trees, those of stale lanes made anew, and the fixed numbers."""
    tables = tables_of(model.program)
    (counts,) = lanes.counts
    # Numbers that all patients share never change.
    fixed = lanes.cache[2] if lanes.cache[2].shape[0] == 1 else _fixed(tables, constants)
    order = jnp.nonzero(is_stale, size=is_stale.shape[0], fill_value=0)[0].astype(jnp.int32)

    def rebuild(k: Array, tree: Tree) -> Tree:
        lane = order[k]
        mine = counts[:, lane]
        numbers = fixed[lane if fixed.shape[0] > 1 else 0]
        leaves = jnp.zeros((len(tables.leaves),), jnp.float32)
        for template in tables.templates.templates:
            found = _propensities(
                template,
                jnp.asarray(_entrants(template)[:-1]),
                lambda column: _taken(mine, column),
                lambda column: _taken(numbers, column),
            )
            positions = jnp.asarray(tables.leaves[template.reactions])
            leaves = leaves.at[positions].set(found, mode="promise_in_bounds", unique_indices=True)
        return replaced(tables, tree, lane, leaves)

    number = jnp.sum(is_stale, dtype=jnp.int32)
    old = Tree(*lanes.cache[:2])
    return (*lax.fori_loop(jnp.int32(0), number, rebuild, old), fixed)


def _fixed(tables: Tables, constants: Constants) -> Array:
    """What stands still between two stops, (L, F), or (1, F) where all patients share it."""
    values = (*constants.coefficients, *constants.variables)
    is_shared = all(value.ndim == 0 for value in values)
    num_rows = 1 if is_shared else constants.stop.shape[0]
    # One more number, so that there is one: a law may be made of counts alone.
    literals = [jnp.float32(value) for value in (*tables.templates.literals, 1.0)]
    return jnp.stack([jnp.broadcast_to(v, (num_rows,)) for v in (*values, *literals)], axis=1)


PACKING = Packing(stacked, columns, rows, empty, filled)
