"""Bootstrap of a PEtab fit: the estimates of data drawn anew, all in one compilation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.fitting.petab_objective import PetabObjective
from engine.optimise.gauss_newton import GaussNewton
from engine.optimise.multi_start import Fits, multi_start
from engine.optimise.objective import Local
from engine.optimise.space import Bounded, Space

Array = Any
# No PEtab identifier holds a space.
_REPLICATE = "data set"


@dataclass(frozen=True, eq=False)
class Redrawn:
    """A problem's objective on one of many data sets, the one a last, held parameter names.

    Args:
        original: the objective of the problem's own data.
        data: data sets on the transformed scales, (R, N).
    """

    original: PetabObjective
    data: np.ndarray

    @cached_property
    def space(self) -> Space:
        """The problem's parameters and the position of the data set."""
        last = Bounded(_REPLICATE, -0.5, len(self.data) - 0.5)
        return Space([*self.original.space.parameters, last])

    def value(self, point: Array) -> Array:
        """The objective."""
        return self.local(point).value

    def local(self, point: Array) -> Local:
        """The objective on the point's data set, which has no slope along the last parameter."""
        observed = jnp.asarray(self.data)[jnp.round(point[-1]).astype(jnp.int32)]
        found = self.original.local(point[:-1], observed)
        gradient = jnp.append(found.gradient, 0.0)
        curvature = jnp.zeros((len(point), len(point)), point.dtype)
        curvature = curvature.at[:-1, :-1].set(found.curvature).at[-1, -1].set(1.0)
        return Local(found.value, gradient, curvature)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Estimates from data drawn anew.

    Attributes:
        points: (R, P), transformed scale.
        fits: how each fit went.
    """

    points: np.ndarray
    fits: Fits

    @property
    def standard_errors(self) -> np.ndarray:
        """Standard deviations of the estimates on the transformed scale, (P,)."""
        return np.std(self.points, axis=0, ddof=1)

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Percentile limits on the transformed scale, (P,) each."""
        tail = 50.0 * (1.0 - level)
        lower, upper = np.percentile(self.points, [tail, 100.0 - tail], axis=0)
        return lower, upper


def parametric_bootstrap(
    objective: PetabObjective,
    point: np.ndarray,
    *,
    num_replicates: int = 100,
    seed: int = 0,
    batch: int = 8,
    optimiser: GaussNewton | None = None,
) -> Bootstrap:
    """Draw data from the fitted model, with its noise, and fit each set from the optimum.

    Args:
        objective: the objective.
        point: the optimum, (P,), transformed scale.
        num_replicates: data sets.
        seed: of the noise.
        batch: fits that advance together.
        optimiser: the algorithm; `GaussNewton()` by default.

    Returns:
        The estimates of the data sets whose fit did not fail.

    Raises:
        InvalidInput: fewer than two replicates, or every fit failed.

    Example:
        >>> found = parametric_bootstrap(PetabObjective(problem), point)  # doctest: +SKIP

    References:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 6.
    """
    if num_replicates < 2:
        raise InvalidInput(f"num_replicates is {num_replicates}; give at least 2")
    problem = objective.problem
    predicted = problem.predict(objective.space.to_mapping(point))
    rng = np.random.default_rng(seed)
    shape = num_replicates, len(predicted.location)
    noise = np.where(problem.rows.is_laplace, rng.laplace(size=shape), rng.normal(size=shape))
    redrawn = Redrawn(objective, predicted.location + predicted.scale * noise)
    starts = np.column_stack([np.tile(point, (num_replicates, 1)), np.arange(num_replicates)])
    fits = multi_start(redrawn, optimiser or GaussNewton(), starts, batch=batch)
    is_good = np.isfinite(fits.values)
    if is_good.sum() < 2:
        raise InvalidInput(f"{problem.name}: {fits.diagnosis()}")
    return Bootstrap(fits.points[is_good, :-1], fits)
