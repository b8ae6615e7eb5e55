"""Likelihoods of measured arrays given predicted ones."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

Array = Any


@dataclass(frozen=True)
class Gaussian:
    """Additive normal noise; the scale is its standard deviation, in the data's unit."""

    def negative_log(self, observed: Array, predicted: Array, scale: Array) -> Array:
        """-log density of each datum, of the broadcast shape."""
        z = (observed - predicted) / scale
        return 0.5 * z**2 + jnp.log(scale) + 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class LogNormal:
    """Multiplicative noise; the scale is the standard deviation of the natural logarithm."""

    def negative_log(self, observed: Array, predicted: Array, scale: Array) -> Array:
        """-log density of each datum, of the broadcast shape; data must be positive."""
        log = jnp.log(observed)
        return Gaussian().negative_log(log, jnp.log(predicted), scale) + log


@dataclass(frozen=True)
class Laplace:
    """Additive noise with heavy tails (robust to outliers); the scale is the mean deviation."""

    def negative_log(self, observed: Array, predicted: Array, scale: Array) -> Array:
        """-log density of each datum, of the broadcast shape."""
        return jnp.abs(observed - predicted) / scale + jnp.log(2.0 * scale)


Likelihood = Gaussian | LogNormal | Laplace


def fisher_weights(likelihood: Likelihood, predicted: Array, scale: Array) -> tuple[Array, Array]:
    """Expected information of each datum on its prediction and on its scale, on the linear scale.

    Args:
        likelihood: the density.
        predicted: predictions.
        scale: scales, of a shape that broadcasts with them.

    Returns:
        Information on predictions and on scales, of the broadcast shape.

    Example:
        >>> [float(w) for w in fisher_weights(Gaussian(), jnp.asarray(3.0), jnp.asarray(0.5))]
        [4.0, 8.0]
    """
    relative = predicted if isinstance(likelihood, LogNormal) else jnp.ones_like(predicted)
    noise = 1.0 if isinstance(likelihood, Laplace) else 2.0
    return 1.0 / (scale * relative) ** 2, noise / (scale * jnp.ones_like(predicted)) ** 2
