"""The hybrid method: large species are integrated between exact jumps of the others.

Piecewise-deterministic Markov process (Davis 1984, doi:10.1111/j.2517-6161.1984.tb01308.x; Alfonsi
et al. 2005, doi:10.1051/proc:2005001). Approximate in one way only: reactions among the continuous
species lose their noise (or keep it as Langevin noise). The integration and the jump times, from
the integrated hazard, are of order 2 in the step. Cost per step: every propensity twice. Use when
genes or receptors are few and what they make, or bind, is plentiful; cannot do rate rules. Fastest
when most events are reactions of plentiful species.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.errors import InvalidInput
from engine.kernel import random
from engine.kernel.materialise import compute_once, materialise
from engine.kernel.model import LaneModel
from engine.kernel.poisson import normal
from engine.kernel.state import Constants, Lanes, Stepper
from engine.methods.advancing import Change, counted_down, held_for_events, nothing_rare, tallied
from engine.methods.leap_length import TINY, leap_length, rates, total_of
from engine.methods.options import check_limits, refuse_rate_rules, stepper_of
from engine.methods.selection import BELOW_ONE, fire, firing
from engine.network.network import ReactionNetwork

# What serving the stops of a block costs, in steps.
SERVICE_COST = 8.0


@dataclass(frozen=True)
class Hybrid:
    """Exact jumps of the discrete species, continuous species integrated between them.

    A reaction that changes continuous species only is continuous; every other one fires as an exact
    jump, which also moves the continuous species it touches. Between jumps

        dy/dt = sum_continuous v_j a_j(x, y),      int_0^s sum_jumps a_j(x, y(t)) dt = E,

    E unit exponential: Heun's method with the hazard integrated along, so that a jump comes where
    its integral says. Steps change no continuous species by more than epsilon, relatively (or by
    one molecule), by inputs and time no propensity by more than a few epsilon, and take at most
    ten epsilon of a species' life time (a half at most). With noise they are those of `TauLeaping`.

    What an integrated species loses is the noise of its own reactions, all but what jumps give it;
    the more species are integrated, the fewer steps. On the interleukin-2 receptor with ligand that
    is consumed (21 species, 1.7 million events), `plenty` of 500, 100 and 10 left 12, 7 and 4
    species to jump, took 1.6 million, 158,000 and 44,000 steps and ran at 0.7, 2.7 and 3.2 times
    the speed of `Direct` (384 patients a run, a busy core; 15 times with 4,096 patients), with
    means within 1%, and with 0 to 30% of the variance of the abundant species that were integrated;
    variances of the species that jump were up to 13% off (5,000 patients).
    With noise and `plenty` of 10 to 30 variances agreed to their sampling error of 10%, in 530,000
    to 580,000 steps, at half the speed of `Direct`. No choice is fast and keeps these variances:
    lower `plenty` where means, or the noise that jumps bring, are what is asked for.

    Args:
        continuous: names of the species to integrate; None chooses those whose mean-field average
            over the horizon is at least `plenty` (for the first patient); `ensemble.continuous`
            says which.
        epsilon: largest relative change in a step, 0 to 1; default 0.02.
        plenty: copies from which the automatic choice integrates a species; default 500.
        is_noisy: give the continuous reactions Langevin noise (their order is then 1/2).
        max_events: steps per trajectory after which it stops; default 50 million.
        queue_size, lanes, block: as in `Direct`.

    Raises:
        InvalidInput: epsilon outside (0, 1), a species that is not in the network, or a limit
            below 1.

    Example:
        >>> Hybrid(continuous=("STAT5",)).epsilon
        0.02
    """

    continuous: tuple[str, ...] | None = None
    epsilon: float = 0.02
    plenty: float = 500.0
    is_noisy: bool = False
    max_events: int = 50_000_000
    queue_size: int = 16
    lanes: int | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.continuous, str):
            raise InvalidInput(
                f"Hybrid(continuous='{self.continuous}'): give a list, ['{self.continuous}']"
            )
        if self.continuous is not None:
            object.__setattr__(self, "continuous", tuple(self.continuous))
        if not isinstance(self.epsilon, int | float) or not 0 < self.epsilon < 1:
            raise InvalidInput(
                f"Hybrid(epsilon={self.epsilon!r}): give a number between 0 and 1, such as 0.02"
            )
        if not isinstance(self.plenty, int | float) or not self.plenty > 0:
            raise InvalidInput(f"Hybrid(plenty={self.plenty!r}): give a positive number of copies")
        check_limits(self)

    def check(self, network: ReactionNetwork) -> None:
        """Refuse by name what this method cannot do."""
        refuse_rate_rules(self, network)
        for name in self.continuous or ():
            network.require(name, "species", what="Hybrid(continuous=...)")

    def chosen(self, network: ReactionNetwork, means: Sequence[float]) -> "Hybrid":
        """The method with its continuous species named, from their mean-field averages."""
        if self.continuous is not None:
            return self
        pairs = zip(network.species_names, means, strict=True)
        return replace(self, continuous=tuple(name for name, m in pairs if m >= self.plenty))

    def stepper(self, network: ReactionNetwork, num_trajectories: int) -> Stepper:
        """What the lane machine needs to run this method, its species being chosen."""
        return stepper_of(
            self,
            network,
            num_trajectories,
            step=step,
            resolve=nothing_rare,
            options=Options(float(self.epsilon), self.is_noisy),
            is_counting=True,
            service_cost=SERVICE_COST,
            real=frozenset(self.continuous or ()),
        )


class Options(NamedTuple):
    """What a step needs to know."""

    epsilon: float
    is_noisy: bool


class Course(NamedTuple):
    """Propensities along a step that no jump has interrupted.

    Attributes:
        first, last: every propensity at its two ends.
        length: its length.
        counts: counts at its first end.
    """

    first: list[Array]
    last: list[Array]
    length: Array
    counts: tuple[Array, ...]

    def extent(self, j: int, elapsed: Array) -> Array:
        """The integral of a propensity, linear along the step, over its first part."""
        slope = (self.last[j] - self.first[j]) / jnp.maximum(self.length, jnp.float32(TINY))
        return elapsed * (self.first[j] + jnp.float32(0.5) * elapsed * slope)

    def at(self, j: int, elapsed: Array) -> Array:
        """A propensity within the step."""
        slope = (self.last[j] - self.first[j]) / jnp.maximum(self.length, jnp.float32(TINY))
        value = self.first[j] + elapsed * slope
        return jnp.where(value > 0, value, jnp.float32(0))


def continuous_reactions(model: LaneModel) -> np.ndarray:
    """Which reactions change real species only, (M,) bool."""
    is_discrete = ~np.asarray(model.is_real)
    return ~np.any((model.net_changes != 0) & is_discrete[None, :], axis=1)


def integrated(
    model: LaneModel, extents: dict[int, Array], counts: tuple[Array, ...]
) -> tuple[Array, ...]:
    """Counts after the continuous reactions went their extents; none below 0."""
    result = []
    for species, count in enumerate(counts):
        moved = count
        for j, extent in extents.items():
            if change := int(model.net_changes[j, species]):
                moved = moved + jnp.float32(change) * extent
        result.append(jnp.maximum(moved, jnp.zeros_like(moved)))
    return tuple(result)


def course(model: LaneModel, options: Options, constants: Constants, lanes: Lanes) -> Course:
    """Heun's two stages: propensities now, and at the end of a step that they allow."""
    is_continuous = continuous_reactions(model)
    # Without this every species' bound on the step computes all propensities again.
    found = compute_once(
        constants.is_running, lambda: rates(model, options.epsilon, constants, lanes)
    )
    always = jnp.ones_like(lanes.remaining, bool)
    held = [None if smooth else always for smooth in is_continuous]
    limit = leap_length(
        model, options.epsilon, lanes.counts, found, held, is_noisy=options.is_noisy
    )
    length = jnp.minimum(jnp.minimum(limit, found.reach), lanes.remaining)
    length = materialise(constants.is_running, jnp.maximum(length, jnp.float32(0)))
    first = found.propensities
    extents = {int(j): first[j] * length for j in np.flatnonzero(is_continuous)}
    ahead = integrated(model, extents, lanes.counts)
    left = jnp.maximum(lanes.remaining - length, jnp.float32(0))
    values = model.values(constants, ahead, left)
    last = model.propensities(values)
    return Course(first, last, length, lanes.counts)


def time_of_jump(first: Array, last: Array, length: Array, unit_wait: Array) -> Array:
    """When the integral of a hazard that goes linearly from first to last reaches the exponential.

    The smaller root s of first s + (last - first) s^2 / (2 length) = E; +inf where there is none.
    """
    curve = jnp.float32(2) * (last - first) / jnp.maximum(length, jnp.float32(TINY))
    square = first * first + curve * unit_wait
    root = first + jnp.sqrt(jnp.maximum(square, jnp.float32(0)))
    when = jnp.float32(2) * unit_wait / jnp.maximum(root, jnp.float32(TINY))
    return jnp.where(square >= 0, when, jnp.float32(jnp.inf))


def step(model: LaneModel, options: Options, constants: Constants, lanes: Lanes) -> Lanes:
    """Advance every lane to its next jump or to the end of its step; lanes that wait stay."""
    is_taken = lanes.remaining >= 0
    is_running = constants.is_running
    unit_wait, share, generator = compute_once(
        is_running, lambda: random.wait_and_share(lanes.generator)
    )
    along = compute_once(is_running, lambda: course(model, options, constants, lanes))

    is_continuous = continuous_reactions(model)
    jumps = np.flatnonzero(~is_continuous).tolist()
    when = jnp.full_like(along.length, jnp.inf)
    if jumps:
        first, last = (total_of([side[j] for j in jumps]) for side in (along.first, along.last))
        when = time_of_jump(first, last, along.length, unit_wait)
    is_jump = when < along.length
    elapsed = jnp.where(is_taken, jnp.minimum(when, along.length), jnp.float32(0))
    is_jump, elapsed = materialise(is_running, (is_jump, elapsed))
    hazards = compute_once(is_running, lambda: {j: along.at(j, elapsed) for j in jumps})
    extents = {}
    for j in np.flatnonzero(is_continuous).tolist():
        extents[j] = along.extent(j, elapsed)
        if options.is_noisy:
            bits, generator = random.draw(generator)
            spread = jnp.sqrt(jnp.maximum(extents[j], jnp.float32(0)))
            extents[j] = extents[j] + spread * normal(bits)
    drifted = integrated(model, extents, lanes.counts)
    cumulative, running = [], jnp.zeros_like(elapsed)
    for j in range(len(along.first)):
        running = running + hazards[j] if j in hazards else running
        cumulative.append(running)
    point = jnp.minimum(share * running, running * BELOW_ONE)
    target = jnp.where(is_taken & is_jump, point, jnp.float32(jnp.inf))
    target, drifted, cumulative = materialise(is_running, (target, drifted, cumulative))
    counts = compute_once(is_running, lambda: fire(model, drifted, cumulative, target))
    fired = firing(model, cumulative, target)

    total = total_of(along.last) + total_of(along.first)
    # A propensity that is no number ends the lane at once, with a status.
    is_reached = ~is_jump & ~(along.length < lanes.remaining) | ~(total < jnp.inf)
    remaining, compensation = counted_down(lanes, elapsed, is_reached)
    remaining = held_for_events(model, constants, counts, remaining, is_taken)
    change = Change(elapsed, drifted, counts, fired, is_taken)
    return Lanes(
        tuple(jnp.where(is_taken, a, b) for a, b in zip(counts, lanes.counts, strict=True)),
        generator,
        jnp.where(is_taken, remaining, lanes.remaining),
        jnp.where(is_taken, compensation, lanes.compensation),
        jnp.where(is_taken, jnp.where(total < jnp.inf, total, jnp.nan), lanes.scale),
        lanes.num_steps + is_taken.astype(jnp.int32),
        lanes.num_events + (target < jnp.inf).astype(jnp.int32),
        tallied(model, constants, lanes, change),
    )
