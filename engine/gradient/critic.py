"""Critics: what a lane believes the outcome will be, E[f | state, time], by stops.

Any belief leaves the gradient unbiased; a good one takes the variance away. A critic here is the
change of that belief by every reaction, as an expression of the counts and of numbers that are
constant between two stops (`Patients.cells`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.dosing.dose import Dose
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.directions import Direction
from engine.gradient.outcome import Outcome
from engine.gradient.tallies import LaneSums, Martingale, score
from engine.kernel.tallies import FirstPassage, Interval, Jump, Maximum, Minimum, Observe, State
from engine.network.derivatives import ZERO
from engine.network.expressions import Call, Expression, Number, Symbol, call
from engine.network.network import ReactionNetwork


class Critic(ABC):
    """How a belief is found."""

    @abstractmethod
    def learn(self, arguments: Arguments, outcome: Outcome) -> "LearnedCritic":
        """The belief for an outcome under the arguments.

        Raises:
            InvalidInput: an outcome that this critic cannot describe.
        """


@dataclass(frozen=True, eq=False)
class LearnedCritic(Critic):
    """A belief; give it to `MartingaleCritic` again to reuse it: it stays unbiased.

    Attributes:
        stops: ends of the cells; the last is the horizon.
        changes: reaction -> change of the belief when it fires.
        cells: numbers that `changes` mention as `_v0`, `_v1`, ..., each (T,).
        absorbing: condition after which the outcome is decided, or None.
        num_trajectories: what learning cost, as whole trajectories.
        kind: for the notes.
    """

    stops: np.ndarray
    changes: Mapping[str, Expression]
    cells: tuple[np.ndarray, ...]
    absorbing: Expression | None
    num_trajectories: int
    kind: str

    def learn(self, arguments: Arguments, outcome: Outcome) -> "LearnedCritic":
        """Itself, at no further cost."""
        return replace(self, num_trajectories=0)

    def sums(self, network: ReactionNetwork, directions: tuple[Direction, ...]) -> "CriticSums":
        """The tally: scores S_p, then M, then the conditional terms C_p."""
        gained: list[Expression] = []
        weights = []
        conditional: list[list[Expression]] = [[] for _ in directions]
        costly: dict[Expression, str] = {}
        for reaction in network.reactions:
            change = self.changes.get(reaction.name, ZERO)
            if change == ZERO:
                continue
            if isinstance(change, Call):
                # The change of a belief is costly, and every sum needs it.
                change = Symbol(costly.setdefault(change, f"_d{len(costly)}"))
            weights.append((reaction.name, change))
            gained.append(call("mul", reaction.propensity, change))
            for terms, direction in zip(conditional, directions, strict=True):
                slope = direction.slope(reaction.propensity)
                if slope != ZERO:
                    terms.append(call("mul", slope, change))
        belief = Martingale(tuple(weights), call("add", Number(0.0), *gained))
        return CriticSums(
            martingales=(*(score(network, d) for d in directions), belief),
            integrals=tuple(call("add", Number(0.0), *terms) for terms in conditional),
            absorbing=self.absorbing,
            costly=tuple(costly),
        )


@dataclass(frozen=True)
class CriticSums(LaneSums):
    """Scores, the belief's martingale (the last one) and its conditional terms.

    Args:
        absorbing: once it holds the belief no longer changes.
        costly: changes of the belief, which the other expressions call `_d0`, `_d1`, ...
    """

    absorbing: Expression | None = None
    costly: tuple[Expression, ...] = ()

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


def absorbing_condition(outcome: Outcome, results: np.ndarray) -> Expression | None:
    """The condition that decides an outcome for good, or None where none does.

    Args:
        outcome: a first passage, or a threshold on an extremum.
        results: some of the tally's results, with and without the outcome.

    Raises:
        InvalidInput: an outcome of an extremum or a first passage that is not of this form.
    """
    tally, function = outcome.tally, outcome.function
    if not isinstance(tally, FirstPassage | Maximum | Minimum):
        return None
    values = outcome.values(results)
    if function is None or not np.all((values == 0) | (values == 1)):
        raise InvalidInput(
            f"a critic needs a {type(tally).__name__} that decides the outcome for good, such as "
            "lambda peak: peak > 100; use engine.gradient.ScoreFunction()"
        )
    if isinstance(tally, FirstPassage):
        if np.any(values[np.isfinite(results)] != 1) or np.any(values[~np.isfinite(results)] != 0):
            raise InvalidInput(
                "a critic needs a first passage before the horizon, without a deadline of its own; "
                "end the simulation at the deadline"
            )
        return tally.expression
    inside, outside = results[values == 1], results[values == 0]
    is_upper = isinstance(tally, Maximum)
    nearest, farthest = (inside.min(), outside.max()) if is_upper else (inside.max(), outside.min())
    if (nearest <= farthest) if is_upper else (nearest >= farthest):
        raise InvalidInput(
            f"a critic needs a threshold on the {type(tally).__name__}, which never comes back; "
            "use engine.gradient.ScoreFunction()"
        )
    middle = Number(float(nearest + farthest) / 2)
    return call("gt" if is_upper else "lt", tally.expression, middle)


def central(arguments: Arguments) -> Arguments:
    """One patient with the mean numbers of all, for whom a belief is worked out."""

    def mean(value: object, is_whole: bool) -> object:
        number = np.mean(np.asarray(value, np.float64))
        return np.rint(number) if is_whole else number

    one = arguments.with_patients(1, arguments.key)
    return replace(
        one,
        params={name: mean(value, False) for name, value in arguments.params.items()},
        x0={name: mean(value, True) for name, value in arguments.x0.items()},
    )


def dose_times(arguments: Arguments) -> list[float]:
    """When anything is given, to any patient (the first few regimens)."""
    times = {
        one.time
        for regimen in arguments.regimens[:8]
        for one in regimen.expanded()
        if isinstance(one, Dose)
    }
    return sorted(t for t in times if arguments.start < t < arguments.horizon)
