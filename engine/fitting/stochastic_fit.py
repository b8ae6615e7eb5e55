"""Descent on an objective that is random itself: Adam on fresh randomness, then an average."""

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
        parameters: the average of the last points, linear scale.
        points: all points, transformed scale, (K, P).
        values: the estimated objective at each, (K,).
        spread: standard deviation of the last points about their average, (P,).
    """

    parameters: dict[str, float]
    points: np.ndarray
    values: np.ndarray
    spread: np.ndarray


def stochastic_fit(
    objective: RandomObjective,
    start: Mapping[str, float],
    key: Array,
    *,
    num_steps: int = 100,
    rate: float = 0.05,
    make: Callable[[], optax.GradientTransformation] | None = None,
) -> StochasticFit:
    r"""Minimise a random objective: every step sees fresh simulations, the last third is averaged.

    The average of the iterates of a stochastic descent has less noise than any of them (Polyak and
    Juditsky 1992, doi:10.1137/0330046). Points stay within the bounds.

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
    points, values = [], []
    with jax.enable_x64(True):
        state = transform.init(jnp.asarray(point))
        slopes_of = jax.jit(lambda p: jax.jvp(space.linear, (p,), (jnp.ones_like(p),))[1])
    for i in range(num_steps):
        found = objective.value_and_gradient(space.to_mapping(point), jax.random.fold_in(key, i))
        points.append(point)
        values.append(found.value)
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            gradient = jnp.asarray(found.gradient) * slopes_of(jnp.asarray(point))
            update, state = transform.update(gradient, state, jnp.asarray(point))
        point = np.clip(point + np.asarray(update), lower, upper)
    last = np.array(points[-(num_steps // 3) :])
    return StochasticFit(
        space.to_mapping(last.mean(axis=0)), np.array(points), np.array(values), last.std(axis=0)
    )
