"""Scales on which parameters are searched: optimisers see the transformed value."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from engine.errors import InvalidInput

Array = Any


@dataclass(frozen=True)
class Linear:
    """The value itself."""

    def forward(self, value: Array) -> Array:
        """The transformed value z."""
        return jnp.asarray(value)

    def backward(self, z: Array) -> Array:
        """The value."""
        return jnp.asarray(z)


@dataclass(frozen=True)
class Log:
    """z = log(value), for positive parameters."""

    def forward(self, value: Array) -> Array:
        """The transformed value z."""
        return jnp.log(value)

    def backward(self, z: Array) -> Array:
        """The value."""
        return jnp.exp(z)


@dataclass(frozen=True)
class Log10:
    """z = log10(value), for positive parameters that span decades."""

    def forward(self, value: Array) -> Array:
        """The transformed value z."""
        return jnp.log10(value)

    def backward(self, z: Array) -> Array:
        """The value."""
        return jnp.exp(z * math.log(10.0))


@dataclass(frozen=True)
class Logit:
    """z = log((value - lower) / (upper - value)): every real z is within the bounds.

    Args:
        lower: smallest value.
        upper: largest value.
    """

    lower: float = 0.0
    upper: float = 1.0

    def __post_init__(self) -> None:
        if not self.lower < self.upper:
            raise InvalidInput(f"Logit bounds {self.lower:g}, {self.upper:g}: lower must be less")

    def forward(self, value: Array) -> Array:
        """The transformed value z."""
        value = jnp.asarray(value)
        return jnp.log(value - self.lower) - jnp.log(self.upper - value)

    def backward(self, z: Array) -> Array:
        """The value."""
        share = 0.5 * (1.0 + jnp.tanh(0.5 * jnp.asarray(z)))
        return self.lower + (self.upper - self.lower) * share


Transform = Linear | Log | Log10 | Logit
LINEAR = Linear()
BY_NAME: dict[str, Transform] = {"lin": LINEAR, "log": Log(), "log10": Log10()}
