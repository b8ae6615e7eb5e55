"""Fisher information at an optimum: standard errors, and what the data do not determine."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.optimise.objective import Objective
from engine.optimise.space import Space

# A direction along which the bounds' whole width changes the objective by less than this (half of
# the 95% quantile of chi-square with one degree of freedom) is not determined within the bounds.
_UNDETERMINED = 1.92
_SHARE = 0.3
_AT_BOUND = 1e-6
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class FisherInformation:
    """Curvature of an objective at a point, and the normal (Laplace) approximation from it.

    Parameters at a bound are held there: they have no standard error.

    Attributes:
        space: the parameters.
        point: transformed scale, (P,).
        matrix: the curvature, (P, P).
        is_at_bound: (P,).
        weak: groups of names that the data determine only together, or not at all.
    """

    space: Space
    point: np.ndarray
    matrix: np.ndarray
    is_at_bound: np.ndarray
    weak: tuple[tuple[str, ...], ...]

    @property
    def covariance(self) -> np.ndarray:
        """Covariance on the transformed scale, (P, P); NaN for parameters at a bound.

        Where a direction is not determined, that of the pseudo-inverse without it would look
        certain; its variance is infinite here instead.
        """
        free = ~self.is_at_bound
        sizes, vectors = np.linalg.eigh(self.matrix[np.ix_(free, free)])
        least = 1e-12 * max(float(sizes.max(initial=0.0)), 1e-300)
        variances = np.where(sizes > least, 1.0 / np.maximum(sizes, least), np.inf)
        found = np.full(self.matrix.shape, np.nan)
        is_open = np.isinf(variances)
        whole = (vectors * np.where(is_open, 0.0, variances)[None, :]) @ vectors.T
        touched = np.any(np.abs(vectors[:, is_open]) > _ROUNDING, axis=1)
        np.fill_diagonal(whole, np.where(touched, np.inf, np.diag(whole)))
        found[np.ix_(free, free)] = whole
        return found

    @property
    def standard_errors(self) -> np.ndarray:
        """On the transformed scale, (P,); NaN at a bound, infinite where not determined."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def log_evidence_term(self) -> float:
        """Half log det(2 pi C): added to -value it is Laplace's approximation of the evidence."""
        free = ~self.is_at_bound
        sign, size = np.linalg.slogdet(self.matrix[np.ix_(free, free)] / (2.0 * np.pi))
        return -0.5 * float(size) if sign > 0 else np.inf

    def remarks(self) -> list[str]:
        """What is not identifiable, by name, and what to do; one line each."""
        lines = []
        for group in self.weak:
            names = ", ".join(group)
            if len(group) == 1:
                lines.append(
                    f"{names} is not determined by the data: fix it, give it a prior, or measure "
                    "what it acts on"
                )
            else:
                lines.append(
                    f"{names} are determined only in combination: fix one of them, or give a prior"
                )
        held = [n for n, b in zip(self.space.names, self.is_at_bound, strict=True) if b]
        if held:
            lines.append(
                f"{', '.join(held)}: at a bound; widen it if it has no reason, else fix it there"
            )
        return lines


def fisher_information(objective: Objective, point: np.ndarray) -> FisherInformation:
    """The Fisher information (or Hessian) of an objective at a point.

    Args:
        objective: the objective; its `local` curvature is read.
        point: the optimum, (P,), transformed scale.

    Returns:
        The information and what follows from it.

    Raises:
        InvalidInput: the objective is not finite there.

    Example:
        >>> from engine.optimise.objective import LeastSquares
        >>> from engine.optimise.space import Bounded, Space
        >>> space = Space([Bounded("a", -9.0, 9.0), Bounded("b", -9.0, 9.0)])
        >>> objective = LeastSquares(space, lambda v: (v[:1] - 1.0) / 0.1)
        >>> found = fisher_information(objective, np.array([1.0, 0.0]))
        >>> found.standard_errors.round(3).tolist(), found.weak
        ([0.1, inf], (('b',),))
    """
    with jax.enable_x64(True):
        local = jax.jit(objective.local)(jnp.asarray(point, jnp.float64))
    matrix = np.asarray(local.curvature)
    if not np.isfinite(float(local.value)) or not np.all(np.isfinite(matrix)):
        raise InvalidInput("the objective is not finite at this point; give a point of a fit")
    lower, upper = objective.space.bounds
    width = np.where(np.isfinite(upper - lower), upper - lower, 10.0)
    is_at_bound = (point - lower <= _AT_BOUND * width) | (upper - point <= _AT_BOUND * width)
    weak = _weak_groups(objective.space.names, matrix, width, ~is_at_bound)
    return FisherInformation(objective.space, np.asarray(point), matrix, is_at_bound, weak)


def _weak_groups(
    names: tuple[str, ...], matrix: np.ndarray, width: np.ndarray, free: np.ndarray
) -> tuple[tuple[str, ...], ...]:
    """Names of each direction that the bounds' width does not make a difference along."""
    scaled = (matrix * width[:, None] * width[None, :])[np.ix_(free, free)]
    if not len(scaled):
        return ()
    sizes, vectors = np.linalg.eigh(scaled)
    kept = np.array(names)[free]
    groups = []
    for k in np.flatnonzero(0.5 * sizes < _UNDETERMINED):
        weights = np.abs(vectors[:, k])
        groups.append(tuple(str(n) for n in kept[weights >= _SHARE * weights.max()]))
    return tuple(dict.fromkeys(groups))
