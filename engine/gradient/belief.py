"""Forms of a belief: functions of the counts with a few coefficients in every cell of time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.gradient.polynomials import Basis, fit_least_squares, fit_logistic
from engine.kernel.model import cell_name
from engine.network.expressions import Expression, Number, call

Array = np.ndarray


class Belief(ABC):
    """A family of functions of the counts, one of which is fitted in every cell."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """For the notes of a gradient."""

    @property
    @abstractmethod
    def numbers(self) -> list[float]:
        """What all cells share: a lane looks for them behind the coefficients."""

    @abstractmethod
    def fitted(self, counts: Array, targets: Array, following: Array | None) -> Array:
        """Coefficients (K,) from states (n, S) and what is known of them (n,).

        Args:
            counts: states.
            targets: what was seen, or is believed, at the end of their trajectories.
            following: coefficients of the cell after this one; None for the last.
        """

    @abstractmethod
    def values(self, coefficients: Array, counts: Array) -> Array:
        """What is believed in states (n, S), (n,)."""

    @abstractmethod
    def expression(self, names: Sequence[str]) -> Expression:
        """The same for a lane: its coefficients are `_v0`, `_v1`, ..., then the numbers.

        Args:
            names: of the species.
        """


@dataclass(frozen=True, eq=False)
class Polynomial(Belief):
    """A polynomial of the counts, or the logistic function of one where outcomes are 0 or 1."""

    basis: Basis
    is_logistic: bool

    @property
    def kind(self) -> str:
        """Logistic or polynomial."""
        return "fitted logistic" if self.is_logistic else "fitted polynomial"

    @property
    def numbers(self) -> list[float]:
        """Centres and scales."""
        return self.basis.numbers

    def fitted(self, counts: Array, targets: Array, following: Array | None) -> Array:
        """Least squares, or the largest quasi-likelihood."""
        fit = fit_logistic if self.is_logistic else fit_least_squares
        return fit(self.basis.design(counts), targets, following)

    def values(self, coefficients: Array, counts: Array) -> Array:
        """The function in states (n, S)."""
        value = self.basis.design(counts) @ coefficients
        return logistic(value) if self.is_logistic else value

    def expression(self, names: Sequence[str]) -> Expression:
        """By Horner's scheme."""
        number = len(self.basis.exponents)
        found = self.basis.expression(names, [cell_name(i) for i in range(number)], number)
        return logistic_expression(found) if self.is_logistic else found


def logistic(value: Array) -> Array:
    """1 / (1 + exp(-value))."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(value, -500, 500))))


def logistic_expression(value: Expression) -> Expression:
    """1 / (1 + exp(-value)) for a lane."""
    one = Number(1.0)
    return call("div", one, call("add", one, call("exp", call("neg", value))))
