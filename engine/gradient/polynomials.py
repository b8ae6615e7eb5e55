"""Polynomials in counts: their design matrix, their expression, and two regressions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from engine.kernel.model import cell_name
from engine.network.expressions import Expression, Number, Symbol, call

Array = np.ndarray

# A monomial that the others explain to this share of its size is left out.
COLLINEAR = 1e-6
RIDGE = 1e-6
MOST_STEPS = 30
MOST_MONOMIALS = 15


@dataclass(frozen=True, eq=False)
class Basis:
    """Monomials of standardised counts z_i = (x_i - centre_i) * scale_i.

    Attributes:
        species: positions of the species that are used, which vary and do not follow from others.
        centre, scale: of each of these.
        exponents: for every monomial the species (by position in `species`) that are multiplied.
    """

    species: tuple[int, ...]
    centre: Array
    scale: Array
    exponents: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(counts: Array, degree: int | None) -> "Basis":
        """The basis for states (n, S) like these.

        Args:
            counts: states.
            degree: total degree of the monomials; default 4, 3 or 2 with one, two or more species.
        """
        x = counts.astype(np.float64)
        spread = x.std(axis=0)
        species: list[int] = []
        explained = np.ones((len(x), 1))
        for i in np.argsort(-spread, kind="stable"):
            if spread[i] > 0 and _is_new(explained, x[:, i]):
                species.append(int(i))
                explained = np.column_stack([explained, x[:, i]])
        species.sort()
        centre, scale = x[:, species].mean(axis=0), 1.0 / np.maximum(spread[species], 0.5)
        order = degree or {1: 4, 2: 3}.get(len(species), 2)
        z = (x[:, species] - centre) * scale
        exponents: list[tuple[int, ...]] = []
        columns = np.zeros((len(x), 0))
        for total in range(order + 1):
            for one in combinations_with_replacement(range(len(species)), total):
                column = np.prod(z[:, list(one)], axis=1)
                is_fit = len(exponents) < MOST_MONOMIALS or total < 2
                if is_fit and (not exponents or _is_new(columns, column)):
                    exponents.append(one)
                    columns = np.column_stack([columns, column])
        return Basis(tuple(species), centre, scale, tuple(exponents))

    def standardised(self, counts: Array) -> Array:
        """z of states (n, S), a column for each species that is used."""
        return np.asarray((counts[:, list(self.species)] - self.centre) * self.scale)

    def design(self, counts: Array) -> Array:
        """The monomials of states (n, S), (n, K)."""
        z = self.standardised(counts)
        return np.stack([np.prod(z[:, list(one)], axis=1) for one in self.exponents], axis=1)

    def of_differences(self, coefficients: Array) -> Array:
        """Coefficients (K, n) of monomials of x_i - centre_i: a lane has no z to make then."""
        factors = [np.prod(self.scale[list(one)]) for one in self.exponents]
        return np.asarray(coefficients * np.array(factors)[:, np.newaxis])

    def expression(self, names: Sequence[str]) -> Expression:
        """The polynomial for a lane.

        Its numbers are `of_differences`, then the centres.

        Args:
            names: of the species.
        """
        named = {
            tuple(one.count(k) for k in range(len(self.species))): Symbol(cell_name(m))
            for m, one in enumerate(self.exponents)
        }
        return _horner(named, self.differences(names, len(self.exponents)))

    def differences(self, names: Sequence[str], first: int) -> list[Expression]:
        """x_i - centre_i, the first of which is a lane's number at this position.

        The centre stands before the count, so that what a reaction changes is added to a difference
        that all reactions share.
        """
        return [
            call("add", call("neg", Symbol(cell_name(first + k))), Symbol(names[i]))
            for k, i in enumerate(self.species)
        ]


def _horner(terms: Mapping[tuple[int, ...], Expression], x: Sequence[Expression]) -> Expression:
    """The polynomial with as few products as it takes; `terms` are powers -> coefficient."""
    if not x:
        return next(iter(terms.values()))
    result: Expression = Number(0.0)
    for power in range(max(powers[0] for powers in terms), -1, -1):
        inner = {p[1:]: c for p, c in terms.items() if p[0] == power}
        result = call("mul", result, x[0])
        if inner:
            result = call("add", result, _horner(inner, x[1:]))
    return result


def _is_new(known: Array, column: Array) -> bool:
    """Whether a column is not a combination of the known ones."""
    fitted = known @ np.linalg.lstsq(known, column, rcond=None)[0]
    size = float(np.sum((column - column.mean()) ** 2))
    return size > 0 and float(np.sum((column - fitted) ** 2)) > COLLINEAR * size


def fit_least_squares(design: Array, targets: Array, start: Array | None) -> Array:
    """Coefficients (K,) of the polynomial nearest to the targets (n,)."""
    gram = design.T @ design / len(design)
    ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.asarray(np.linalg.solve(gram + ridge, design.T @ targets / len(design)))


def fit_logistic(design: Array, targets: Array, start: Array | None) -> Array:
    """Coefficients (K,) of the logistic function with the largest quasi-likelihood.

    Targets (n,) are probabilities. Newton's method on a convex function, halving steps that do not
    improve it.
    """
    level = float(np.clip(targets.mean(), 1e-6, 1 - 1e-6))
    constant = np.zeros(design.shape[1])
    constant[0] = np.log(level / (1 - level))
    ridge = RIDGE * np.ones(design.shape[1])

    def loss(w: Array) -> float:
        q = design @ w
        return float(np.mean(np.logaddexp(0.0, q) - targets * q) + 0.5 * np.sum(ridge * w**2))

    # A start that saw no outcome is flat, and Newton's steps from there lead nowhere.
    is_better = start is not None and loss(np.asarray(start)) < loss(constant)
    weights = np.array(start) if is_better else constant
    best = loss(weights)
    for _ in range(MOST_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ weights, -500, 500)))
        slope = design.T @ (p - targets) / len(design) + ridge * weights
        curvature = (design * (p * (1 - p))[:, np.newaxis]).T @ design / len(design)
        step = np.linalg.solve(curvature + np.diag(ridge), slope)
        size = 1.0
        while size > 1e-4 and loss(weights - size * step) > best:
            size /= 2
        if size <= 1e-4:
            break
        weights = weights - size * step
        improved = best - loss(weights)
        best -= improved
        if improved < 1e-10:
            break
    return weights
