"""The referee: every design of a grid, simulated."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.design.problem import TherapyProblem
from engine.design.verification import Estimate, Verification, verify
from engine.errors import InvalidInput


@dataclass(frozen=True)
class GridPoint:
    """A design of a grid and what it achieves."""

    values: tuple[float, ...]
    verification: Verification


def search_grid(
    problem: TherapyProblem,
    points: Mapping[str, Sequence[float]],
    num_patients: int,
    seed: int = 0,
    num_screened: int | None = None,
) -> list[GridPoint]:
    """Simulate the product of the given numbers, all on the same patients.

    Args:
        problem: the problem.
        points: variable -> numbers to try; every variable.
        num_patients: patients of every design.
        seed: of the patients.
        num_screened: patients of a first look at all; then only designs that may still be the best
            get `num_patients`. Default none, all get them.

    Returns:
        Every design; those that keep the bound (by their estimate) first, by falling benefit.

    Raises:
        InvalidInput: a variable without numbers, or a name that is none.
    """
    if set(points) != set(problem.names):
        odd = sorted(set(points) ^ set(problem.names))[0]
        raise InvalidInput(f"points: '{odd}' is not a variable with numbers; give all of them")

    def simulated(values: tuple[float, ...], number: int) -> GridPoint:
        return GridPoint(values, verify(problem, np.asarray(values), number, seed, "grid"))

    designs = itertools.product(*(points[name] for name in problem.names))
    found = [simulated(values, num_screened or num_patients) for values in designs]
    if num_screened is not None:
        may_win = _contenders(found)
        found = [simulated(p.values, num_patients) if p in may_win else p for p in found]
    return sorted(
        found,
        key=lambda one: (one.verification.violation > 0, -one.verification.benefit.value),
    )


def _contenders(found: Sequence[GridPoint]) -> list[GridPoint]:
    """Designs of which four standard errors do not show that another is better, or safe.

    Twice the half width of a 95% interval is about as much.
    """

    def least(one: Estimate) -> float:
        return 2 * one.low - one.value

    def most(one: Estimate) -> float:
        return 2 * one.high - one.value

    sure = [
        least(p.verification.benefit)
        for p in found
        if most(p.verification.risk) <= p.verification.bound
    ]
    beaten = max(sure, default=-np.inf)
    return [
        p
        for p in found
        if least(p.verification.risk) <= p.verification.bound
        and most(p.verification.benefit) >= beaten
    ]
