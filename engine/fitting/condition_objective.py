"""Measurements under many conditions against one network's rate equations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.fitting.condition_course import ConditionCourse
from engine.fitting.measurements import Measurements, grouped
from engine.kinetics.evaluate import evaluate
from engine.methods.ode import ODE
from engine.network.expressions import Expression, parse, symbols
from engine.network.network import ReactionNetwork, hint
from engine.optimise.likelihoods import Gaussian, Likelihood, fisher_weights
from engine.optimise.objective import Local
from engine.optimise.space import Space

Array = Any


@dataclass(frozen=True, eq=False)
class ConditionObjective:
    r"""Negative log-likelihood of rows of measurements, all conditions solved side by side.

    .. math:: m_i \sim p(\cdot \mid g(x(t_i; \theta, c_i), \theta, \ell_i), \sigma(\theta, \ell_i))

    with x the rate equations under the condition c_i of row i, g the observable, and l_i the
    row's labels. One compilation for all conditions and values; the equations are differentiated
    (forward mode) only in the directions that move them, not in scales, offsets or noises.

    Args:
        network: the network; an input is constant in time under a condition.
        space: parameters of the fit: those of the network by name, and those of the formulas.
        data: the measurements.
        observable: formula of what is measured, of species and rules of the network, parameters
            of the fit, groups and conditions.
        noise: formula of the likelihood's scale, of the same names.
        groups: names in the formulas that have a parameter for each group of rows, with the
            labels that make the groups; see `per_group`.
        links: formulas of parameters, inputs or initial counts of the network, of parameters of
            the fit and conditions, by the name that they set.
        likelihood: `Gaussian()`, `LogNormal()` or `Laplace()`.
        method: tolerances.

    Raises:
        InvalidInput: a name that means nothing, a condition that sets nothing, a group without a
            parameter, a parameter of the fit that nothing uses.

    Example:
        >>> from engine.network.rate_laws import MassAction
        >>> from engine.network.reactions import Reaction
        >>> from engine.optimise.space import Bounded
        >>> network = ReactionNetwork({"X": 100}, [Reaction("X -> 0", MassAction("k"))], {"k": 1.0})
        >>> data = Measurements([1.0, 1.0], [40.0, 10.0], {"dose": [1.0, 2.0]})
        >>> objective = ConditionObjective(
        ...     network, Space([Bounded("potency", 0.1, 9.0)]), data, "X", "5.0",
        ...     links={"k": "potency * dose"},
        ... )
        >>> with jax.enable_x64(True):
        ...     found, _, _ = objective.predict(jnp.array([1.0]))
        >>> [round(float(x), 2) for x in found]
        [36.79, 13.53]
    """

    network: ReactionNetwork
    space: Space
    data: Measurements
    observable: str | Expression
    noise: str | Expression
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    links: Mapping[str, str | Expression] = field(default_factory=dict)
    likelihood: Likelihood = field(default_factory=Gaussian)
    method: ODE = field(default_factory=ODE)

    def __post_init__(self) -> None:
        outputs = self.network.species_names + tuple(self.network.rules)
        known = {*self.space.names, *self.groups, *self.data.conditions, *outputs}
        for name in self._symbols - known:
            raise InvalidInput(f"'{name}' in a formula of the fit is unknown{hint(name, known)}")
        linked = set().union(*map(symbols, self._links.values()))
        for name in self.space.names:
            is_used = name in {*self._symbols, *linked, *self.network.known_names}
            if not is_used and name.partition("[")[0] not in self.groups:
                raise InvalidInput(f"nothing uses parameter '{name}' of the fit; leave it out")
        # Both refuse what they cannot use.
        _ = self.course, self._members

    @cached_property
    def course(self) -> ConditionCourse:
        """The rate equations."""
        outputs = (*self.network.species_names, *self.network.rules)
        used = tuple(name for name in outputs if name in self._symbols)
        return ConditionCourse(self.network, self.space, self.data, used, self._links, self.method)

    def on(self, data: Measurements) -> "ConditionObjective":
        """The same fit on other rows, such as those held out.

        Raises:
            InvalidInput: a group of rows for which the fit has no parameter.
        """
        return replace(self, data=data)

    def predict(self, point: Array) -> tuple[Array, Array, Array]:
        """Predictions and scales of the noise, (N,) each, and success."""
        outputs, is_ok = self.course.outputs_of(point)
        return (*self._observed(outputs, point), is_ok)

    def with_slopes(self, point: Array) -> tuple[tuple[Array, Array], tuple[Array, Array], Array]:
        """Predictions and scales (N,), their slopes by the point (N, P), and success."""
        outputs, by_point, is_ok = self.course.with_slopes(point)

        def pushed(direction: Array, change: Array) -> tuple[Any, Any]:
            return jax.jvp(self._observed, (outputs, point), (change, direction))

        basis = jnp.eye(len(point), dtype=point.dtype)
        both, slopes = jax.vmap(pushed, in_axes=(0, -1), out_axes=(None, -1))(basis, by_point)
        return both, slopes, is_ok

    def value(self, point: Array) -> Array:
        """The objective, infinite where the equations could not be solved."""
        found, scales, is_ok = self.predict(point)
        return self._value(found, scales, is_ok) + self.space.negative_log_prior(point)

    def local(self, point: Array) -> Local:
        """Value, gradient and expected Fisher information, by forward mode."""
        (found, scales), (by_mean, by_scale), is_ok = self.with_slopes(point)
        slopes = jax.grad(self._value, argnums=(0, 1))(found, scales, is_ok)
        weights = fisher_weights(self.likelihood, found, scales)
        curvature = sum(
            jnp.einsum("n,np,nq->pq", w, j, j)
            for w, j in zip(weights, (by_mean, by_scale), strict=True)
        )
        gradient = slopes[0] @ by_mean + slopes[1] @ by_scale
        prior = self.space.negative_log_prior
        return Local(
            self._value(found, scales, is_ok) + prior(point),
            gradient + jax.grad(prior)(point),
            curvature + jnp.diag(jnp.maximum(jnp.diag(jax.hessian(prior)(point)), 0.0)),
        )

    @cached_property
    def _links(self) -> dict[str, Expression]:
        return {name: _parsed(link) for name, link in self.links.items()}

    @cached_property
    def _symbols(self) -> frozenset[str]:
        return symbols(_parsed(self.observable)) | symbols(_parsed(self.noise))

    @cached_property
    def _members(self) -> dict[str, np.ndarray]:
        """For each group the position in the space of each row's parameter, (N,)."""
        found = {}
        for name, labels in self.groups.items():
            levels, rows = np.unique(self.data.levels(labels).astype(str), return_inverse=True)
            names = [grouped(name, level) for level in levels]
            for parameter in names:
                if parameter not in self.space.names:
                    raise InvalidInput(
                        f"'{parameter}' is not estimated{hint(parameter, self.space.names)}; "
                        "add it with per_group"
                    )
            found[name] = np.array([self.space.names.index(n) for n in names])[rows]
        return found

    def _observed(self, outputs: Array, point: Array) -> tuple[Array, Array]:
        """The observable and its noise at the rows, (N,), of outputs (N, O)."""
        linear = self.space.linear(point)
        values = dict(zip(self.space.names, linear, strict=True))
        values |= {n: jnp.asarray(c) for n, c in self.data.conditions.items()}
        values |= {n: linear[at] for n, at in self._members.items()}
        values |= {name: outputs[:, i] for i, name in enumerate(self.course.outputs)}
        shape = (len(self.data),)
        found = evaluate(_parsed(self.observable), values, jnp, jnp.float64)
        noise = evaluate(_parsed(self.noise), values, jnp, jnp.float64)
        return jnp.broadcast_to(found, shape), jnp.broadcast_to(noise, shape)

    def _value(self, found: Array, scales: Array, is_ok: Array) -> Array:
        value = jnp.sum(self.likelihood.negative_log(jnp.asarray(self.data.values), found, scales))
        return jnp.where(is_ok & jnp.isfinite(value), value, jnp.inf)


def _parsed(formula: str | Expression) -> Expression:
    return parse(formula) if isinstance(formula, str) else formula
