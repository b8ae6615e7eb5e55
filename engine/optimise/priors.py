"""Prior densities of single parameters."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from engine.errors import InvalidInput

Array = Any


@dataclass(frozen=True)
class Normal:
    """Normal density of the parameter, or of its transformed value.

    Args:
        mean: mean.
        sd: standard deviation, positive.
        is_on_scale: the density is of the transformed value.
    """

    mean: float
    sd: float
    is_on_scale: bool = False

    def __post_init__(self) -> None:
        _check_positive("Normal sd", self.sd)

    def negative_log(self, value: Array) -> Array:
        """-log of the density."""
        z = (value - self.mean) / self.sd
        return 0.5 * z**2 + math.log(self.sd) + 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Laplace:
    """Laplace density of the parameter, or of its transformed value.

    Args:
        mean: location.
        scale: scale, positive.
        is_on_scale: the density is of the transformed value.
    """

    mean: float
    scale: float
    is_on_scale: bool = False

    def __post_init__(self) -> None:
        _check_positive("Laplace scale", self.scale)

    def negative_log(self, value: Array) -> Array:
        """-log of the density."""
        return jnp.abs(value - self.mean) / self.scale + math.log(2.0 * self.scale)


@dataclass(frozen=True)
class LogNormal:
    """The logarithm of the parameter is normal.

    Args:
        mean: mean of the logarithm.
        sd: standard deviation of the logarithm, positive.
    """

    mean: float
    sd: float
    is_on_scale: bool = False

    def __post_init__(self) -> None:
        _check_positive("LogNormal sd", self.sd)

    def negative_log(self, value: Array) -> Array:
        """-log of the density."""
        return Normal(self.mean, self.sd).negative_log(jnp.log(value)) + jnp.log(value)


@dataclass(frozen=True)
class LogLaplace:
    """The logarithm of the parameter has a Laplace density.

    Args:
        mean: location of the logarithm.
        scale: scale of the logarithm, positive.
    """

    mean: float
    scale: float
    is_on_scale: bool = False

    def __post_init__(self) -> None:
        _check_positive("LogLaplace scale", self.scale)

    def negative_log(self, value: Array) -> Array:
        """-log of the density."""
        return Laplace(self.mean, self.scale).negative_log(jnp.log(value)) + jnp.log(value)


@dataclass(frozen=True)
class Uniform:
    """Constant density within bounds, of the parameter or of its transformed value.

    Args:
        lower: smallest value.
        upper: largest value.
        is_on_scale: the density is of the transformed value.
    """

    lower: float
    upper: float
    is_on_scale: bool = False

    def __post_init__(self) -> None:
        if not self.lower < self.upper:
            raise InvalidInput(f"Uniform {self.lower:g} to {self.upper:g}: lower must be less")

    def negative_log(self, value: Array) -> Array:
        """-log of the density, infinite outside."""
        is_inside = (value >= self.lower) & (value <= self.upper)
        return jnp.where(is_inside, math.log(self.upper - self.lower), jnp.inf)


Prior = Normal | Laplace | LogNormal | LogLaplace | Uniform


def _check_positive(what: str, value: float) -> None:
    if not value > 0:
        raise InvalidInput(f"{what} is {value:g}; give a positive number")
