"""A PEtab problem as an objective for optimisers: a function of the estimated parameters."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from engine.fitting.petab_problem import PetabProblem
from engine.fitting.settling import HeldPaths, settled, unmoving
from engine.optimise.objective import Local
from engine.optimise.space import Space

Array = Any


@dataclass(frozen=True, eq=False)
class PetabObjective:
    """Negative log-likelihood, or negative log-posterior where the problem has priors.

    Derivatives come from forward sensitivities, and the curvature is the expected Fisher
    information plus the priors' curvature.

    Args:
        problem: the problem.
        has_priors: add -log of the objective priors; only problems that have some differ.
    """

    problem: PetabProblem
    has_priors: bool = True

    @property
    def space(self) -> Space:
        """The estimated parameters."""
        return self.problem.space

    def parameters(self, point: Array) -> Array:
        """All P parameters of the table, linear scale, at a point of the estimated ones."""
        table = self.problem.tables.parameters
        fixed = jnp.asarray(np.nan_to_num(table.nominal))
        return fixed.at[np.flatnonzero(table.is_estimated)].set(self.space.linear(point))

    def value(self, point: Array) -> Array:
        """The objective; its gradient (reverse mode) is that of `local`."""
        prior = self.space.negative_log_prior(point) if self.has_priors else 0.0
        return self._likelihood(point) + prior

    def settled(self, point: Array) -> Array:
        """The point with noises, scales and offsets at their best for the paths it has, (P,).

        What moves no state costs no integration, so it need not be searched at random
        (Schmiester et al. 2020, doi:10.1093/bioinformatics/btz581).
        """
        places = unmoving(self.problem)
        if not len(places):
            return point
        theta, simulation = self.parameters(point), self.problem.simulation
        paths, is_ok = simulation.paths(theta, diffrax.ForwardMode())
        held = HeldPaths(self.problem, theta, self.problem.rows.picked(paths), self.has_priors)
        found = point.at[places].set(settled(held, point[places]))
        return jnp.where(jnp.all(is_ok), found, point)

    def local(self, point: Array, observed: Array | None = None) -> Local:
        """Value, gradient and curvature on the transformed scale.

        Args:
            point: (P,).
            observed: other data than the problem's, transformed scales, (N,).
        """
        value, gradient, curvature = self._linearised(point, observed)
        if self.has_priors:
            prior = self.space.negative_log_prior
            value = value + prior(point)
            gradient = gradient + jax.grad(prior)(point)
            curvature = curvature + jnp.diag(jnp.maximum(jnp.diag(jax.hessian(prior)(point)), 0.0))
        return Local(value, gradient, curvature)

    def _linearised(
        self, point: Array, observed: Array | None = None
    ) -> tuple[Array, Array, Array]:
        estimated = np.flatnonzero(self.problem.tables.parameters.is_estimated)
        found = self.problem.linearised(self.parameters(point), observed)
        # Each parameter's own transform: the Jacobian of `linear` is diagonal.
        slope = jax.jvp(self.space.linear, (point,), (jnp.ones_like(point),))[1]
        gradient = found.gradient[estimated] * slope
        curvature = found.curvature[np.ix_(estimated, estimated)] * slope[:, None] * slope[None, :]
        return found.value, gradient, curvature

    @cached_property
    def _likelihood(self) -> Any:
        @jax.custom_vjp
        def likelihood(point: Array) -> Array:
            return self.problem.value(self.parameters(point))

        def forward(point: Array) -> tuple[Array, Array]:
            value, gradient, _ = self._linearised(point)
            return value, gradient

        def backward(gradient: Array, cotangent: Array) -> tuple[Array]:
            return (cotangent * gradient,)

        likelihood.defvjp(forward, backward)
        return likelihood
