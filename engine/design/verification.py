"""What a design achieves, on patients that played no part in finding it."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from engine.design.problem import TherapyProblem, patients_key

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """An expectation with its interval.

    Attributes:
        value: the mean over patients.
        low, high: two-sided 95% interval: Wilson's for a probability, otherwise normal.
        num_patients: how many.
    """

    value: float
    low: float
    high: float
    num_patients: int


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
    key = patients_key(seed, purpose)
    found = [
        estimated(problem.outcomes(criterion, values, key, purpose, num_patients))
        for criterion in (problem.benefit, problem.risk)
    ]
    return Verification(found[0], found[1], problem.bound)


def estimated(outcomes: np.ndarray) -> Estimate:
    """Mean and 95% interval of independent outcomes.

    Example:
        >>> none = estimated(np.zeros(100))
        >>> none.low, round(none.high, 3)
        (0.0, 0.037)
    """
    number, mean = len(outcomes), float(outcomes.mean())
    z = float(ndtri(0.5 + LEVEL / 2))
    largest = float(np.max(np.abs(outcomes)))
    if np.all((outcomes == 0) | (outcomes == largest)):
        # Wilson's interval: it does not collapse where nothing, or everything, happened.
        size = largest or 1.0
        share = mean / size
        middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
        half = z * np.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
        half /= 1 + z**2 / number
        low, high = max(middle - half, 0.0), min(middle + half, 1.0)
        low = 0.0 if share == 0 else low
        return Estimate(mean, float(low * size), float(high * size), number)
    half = z * float(outcomes.std(ddof=1)) / number**0.5
    return Estimate(mean, mean - half, mean + half, number)
