"""A network's deterministic methods as traceable functions of the parameters of a fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.kinetics.drift import drift, state_names
from engine.kinetics.evaluate import evaluate
from engine.methods import rate_equations
from engine.methods.linear_noise import LinearNoise, moment_equations
from engine.methods.lyapunov import positions
from engine.methods.ode import ODE
from engine.network.expressions import TIME, Call, Expression, symbols
from engine.network.network import ReactionNetwork
from engine.network.sbml_rates import in_order
from engine.optimise.space import Space

Array = Any


@dataclass(frozen=True, eq=False)
class NetworkCourse:
    """Means, or means and covariances, of one network at save times.

    Parameters of the space that are named like a parameter, compartment or species of the network
    set it (a species: its initial count); others (a noise, a scale) are left to the objective.

    Args:
        network: the network, without inputs and events.
        space: the parameters.
        ts: save times, increasing, (T,).
        method: `ODE()` or `LinearNoise()`.
    """

    network: ReactionNetwork
    space: Space
    ts: np.ndarray
    method: ODE | LinearNoise

    def __post_init__(self) -> None:
        object.__setattr__(self, "ts", rate_equations.save_times(self.ts))
        if self.network.events:
            raise InvalidInput(
                f"{self.network.name} has event '{self.network.events[0].name}', which this "
                "objective does not run; give the doses as separate stretches"
            )
        if not any(self.network.kind_of(n) in _SET for n in self.space.names):
            raise InvalidInput(
                f"no parameter of the fit ({', '.join(self.space.names)}) is in {self.network.name}"
            )
        fitted = {n for n in self.space.names if self.network.kind_of(n) in _SET}
        refuse_rounded_starts(self.network, fitted)

    @cached_property
    def rows(self) -> rate_equations.Rows:
        """The numbers of one patient at the network's own values."""
        x0 = np.array([[self.network.initial_values[n] for n in self.network.species_names]])
        num = len(state_names(self.network))
        extra = num * (num + 1) // 2 if isinstance(self.method, LinearNoise) else 0
        return rate_equations.prepare_rows(self.network, {}, x0, None, extra)

    def moments(self, point: Array) -> tuple[Array, Array, Array]:
        """Means (T, S), covariances (T, S, S) (zero for `ODE`) and success, at a point (P,)."""
        values = dict(zip(self.space.names, self.space.linear(point), strict=True))
        one = self.rows._replace(
            params=self.parameters(values),
            y0=jnp.asarray(self.rows.y0[0]),
            plan=rate_equations.Plan(*(jnp.asarray(a[0]) for a in self.rows.plan)),
        )
        one = one._replace(y0=initial_of(self.network, one.y0, one.params, values))
        system = moment_equations if isinstance(self.method, LinearNoise) else drift
        found, is_ok = rate_equations.solve_patient(
            self.method, system, self.network, (), jnp.asarray(self.ts), one, diffrax.ForwardMode()
        )
        num = len(state_names(self.network))
        if not isinstance(self.method, LinearNoise):
            return found, jnp.zeros((len(self.ts), num, num), found.dtype), is_ok
        return found[:, :num], found[:, num:][:, positions(num)], is_ok

    def parameters(self, values: dict[str, Array]) -> dict[str, Array]:
        """The network's: those of the fit, and those that are expressions of them."""
        return parameters_of(self.network, {n: v[0] for n, v in self.rows.params.items()}, values)


def parameters_of(
    network: ReactionNetwork, held: Mapping[str, Array], given: Mapping[str, Array]
) -> dict[str, Array]:
    """A network's parameters: those given, those that are expressions of them, those held."""
    found = {n: jnp.asarray(v) for n, v in held.items()}
    found |= {n: v for n, v in given.items() if network.kind_of(n) in _CONSTANT}
    others = {p.name: p.value for p in network.parameters if p.name not in given}
    for name, expression in in_order(others).items():
        if symbols(expression):
            found[name] = evaluate(expression, found, jnp, jnp.float64)
    return found


def initial_of(
    network: ReactionNetwork, y0: Array, params: Mapping[str, Array], given: Mapping[str, Array]
) -> Array:
    """A network's state at time 0, (S,): species given, and those that parameters set."""
    known = {TIME: jnp.zeros(()), **params}
    for i, species in enumerate(network.species):
        if species.name in given:
            y0 = y0.at[i].set(given[species.name])
        elif symbols(species.initial) and symbols(species.initial) <= known.keys():
            y0 = y0.at[i].set(evaluate(species.initial, known, jnp, jnp.float64))
    return y0


def refuse_rounded_starts(network: ReactionNetwork, fitted: set[str]) -> None:
    """Raise where something fitted sets an initial count through a rounding: it has no slope."""
    touched = set(fitted)
    for name, value in in_order({p.name: p.value for p in network.parameters}).items():
        if symbols(value) & touched:
            touched.add(name)
    for species in network.species:
        if species.name not in fitted and _is_rounded(species.initial):
            for name in symbols(species.initial) & touched:
                raise InvalidInput(
                    f"'{name}' depends on the fit and sets the initial count of "
                    f"'{species.name}' through a rounding, which has no slope; fix it, or give "
                    "the species an initial value that is not rounded"
                )


def _is_rounded(expression: Expression) -> bool:
    if not isinstance(expression, Call):
        return False
    return expression.function in ("floor", "ceil") or any(map(_is_rounded, expression.arguments))


_CONSTANT = ("parameter", "compartment")
_SET = (*_CONSTANT, "species")
