"""Benefit and risk of a design, simulated and differentiated: together where one run will do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.design.problem import Criterion, TherapyProblem
from engine.design.tail import tail_outcome, value_at_risk
from engine.gradient.arguments import Arguments
from engine.gradient.outcome import Outcome
from engine.gradient.problem import Estimator, Problem, SameOutcome
from engine.gradient.result import Gradient
from engine.gradient.several import Found, JointEstimator, estimate_all

# Of the gradients of benefit and risk.
Estimators = tuple[Estimator, Estimator]


def outcomes(
    problem: TherapyProblem,
    criteria: Sequence[Criterion],
    values: np.ndarray,
    key: Any,
    noise: str,
    num_patients: int,
) -> list[np.ndarray]:
    """The scaled outcomes of every patient, (num_patients,) for each criterion.

    Args:
        problem: the problem.
        criteria: its benefit, its risk, or both.
        values, key, noise, num_patients: as in `TherapyProblem.arguments`.
    """
    if problem.is_one_system:
        arguments = problem.arguments(criteria[0], values, key, noise, num_patients)
        return _simulated(arguments, criteria)
    return [
        _simulated(problem.arguments(one, values, key, noise, num_patients), [one])[0]
        for one in criteria
    ]


def _simulated(arguments: Arguments, criteria: Sequence[Criterion]) -> list[np.ndarray]:
    """Outcomes of criteria of one system, from one simulation."""
    tallies = {f"outcome {i}": one.outcome.tally for i, one in enumerate(criteria)}
    results = arguments.run(tallies).tallies
    return [
        one.scale * one.outcome.values(results[f"outcome {i}"]) for i, one in enumerate(criteria)
    ]


@dataclass(frozen=True, eq=False)
class Gradients:
    """Benefit and risk with their derivatives by the variables, before scaling.

    Attributes:
        benefit, risk: a `SameOutcome` stands for what is the same for all patients, and so has no
            slope that could be seen.
        num_trajectories: simulated for both.
    """

    benefit: Found
    risk: Found
    num_trajectories: int


def gradients(
    problem: TherapyProblem,
    estimators: Estimators,
    values: np.ndarray,
    key: Any,
    noise: str,
    num_patients: int,
) -> Gradients:
    """Differentiate benefit and risk by the variables.

    From one simulation where both are of one system and the estimator can; the estimates are the
    same. A risk that is the same for all patients and within the bound has a slope of 0.

    Args:
        problem: the problem.
        estimators: of benefit and risk.
        values, key, noise, num_patients: as in `TherapyProblem.arguments`.
    """
    given = (values, key, noise, num_patients)
    both = (problem.benefit, problem.risk)
    if problem.is_one_system and estimators[0] == estimators[1]:
        aims = [_aim(problem, criterion, *given) for criterion in both]
        posed = _posed(problem, problem.benefit, aims[0], *given)
        benefit, risk = estimate_all(estimators[0], posed, aims)
        is_shared = isinstance(estimators[0], JointEstimator)
    else:
        pairs = zip(both, estimators, strict=True)
        problems = ((gradient_problem(problem, one, *given), how) for one, how in pairs)
        benefit, risk = (estimate_all(how, one, [one.outcome])[0] for one, how in problems)
        is_shared = False
    counts = [one.num_trajectories for one in (benefit, risk)]
    if isinstance(risk, SameOutcome) and problem.risk.scale * risk.value <= problem.bound:
        risk = _flat(problem, risk)
    return Gradients(benefit, risk, max(counts) if is_shared else sum(counts))


def gradient_problem(
    problem: TherapyProblem,
    criterion: Criterion,
    values: np.ndarray,
    key: Any,
    noise: str,
    num_patients: int,
) -> Problem:
    """The gradient of one criterion that is to be estimated; arguments as in `outcomes`."""
    given = (values, key, noise, num_patients)
    return _posed(problem, criterion, _aim(problem, criterion, *given), *given)


def _posed(problem: TherapyProblem, criterion: Criterion, aim: Outcome, *given: Any) -> Problem:
    arguments, targets = problem.with_targets(criterion, *given)
    return Problem(arguments, aim, targets)


def _aim(
    problem: TherapyProblem,
    criterion: Criterion,
    values: np.ndarray,
    key: Any,
    noise: str,
    num_patients: int,
) -> Outcome:
    """The outcome whose mean counts; a tail's threshold comes from other reaction noise."""
    if criterion.worst is None:
        return criterion.outcome
    (seen,) = outcomes(problem, [criterion], values, key, f"{noise}, tail", num_patients)
    threshold = value_at_risk(seen, criterion.worst) / criterion.scale
    return tail_outcome(criterion.outcome, threshold, criterion.worst)


def _flat(problem: TherapyProblem, same: SameOutcome) -> Gradient:
    """A risk that is the same for all patients has no slope that could be seen."""
    none = np.zeros(len(problem.variables))
    names = ("nothing happened",) * len(none)
    error = 1.0 / same.num_trajectories
    return Gradient(same.value, error, problem.names, none, none, 1.0, names)
