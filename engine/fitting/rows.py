"""Measurements: what is predicted for each, and how likely it is."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from engine.fitting.simulation import Simulation
from engine.fitting.tables import Observable, Tables
from engine.kinetics.evaluate import evaluate
from engine.network.expressions import TIME, symbols

Array = Any
_LN10 = math.log(10.0)


class Predicted(NamedTuple):
    """Predictions of the N measurements on their transformed scales."""

    location: Array  # (N,)
    scale: Array  # standard deviation or Laplace scale, (N,)


@dataclass(frozen=True, eq=False)
class Rows:
    r"""The likelihood of measurements given states.

    With h the observable's transformation, a measurement m, prediction y and noise sigma,

    .. math:: -\log p = \log(\sqrt{2 \pi} \sigma) + (h(m) - h(y))^2 / (2 \sigma^2) - \log h'(m)

    for normal noise and log(2 sigma) + |h(m) - h(y)| / sigma - log h'(m) for Laplace noise.

    Args:
        simulation: what the states come from.
    """

    simulation: Simulation

    @property
    def tables(self) -> Tables:
        """The problem."""
        return self.simulation.tables

    def picked(self, paths: Array) -> Array:
        """The state of each measurement, (N, S, ...), from paths (L, T + 1, S, ...)."""
        return paths[self.tables.lanes.of_row, self.tables.lanes.time_of_row]

    def predict(self, theta: Array, states: Array) -> Predicted:
        """Predictions at parameters (P,) and states (N, S)."""
        constants, pool = self.simulation.constants(theta), self.simulation.pool(theta)
        location = jnp.zeros(len(states), states.dtype)
        scale = jnp.ones(len(states), states.dtype)
        for observable in self.tables.observables:
            y, noise = self._one(observable, theta, pool, constants, states)
            location = location.at[observable.rows].set(_transformed(observable, y))
            scale = scale.at[observable.rows].set(noise)
        return Predicted(location, scale)

    def _one(
        self, observable: Observable, theta: Array, pool: Array, constants: Any, states: Array
    ) -> tuple[Array, Array]:
        """The observable and its noise at its rows, (M,)."""
        model, rows = self.tables.model, observable.rows
        lanes, shape, dtype = self.tables.lanes.of_row[rows], (len(rows),), states.dtype
        wanted = symbols(observable.formula) | symbols(observable.noise)
        needed = set(wanted)
        for name in reversed(list(model.rules)):
            if name in needed:
                needed |= symbols(model.rules[name])
        values = {name: pool[index] for name, index in observable.placeholders.items()}
        for i, name in enumerate(model.states):
            if name in needed:
                values[name] = states[rows, i]
        for name in needed & constants.keys():
            values[name] = constants[name][lanes]
        values[TIME] = jnp.asarray(self._times[rows], dtype)
        for i, name in enumerate(self.tables.parameters.names):
            if name in needed and name not in values:
                values[name] = theta[i]
        for name, rule in model.rules.items():
            if name in needed:
                values[name] = jnp.broadcast_to(evaluate(rule, values, jnp, dtype), shape)
        y = jnp.broadcast_to(evaluate(observable.formula, values, jnp, dtype), shape)
        values[observable.name] = y
        noise = evaluate(observable.noise, values, jnp, dtype)
        return y.astype(dtype), jnp.broadcast_to(noise, shape).astype(dtype)

    @property
    def _times(self) -> np.ndarray:
        lanes = self.tables.lanes
        return lanes.times[lanes.of_row, lanes.time_of_row]

    @property
    def observed(self) -> np.ndarray:
        """Measurements on their transformed scales, (N,)."""
        found = np.array(self.tables.measurements)
        for observable in self.tables.observables:
            m = found[observable.rows]
            if observable.transformation != "lin":
                log = np.log if observable.transformation == "log" else np.log10
                found[observable.rows] = log(m)
        return found

    def untransformed(self, location: np.ndarray) -> np.ndarray:
        """Predictions in the units of the measurements, (N,)."""
        found = np.array(location)
        for observable in self.tables.observables:
            if observable.transformation != "lin":
                base = math.e if observable.transformation == "log" else 10.0
                found[observable.rows] = base ** found[observable.rows]
        return found

    @property
    def is_laplace(self) -> np.ndarray:
        """Which measurements have Laplace noise, (N,)."""
        found = np.zeros(len(self.tables.measurements), bool)
        for observable in self.tables.observables:
            found[observable.rows] = observable.distribution == "laplace"
        return found

    @property
    def log_slopes(self) -> float:
        """The sum of -log h'(m) over measurements."""
        total = 0.0
        for observable in self.tables.observables:
            m = self.tables.measurements[observable.rows]
            if observable.transformation != "lin":
                factor = 1.0 if observable.transformation == "log" else _LN10
                total += float(np.sum(np.log(factor * m)))
        return total

    def negative_log_likelihood(self, predicted: Predicted, observed: Array | None = None) -> Array:
        """The sum over measurements; infinite or NaN where a prediction is not possible.

        Args:
            predicted: predictions.
            observed: other data on the transformed scales, (N,); the term of the transformations
                stays that of the problem's.
        """
        location, scale = predicted
        z = (jnp.asarray(self.observed if observed is None else observed) - location) / scale
        is_laplace = jnp.asarray(self.is_laplace)
        each = jnp.where(
            is_laplace,
            jnp.abs(z) + math.log(2.0),
            0.5 * z**2 + 0.5 * math.log(2.0 * math.pi),
        )
        return jnp.sum(each + jnp.log(scale)) + self.log_slopes


def _transformed(observable: Observable, y: Array) -> Array:
    if observable.transformation == "lin":
        return y
    logarithm = jnp.log(y)
    return logarithm if observable.transformation == "log" else logarithm / _LN10
