"""The direct method for large networks: only the propensities that a firing changes are computed.

Exact in distribution, as the dense step of `direct`. Propensities stand in a tree of sums that is
descended to choose a reaction (a direct method with a logarithmic search and a dependency graph:
Gibson and Bruck 2000, doi:10.1021/jp993732q; Cao, Li and Petzold 2004, doi:10.1063/1.1778376).
Propensities that move between events stand in it as bounds (`sparse_thinning`): only the chosen
one is evaluated at its time, and what does not move is as it would be without them.
Cost per step: the propensities that depend on what the reaction changed, and the sums above them.
Use when reactions number hundreds or more. Fastest when each reaction changes few of the others'
propensities. What is compiled grows with the number of different forms of laws.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from engine.kernel import random
from engine.kernel.materialise import materialise
from engine.kernel.model import LaneModel
from engine.kernel.state import Constants, Lanes, Stepper
from engine.kinetics.templates import Template
from engine.methods import sparse_thinning as thinning
from engine.methods.advancing import nothing_rare
from engine.methods.jumping import LOOKS, arrival, compensation, count_down, tally, watched
from engine.methods.options import stepper_of
from engine.methods.propensity_tree import (
    Tree,
    descend,
    for_each,
    refreshed,
    share_of,
)
from engine.methods.sparse_arrays import placed, taken
from engine.methods.sparse_laws import ceilings, entrants, propensities, slots
from engine.methods.sparse_packing import PACKING
from engine.methods.sparse_tables import Tables, tables_of
from engine.network.expressions import symbols
from engine.network.network import ReactionNetwork

# From so many reactions on this step is taken. Generated mass-action networks of 100 and 300
# reactions ran at 43 and 15 million events per second of processor time with the dense step, at 8.6
# and 5.3 with this one, and compiled in 4 and 12 against 3 and 4 seconds (500: 38 against 5).
# Between 364 and 376 reactions the dense step fell from 12.9 to 3.9 million, whatever the options,
# where this one ran at 6.5. With an input in every 20th law 300 and 1,000 reactions ran at 5.2 and
# 0.19 million with the dense step, compiled in 20 and 62 seconds, and at 1.1 and 0.90 with this,
# in 6 and 9; with an input in every one of 1,000 laws at 0.56, in 8.
MANY = 370
# What serving the stops of a block costs, in steps.
SERVICE_COST = 25.0


def is_fitting(network: ReactionNetwork) -> bool:
    """Whether the network is large enough."""
    return len(network.reactions) >= MANY


def stepper(method: Any, network: ReactionNetwork, num_trajectories: int) -> Stepper:
    """What the lane machine needs to run the direct method in this way."""
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
    )


class Proposal(NamedTuple):
    """What a step is about to do in every lane.

    Attributes:
        reaction: the leaf of the candidate, (L,).
        wait: time until it, or until the step's end without one.
        is_event: whether it happens then.
        total: rate of the candidates; NaN stops the lane with a status.
        window: where what moves has been bounded; None where nothing moves.
        is_renewed: lanes whose bounds are made anew at the step's end; None likewise.
    """

    reaction: Array
    wait: Array
    is_event: Array
    total: Array
    window: thinning.Window | None = None
    is_renewed: Array | None = None


def step(model: LaneModel, options: None, constants: Constants, lanes: Lanes) -> Lanes:
    """Advance every lane by one candidate event; lanes that wait stay as they are."""
    tables = tables_of(model.program)
    (counts,) = lanes.counts
    tree, fixed = Tree(*lanes.cache[:2]), lanes.cache[2]
    is_alive = lanes.remaining >= 0
    proposer = propose_thinned if model.is_thinned else propose
    proposal, generator = proposer(model, tables, constants, lanes)
    total = proposal.total
    countdown = count_down(lanes, proposal.wait + lanes.compensation)
    is_fired = is_alive & countdown.is_inside & proposal.is_event
    row = jnp.where(is_fired, proposal.reaction, jnp.int32(tables.nothing))
    if proposal.is_renewed is not None:
        is_renewed = is_alive & countdown.is_inside & proposal.is_renewed
        row = jnp.where(is_renewed, jnp.int32(tables.renewal), row)
    row, countdown, generator, total = materialise(
        constants.is_running, (row, countdown, generator, total)
    )

    before = _columns(model, constants, counts)
    counts = fire(tables, counts, row)
    after = _columns(model, constants, counts)
    moving, ends = None, lanes.cache[3:]
    if proposal.window is not None:
        left = jnp.maximum(countdown.remaining, jnp.float32(0))
        new = thinning.next_end(proposal.window, left)
        end = jnp.where(row == jnp.int32(tables.renewal), new, ends[0])
        moving = materialise(constants.is_running, _moving(model, constants, left, end))
        ends = (end,)
    tree = updated(tables, constants, counts, fixed, tree, row, moving)

    def fired(name: str) -> Array:
        return row == jnp.int32(tables.leaves[model.network.reaction_names.index(name)])

    unpacked = lanes._replace(counts=before)
    tallies = tally(model, constants, unpacked, proposal.wait, is_alive, after, fired, is_fired)
    changed = watched(model, constants, after, countdown.remaining, is_fired)
    return Lanes(
        (counts,),
        generator,
        arrival(lanes, countdown, is_alive, changed),
        compensation(lanes, countdown),
        jnp.where(is_alive, total, lanes.scale),
        lanes.num_steps + is_alive.astype(jnp.int32),
        lanes.num_events + is_fired.astype(jnp.int32) if model.is_counting else lanes.num_events,
        tallies,
        (*tree, fixed, *ends),
    )


def propose(
    model: LaneModel, tables: Tables, constants: Constants, lanes: Lanes
) -> tuple[Proposal, random.Words]:
    """The next event where propensities are constant between events."""
    wait_bits, generator = random.draw(lanes.generator)
    choice_bits, generator = random.draw(generator)
    unit_wait = random.exponential(wait_bits)
    share = share_of(choice_bits, wait_bits)
    chosen, total = descend(constants.is_running, tables, Tree(*lanes.cache[:2]), share)
    # An infinite total would freeze the clock: NaN stops the lane with a status instead.
    total = jnp.where(total < jnp.inf, total, jnp.float32(jnp.nan))
    wait = unit_wait / jnp.maximum(total, jnp.float32(1e-37))
    longest = _longest(model, constants)
    is_event = ~(wait > longest)
    return Proposal(chosen, jnp.where(is_event, wait, longest), is_event, total), generator


def propose_thinned(
    model: LaneModel, tables: Tables, constants: Constants, lanes: Lanes
) -> tuple[Proposal, random.Words]:
    """The next candidate where time or inputs move some propensities, accepted or not."""
    proposal, generator = propose(model, tables, constants, lanes)
    zero, nan = jnp.float32(0), jnp.float32(jnp.nan)
    end, total = lanes.cache[3], proposal.total
    window = thinning.window_of(tables, constants, lanes, end, total)
    is_held = window.is_renewed_now
    is_over = proposal.wait > window.room
    wait = jnp.where(is_over, window.room, proposal.wait)
    left = jnp.maximum(lanes.remaining - wait, jnp.maximum(end, zero))
    bits, generator = random.draw(generator)
    found, bound = candidates(model, tables, constants, lanes, proposal.reaction, left)
    # Also where the law broke its guard, and is NaN.
    is_broken = proposal.is_event & ~is_over & ~(found <= bound) & ~is_held
    is_accepted = thinning.is_accepted(bits, found, bound)
    total = jnp.where(is_broken, nan, jnp.where(is_held, lanes.scale, total))
    return (
        Proposal(
            proposal.reaction,
            jnp.where(is_broken, nan, jnp.where(is_held, zero, wait)),
            proposal.is_event & ~is_over & ~is_held & is_accepted,
            total,
            window,
            is_over | is_held,
        ),
        generator,
    )


def candidates(
    model: LaneModel,
    tables: Tables,
    constants: Constants,
    lanes: Lanes,
    chosen: Array,
    left: Array,
) -> tuple[Array, Array]:
    """The propensities of the chosen reactions at a time to go, and their bounds in the tree."""
    (counts,) = lanes.counts
    lane = jnp.arange(chosen.shape[0], dtype=jnp.int32)
    bound = taken(lanes.cache[0], lane * jnp.int32(tables.num_leaves) + chosen)
    moving, found = thinning.moving_at(model, constants, left), bound
    thinned = [t for t in tables.templates.templates if t.moving]
    for template, places in zip(thinned, tables.places, strict=True):
        member = taken(jnp.asarray(places), chosen)
        values = _slots(template, counts, lanes.cache[2], lane, member)
        law = propensities(template, {**values, **moving}, lane.shape)
        found = jnp.where(member < jnp.int32(len(template.reactions)), law, found)
    return found, bound


def _longest(model: LaneModel, constants: Constants) -> Array:
    """How long a step may be where a tally has to be looked at between events."""
    if model.is_looking:
        return constants.span * jnp.float32(1 / LOOKS)
    return jnp.full_like(constants.span, jnp.inf)


class Moving(NamedTuple):
    """What moves between events, by name, for every lane: now and over the lane's window."""

    now: dict[str, Array]
    window: dict[str, tuple[Array, Array]]


def _moving(model: LaneModel, constants: Constants, left: Array, end: Array) -> Moving:
    """What the laws of the network need of it."""
    templates = tables_of(model.program).templates.templates
    names = {name for template in templates for name in template.moving}
    now = thinning.moving_at(model, constants, left)
    window = thinning.moving_over(model, constants, left, end)
    return Moving({n: now[n] for n in names}, {n: window[n] for n in names})


def fire(tables: Tables, counts: Array, fired: Array) -> Array:
    """Counts after the fired reactions; the last row of the tables changes nothing."""
    lane = jnp.arange(counts.shape[1], dtype=jnp.int32)
    columns = taken(jnp.asarray(tables.changed), fired)
    changes = taken(jnp.asarray(tables.changes), fired)
    for k in range(columns.shape[1]):
        column = columns[:, k]
        now = taken(counts, column, lane) + changes[:, k]
        counts = placed(counts, (column, lane), now)
    return counts


def updated(
    tables: Tables,
    constants: Constants,
    counts: Array,
    fixed: Array,
    tree: Tree,
    fired: Array,
    moving: Moving | None,
) -> Tree:
    """The trees after the fired reactions: what they change, computed anew from the counts."""
    is_running, templates = constants.is_running, tables.templates.templates
    found_leaves = tree.leaves
    for template, members, dependents in zip(
        templates, tables.members, tables.dependents, strict=True
    ):
        leaves = jnp.asarray(members)

        def update(
            lane: Array,
            entry: Array,
            known: Array,
            template: Template = template,
            leaves: Array = leaves,
        ) -> Array:
            values = _slots(template, counts, fixed, lane, entry)
            if moving is None or not template.moving:
                found = propensities(template, values, lane.shape)
            else:
                now = {n: taken(moving.now[n], lane) for n in template.moving}
                ends = {n: _both_taken(moving.window[n], lane) for n in now}
                found = ceilings(template, values, now, ends, lane.shape)
            leaf = taken(leaves, entry)
            place = lane * jnp.int32(tables.num_leaves) + leaf
            spare = jnp.int32(known.shape[0] - 1)
            place = jnp.where(leaf == jnp.int32(tables.num_leaves), spare, place)
            return placed(known, (place,), found)

        found_leaves = for_each(is_running, dependents, fired, update, found_leaves)
    return refreshed(is_running, tables, tree._replace(leaves=found_leaves), fired)


def _both_taken(interval: tuple[Array, Array], index: Array) -> tuple[Array, Array]:
    return taken(interval[0], index), taken(interval[1], index)


def _slots(
    template: Template, counts: Array, fixed: Array, lane: Array, entry: Array
) -> dict[str, Array]:
    """What stands in the slots of members of a template, each in a lane of its own."""
    owner = lane if fixed.shape[0] > 1 else jnp.zeros_like(lane)
    return slots(
        template,
        taken(jnp.asarray(entrants(template)), entry),
        lambda column: taken(counts, column, lane),
        lambda column: taken(fixed, owner, column),
    )


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
