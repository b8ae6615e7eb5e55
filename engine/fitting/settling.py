"""Noises, scales and offsets at their best for given paths: no integration is needed for them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.fitting.petab_problem import PetabProblem
from engine.optimise.gauss_newton import GaussNewton, State
from engine.optimise.objective import Local
from engine.optimise.space import Space
from engine.optimise.status import FitStatus

Array = Any
_MAX_STEPS = 60


@dataclass(frozen=True, eq=False)
class HeldPaths:
    """The likelihood as a function of the parameters that move no state, the paths held.

    Args:
        problem: the problem.
        theta: all parameters, linear scale, (P,).
        states: the state of each measurement, (N, S).
        has_priors: add -log of the priors.
    """

    problem: PetabProblem
    theta: Array
    states: Array
    has_priors: bool

    @cached_property
    def space(self) -> Space:
        """The parameters that move no state."""
        parameters = self.problem.space.parameters
        return Space([parameters[i] for i in unmoving(self.problem)])

    @property
    def _places(self) -> np.ndarray:
        """Positions of these parameters among all P."""
        table = self.problem.tables.parameters
        return np.flatnonzero(table.is_estimated)[unmoving(self.problem)]

    def _predicted(self, point: Array) -> Any:
        theta = self.theta.at[self._places].set(self.space.linear(point))
        return self.problem.rows.predict(theta, self.states)

    def value(self, point: Array) -> Array:
        """The negative log-likelihood, and priors where they count."""
        value = self.problem.rows.negative_log_likelihood(self._predicted(point))
        prior = self.space.negative_log_prior(point) if self.has_priors else 0.0
        return jnp.where(jnp.isfinite(value), value, jnp.inf) + prior

    def local(self, point: Array) -> Local:
        """Value, gradient and expected Fisher information."""
        predicted = self._predicted(point)
        jacobians = jax.jacfwd(self._predicted)(point)
        by_row = jax.grad(self.problem.rows.negative_log_likelihood)(predicted)
        gradient = sum(g @ j for g, j in zip(by_row, jacobians, strict=True))
        curvature = self.problem.information(predicted.scale, *jacobians)
        if self.has_priors:
            prior = self.space.negative_log_prior
            gradient = gradient + jax.grad(prior)(point)
            curvature = curvature + jnp.diag(jnp.maximum(jnp.diag(jax.hessian(prior)(point)), 0.0))
        return Local(self.value(point), gradient, curvature)


def unmoving(problem: PetabProblem) -> np.ndarray:
    """Positions, among the estimated parameters, of those on which no path depends."""
    estimated = np.flatnonzero(problem.tables.parameters.is_estimated)
    return np.flatnonzero(~np.isin(estimated, problem.simulation.local))


def settled(objective: HeldPaths, point: Array) -> Array:
    """The best of the parameters that move no state, from a point of them; traceable."""
    optimiser = GaussNewton(max_steps=_MAX_STEPS)

    def advanced(state: State) -> State:
        return optimiser.step(objective, state)

    def is_running(state: State) -> Array:
        return state.status == int(FitStatus.RUNNING)

    return jax.lax.while_loop(is_running, advanced, optimiser.start(objective, point)).point
