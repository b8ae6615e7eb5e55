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
