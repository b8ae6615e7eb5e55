"""The sums of the martingale critic, and how few of them the lanes need to add up.

Where a parameter only scales reactions, d_p a_j = w_pj a_j with w_pj a number of the patient, all
that is wanted follows from two sums a reaction,

    Lambda_j = fired_j - int a_j dt        and        B_j = int a_j dV_j dt:

the score is S_p = sum_j w_pj Lambda_j, the conditional term C_p = sum_j w_pj B_j, and the
martingale M = sum_fired dV_j - sum_j B_j. Nothing that M has in common with them is added up twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.gradient.arguments import Arguments
from engine.gradient.directions import Direction
from engine.gradient.tallies import LaneSums, Martingale, score
from engine.kernel.tallies import Interval, Jump, Observe, State
from engine.kinetics.drift import resolve_parameters
from engine.kinetics.evaluate import evaluate
from engine.network.derivatives import ONE, ZERO
from engine.network.expressions import TIME, Call, Expression, Number, Symbol, call, symbols
from engine.network.network import ReactionNetwork

# A sum as a combination of what the lanes add up: positions and factors.
Combination = tuple[tuple[int, Expression], ...]
MINUS_ONE = Number(-1.0)


@dataclass(frozen=True)
class CriticSums(LaneSums):
    """What a critic's lanes add up; `combined` makes scores, M and conditional terms of it.

    Args:
        absorbing: once it holds the belief no longer changes: neither the last martingale nor any
            integral goes on.
        costly: changes of the belief, which the other expressions call `_d0`, `_d1`, ...
        combinations: of every sum that is wanted, scores first, then M, then the conditional terms.
    """

    absorbing: Expression | None = None
    costly: tuple[Expression, ...] = ()
    combinations: tuple[Combination, ...] = ()

    def combined(self, table: np.ndarray, arguments: Arguments) -> np.ndarray:
        """The wanted sums (n, 2 P + 1) from what the lanes added up (n, num_sums)."""
        params = resolve_parameters(arguments.network, arguments.params)
        wanted = np.zeros((len(table), len(self.combinations)))
        for column, combination in zip(wanted.T, self.combinations, strict=True):
            for position, factor in combination:
                column += arguments.of_trajectories(_number(factor, params)) * table[:, position]
        return wanted

    def shared(self, network: ReactionNetwork) -> Mapping[str, Expression]:
        """The changes of the belief."""
        return {f"_d{i}": expression for i, expression in enumerate(self.costly)}

    @property
    def num_words(self) -> int:  # type: ignore[override]
        """Two words a sum, and whether the outcome is still open."""
        return 2 * self.num_sums + (self.absorbing is not None)

    def expressions(self, network: ReactionNetwork) -> tuple[Expression, ...]:
        """As `LaneSums`, and the absorbing condition."""
        found = super().expressions(network)
        return found if self.absorbing is None else (*found, self.absorbing)

    @property
    def _condition(self) -> int:
        """Where the absorbing condition stands among the expressions."""
        return self.num_sums + sum(len(m.weights) for m in self.martingales)

    def start(self, jump: Jump, observe: Observe) -> State:
        """Zero, and open unless the condition holds at once."""
        zeros = (jnp.zeros_like(jump.time),) * (2 * self.num_sums)
        if self.absorbing is None:
            return zeros
        return (*zeros, self._open(jnp.ones_like(jump.time), jump, observe))

    def _gained(self, state: State, interval: Interval, observe: Observe) -> list[Array]:
        """As `LaneSums`; nothing is believed any more where the outcome is decided."""
        gained = super()._gained(state, interval, observe)
        return gained if self.absorbing is None else self._while_open(state[-1], gained)

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """As `LaneSums`, and the condition after it."""
        after = super().jump(state, jump, observe)
        if self.absorbing is None:
            return after
        return (*after[:-1], self._open(state[-1], jump, observe))

    def _added(self, state: State, jump: Jump, observe: Observe) -> list[Array]:
        """As `LaneSums`; the belief stands still where the outcome is decided."""
        added = super()._added(state, jump, observe)
        return added if self.absorbing is None else self._while_open(state[-1], added)

    def _while_open(self, is_open: Array, values: list[Array]) -> list[Array]:
        """M and the conditional terms, zero once the outcome is decided; the scores go on."""
        first = len(self.martingales) - 1
        held = [jnp.where(is_open > 0, value, jnp.float32(0)) for value in values[first:]]
        return [*values[:first], *held]

    def _open(self, is_open: Array, jump: Jump, observe: Observe) -> Array:
        is_over = observe(jump.values, self._condition)
        is_over = is_over if is_over.dtype == bool else is_over != 0
        return jnp.where(is_over & jump.is_real, jnp.float32(0), is_open)


def _number(factor: Expression, params: Mapping[str, np.ndarray]) -> np.ndarray:
    """A factor of every patient, 0 where it is no number.

    There the rate is always 0, and so is what it multiplies.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(evaluate(factor, params, np, np.float64))
    return np.where(np.isfinite(found), found, 0.0)


def critic_sums(
    network: ReactionNetwork,
    changes: Mapping[str, Expression],
    absorbing: Expression | None,
    directions: Sequence[Direction],
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
    """By label, directions that only scale reactions: the factors w_pj. Few reactions, or none."""
    fixed = {p.name for p in network.parameters} - {v.name for v in network.variables}
    found = {}
    for direction in directions:
        factors = {
            reaction.name: direction.relative_slope(reaction.propensity)
            for reaction in network.reactions
            if direction.slope(reaction.propensity) != ZERO
        }
        if all(symbols(factor) <= fixed for factor in factors.values()):
            found[direction.label] = factors
    reactions = {name for factors in found.values() for name in factors}
    return found if len(reactions) <= len(found) else {}


def _conditional(
    rates: Mapping[str, Expression], moved: Mapping[str, Expression], direction: Direction
) -> Expression:
    """sum_j a_j' dV_j of a direction."""
    slopes = {name: direction.slope(rates[name]) for name in moved}
    terms = [call("mul", slope, moved[n]) for n, slope in slopes.items() if slope != ZERO]
    return call("add", Number(0.0), *terms)
