"""The sums of the martingale critic, and how few of them the lanes need to add up.

Where a parameter only scales reactions (see `combinations`) all that is wanted follows from two
sums a reaction,

    Lambda_j = fired_j - int a_j dt        and        B_j = int a_j dV_j dt:

the score is S_p = sum_j w_pj Lambda_j, the conditional term C_p = sum_j w_pj B_j, and the
martingale M = sum_fired dV_j - sum_j B_j. Nothing that M has in common with them is added up twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from engine.gradient.combinations import Combined, scaling
from engine.gradient.directions import Direction
from engine.gradient.tallies import LaneSums, Martingale, score
from engine.kernel.tallies import Interval, Jump, Observe, State, Stop
from engine.network.derivatives import ONE, ZERO
from engine.network.expressions import TIME, Call, Expression, Number, Symbol, call, symbols
from engine.network.network import ReactionNetwork

MINUS_ONE = Number(-1.0)
# How changes of a belief that is kept from event to event mention it.
BELIEF = Symbol("_b0")


@dataclass(frozen=True)
class CriticSums(LaneSums, Combined):
    """What a critic's lanes add up; `combined` makes scores, M and conditional terms of it.

    Args:
        absorbing: once it holds the belief no longer changes: neither the last martingale nor any
            integral goes on.
        costly: changes of the belief, which the other expressions call `_d0`, `_d1`, ...
        belief: V itself, which they call `_b0`. It is kept from event to event: looking at it in
            every step would cost as much as one change more. M needs no firings then: what they
            change is what the belief has changed by at the next stop.
    """

    absorbing: Expression | None = None
    costly: tuple[Expression, ...] = ()
    belief: Expression | None = None

    @property
    def work(self) -> int:
        """What a step does for it, where a moment of `LineSums` is 1.

        A sum looks at twice as many words as a moment; M chooses between the changes of all
        reactions.
        """
        return 2 * (self.num_sums - 1) + len(self.martingales[-1].weights)

    def shared(self, network: ReactionNetwork) -> Mapping[str, Expression]:
        """The changes of the belief."""
        return {f"_d{i}": expression for i, expression in enumerate(self.costly)}

    @property
    def num_words(self) -> int:  # type: ignore[override]
        """Two words a sum, whether the outcome is still open, the belief now and at the stop."""
        return 2 * self.num_sums + (self.absorbing is not None) + 2 * (self.belief is not None)

    def expressions(self, network: ReactionNetwork) -> tuple[Expression, ...]:
        """As `LaneSums`, the absorbing condition, and the belief."""
        return (
            *super().expressions(network),
            ZERO if self.absorbing is None else self.absorbing,
            ZERO if self.belief is None else self.belief,
        )

    @property
    def _condition(self) -> int:
        """Where the absorbing condition stands among the expressions; the belief follows."""
        return self.num_sums + sum(len(m.weights) for m in self.martingales)

    def carried(self, state: State) -> Mapping[str, Array]:
        """The belief."""
        return {} if self.belief is None else {BELIEF.name: state[-2]}

    def start(self, jump: Jump, observe: Observe) -> State:
        """Zero, and open unless the condition holds at once."""
        zero = jnp.zeros_like(jump.time)
        sums = (zero,) * (2 * self.num_sums)
        begun = () if self.belief is None else (zero, zero)
        if self.absorbing is None:
            return (*sums, *begun)
        return (*sums, self._open(jnp.ones_like(jump.time), jump, observe), *begun)

    def begin(self, state: State, values: Mapping[str, Array], observe: Observe) -> State:
        """Believe what the new cell does."""
        if self.belief is None:
            return state
        believed = observe(values, self._condition + 1) + jnp.zeros_like(state[-1])
        return (*state[:-2], believed, believed)

    def settle(self, state: State, stop: Stop, observe: Observe) -> State:
        """As `LaneSums`, with what the belief has changed by."""
        if self.belief is not None:
            words, last = list(state), 2 * len(self.martingales) - 1
            words[last] = words[last] + (state[-2] - state[-1])
            # What follows must not add it again.
            words[-1] = state[-2]
            state = tuple(words)
        return super().settle(state, stop, observe)

    def _gained(self, state: State, interval: Interval, observe: Observe) -> list[Array]:
        """As `LaneSums`; nothing is believed any more where the outcome is decided."""
        return self._while_open(state, super()._gained(state, interval, observe))

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """As `LaneSums`, and the condition after it."""
        after = list(super().jump(state, jump, observe))
        if self.absorbing is not None:
            is_open = 2 * self.num_sums
            after[is_open] = self._open(state[is_open], jump, observe)
        return tuple(after)

    def _firing_word(self, index: int) -> int:
        """As `LaneSums`; what fires changes the belief, and at a stop M by as much."""
        is_carried = self.belief is not None and index == len(self.martingales) - 1
        return self.num_words - 2 if is_carried else super()._firing_word(index)

    def _added(self, state: State, jump: Jump, observe: Observe) -> list[Array]:
        """As `LaneSums`; the belief stands still where the outcome is decided."""
        return self._while_open(state, super()._added(state, jump, observe))

    def _while_open(self, state: State, values: list[Array]) -> list[Array]:
        """M and the conditional terms, zero once the outcome is decided; the scores go on."""
        if self.absorbing is None:
            return values
        first, is_open = len(self.martingales) - 1, state[2 * self.num_sums] > 0
        held = [jnp.where(is_open, value, jnp.float32(0)) for value in values[first:]]
        return [*values[:first], *held]

    def _open(self, is_open: Array, jump: Jump, observe: Observe) -> Array:
        is_over = observe(jump.values, self._condition)
        is_over = is_over if is_over.dtype == bool else is_over != 0
        return jnp.where(is_over & jump.is_real, jnp.float32(0), is_open)


def critic_sums(
    network: ReactionNetwork,
    changes: Mapping[str, Expression],
    absorbing: Expression | None,
    directions: Sequence[Direction],
    belief: Expression | None = None,
) -> CriticSums:
    """The tally for a belief that changes so with every reaction, and these directions."""
    moved, costly = _named(network, changes)
    scaled = _scaled(network, directions)
    rates = {r.name: r.propensity for r in network.reactions}
    reactions = sorted({name for factors in scaled.values() for name in factors})
    believed = [name for name in reactions if name in moved]
    others = [d for d in directions if d.label not in scaled]

    spent = [call("mul", rates[n], change) for n, change in moved.items() if n not in reactions]
    martingales = [
        *(Martingale(((name, ONE),), rates[name]) for name in reactions),
        *(score(network, direction) for direction in others),
        Martingale(tuple(moved.items()), call("add", Number(0.0), *spent)),
    ]
    integrals = [
        *(call("mul", rates[name], moved[name]) for name in believed),
        *(_conditional(rates, moved, direction) for direction in others),
    ]

    # What stands where, a reaction's or a direction's own; the integrals follow the martingales.
    fired, expected = [*reactions, *others], [*believed, *others]
    first = len(martingales)
    factors_of = [
        (*scaled[d.label].items(),) if d.label in scaled else ((d, ONE),) for d in directions
    ]
    scores = [tuple((fired.index(key), w) for key, w in factors) for factors in factors_of]
    conditionals = [
        tuple((first + expected.index(key), w) for key, w in factors if key in expected)
        for factors in factors_of
    ]
    whole = ((first - 1, ONE), *((first + i, MINUS_ONE) for i in range(len(believed))))
    return CriticSums(
        martingales=tuple(martingales),
        integrals=tuple(integrals),
        absorbing=absorbing,
        costly=costly,
        belief=belief,
        combinations=(*scores, whole, *conditionals),
    )


def _named(
    network: ReactionNetwork, changes: Mapping[str, Expression]
) -> tuple[dict[str, Expression], tuple[Expression, ...]]:
    """The change of the belief by every reaction that has one, and what `_d0`, `_d1`, ... are.

    Every sum needs the change of a fitted belief, and it is costly.
    """
    costly: dict[Expression, str] = {}
    moved: dict[str, Expression] = {}
    for name in network.reaction_names:
        change = changes.get(name, ZERO)
        if isinstance(change, Call) and TIME not in symbols(change):
            change = Symbol(costly.setdefault(change, f"_d{len(costly)}"))
        if change != ZERO:
            moved[name] = change
    return moved, tuple(costly)


def _scaled(
    network: ReactionNetwork, directions: Sequence[Direction]
) -> dict[str, dict[str, Expression]]:
    """As `scaling`, where that takes fewer sums: few reactions, or none."""
    found = scaling(network, directions)
    reactions = {name for factors in found.values() for name in factors}
    return found if len(reactions) <= len(found) else {}


def _conditional(
    rates: Mapping[str, Expression], moved: Mapping[str, Expression], direction: Direction
) -> Expression:
    """sum_j a_j' dV_j of a direction."""
    slopes = {name: direction.slope(rates[name]) for name in moved}
    terms = [call("mul", slope, moved[n]) for n, slope in slopes.items() if slope != ZERO]
    return call("add", Number(0.0), *terms)
