"""What optimisers minimise: traceable functions of one point of a `Space`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from engine.optimise.space import Space

Array = Any


class Local(NamedTuple):
    """An objective near a point (P,).

    Attributes:
        value: the objective, ().
        gradient: (P,).
        curvature: a positive semi-definite approximation of the Hessian, (P, P).
    """

    value: Array
    gradient: Array
    curvature: Array


class Objective(Protocol):
    """A deterministic objective; its functions are pure and traceable, under x64."""

    @property
    def space(self) -> Space:
        """The parameters."""

    def value(self, point: Array) -> Array:
        """The objective at a point (P,); infinite where it is not defined. Differentiable."""

    def local(self, point: Array) -> Local:
        """Value, gradient and curvature at a point (P,)."""


@runtime_checkable
class Settling(Protocol):
    """An objective of which some parameters are cheap to optimise while the others are held."""

    def settled(self, point: Array) -> Array:
        """The point (P,) with the cheap parameters at their best; traceable."""


@dataclass(frozen=True)
class FunctionObjective:
    """An objective given as a function of the parameters on the linear scale.

    Its curvature is the Hessian, negative eigenvalues turned positive.

    Args:
        space: the parameters.
        function: traceable, of the values (P,).
    """

    space: Space
    function: Callable[[Array], Array]

    def value(self, point: Array) -> Array:
        """The function at a point, and the priors."""
        return self.function(self.space.linear(point)) + self.space.negative_log_prior(point)

    def local(self, point: Array) -> Local:
        """Value, gradient and Hessian, by automatic differentiation."""
        value, gradient = jax.value_and_grad(self.value)(point)
        hessian = jax.hessian(self.value)(point)
        sizes, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(hessian), hessian, 0.0))
        return Local(value, gradient, (vectors * jnp.abs(sizes)[None, :]) @ vectors.T)


@dataclass(frozen=True)
class LeastSquares:
    r"""Half the sum of squared residuals, with the Gauss-Newton curvature J^T J.

    Args:
        space: the parameters.
        residuals: traceable, of the values (P,) on the linear scale, to (N,), each divided by its
            standard deviation.
    """

    space: Space
    residuals: Callable[[Array], Array]

    def value(self, point: Array) -> Array:
        """Half the sum of squares, and the priors."""
        squares = jnp.sum(self.residuals(self.space.linear(point)) ** 2)
        return 0.5 * squares + self.space.negative_log_prior(point)

    def local(self, point: Array) -> Local:
        """Value, gradient and Gauss-Newton curvature."""

        def residuals(point: Array) -> Array:
            return self.residuals(self.space.linear(point))

        r, jacobian = residuals(point), jax.jacfwd(residuals)(point)
        prior = self.space.negative_log_prior
        return Local(
            0.5 * jnp.sum(r**2) + prior(point),
            jacobian.T @ r + jax.grad(prior)(point),
            jacobian.T @ jacobian + jax.hessian(prior)(point),
        )
