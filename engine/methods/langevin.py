"""The chemical Langevin equation: real numbers of molecules with Gaussian noise.

Gillespie (2000), doi:10.1063/1.481811. Approximate, by Euler-Maruyama: weak order 1 and strong
order 1/2 in the step. Cost per step: every propensity once and a normal number per reaction. Use
when every reactant numbers hundreds or more and smooth noise is wanted (its paths are
differentiable in the parameters); cannot do rate rules, and is wrong for genes and other species
of few copies, though it keeps their sums; cannot take steps longer than a species lives. Fastest
when populations are large and a fixed step is good enough.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.errors import InvalidInput
from engine.kernel import random
from engine.kernel.materialise import materialise
from engine.kernel.model import LaneModel
from engine.kernel.poisson import normal
from engine.kernel.state import Constants, Lanes, Stepper
from engine.methods.advancing import Change, counted_down, held_for_events, nothing_rare, tallied
from engine.methods.options import check_limits, refuse_rate_rules, stepper_of
from engine.network.network import ReactionNetwork

# What serving the stops of a block costs, in steps.
SERVICE_COST = 6.0


@dataclass(frozen=True)
class Langevin:
    """The chemical Langevin equation by Euler-Maruyama with extents limited at 0.

        x_i(t + h) = x_i + sum_j v_ij s_j e_j,   e_j = a_j(x) h + sqrt(a_j(x) h) N_j,
        s_j = min(1, x_i / sum_k max(-v_ik e_k, 0)) over the species i of which e_j takes,

    N_j standard normal. Counts are real numbers (`ensemble.values`); a propensity that is negative
    between whole numbers (x (x - 1) / 2 below 1) counts as 0. The s_j are 1 unless more of a
    species would be taken than there is: they keep it from 0 on, and what the network conserves. A
    step whose mean alone would take more of a species than there is, h above its life time, ends
    with `Status.STEP_TOO_LONG`, and `SimulationFailed` says which step is needed, from there and
    from the rate equations of the first patient. Inputs and time enter by their means over a step.
    Steps are cut at save times, doses and events at times; events on counts and first passages are
    seen at the end of the step that brings them.

    Args:
        dt: the step h, in the network's time unit.
        max_events: steps per trajectory after which it stops; default 50 million.
        queue_size, lanes, block: as in `Direct`.

    Raises:
        InvalidInput: a step that is not positive and finite, or a limit below 1.

    References:
        Gillespie 2000, doi:10.1063/1.481811; Kloeden and Platen 1992,
        doi:10.1007/978-3-662-12616-5 (orders of Euler-Maruyama).

    Example:
        >>> Langevin(dt=0.01).dt
        0.01
    """

    dt: float
    max_events: int = 50_000_000
    queue_size: int = 16
    lanes: int | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        is_number = isinstance(self.dt, int | float) and not isinstance(self.dt, bool)
        if not is_number or not (0 < self.dt < math.inf):
            raise InvalidInput(f"Langevin(dt={self.dt!r}): give a positive time step")
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
            options=float(self.dt),
            is_counting=True,
            service_cost=SERVICE_COST,
            real=frozenset(network.species_names),
        )


def step(model: LaneModel, dt: float, constants: Constants, lanes: Lanes) -> Lanes:
    """Advance every lane by one step; lanes that wait stay as they are."""
    is_taken = lanes.remaining >= 0
    # A rest below a hundredth of a step goes with this one: no step is all but zero.
    is_reached = ~(lanes.remaining > jnp.float32(1.01 * dt))
    length = jnp.where(is_reached, lanes.remaining, jnp.float32(dt))
    wanted = jnp.where(is_taken, length, jnp.float32(0))
    values = model.values_over(constants, lanes.counts, lanes.remaining, wanted)
    propensities = materialise(constants.is_running, model.propensities(values))
    is_too_long = overdrawn(model.net_changes, lanes.counts, [a * wanted for a in propensities])
    # Then nothing happens any more: the counts stay for a message to look at.
    elapsed = jnp.where(is_too_long, jnp.float32(0), wanted)
    extents, generator = _extents(propensities, elapsed, lanes.generator)
    total = reduce(jnp.add, propensities)
    extents, generator, total = materialise(constants.is_running, (extents, generator, total))
    moved = limited(model.net_changes, lanes.counts, extents)
    moved = materialise(constants.is_running, moved)
    # A propensity that is no number would make counts that are none, in no time too.
    is_finite = total < jnp.inf
    is_moved = is_taken & is_finite
    counts = tuple(jnp.where(is_moved, a, b) for a, b in zip(moved, lanes.counts, strict=True))
    is_reached = is_reached | is_too_long | ~is_finite
    remaining, compensation = counted_down(lanes, elapsed, is_reached)
    remaining = held_for_events(model, constants, counts, remaining, is_taken)
    return Lanes(
        counts,
        generator,
        jnp.where(is_taken, remaining, lanes.remaining),
        jnp.where(is_taken, compensation, lanes.compensation),
        jnp.where(is_taken, _outcome(total, is_too_long), lanes.scale),
        lanes.num_steps + is_taken.astype(jnp.int32),
        lanes.num_events,
        tallied(model, constants, lanes, Change(elapsed, counts, counts, None, is_taken)),
    )


def _extents(
    propensities: list[Array], elapsed: Array, generator: random.Words
) -> tuple[list[Array], random.Words]:
    extents = []
    for a in propensities:
        bits, generator = random.draw(generator)
        extents.append(extent(a, elapsed, normal(bits)))
    return extents, generator


def extent(propensity: Array, elapsed: Array, noise: Array) -> Array:
    """How far a reaction goes in a step: its mean, and its noise of variance 1."""
    mean = propensity * elapsed
    # The root has no derivative at 0, where nothing happens: none is taken there.
    is_on = mean > 0
    root = jnp.where(is_on, jnp.sqrt(jnp.where(is_on, mean, jnp.float32(1))), jnp.float32(0))
    return mean + root * noise


def _outcome(total: Array, is_too_long: Array) -> Array:
    """The total propensity, NaN where it is no number, +inf where the step is too long."""
    finite = jnp.where(total < jnp.inf, total, jnp.float32(jnp.nan))
    return jnp.where(is_too_long & (total < jnp.inf), jnp.float32(jnp.inf), finite)


def taken(net_changes: np.ndarray, species: int, extents: Sequence[Array]) -> Array | None:
    """How much of a species the extents take, those that give some left aside."""
    parts = [
        jnp.maximum(jnp.float32(-change) * extents[j], jnp.float32(0))
        for j, change in enumerate(net_changes[:, species].tolist())
        if change
    ]
    return reduce(jnp.add, parts) if parts else None


def overdrawn(net_changes: np.ndarray, counts: Sequence[Array], extents: Sequence[Array]) -> Array:
    """Where the extents take more of some species than there is."""
    is_any = jnp.zeros(counts[0].shape, bool)
    for species, count in enumerate(counts):
        total = taken(net_changes, species, extents)
        if total is not None:
            # A step of one life time is allowed, whatever its rounding.
            is_any = is_any | (total > count * jnp.float32(1 + 1e-5))
    return is_any


def limited(
    net_changes: np.ndarray, counts: Sequence[Array], extents: Sequence[Array]
) -> tuple[Array, ...]:
    """Counts after every reaction went its extent, or the part of it that there is enough for.

    Continuous and, but for the kinks, differentiable in counts and extents.
    """
    one, parts = jnp.float32(1), [jnp.ones_like(e) for e in extents]
    for species, count in enumerate(counts):
        total = taken(net_changes, species, extents)
        if total is None:
            continue
        is_short = total > count
        share = jnp.where(is_short, count / jnp.where(is_short, total, one), one)
        for j, change in enumerate(net_changes[:, species].tolist()):
            if change:
                is_taking = jnp.float32(change) * extents[j] < 0
                parts[j] = jnp.where(is_taking, jnp.minimum(parts[j], share), parts[j])
    result = []
    for species, count in enumerate(counts):
        for j, change in enumerate(net_changes[:, species].tolist()):
            if change:
                count = count + jnp.float32(change) * (parts[j] * extents[j])
        # The last species of many may be below 0 by rounding; at 0 a maximum has half a slope.
        result.append(jnp.where(count < 0, jnp.float32(0), count))
    return tuple(result)
