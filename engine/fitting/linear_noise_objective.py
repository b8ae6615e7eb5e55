"""Single-cell snapshots under the linear noise approximation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.fitting.network_course import NetworkCourse
from engine.kinetics.drift import state_names
from engine.methods.linear_noise import LinearNoise
from engine.network.network import ReactionNetwork
from engine.optimise.objective import Local
from engine.optimise.space import Space

Array = Any


@dataclass(frozen=True, eq=False)
class LinearNoiseObjective:
    r"""Negative log-likelihood of cells, each seen once, under the linear noise approximation.

    .. math:: -\sum_t \sum_{c \in t} \log N(x_c; m(t), C(t) + \sigma^2 I)

    with m and C of `LinearNoise`. Its curvature is the expected Fisher information, which counts
    what variances and covariances say of the parameters, not only means. Exact in law only where
    linear noise is (laws affine in the counts, large counts); see `LinearNoise`.

    Args:
        network: the network.
        space: parameters of the network, or species (their initial count).
        ts: times of the snapshots, increasing, (T,); a time 0 needs a noise.
        cells: for each observed species the counts in each snapshot, T arrays (n_t,), the cells in
            the same order for every species.
        noise: standard deviation of the measurement in molecules; 0.
        method: tolerances.

    Example:
        >>> objective = LinearNoiseObjective(network, space, ts, cells)  # doctest: +SKIP

    References:
        Komorowski et al. 2009, doi:10.1186/1471-2105-10-343; Komorowski et al. 2011,
        doi:10.1073/pnas.1015814108 (information).
    """

    network: ReactionNetwork
    space: Space
    ts: np.ndarray
    cells: Mapping[str, Sequence[np.ndarray]]
    noise: float = 0.0
    method: LinearNoise = field(default_factory=LinearNoise)

    def __post_init__(self) -> None:
        for name, snapshots in self.cells.items():
            self.network.require(name, "species", what="cells")
            if len(snapshots) != len(self.ts):
                raise InvalidInput(
                    f"cells of '{name}' are {len(snapshots)} snapshots, ts has {len(self.ts)} times"
                )
        sizes = {tuple(len(s) for s in snapshots) for snapshots in self.cells.values()}
        if len(sizes) != 1 or min(next(iter(sizes))) < 2:
            raise InvalidInput("every species needs the same cells, two or more in each snapshot")
        if self.noise < 0 or (self.noise == 0 and self.ts[0] == 0):
            raise InvalidInput("noise must be positive where a snapshot is at time 0")
        _ = self.course  # refuses what it cannot use

    @cached_property
    def course(self) -> NetworkCourse:
        """Means and covariances."""
        return NetworkCourse(self.network, self.space, self.ts, self.method)

    @cached_property
    def summaries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of cells (T,), their means (T, O) and covariances (T, O, O)."""
        stacked = [
            np.stack([np.asarray(s[t], np.float64) for s in self.cells.values()])
            for t in range(len(self.ts))
        ]
        covariances = [np.cov(x, bias=True).reshape(len(x), len(x)) for x in stacked]
        means = np.stack([x.mean(axis=1) for x in stacked])
        return np.array([x.shape[1] for x in stacked], float), means, np.stack(covariances)

    def predict(self, point: Array) -> tuple[Array, Array, Array]:
        """Means (T, O), covariances (T, O, O) of the observed species, and success."""
        means, covariances, is_ok = self.course.moments(point)
        names = state_names(self.network)
        seen = np.array([names.index(name) for name in self.cells])
        noisy = covariances[:, seen[:, None], seen[None, :]]
        return means[:, seen], noisy + self.noise**2 * jnp.eye(len(seen))[None], is_ok

    def value(self, point: Array) -> Array:
        """The objective, infinite where the moments have none."""
        predicted = self.predict(point)
        return self._value(*predicted) + self.space.negative_log_prior(point)

    def local(self, point: Array) -> Local:
        """Value, gradient and expected Fisher information, by forward mode."""

        def moments(point: Array) -> tuple[Array, Array]:
            return self.predict(point)[:2]

        means, covariances, is_ok = self.predict(point)
        by_mean, by_covariance = jax.jacfwd(moments)(point)
        value = self._value(means, covariances, is_ok)
        slopes = jax.grad(self._value, argnums=(0, 1))(means, covariances, is_ok)
        gradient = jnp.einsum("to,top->p", slopes[0], by_mean)
        gradient = gradient + jnp.einsum("tij,tijp->p", slopes[1], by_covariance)
        count = jnp.asarray(self.summaries[0])
        inverse = jnp.linalg.inv(covariances)
        curvature = jnp.einsum("t,tip,tij,tjq->pq", count, by_mean, inverse, by_mean)
        turned = jnp.einsum("tij,tjkp->tikp", inverse, by_covariance)
        curvature = curvature + 0.5 * jnp.einsum("t,tikp,tkiq->pq", count, turned, turned)
        prior = self.space.negative_log_prior
        return Local(
            value + prior(point),
            gradient + jax.grad(prior)(point),
            curvature + jnp.diag(jnp.maximum(jnp.diag(jax.hessian(prior)(point)), 0.0)),
        )

    def _value(self, means: Array, covariances: Array, is_ok: Array) -> Array:
        count, seen, scatter = (jnp.asarray(a) for a in self.summaries)
        sign, size = jnp.linalg.slogdet(covariances)
        away = seen - means
        inverse = jnp.linalg.inv(covariances)
        spread = jnp.einsum("tij,tji->t", inverse, scatter)
        distance = jnp.einsum("ti,tij,tj->t", away, inverse, away)
        constant = seen.shape[1] * math.log(2.0 * math.pi)
        value = 0.5 * jnp.sum(count * (size + spread + distance + constant))
        is_good = is_ok & jnp.all(sign > 0) & jnp.isfinite(value)
        return jnp.where(is_good, value, jnp.inf)
