"""What a design achieves, on patients that played no part in finding it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtri

from engine.design.outcomes import outcomes
from engine.design.problem import Criterion, TherapyProblem, patients_key
from engine.design.tail import crossed

LEVEL = 0.95
Z = float(ndtri(0.5 + LEVEL / 2))


@dataclass(frozen=True)
class Estimate:
    """An expectation with its interval.

    Attributes:
        value: the mean over patients, or over the worst share of them.
        low, high: two-sided 95% interval: Wilson's for a probability, otherwise normal.
        num_patients: how many.
        kind: "probability", "mean", "tail" (of the worst) or "difference".
    """

    value: float
    low: float
    high: float
    num_patients: int
    kind: str = "mean"


@dataclass(frozen=True)
class Verification:
    """Benefit and risk on fresh patients.

    Attributes:
        benefit, risk: estimates.
        bound: what the risk may be.
        violation: by how much the risk's estimate exceeds the bound, 0 where it does not.
    """

    benefit: Estimate
    risk: Estimate
    bound: float

    @staticmethod
    def of(plain: Mapping[str, Any]) -> "Verification":
        """From plain dictionaries."""
        benefit, risk = Estimate(**plain["benefit"]), Estimate(**plain["risk"])
        return Verification(benefit, risk, plain["bound"])

    @property
    def violation(self) -> float:
        """How far the risk's estimate is above the bound."""
        return max(self.risk.value - self.bound, 0.0)

    @property
    def is_safe(self) -> bool:
        """Whether the whole interval of the risk keeps the bound."""
        return self.risk.high <= self.bound


def verify(
    problem: TherapyProblem, values: np.ndarray, num_patients: int, seed: int, purpose: str
) -> Verification:
    """Simulate a design on fresh patients.

    Args:
        problem: the problem.
        values: numbers of the variables, (V,).
        num_patients: how many.
        seed, purpose: they and their noise belong to this purpose alone.
    """
    both = [problem.benefit, problem.risk]
    benefit, risk = _fresh(problem, both, values, num_patients, seed, purpose)
    worst = problem.risk.worst
    harm = estimated(risk) if worst is None else tail_estimate(risk, worst)
    return Verification(estimated(benefit), harm, problem.bound)


def difference(
    first: tuple[TherapyProblem, np.ndarray],
    second: tuple[TherapyProblem, np.ndarray],
    num_patients: int,
    seed: int,
    purpose: str,
) -> Estimate:
    """By how much the first design's benefit is larger, on the same fresh patients.

    Args:
        first, second: a problem and numbers of its variables each.
        num_patients, seed, purpose: as in `verify`.
    """
    (one,), (other,) = (
        _fresh(problem, [problem.benefit], values, num_patients, seed, purpose)
        for problem, values in (first, second)
    )
    return replace(_normal(one - other), kind="difference")


def _fresh(
    problem: TherapyProblem,
    criteria: list[Criterion],
    values: np.ndarray,
    num_patients: int,
    seed: int,
    purpose: str,
) -> list[np.ndarray]:
    key = patients_key(seed, purpose)
    return outcomes(problem, criteria, np.asarray(values, float), key, purpose, num_patients)


def tail_estimate(outcomes: np.ndarray, share: float) -> Estimate:
    """CVaR of independent outcomes with a normal 95% interval.

    Two halves give each other their thresholds, so that the estimate is not biased downwards.

    Example:
        >>> found = tail_estimate(np.random.default_rng(1).normal(size=40_000), 0.05)
        >>> found.low < 2.0627 < found.high
        True
    """
    return replace(_normal(crossed(outcomes, share)), kind="tail")


def estimated(outcomes: np.ndarray) -> Estimate:
    """Mean and 95% interval of independent outcomes.

    Example:
        >>> none = estimated(np.zeros(100))
        >>> none.low, round(none.high, 3)
        (0.0, 0.037)
    """
    number, mean = len(outcomes), float(outcomes.mean())
    largest = float(np.max(np.abs(outcomes)))
    if np.all((outcomes == 0) | (outcomes == largest)):
        # Wilson's interval: it does not collapse where nothing, or everything, happened.
        size = largest or 1.0
        share = mean / size
        middle = (share + Z**2 / (2 * number)) / (1 + Z**2 / number)
        half = Z * np.sqrt(share * (1 - share) / number + Z**2 / (4 * number**2))
        half /= 1 + Z**2 / number
        low, high = max(middle - half, 0.0), min(middle + half, 1.0)
        low = 0.0 if share == 0 else low
        return Estimate(mean, float(low * size), float(high * size), number, "probability")
    return _normal(outcomes)


def _normal(outcomes: np.ndarray) -> Estimate:
    number, mean = len(outcomes), float(outcomes.mean())
    half = Z * float(outcomes.std(ddof=1)) / number**0.5
    return Estimate(mean, mean - half, mean + half, number)
