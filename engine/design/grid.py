"""The referee: every design of a grid, simulated."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.design.problem import TherapyProblem
from engine.design.verification import Verification, verify
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
) -> list[GridPoint]:
    """Simulate the product of the given numbers, all on the same patients.

    Args:
        problem: the problem.
        points: variable -> numbers to try; every variable.
        num_patients: patients of every design.
        seed: of the patients.

    Returns:
        Every design; those that keep the bound (by their estimate) first, by falling benefit.

    Raises:
        InvalidInput: a variable without numbers, or a name that is none.
    """
    if set(points) != set(problem.names):
        odd = sorted(set(points) ^ set(problem.names))[0]
        raise InvalidInput(f"points: '{odd}' is not a variable with numbers; give all of them")
    found = [
        GridPoint(values, verify(problem, np.asarray(values), num_patients, seed, "grid"))
        for values in itertools.product(*(points[name] for name in problem.names))
    ]
    return sorted(
        found,
        key=lambda one: (one.verification.violation > 0, -one.verification.benefit.value),
    )
