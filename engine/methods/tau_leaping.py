"""Tau-leaping: many firings a step, from Poisson numbers.

Step selection of Cao, Gillespie and Petzold (2006), doi:10.1063/1.2159468; the weak trapezoidal
rule of Anderson and Koyama (2012), doi:10.1137/110849699. Approximate: of order 2 (or 1) in the
leap, whose length keeps every propensity's relative change below epsilon. Cost per step: every
propensity and a Poisson number per reaction, once for each order. Use when reactants number
thousands and reactions fire often; cannot do rate rules. Fastest when populations are large and the
direct method takes millions of steps; where leaping does not pay it takes exact steps by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from engine.errors import InvalidInput
from engine.kernel import random
from engine.kernel.across import is_any
from engine.kernel.materialise import Running, compute_once, materialise
from engine.kernel.model import LaneModel
from engine.kernel.poisson import poisson
from engine.kernel.state import Constants, Lanes, Stepper
from engine.methods.advancing import Change, counted_down, held_for_events, nothing_rare, tallied
from engine.methods.leap_length import TINY, UNLIMITED, critical, leap_length, rates, total_of
from engine.methods.options import check_limits, refuse_rate_rules, stepper_of
from engine.methods.selection import BELOW_ONE, fire, firing
from engine.network.network import ReactionNetwork

# A leap that would hold fewer events than this is not worth its error: an exact step is taken. Cao
# et al. take 10, an exact step being cheaper than a leap; here both cost the same, and dimer_decay
# takes 1120 steps in place of 1750.
FEWEST_EVENTS = 4.0
# Random words between two of which the generator's state is kept: each is a function of the state
# before, which XLA would compute again from the beginning for every word.
DRAWS_AT_ONCE = 8
# What serving the stops of a block costs, in steps: a step costs several of the direct method's.
SERVICE_COST = 1.0


@dataclass(frozen=True)
class TauLeaping:
    """Explicit tau-leaping with Cao, Gillespie and Petzold's step selection.

    Order 1: over a leap of length tau every reaction fires Poisson(a_j(x) tau) times. Order 2, the
    weak trapezoidal rule: half a leap to x* with Poisson(a_j(x) tau / 2) firings, and from there
    another Poisson((2 a_j(x*) - a_j(x))+ tau / 2). With b_i = max(epsilon x_i / g_i, 1),
    mu_i = sum_j v_ij a_j and sigma_i^2 = sum_j v_ij^2 a_j,

        tau = min_i { b_i / |mu_i|, b_i^2 / sigma_i^2, (1 + order) b_i / loss_i },

    where g_i is the largest order (sum of elasticities) of the laws that species i enters. The last
    term is ours: loss_i = sum_j max(-v_ij, 0) a_j. Near a steady state mu_i vanishes, and without
    it a leap may exceed the species' own life time; of order 1 that inflates its variance by half
    the ratio, of order 2 leaps of 0.39 life times, the default, by 1%.
    Critical reactions (those that change a species within 10 firings of being used up) fire one at
    a time, by their exponential clock; a leap that would make a count negative is taken again at
    half its length; a leap of fewer than 4 events is replaced by an exact step, which costs as much
    as a leap (vilar, whose genes leave no room for leaps, takes 24 times as long as with `Direct`).
    Inputs and time enter by their means over a leap, which is cut where their change would move the
    total propensity by more than 3 epsilon, 9% at most.

    Events on counts are seen at the end of the leap that brings them: where their time matters,
    lower epsilon. First passages and integrals use counts interpolated within a leap; maxima are of
    leap ends. Doses, save times and events at times are exact.

    Args:
        epsilon: largest relative change of a propensity in a leap, 0 to 1; default 0.13, with
            which order 2 is nearer to the truth than order 1 with the 0.03 of Cao et al., in half
            the time.
        order: 1 or 2: means and variances are off by a multiple of epsilon to this power. Critical
            reactions and inputs that jump are followed to order 1 by both.
        max_events: steps per trajectory after which it stops; default 50 million.
        queue_size, lanes, block: as in `Direct`.

    Raises:
        InvalidInput: epsilon outside (0, 1), an order other than 1 and 2, or a limit below 1.

    References:
        Cao, Gillespie and Petzold 2006, doi:10.1063/1.2159468; 2005, doi:10.1063/1.1992473
        (critical reactions). Anderson and Koyama 2012, doi:10.1137/110849699 (order 2).

    Example:
        >>> TauLeaping(epsilon=0.01).epsilon
        0.01
    """

    epsilon: float = 0.13
    order: int = 2
    max_events: int = 50_000_000
    queue_size: int = 16
    lanes: int | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.epsilon, int | float) or not 0 < self.epsilon < 1:
            raise InvalidInput(
                f"TauLeaping(epsilon={self.epsilon!r}): give a number between 0 and 1, such as 0.13"
            )
        if self.order not in (1, 2) or isinstance(self.order, bool):
            raise InvalidInput(f"TauLeaping(order={self.order!r}): give 1 or 2")
        check_limits(self)

    def check(self, network: ReactionNetwork) -> None:
        """Refuse by name what this method cannot do."""
        refuse_rate_rules(self, network)

    def stepper(self, network: ReactionNetwork, num_trajectories: int) -> Stepper:
        """What the lane machine needs to run this method."""
        return stepper_of(
            self,
            network,
            num_trajectories,
            step=step,
            resolve=nothing_rare,
            options=Options(float(self.epsilon), self.order),
            is_counting=True,
            service_cost=SERVICE_COST,
        )


class Options(NamedTuple):
    """What a step needs to know."""

    epsilon: float
    order: int


class Step(NamedTuple):
    """What a step does.

    Attributes:
        length: its length.
        is_reached: lanes that reach their stop with it.
        is_leap: lanes that leap.
        target: where a single reaction is chosen among `alone`; +inf where none fires.
        alone: cumulative propensities of the reactions that fire one at a time.
        is_critical: for every reaction whether it fires alone even in a leap; None for never.
        leap_time: for how long the others fire together; 0 where they do not.
        means: mean number of firings of every reaction in the leap, at the counts before it.
    """

    length: Array
    is_reached: Array
    is_leap: Array
    target: Array
    alone: list[Array]
    is_critical: list[Array | None]
    leap_time: Array
    means: list[Array]


def plan(
    model: LaneModel,
    options: Options,
    constants: Constants,
    lanes: Lanes,
    unit_wait: Array,
    share: Array,
) -> tuple[Step, Array]:
    """Decide between a leap and an exact step; also returns the total propensity."""
    # Without this every species' bound on the leap computes all propensities again.
    found = compute_once(
        constants.is_running, lambda: rates(model, options.epsilon, constants, lanes)
    )
    is_critical = critical(model, lanes.counts)
    most_lost = 1.0 + options.order
    longest = leap_length(
        model, options.epsilon, lanes.counts, found, is_critical, most_lost=most_lost
    )
    longest = jnp.minimum(longest, lanes.scale)
    total = total_of(found.propensities)
    # The same for the leap's length, which decides about every reaction.
    kept = (is_critical, longest, total)
    is_critical, longest, total = materialise(constants.is_running, kept)
    is_leap = longest * total >= jnp.float32(FEWEST_EVENTS)
    zero, alone, running = jnp.float32(0), [], jnp.zeros_like(total)
    for a, one in zip(found.propensities, is_critical, strict=True):
        is_alone = ~is_leap if one is None else ~is_leap | one
        running = running + jnp.where(is_alone & (a > 0), a, zero)
        alone.append(running)
    wait = unit_wait / jnp.maximum(running, jnp.float32(TINY))
    limit = jnp.minimum(jnp.where(is_leap, longest, jnp.float32(jnp.inf)), found.reach)
    # A propensity that is no number ends the lane at once, with a status.
    is_reached = ~(jnp.minimum(wait, limit) < lanes.remaining) | ~(total < jnp.inf)
    length = jnp.where(is_reached, lanes.remaining, jnp.minimum(wait, limit))
    length = jnp.maximum(length, zero)
    is_single = ~is_reached & (wait <= limit)
    last = running * BELOW_ONE
    target = jnp.where(is_single, jnp.minimum(share * running, last), jnp.float32(jnp.inf))
    leap_time = jnp.where(is_leap, length, zero)
    average = found.propensities
    if model.is_thinned:
        values = model.averages(constants, lanes.counts, lanes.remaining, length)
        average = model.propensities(values)
    means = [held(a * leap_time, one) for a, one in zip(average, is_critical, strict=True)]
    return Step(length, is_reached, is_leap, target, alone, is_critical, leap_time, means), total


def held(mean: Array, is_critical: Array | None) -> Array:
    """The mean number of firings in a leap, 0 for a reaction that fires alone."""
    return mean if is_critical is None else jnp.where(is_critical, jnp.float32(0), mean)


class Leap(NamedTuple):
    """What the reactions that fire together do.

    Attributes:
        firings: how often each fires; not at all where the leap is taken again.
        counts: the counts to which that leads.
        is_rejected: lanes in which a count was negative on the way.
        generator: the random numbers that follow.
    """

    firings: list[Array]
    counts: tuple[Array, ...]
    is_rejected: Array
    generator: random.Words


def leap(
    model: LaneModel,
    order: int,
    constants: Constants,
    lanes: Lanes,
    chosen: Step,
    generator: random.Words,
) -> Leap:
    """Fire every reaction that is not critical for the length of the leap."""
    is_leap = (lanes.remaining >= 0) & chosen.is_leap
    part = jnp.where(is_leap, jnp.float32(1 / order), jnp.float32(0))
    means = [mean * part for mean in chosen.means]
    firings, generator = _firings(constants.is_running, means, is_leap, generator)
    counts = _moved(model, lanes.counts, firings)
    is_rejected = is_leap & _is_any_negative(counts)
    if order == 2:
        firings, counts, generator = materialise(constants.is_running, (firings, counts, generator))
        means = _corrected(model, constants, lanes, chosen, counts)
        means = [jnp.where(is_leap, mean, jnp.float32(0)) for mean in means]
        more, generator = _firings(constants.is_running, means, is_leap, generator)
        firings = [a + b for a, b in zip(firings, more, strict=True)]
        counts = _moved(model, counts, more)
        is_rejected = is_rejected | (is_leap & _is_any_negative(counts))
    counts, is_rejected = materialise(constants.is_running, (counts, is_rejected))
    firings = [jnp.where(is_rejected, jnp.int32(0), number) for number in firings]
    pairs = zip(lanes.counts, counts, strict=True)
    counts = tuple(jnp.where(is_rejected, old, new) for old, new in pairs)
    return Leap(firings, counts, is_rejected, generator)


def _corrected(
    model: LaneModel, constants: Constants, lanes: Lanes, chosen: Step, counts: tuple[Array, ...]
) -> list[Array]:
    """Mean firings in the second half: (2 a(x*) - a(x))+ tau / 2, with x* half way."""
    ahead = model.propensities(model.values_over(constants, counts, lanes.remaining, chosen.length))
    means = []
    for a, mean, one in zip(ahead, chosen.means, chosen.is_critical, strict=True):
        corrected = held(a * chosen.leap_time, one) - jnp.float32(0.5) * mean
        means.append(jnp.maximum(corrected, jnp.float32(0)))
    return means


def step(model: LaneModel, options: Options, constants: Constants, lanes: Lanes) -> Lanes:
    """Advance every lane by one leap or one exact event; lanes that wait stay as they are."""
    is_alive = lanes.remaining >= 0
    is_running = constants.is_running
    unit_wait, share, generator = compute_once(
        is_running, lambda: random.wait_and_share(lanes.generator)
    )
    chosen, total = compute_once(
        is_running, lambda: plan(model, options, constants, lanes, unit_wait, share)
    )

    firings, drifted, is_rejected, generator = leap(
        model, options.order, constants, lanes, chosen, generator
    )
    target = jnp.where(is_alive & ~is_rejected, chosen.target, jnp.float32(jnp.inf))
    drifted = materialise(is_running, drifted)
    counts = compute_once(is_running, lambda: fire(model, drifted, chosen.alone, target))
    fired = firing(model, chosen.alone, target)

    is_taken = is_alive & ~is_rejected
    elapsed = jnp.where(is_taken, chosen.length, jnp.float32(0))
    remaining, compensation = counted_down(lanes, elapsed, chosen.is_reached)
    is_single = target < jnp.inf

    def number(name: str) -> Array:
        j = model.network.reaction_names.index(name)
        return fired(name).astype(jnp.int32) + firings[j]

    change = Change(elapsed, drifted, counts, number, is_taken)
    tallies = tallied(model, constants, lanes, change)
    remaining = held_for_events(model, constants, counts, remaining, is_taken)
    limit = jnp.where(is_rejected, jnp.float32(0.5) * chosen.length, jnp.float32(UNLIMITED))
    limit = jnp.where(total < jnp.inf, limit, jnp.float32(jnp.nan))
    return Lanes(
        counts,
        generator,
        jnp.where(is_taken, remaining, lanes.remaining),
        jnp.where(is_taken, compensation, lanes.compensation),
        jnp.where(is_alive, limit, lanes.scale),
        lanes.num_steps + is_alive.astype(jnp.int32),
        lanes.num_events + is_single.astype(jnp.int32) + total_of(firings),
        tallies,
    )


def _firings(
    is_running: Running, means: list[Array], is_leap: Array, generator: random.Words
) -> tuple[list[Array], random.Words]:
    """Poisson numbers; only a lane that leaps draws, whatever its neighbours do."""

    def draw(state: random.Words) -> tuple[list[Array], random.Words]:
        bits: list[Array] = []
        advanced = state
        for first in range(0, len(means), DRAWS_AT_ONCE):
            words = []
            for _ in means[first : first + DRAWS_AT_ONCE]:
                word, advanced = random.draw(advanced)
                words.append(word)
            if len(means) > DRAWS_AT_ONCE:
                words, advanced = materialise(is_running, (words, advanced))
            bits += words
        numbers = poisson(is_running, means, bits)
        return numbers, random.choose(is_leap, advanced, state)

    def rest(state: random.Words) -> tuple[list[Array], random.Words]:
        return [jnp.zeros(mean.shape, jnp.int32) for mean in means], state

    return lax.cond(is_any(is_leap), draw, rest, generator)


def _moved(
    model: LaneModel, counts: Sequence[Array], firings: Sequence[Array]
) -> tuple[Array, ...]:
    result = []
    for species, count in enumerate(counts):
        for j, number in enumerate(firings):
            if change := int(model.net_changes[j, species]):
                count = count + jnp.int32(change) * number
        result.append(count)
    return tuple(result)


def _is_any_negative(counts: Sequence[Array]) -> Array:
    is_negative = counts[0] < 0
    for count in counts[1:]:
        is_negative = is_negative | (count < 0)
    return is_negative
