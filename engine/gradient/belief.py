"""Forms of a belief: functions of the counts with a few coefficients in every cell of time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from engine.gradient.polynomials import Basis, fit_least_squares, fit_logistic
from engine.network.expressions import Expression, call

Array = np.ndarray


class Belief(ABC):
    """A family of functions of the counts, one of which is fitted in every cell."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """For the notes of a gradient."""

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
    def cells(self, table: Array) -> list[Array]:
        """The numbers `_v0`, `_v1`, ... of a lane, of every cell or (1,) where all cells share one.

        Args:
            table: coefficients of every cell, (K, cells).
        """

    @abstractmethod
    def expression(self, names: Sequence[str]) -> Expression:
        """The same for a lane, in terms of these numbers.

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

    def fitted(self, counts: Array, targets: Array, following: Array | None) -> Array:
        """Least squares, or the largest quasi-likelihood."""
        fit = fit_logistic if self.is_logistic else fit_least_squares
        return fit(self.basis.design(counts), targets, following)

    def values(self, coefficients: Array, counts: Array) -> Array:
        """The function in states (n, S)."""
        value = self.basis.design(counts) @ coefficients
        return expit(value) if self.is_logistic else value

    def cells(self, table: Array) -> list[Array]:
        """Coefficients of powers of x - centre, then the centres."""
        return [*self.basis.of_differences(table), *self.basis.centre[:, np.newaxis]]

    def expression(self, names: Sequence[str]) -> Expression:
        """By Horner's scheme."""
        found = self.basis.expression(names)
        return call("logistic", found) if self.is_logistic else found
