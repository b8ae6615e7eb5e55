"""The accumulators of the gradient estimators, as tallies of the lane kernel.

Every sum is kept as a float32 total and what is still to be added to it. Steps change the second
word alone, which starts at zero after every stop; at a stop both are folded into the first (Kahan's
sum). A sum of n firings between two stops is off by its standard deviation times 4e-8 sqrt(n).
"""

import math
import operator
from dataclasses import dataclass, field
from functools import reduce

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.gradient.directions import Direction
from engine.kernel.tallies import GAUSS, Interval, Jump, Observe, State, Stop, Tally
from engine.network.derivatives import ZERO
from engine.network.expressions import Expression, Number, call
from engine.network.network import ReactionNetwork

# What is added where a reaction fires: (reaction, weight), the weight at the state before.
Weights = tuple[tuple[str, Expression], ...]


@dataclass(frozen=True)
class Martingale:
    """A sum over firings minus its mean: sum_fired w_j(x, t) - int sum_j a_j w_j dt.

    Attributes:
        weights: w_j of the reactions that have one.
        integrand: sum_j a_j w_j.
    """

    weights: Weights
    integrand: Expression


def score(network: ReactionNetwork, direction: Direction) -> Martingale:
    """The score of a direction: w_j = a_j' / a_j, whose mean sum_j a_j' needs no division."""
    weights, slopes = [], []
    for reaction in network.reactions:
        slope = direction.slope(reaction.propensity)
        if slope == ZERO:
            continue
        slopes.append(slope)
        weights.append((reaction.name, direction.relative_slope(reaction.propensity)))
    return Martingale(tuple(weights), call("add", Number(0.0), *slopes))


def squared(score: Martingale) -> Martingale:
    """A score's quadratic variation, sum_fired w_j^2; S^2 less it has mean zero."""
    weights = tuple((name, call("mul", weight, weight)) for name, weight in score.weights)
    return Martingale(weights, ZERO)


@dataclass(frozen=True)
class LaneSums(Tally):
    """Sums over the firings and stretches of a path, two words each.

    Args:
        expression: not used.
        martingales: sums that firings add to.
        integrals: further integrands, that only stretches add to.
    """

    expression: Expression = field(default=ZERO, kw_only=True)
    martingales: tuple[Martingale, ...] = field(kw_only=True)
    integrals: tuple[Expression, ...] = field(default=(), kw_only=True)

    @property
    def num_sums(self) -> int:
        """How many sums there are."""
        return len(self.martingales) + len(self.integrals)

    @property
    def num_words(self) -> int:  # type: ignore[override]
        """Two words a sum."""
        return 2 * self.num_sums

    def expressions(self, network: ReactionNetwork) -> tuple[Expression, ...]:
        """The integrands, then the weights of the firings."""
        integrands = [m.integrand for m in self.martingales]
        weights = [w for m in self.martingales for _, w in m.weights]
        return (*integrands, *self.integrals, *weights)

    def is_looking(self, is_affine: bool) -> bool:
        """No: the stops of an estimate lie close enough for the quadrature."""
        return False

    def start(self, jump: Jump, observe: Observe) -> State:
        """Zero."""
        return (jnp.zeros_like(jump.time),) * self.num_words

    # Nothing is added over a stretch of no length, nor where no reaction fired.
    is_additive = True

    def interval(self, state: State, interval: Interval, observe: Observe) -> State:
        """What a stretch adds: the integrals, with the compensators' sign for martingales."""
        result = list(state)
        for index, gain in enumerate(self._gained(state, interval, observe)):
            word = 2 * index + 1
            is_compensator = index < len(self.martingales)
            result[word] = state[word] - gain if is_compensator else state[word] + gain
        return tuple(result)

    def _gained(self, state: State, interval: Interval, observe: Observe) -> list[Array]:
        """The integral of every sum's integrand over a stretch."""
        rates = _mean_rates(interval, observe, self.num_sums)
        return _where_moving(interval, [rate * interval.elapsed for rate in rates])

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """Add the weight of the reaction that fired."""
        if jump.fired is None or jump.before is None:
            return state
        result = list(state)
        for index, added in enumerate(self._added(state, jump, observe)):
            word = self._firing_word(index)
            result[word] = state[word] + added
        return tuple(result)

    def _firing_word(self, index: int) -> int:
        """The word that firings add to for a martingale."""
        return 2 * index + 1

    def settle(self, state: State, stop: Stop, observe: Observe) -> State:
        """Fold what was added since the last stop into the totals."""
        number = 2 * self.num_sums
        return (*_folded(state[:number]), *state[number:])

    def _added(self, state: State, jump: Jump, observe: Observe) -> list[Array]:
        """What the reaction that fired adds to every martingale."""
        assert jump.fired is not None and jump.before is not None
        part, added = self.num_sums, []
        for martingale in self.martingales:
            total = jnp.zeros_like(jump.time)
            for name, _ in martingale.weights:
                weight = observe(jump.before, part)
                total = jnp.where(jump.fired(name), weight, total)
                part += 1
            added.append(total)
        return added

    def result(self, words: np.ndarray) -> np.ndarray:
        """The sums, (n, num_sums) float64."""
        numbers = np.ascontiguousarray(words).view(np.float32).astype(np.float64)
        pairs = numbers[:, : self.num_words // 2 * 2]
        return pairs[:, 0::2] + pairs[:, 1::2]


def _where_moving(interval: Interval, gained: list[Array]) -> list[Array]:
    """What a stretch adds, zero for lanes that wait.

    Their time may be infinite, and the level of a drug there no number.
    """
    if not interval.is_moving:
        return gained
    return [jnp.where(interval.elapsed > 0, gain, jnp.float32(0)) for gain in gained]


def _folded(state: State) -> State:
    """Pairs (total, pending) with as little pending as float32 allows."""
    result: list[Array] = []
    for total, pending in zip(state[0::2], state[1::2], strict=True):
        new = total + pending
        result += [new, pending - (new - total)]
    return tuple(result)


# Radau's quadrature looks at the end, which the step knows anyway. With three points it is exact
# for polynomials of degree 4: off by (rate length)^5 / 72000 of a mode, and with two, at hardly
# less cost a step, by (rate length)^3 / 216, for which four times the stops would be needed.
INSIDE = ((4 - math.sqrt(6)) / 10, (4 + math.sqrt(6)) / 10)
WEIGHTS_INSIDE = ((16 - math.sqrt(6)) / 36, (16 + math.sqrt(6)) / 36)
WEIGHT_END = 1 / 9


def _mean_rates(interval: Interval, observe: Observe, number: int) -> list[Array]:
    """The mean of the first integrands over a stretch; see `TimeIntegral`."""
    if not interval.is_moving:
        values = interval.at(0.0)
        return [observe(values, part) for part in range(number)]
    if all(map(interval.is_affine, range(number))):
        means = interval.average()
        return [observe(means, part) for part in range(number)]
    # Stops lie close for all parts then, and means would ask for as many exponentials again. Never
    # the beginning: at a stop the hat of a time warp turns.
    end = interval.at(1.0) if interval.end is None else interval.end
    points = [*map(interval.at, INSIDE), end]
    weights = (*WEIGHTS_INSIDE, WEIGHT_END)

    def mean(part: int) -> Array:
        terms = [jnp.float32(w) * observe(p, part) for w, p in zip(weights, points, strict=True)]
        return reduce(operator.add, terms)

    return [mean(part) for part in range(number)]


@dataclass(frozen=True)
class RewardToGo(LaneSums):
    """Scores beside int f S_p dt and int S_p dt, for an outcome int f dt.

    What happens after a reward cannot have caused it: each moment's reward is multiplied by the
    score up to that moment, not by the whole. On a stretch of constant counts the score is a line
    in time, and both integrals are exact where f does not move.

    Args:
        expression: f.
    """

    expression: Expression = field(kw_only=True)

    @property
    def num_words(self) -> int:  # type: ignore[override]
        """Two words for every score and for each of its two integrals."""
        return 2 * 3 * len(self.martingales)

    def expressions(self, network: ReactionNetwork) -> tuple[Expression, ...]:
        """As `LaneSums`, and f."""
        return (*super().expressions(network), self.expression)

    def interval(self, state: State, interval: Interval, observe: Observe) -> State:
        """Add f S and S over the stretch, then what the stretch adds to S."""
        number = len(self.martingales)
        last = number + sum(len(m.weights) for m in self.martingales)
        dt, half = interval.elapsed, jnp.float32(0.5)
        after = list(super().interval(state[: 2 * number], interval, observe))
        if not interval.is_moving:
            points = [(half, interval.at(0.0))]
        else:
            points = [(jnp.float32(p), interval.at(p)) for p in GAUSS]
        share = jnp.float32(1.0 / len(points))
        rewarded, spent = [], []
        for index in range(number):
            before = state[2 * index] + state[2 * index + 1]
            change = after[2 * index + 1] - state[2 * index + 1]
            spent.append((before + half * change) * dt)
            values = (observe(v, last) * (before + p * change) for p, v in points)
            total = next(values)
            for value in values:
                total = total + value
            rewarded.append(total * share * dt)
        gained = [*_where_moving(interval, rewarded), *spent]
        for index, gain in enumerate(gained, start=number):
            after += [state[2 * index], state[2 * index + 1] + gain]
        return tuple(after)

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """The scores jump, their integrals do not."""
        number = len(self.martingales)
        return (*super().jump(state[: 2 * number], jump, observe), *state[2 * number :])

    def settle(self, state: State, stop: Stop, observe: Observe) -> State:
        """As `LaneSums`, for the integrals too."""
        return _folded(state)
