"""Gradients of several outcomes of the same trajectories: one simulation where one will do."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from engine.gradient.outcome import Outcome
from engine.gradient.problem import Estimator, Problem, SameOutcome
from engine.gradient.result import Gradient

# An outcome that is the same in all trajectories has no gradient that could be seen; the others do.
Found = Gradient | SameOutcome


@runtime_checkable
class JointEstimator(Estimator, Protocol):
    """An estimator whose samples for one outcome come from paths that serve all of them."""

    def estimate_all(self, problem: Problem, outcomes: Sequence[Outcome]) -> tuple[Found, ...]:
        """The gradient of every outcome; see `estimate_all`."""
        ...


def estimate_all(
    estimator: Estimator, problem: Problem, outcomes: Sequence[Outcome]
) -> tuple[Found, ...]:
    """The gradients of several outcomes, of the same patients and reaction noise.

    They are those that `estimator.estimate` finds for each outcome; a `JointEstimator` simulates
    once for all of them, any other once for each.

    Args:
        estimator: how.
        problem: the simulation and the targets; its own outcome is not looked at.
        outcomes: whose gradients are wanted.

    Returns:
        A `Gradient` for every outcome, or the `SameOutcome` that its own estimate would raise.

    Raises:
        InvalidInput: as the estimator does.
    """
    if isinstance(estimator, JointEstimator):
        return estimator.estimate_all(problem, outcomes)
    return tuple(_estimated(estimator, replace(problem, outcome=one)) for one in outcomes)


def _estimated(estimator: Estimator, problem: Problem) -> Found:
    try:
        return estimator.estimate(problem)
    except SameOutcome as same:
        return same
