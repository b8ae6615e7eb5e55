"""A gradient to be estimated, and what all estimators check and share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.directions import Direction, Prepared, prepared
from engine.gradient.outcome import Outcome
from engine.gradient.result import Gradient
from engine.gradient.shadows import COUPLED
from engine.gradient.targets import Target
from engine.kernel.tallies import (
    FinalValue,
    FiringCount,
    FirstPassage,
    Occupation,
    Tally,
    TimeIntegral,
)
from engine.network.derivatives import ZERO, derivative
from engine.network.expressions import Call, Expression, Number, call, symbols
from engine.network.network import ReactionNetwork


@dataclass(frozen=True, eq=False)
class Problem:
    """dE[outcome] / d targets under the arguments."""

    arguments: Arguments
    outcome: Outcome
    targets: tuple[Target, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """What the targets are called."""
        return tuple(target.label for target in self.targets)

    def only(self, *indices: int) -> "Problem":
        """The same for some of the targets."""
        return replace(self, targets=tuple(self.targets[i] for i in indices))

    def pilot(self, num_patients: int, key: np.ndarray) -> "Problem":
        """The same for the first patients (or more, taken round), with other randomness."""
        rows = np.arange(num_patients) % self.arguments.num_patients
        targets = tuple(target.of_patients(rows) for target in self.targets)
        return replace(
            self, arguments=self.arguments.with_patients(num_patients, key), targets=targets
        )


class Estimator(Protocol):
    """An estimator of gradients: options in, a gradient out."""

    def estimate(self, problem: Problem) -> Gradient:
        """The gradient with standard errors."""
        ...


def directions_of(problem: Problem) -> Prepared:
    """The directions of all targets, none of which is without influence.

    Raises:
        InvalidInput: a target that has no score, or does not influence the outcome.
    """
    found = prepared(problem.arguments, problem.targets)
    check_influences(problem, found)
    return found


def check_influences(problem: Problem, found: Prepared) -> None:
    """Every direction can change the outcome.

    Raises:
        InvalidInput: one that does not.
    """
    for direction in found.directions:
        if not influences(found.arguments.network, direction, problem.outcome.tally):
            raise InvalidInput(
                f"'{direction.label}' does not influence the outcome: no reaction whose rate "
                "depends on it leads to what the outcome looks at; leave it out of wrt"
            )


def influences(network: ReactionNetwork, direction: Direction, tally: Tally) -> bool:
    """Whether something that a direction changes can reach what a tally looks at."""
    reached = set(direction.tangents)
    looked_at = set(symbols(tally.expression))
    if direction.dilation != ZERO or network.events:
        return True
    while True:
        before = len(reached)
        for name, rule in network.rules.items():
            if symbols(rule) & reached:
                reached.add(name)
        for reaction in network.reactions:
            if symbols(reaction.propensity) & reached:
                reached |= {reaction.name, *network.changes(reaction)}
        if len(reached) == before:
            return bool(reached & looked_at)


def direct_part(problem: Problem, direction: Direction) -> Tally | None:
    """What the outcome changes by on an unchanged path, E[df/dp], or None where it does not.

    Raises:
        InvalidInput: an outcome whose direct change has no tally.
    """
    outcome, tally = problem.outcome, problem.outcome.tally
    if isinstance(tally, FiringCount):
        return None
    if isinstance(tally, FirstPassage) and direction.span is not None:
        _refuse_moved_times(outcome, direction)
    if isinstance(tally, Occupation):
        _refuse_conditions(tally.expression, direction)
        integrand = call("piecewise", Number(1.0), tally.expression, Number(0.0))
        change = call("mul", direction.dilation, integrand)
        kind: Callable[[Expression], Tally] = TimeIntegral
    elif isinstance(tally, TimeIntegral):
        change, kind = direction.slope(tally.expression), TimeIntegral
    else:
        change, kind = _slope_of(tally, direction), FinalValue
    if change == ZERO:
        return None
    if outcome.function is not None or not isinstance(
        tally, TimeIntegral | FinalValue | Occupation
    ):
        raise InvalidInput(
            f"the outcome's {type(tally).__name__} depends on '{direction.label}' itself, not only "
            f"through the path; {COUPLED}"
        )
    return kind(change)


def _slope_of(tally: Tally, direction: Direction) -> Expression:
    """The direct change of a tally of the state; a condition must not move."""
    if isinstance(tally, FirstPassage):
        _refuse_conditions(tally.expression, direction)
        return ZERO
    return derivative(tally.expression, direction.tangents)


def _refuse_conditions(condition: Expression, direction: Direction) -> None:
    moving = symbols(condition) & direction.tangents.keys()
    if moving and isinstance(condition, Call):
        raise InvalidInput(
            f"the outcome's condition '{condition}' depends on '{direction.label}' itself; "
            f"{COUPLED}"
        )


def _refuse_moved_times(outcome: Outcome, direction: Direction) -> None:
    """A first passage under the time warp moves, unless the outcome does not look at when."""
    assert direction.span is not None
    times = np.linspace(*direction.span, 1001)[1:-1]
    if outcome.function is None or np.ptp(np.asarray(outcome.function(times), np.float64)):
        raise InvalidInput(
            f"the outcome is a time that '{direction.label}' itself shifts; ask whether the "
            f"passage came before the horizon, or {COUPLED}"
        )


class SameOutcome(InvalidInput):
    """An outcome that is the same in all trajectories, so that it shows no gradient.

    Attributes:
        value: what it is.
        num_trajectories: in which it is so.
    """

    def __init__(self, value: float, number: int) -> None:
        what = {0.0: "never reached", 1.0: "always reached"}.get(value, "same")
        super().__init__(
            f"the outcome is {value:g} in all {number} trajectories ({what}); simulate more, or "
            "ask for an outcome that some trajectories have and others have not"
        )
        self.value, self.num_trajectories = value, number


def checked_values(outcome: Outcome, results: np.ndarray) -> np.ndarray:
    """The outcomes of the trajectories; they must differ.

    Raises:
        SameOutcome: an outcome that is the same in all of them.
    """
    values = outcome.values(results)
    if not np.ptp(values):
        raise SameOutcome(float(values[0]), len(values))
    return values
