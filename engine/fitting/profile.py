"""Profile likelihood: how far a parameter can go before the data object."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.network.network import hint
from engine.optimise.gauss_newton import GaussNewton
from engine.optimise.multi_start import multi_start
from engine.optimise.objective import Local, Objective
from engine.optimise.space import Space

Array = Any
# Half the 95% quantile of chi-square with one degree of freedom.
THRESHOLD_95 = 1.920729


@dataclass(frozen=True, eq=False)
class Held:
    """An objective one of whose parameters stays where a start puts it.

    Args:
        objective: the objective.
        index: position of the parameter.
    """

    objective: Objective
    index: int

    @property
    def space(self) -> Space:
        """All parameters."""
        return self.objective.space

    def value(self, point: Array) -> Array:
        """The objective."""
        return self.objective.value(point)

    def local(self, point: Array) -> Local:
        """The objective without any wish to move the held parameter."""
        local = self.objective.local(point)
        row = jnp.arange(len(point)) == self.index
        cross = row[:, None] | row[None, :]
        curvature = jnp.where(cross, 0.0, local.curvature) + jnp.diag(row.astype(point.dtype))
        return Local(local.value, jnp.where(row, 0.0, local.gradient), curvature)


@dataclass(frozen=True, eq=False)
class Profile:
    """The objective, minimised over all other parameters, along one.

    Attributes:
        name: the parameter.
        grid: its values, linear scale, increasing, (G,).
        values: the minimised objective, (G,).
        best: the objective at the optimum.
        lower: 95% confidence limit, linear scale; the lower bound where it is open.
        upper: 95% confidence limit, linear scale; the upper bound where it is open.
        is_open: whether the profile stays under the threshold up to the lower and upper bound.
    """

    name: str
    grid: np.ndarray
    values: np.ndarray
    best: float
    lower: float
    upper: float
    is_open: tuple[bool, bool]

    def remark(self) -> str:
        """Whether the data determine the parameter, and what to do if not."""
        sides = [
            side for side, is_open in zip(("below", "above"), self.is_open, strict=True) if is_open
        ]
        if not sides:
            return f"{self.name} is identifiable: 95% interval {self.lower:.4g} to {self.upper:.4g}"
        where = " and ".join(sides)
        return (
            f"{self.name} is not limited {where} within its bounds: fix it, give it a prior, or "
            "measure what it acts on"
        )


def profile_likelihood(
    objective: Objective,
    point: np.ndarray,
    name: str,
    *,
    num_points: int = 21,
    reach: float | None = None,
    optimiser: GaussNewton | None = None,
) -> Profile:
    """Minimise over all other parameters at values of one, side by side.

    Args:
        objective: the objective.
        point: the optimum, (P,), transformed scale.
        name: the parameter.
        num_points: values on the grid, half on each side of the optimum.
        reach: how far the grid goes on each side, transformed scale; to the bounds by default.
        optimiser: of the other parameters; `GaussNewton()` by default.

    Returns:
        The profile and the likelihood-ratio interval (interpolated on the grid).

    Raises:
        InvalidInput: an unknown name, or fewer than 5 points.

    Example:
        >>> from engine.optimise.objective import LeastSquares
        >>> from engine.optimise.space import Bounded
        >>> objective = LeastSquares(Space([Bounded("a", -9.0, 9.0)]), lambda v: v / 0.5)
        >>> found = profile_likelihood(objective, np.zeros(1), "a", reach=2.0, num_points=81)
        >>> round(found.upper, 2)  # 1.96 standard errors
        0.98

    References:
        Raue et al. 2009, doi:10.1093/bioinformatics/btp358.
    """
    names = objective.space.names
    if name not in names:
        raise InvalidInput(f"'{name}' is not estimated{hint(name, names)}")
    if num_points < 5:
        raise InvalidInput(f"num_points is {num_points}; give at least 5")
    index, half = names.index(name), num_points // 2
    lower, upper = (float(b[index]) for b in objective.space.bounds)
    centre = float(point[index])
    ends = lower, upper
    if reach is not None:
        ends = max(lower, centre - reach), min(upper, centre + reach)
    # Squares of a uniform grid: finer near the optimum, where intervals of good parameters end.
    steps = np.linspace(0.0, 1.0, half + 1)[1:] ** 2
    grid = np.unique(
        np.concatenate(
            [centre - steps * (centre - ends[0]), [centre], centre + steps * (ends[1] - centre)]
        )
    )
    starts = np.tile(np.asarray(point, np.float64), (len(grid), 1))
    starts[:, index] = grid
    fits = multi_start(Held(objective, index), optimiser or GaussNewton(), starts, batch=len(grid))
    values, best = fits.values, float(fits.values.min())
    transform = objective.space.parameters[index].transform

    def linear(z: float) -> float:
        with jax.enable_x64(True):
            return float(transform.backward(jnp.asarray(z, jnp.float64)))

    limits = [_limit(grid, values, best, side) for side in (-1, 1)]
    return Profile(
        name=name,
        grid=np.array([linear(z) for z in grid]),
        values=values,
        best=best,
        lower=linear(float(grid[0]) if limits[0] is None else limits[0]),
        upper=linear(float(grid[-1]) if limits[1] is None else limits[1]),
        is_open=(limits[0] is None, limits[1] is None),
    )


def _limit(grid: np.ndarray, values: np.ndarray, best: float, side: int) -> float | None:
    """Where the profile first crosses the threshold on a side of its minimum."""
    z, v = (grid, values) if side > 0 else (grid[::-1], values[::-1])
    # Square roots of the rise are nearly straight, so interpolation on them is accurate.
    rise = np.sqrt(np.maximum(v - best, 0.0))
    wanted = np.sqrt(THRESHOLD_95)
    first = int(np.argmin(v))
    for i in range(first + 1, len(z)):
        if rise[i] > wanted:
            if not np.isfinite(rise[i]):
                return float(z[i])
            share = (wanted - rise[i - 1]) / (rise[i] - rise[i - 1])
            return float(z[i - 1] + share * (z[i] - z[i - 1]))
    return None
