"""Measured means of a network against its rate equations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.fitting.network_course import NetworkCourse
from engine.kinetics.drift import environment
from engine.methods.ode import ODE
from engine.network.network import ReactionNetwork
from engine.optimise.likelihoods import Gaussian, Likelihood, fisher_weights
from engine.optimise.objective import Local
from engine.optimise.space import Space

Array = Any


@dataclass(frozen=True, eq=False)
class CourseObjective:
    """Negative log-likelihood of time courses of species or assignment rules.

    Args:
        network: the network.
        space: parameters of the network, species (initial counts), and noises by name.
        ts: times of the data, increasing, (T,).
        data: for each species or rule its values, (T,); NaN where there is none.
        scale: of the noise, for each name of `data`: a number, or a parameter of the space.
        likelihood: `Gaussian()`, `LogNormal()` or `Laplace()`.
        method: tolerances.

    Example:
        >>> objective = CourseObjective(network, space, ts, data, scale)  # doctest: +SKIP
    """

    network: ReactionNetwork
    space: Space
    ts: np.ndarray
    data: Mapping[str, np.ndarray]
    scale: Mapping[str, float | str]
    likelihood: Likelihood = field(default_factory=Gaussian)
    method: ODE = field(default_factory=ODE)

    def __post_init__(self) -> None:
        for name, values in self.data.items():
            self.network.require(name, "species", "rule", what="data")
            if np.shape(values) != (len(self.ts),):
                raise InvalidInput(f"data of '{name}' have shape {np.shape(values)}; give (T,)")
            scale = self.scale.get(name)
            if scale is None or (isinstance(scale, str) and scale not in self.space.names):
                raise InvalidInput(
                    f"the noise of '{name}' is {scale!r}; give a number or a parameter of the fit"
                )
        _ = self.course  # refuses what it cannot use

    @cached_property
    def course(self) -> NetworkCourse:
        """The rate equations."""
        return NetworkCourse(self.network, self.space, self.ts, self.method)

    def predict(self, point: Array) -> tuple[Array, Array, Array]:
        """Predictions and scales of the noise, (O, T) each, and success."""
        means, _, is_ok = self.course.moments(point)
        values = dict(zip(self.space.names, self.space.linear(point), strict=True))
        params = self.course.parameters(values)
        environment_of = environment(self.network)

        def at(t: Array, x: Array) -> Array:
            known = environment_of(t, x, params, {})
            return jnp.stack([known[name] for name in self.data])

        found = jax.vmap(at)(jnp.asarray(self.course.ts), means).T
        scales = [
            values[s] if isinstance(s, str) else jnp.asarray(float(s))
            for s in (self.scale[name] for name in self.data)
        ]
        return found, jnp.broadcast_to(jnp.stack(scales)[:, None], found.shape), is_ok

    def value(self, point: Array) -> Array:
        """The objective, infinite where the equations could not be solved."""
        return self._value(*self.predict(point)) + self.space.negative_log_prior(point)

    def local(self, point: Array) -> Local:
        """Value, gradient and expected Fisher information, by forward mode."""

        def both(point: Array) -> tuple[Array, Array]:
            return self.predict(point)[:2]

        found, scales, is_ok = self.predict(point)
        by_mean, by_scale = jax.jacfwd(both)(point)
        value = self._value(found, scales, is_ok)
        slopes = jax.grad(self._value, argnums=(0, 1))(found, scales, is_ok)
        gradient = sum(
            jnp.einsum("ot,otp->p", s, j) for s, j in zip(slopes, (by_mean, by_scale), strict=True)
        )
        seen = jnp.asarray(~np.isnan(self._observed)).astype(found.dtype)
        weight, noise = fisher_weights(self.likelihood, found, scales)
        curvature = jnp.einsum("ot,otp,otq->pq", weight * seen, by_mean, by_mean)
        curvature = curvature + jnp.einsum("ot,otp,otq->pq", noise * seen, by_scale, by_scale)
        prior = self.space.negative_log_prior
        return Local(
            value + prior(point),
            gradient + jax.grad(prior)(point),
            curvature + jnp.diag(jnp.maximum(jnp.diag(jax.hessian(prior)(point)), 0.0)),
        )

    @cached_property
    def _observed(self) -> np.ndarray:
        return np.stack([np.asarray(v, np.float64) for v in self.data.values()])

    def _value(self, found: Array, scales: Array, is_ok: Array) -> Array:
        is_seen = ~np.isnan(self._observed)
        observed = jnp.asarray(np.where(is_seen, self._observed, 1.0))
        each = self.likelihood.negative_log(observed, found, scales)
        value = jnp.sum(jnp.where(is_seen, each, 0.0))
        return jnp.where(is_ok & jnp.isfinite(value), value, jnp.inf)
