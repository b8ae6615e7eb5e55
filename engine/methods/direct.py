"""The direct method: exact stochastic simulation, one event a step.

Gillespie (1977), doi:10.1021/j100540a008; with inputs that move between events it thins candidate
events against an upper bound (Extrande: Voliotis et al. 2016, doi:10.1371/journal.pcbi.1004923).
Exact in distribution. Cost per step: every propensity once. Use when populations are moderate or
noise matters; cannot do rate rules (continuous variables) or delays inside rate laws. Fastest when
networks have up to some hundred reactions; from 370 on `direct_sparse` takes its steps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from engine.kernel import random
from engine.kernel.levels import at_once
from engine.kernel.materialise import compute_once, materialise
from engine.kernel.model import LaneModel
from engine.kernel.state import Constants, Lanes, Stepper
from engine.kernel.tallies import Jump
from engine.methods import direct_sparse
from engine.methods.jumping import LOOKS, arrival, compensation, count_down, tally, watched
from engine.methods.options import check_limits, refuse_rate_rules, stepper_of
from engine.methods.selection import (
    AT_RARE,
    BELOW_ONE,
    NOTHING,
    WAITING,
    Selection,
    fire,
    firing,
    partition,
)
from engine.network.network import ReactionNetwork

# A reaction below this share of the total is selected on its own, at the end of the block: in a
# float32 cumulative sum it would be distorted by more than 2**-24 / RARE (0.02%), and lost at 1e-8.
RARE = 2.0**-12
# Look-ahead windows of thinning hold this many expected events: the chance of finding none, and so
# of a wasted step, is exp(-4); a longer window would loosen the bound.
WINDOW = 4.0
# The shortest look-ahead, as a share of the segment, at which an infinite bound is given up.
NEAREST = 2.0**-20
# Guards the bound against rounding of the interval arithmetic.
SLACK = 1.0 + 1e-5
# Two of XLA's fusions may round a propensity at the threshold of the rare ones to either side: then
# it is counted twice, once in some 1e7 steps, which changes its share of that step by RARE. To
# compute propensities once instead costs 40% of the speed on il2_receptor; it pays where laws are
# dear.
TWICE = 2 * RARE


# Computed where it is written down, inside of a conditional: see `compute_once`.
Deferred = Callable[[], Array]


@dataclass(frozen=True)
class Direct:
    """Gillespie's direct method, exact.

    Waiting time Exp(a_0), reaction j with probability a_j / a_0, where a_0 = sum_j a_j. With
    inputs: candidates at rate B >= a_0(t) over a look-ahead window, accepted with probability
    a_0(t) / B.

    From 370 reactions on a step computes only the propensities that the last reaction changed, and
    compiles in seconds, whatever moves between events: a reaction that depends on time or an input
    stands by its own bound B_j over a window, and is accepted with probability a_j(t) / B_j when it
    is chosen. There a law that becomes negative is seen when its reaction is chosen or its bound
    renewed, not at every event. Dense at any size are all other methods on the lanes (`TauLeaping`,
    `Langevin`, `Hybrid`), whose compilation grows with the network, and the laws that tallies and
    triggers look at through assignment rules.

    Args:
        max_events: candidate events per trajectory after which it stops with
            `Status.EVENT_BUDGET_SPENT`; default 50 million.
        queue_size: delayed SBML events that may be pending at once in a trajectory; default 16.
        lanes: trajectories that a block advances together; by default as many as the processor's
            first cache holds, 32 to 256. The results do not depend on it.
        block: steps between two looks at which lanes have stopped; by default adapted to the
            distance between stops. The results do not depend on it.

    Raises:
        InvalidInput: a limit below 1.

    References:
        Gillespie 1977, doi:10.1021/j100540a008. Voliotis et al. 2016,
        doi:10.1371/journal.pcbi.1004923.

    Example:
        >>> Direct(max_events=1_000_000).max_events
        1000000
    """

    max_events: int = 50_000_000
    queue_size: int = 16
    lanes: int | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        check_limits(self)

    def check(self, network: ReactionNetwork) -> None:
        """Refuse by name what this method cannot do exactly."""
        refuse_rate_rules(self, network)

    def stepper(self, network: ReactionNetwork, num_trajectories: int) -> Stepper:
        """What the lane machine needs to run this method."""
        if direct_sparse.is_fitting(network):
            return direct_sparse.stepper(self, network, num_trajectories)
        return stepper_of(
            self,
            network,
            num_trajectories,
            step=step,
            resolve=resolve,
            options=None,
            is_counting=False,
            service_cost=SERVICE_COST,
        )


# What serving the stops of a block costs, in steps: 6 measured for dimer_decay, 12 for birth_death,
# whose steps are shorter.
SERVICE_COST = 9.0


class Candidate(NamedTuple):
    """A proposed next event.

    Attributes:
        values: the environment in which it would happen.
        selection: the propensities there.
        wait: computes the time to it, or to the end of the look-ahead window.
        is_event: whether the candidate falls inside the window.
        ceiling: the rate at which candidates are proposed.
    """

    values: Mapping[str, Array]
    selection: Selection
    wait: Deferred
    is_event: Array | None
    ceiling: Array


def rarity(model: LaneModel, lanes: Lanes) -> Array:
    """The propensity below which a reaction is rare: a share of the last total."""
    # Only where events may hold a lane does the scale have a sign, see `step`.
    scale = jnp.abs(lanes.scale) if model.events else lanes.scale
    return scale * jnp.float32(RARE)


def propose(
    model: LaneModel, constants: Constants, lanes: Lanes, threshold: Array, unit_wait: Deferred
) -> Candidate:
    """The next candidate where propensities are constant between events."""
    values = model.values(constants, lanes.counts, lanes.remaining)
    selection = partition(model, values, threshold, constants.is_running)
    ceiling = selection.total

    def wait() -> Array:
        return unit_wait() / jnp.maximum(ceiling, jnp.float32(1e-37))

    return Candidate(values, selection, wait, None, ceiling)


def propose_thinned(
    model: LaneModel, constants: Constants, lanes: Lanes, threshold: Array, unit_wait: Deferred
) -> Candidate:
    """The next candidate where time or inputs move the propensities between events."""
    remaining, floor = lanes.remaining, jnp.float32(1e-37)
    window = jnp.float32(WINDOW) / jnp.maximum(jnp.abs(lanes.scale), floor)
    left = jnp.maximum(remaining - window, jnp.float32(0))
    uppers = model.upper_bounds(constants, lanes.counts, remaining, left)
    ceiling = uppers[0]
    for upper in uppers[1:]:
        ceiling = ceiling + upper
    ceiling = materialise(constants.is_running, ceiling * jnp.float32(SLACK))
    wait = compute_once(constants.is_running, unit_wait) / jnp.maximum(ceiling, floor)
    is_event = wait <= window
    wait = jnp.minimum(wait, window)
    left = jnp.maximum(remaining - wait, jnp.float32(0))
    # Tallies need the exponentials of the levels again.
    once = partial(compute_once, constants.is_running) if model.is_observed_moving else at_once
    values = model.values(constants, lanes.counts, left, once)
    selection = partition(model, values, threshold, constants.is_running)
    # NaN where the bound does not hold or is infinite: the lane stops with a status.
    twice = jnp.float32(TWICE) * jnp.maximum(ceiling, jnp.abs(lanes.scale))
    is_bounded = (selection.total <= ceiling + twice) & (ceiling < jnp.inf)
    total = jnp.where(is_bounded, selection.total, jnp.float32(jnp.nan))
    wait = jnp.where(is_bounded, wait, jnp.float32(jnp.nan))
    # A bound that is infinite far ahead may be finite nearby: look less far, from where we stand.
    reach = jnp.minimum(window, remaining)
    is_far = ~(ceiling < jnp.inf) & (reach > constants.span * jnp.float32(NEAREST))
    wait = jnp.where(is_far, jnp.float32(0), wait)
    is_event = is_event & ~is_far
    total = jnp.where(is_far, jnp.float32(16 * WINDOW) / reach, total)
    return Candidate(values, selection._replace(total=total), lambda: wait, is_event, ceiling)


def _cut(candidate: Candidate, longest: Array) -> Candidate:
    """A candidate that is no event where it lies beyond a length; from there on it starts again.

    Waiting times have no memory, so the law is the same.
    """
    wait = candidate.wait()
    is_near = wait <= longest
    is_event = is_near if candidate.is_event is None else candidate.is_event & is_near
    # NaN stays NaN: the lane stops with a status.
    cut = jnp.where(wait > longest, longest, wait)
    return candidate._replace(wait=lambda: cut, is_event=is_event)


def step(model: LaneModel, options: None, constants: Constants, lanes: Lanes) -> Lanes:
    """Advance every lane by one candidate event; lanes that wait stay as they are."""
    is_running = constants.is_running
    # The state after the first of two draws is written down: the next one from there takes a third
    # of the operations, and overwrites the old one, which nobody reads any more, without a copy.
    threshold, (share, middle) = compute_once(
        is_running, lambda: (rarity(model, lanes), random.share(lanes.generator))
    )

    # Apart from the wait that is made of it, whose loop loads its many constants in every turn.
    uniform, generator = compute_once(is_running, lambda: random.unit(middle))

    def unit_wait() -> Array:
        return random.exponential_of(uniform)

    proposer = propose_thinned if model.is_thinned else propose
    candidate = proposer(model, constants, lanes, threshold, unit_wait)
    if model.is_looking:
        candidate = _cut(candidate, constants.span * jnp.float32(1 / LOOKS))
    selection = candidate.selection

    def spend() -> tuple[Array, Array]:
        wait = candidate.wait()
        return wait, wait + lanes.compensation

    wait, wanted = compute_once(is_running, spend)
    countdown = count_down(lanes, wanted)

    def aim() -> tuple[Array, Array]:
        last = selection.cumulative[-1]
        # Where the point lies past the rare reactions; below zero it is at one of them.
        inside = share * candidate.ceiling - selection.rare
        # Rounding could put it past the last reaction. Where all are rare it is below zero, as the
        # share is below 1.
        below = last * BELOW_ONE
        target = jnp.where(inside < 0, AT_RARE, jnp.where(inside < below, inside, below))
        if candidate.is_event is not None:
            target = jnp.where(candidate.is_event & (inside < last), target, NOTHING)
        # Not the one above: what enters a conditional is written to memory first.
        countdown = count_down(lanes, wanted)
        target = jnp.where(countdown.is_inside, target, NOTHING)
        target = jnp.where(lanes.remaining >= 0, target, WAITING)
        return target, compensation(lanes, countdown)

    # What is asked below about a lane's time is asked of its target: where others still read the
    # time to go, XLA copies it in every step before the new one overwrites it.
    target, owed = compute_once(is_running, aim, otherwise=float(WAITING))
    is_alive, is_fired, is_rare = ~jnp.isnan(target), target < AT_RARE, target == AT_RARE

    def after() -> tuple[Array, ...]:
        return fire(model, lanes.counts, selection.cumulative, target)

    counts = compute_once(is_running, after) if model.tallies or model.events else after()
    fired = firing(model, selection.cumulative, target)
    tallies = tally(
        model, constants, lanes, wait, is_alive, counts, fired, is_fired, candidate.values
    )
    changed = watched(model, constants, counts, countdown.remaining, is_fired)
    # Rare ones keep the scale that they are rare by, with a sign where events too may hold a lane.
    scale = jnp.where(is_rare, -lanes.scale, lanes.scale) if model.events else lanes.scale
    return Lanes(
        counts,
        generator,
        arrival(lanes, countdown, is_alive, is_rare if changed is None else is_rare | changed),
        owed,
        jnp.where(is_alive & ~is_rare, selection.total, scale),
        lanes.num_steps + is_alive.astype(jnp.int32),
        lanes.num_events + is_fired.astype(jnp.int32) if model.is_counting else lanes.num_events,
        tallies,
    )


def resolve(model: LaneModel, constants: Constants, lanes: Lanes, is_rare: Array) -> Lanes:
    """Choose and fire the rare reaction of the lanes that wait for it.

    Runs once a block. Among the rare reactions the propensities are summed on their own, so that
    even one with 1e-9 of the total is chosen with its right probability.
    """
    left = jnp.maximum(-lanes.remaining, jnp.float32(0))
    left = jnp.where(jnp.isfinite(left), left, jnp.float32(0))
    values = model.values(constants, lanes.counts, left)
    threshold = rarity(model, lanes)
    total = scale = jnp.zeros_like(threshold)
    cumulative = []
    for a in model.program.propensities(values, jnp, jnp.float32):
        scale = scale + a
        total = total + jnp.where(a >= threshold, jnp.float32(0), a)
        cumulative.append(total)
    bits, generator = random.draw(lanes.generator)
    extra, generator = random.draw(generator)
    point = jnp.minimum(random.fine_uniform(bits, extra) * total, total * BELOW_ONE)
    # Another rounding of the propensities than the step's may leave no rare one.
    target = jnp.where(is_rare & (total > 0), point, NOTHING)
    target, cumulative = materialise(constants.is_running, (target, cumulative))
    counts, fired = fire(model, lanes.counts, cumulative, target), firing(model, cumulative, target)
    after = model.values(constants, counts, left)
    before = values | model.shared_values(values, lanes.tallies)
    jump = Jump(after, constants.stop - left, fired, is_rare, before)
    return lanes._replace(
        counts=counts,
        generator=random.choose(is_rare, generator, lanes.generator),
        tallies=model.jump_tallies(lanes.tallies, jump),
        # Where the total has fallen far below the last scale everything was rare: start from here.
        scale=jnp.where(is_rare, scale, lanes.scale),
        num_events=lanes.num_events + is_rare.astype(jnp.int32)
        if model.is_counting
        else lanes.num_events,
    )
