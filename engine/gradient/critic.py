"""Critics: what a lane believes the outcome will be, E[f | state, time], by stops.

Any belief leaves the gradient unbiased; a good one takes the variance away. A critic here is the
change of that belief by every reaction: an expression of the counts or of the time, and of numbers
that are constant between two stops (`Patients.cells`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from engine.dosing.dose import Dose
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.combinations import Combined
from engine.gradient.critic_sums import BELIEF, critic_sums
from engine.gradient.directions import Direction
from engine.gradient.line_sums import Lines, line_sums
from engine.gradient.outcome import Outcome
from engine.gradient.problem import checked_values
from engine.kernel.tallies import FirstPassage, Maximum, Minimum
from engine.network.expressions import Expression, Number, call, substitute


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
        cells: numbers that `changes` mention as `_v0`, `_v1`, ..., each (T,), or (1,) where it is
            the same in every cell.
        absorbing: condition after which the outcome is decided, or None.
        num_trajectories: what learning cost, as whole trajectories.
        kind: for the notes.
        belief: the belief itself, where `changes` mention it as `BELIEF`.
        lines: the same belief, where it is a line in every cell.
    """

    stops: np.ndarray
    changes: Mapping[str, Expression]
    cells: tuple[np.ndarray, ...]
    absorbing: Expression | None
    num_trajectories: int
    kind: str
    belief: Expression | None = None
    lines: Lines | None = None

    def learn(self, arguments: Arguments, outcome: Outcome) -> "LearnedCritic":
        """Itself, at no further cost."""
        return replace(self, num_trajectories=0)

    def sums(
        self, arguments: Arguments, directions: tuple[Direction, ...], is_general: bool = False
    ) -> tuple[Combined, tuple[np.ndarray, ...]]:
        """The tally of the scores, M and the conditional terms of these directions.

        With it the numbers of the cells that the stops of the arguments, which split them, lie in.

        Args:
            arguments: what is simulated.
            directions: of the targets.
            is_general: not by moments, even where these would do.
        """
        changes, belief = self.changes, self.belief
        if belief is not None and arguments.is_infused:
            # What is infused changes the belief as well: it must be looked at in every step.
            before = {BELIEF.name: belief}
            changes = {name: substitute(one, before) for name, one in changes.items()}
            belief = None
        network = arguments.network
        general = critic_sums(network, changes, self.absorbing, directions, belief)
        found: tuple[Combined, tuple[np.ndarray, ...]] = general, self.cells
        if self.lines is not None and not is_general and not arguments.is_infused:
            by_lines = line_sums(network, self.lines, directions)
            if by_lines is not None and by_lines.work <= general.work:
                found = by_lines, self.lines.cells
        cell_of = np.minimum(np.searchsorted(self.stops, arguments.ts), len(self.stops) - 1)
        return found[0], tuple(c if len(c) == 1 else c[cell_of] for c in found[1])


def absorbing_condition(outcome: Outcome, results: np.ndarray) -> Expression | None:
    """The condition that decides an outcome for good, or None where none does.

    Args:
        outcome: a first passage, or a threshold on an extremum.
        results: some of the tally's results, with and without the outcome.

    Raises:
        InvalidInput: an outcome of an extremum or a first passage that is not of this form.
        SameOutcome: an extremum on the same side of the threshold in all of them.
    """
    tally, function = outcome.tally, outcome.function
    if not isinstance(tally, FirstPassage | Maximum | Minimum):
        return None
    is_passage = isinstance(tally, FirstPassage)
    values = outcome.values(results) if is_passage else checked_values(outcome, results)
    if function is None or not np.all((values == 0) | (values == 1)):
        raise InvalidInput(
            f"a critic needs a {type(tally).__name__} that decides the outcome for good, such as "
            "lambda peak: peak > 100; use engine.gradient.ScoreFunction()"
        )
    if is_passage:
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
