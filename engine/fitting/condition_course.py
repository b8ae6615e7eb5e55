"""One network under many conditions: outputs at rows of data, with forward sensitivities."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.fitting.measurements import Measurements
from engine.fitting.network_course import initial_of, parameters_of, refuse_rounded_starts
from engine.kinetics.drift import drift, environment, resolve_parameters, state_names
from engine.kinetics.evaluate import evaluate
from engine.methods import rate_equations
from engine.methods.ode import ODE
from engine.network.expressions import Expression, symbols
from engine.network.network import ReactionNetwork, hint
from engine.optimise.space import Space

Array = Any
_CONSTANT = ("parameter", "compartment")
_SET = (*_CONSTANT, "input", "species")


@dataclass(frozen=True, eq=False)
class ConditionCourse:
    """Species and rules of a network at the rows of a table, all conditions side by side.

    A name of the space or of a condition that is a parameter, compartment, species (its initial
    count) or input (constant in time) of the network sets it; `links` compute further ones.

    Args:
        network: the network, without events.
        space: parameters of the fit.
        data: the rows.
        outputs: names of species and assignment rules, O of them.
        links: expressions of names of the space and of conditions, by the name they set.
        method: tolerances.
    """

    network: ReactionNetwork
    space: Space
    data: Measurements
    outputs: tuple[str, ...]
    links: Mapping[str, Expression]
    method: ODE

    def __post_init__(self) -> None:
        if self.network.events:
            raise InvalidInput(
                f"{self.network.name} has event '{self.network.events[0].name}', which this "
                "objective does not run"
            )
        known = {*self.space.names, *self.data.conditions}
        for target, link in self.links.items():
            self.network.require(target, *_SET, what="a link")
            for name in symbols(link) - known:
                raise InvalidInput(
                    f"'{name}' in the link of '{target}' is neither a parameter of the fit nor a "
                    f"condition{hint(name, known)}"
                )
        linked = set().union(*map(symbols, self.links.values()))
        for name in self.data.conditions:
            if self.network.kind_of(name) not in _SET and name not in linked:
                near = hint(name, self.network.known_names)
                raise InvalidInput(f"condition '{name}' sets nothing of {self.network.name}{near}")
        for item in self.network.inputs:
            if item.name not in known and item.name not in self.links:
                raise InvalidInput(
                    f"input '{item.name}' of {self.network.name} has no value; make it a condition"
                )
        fitted = {n for n in self.space.names if self.network.kind_of(n) in _SET}
        fitted |= {t for t, e in self.links.items() if symbols(e) & set(self.space.names)}
        refuse_rounded_starts(self.network, fitted)

    @property
    def moving(self) -> list[int]:
        """Positions of the parameters of the fit on which the states depend."""
        linked = set().union(*map(symbols, self.links.values()))
        is_moving = [n in linked or self.network.kind_of(n) in _SET for n in self.space.names]
        return [i for i, moves in enumerate(is_moving) if moves]

    def outputs_of(self, point: Array) -> tuple[Array, Array]:
        """Outputs at the rows, (N, O), and success of every condition together."""
        columns = {n: jnp.asarray(c) for n, c in self.data.condition_values.items()}
        values = dict(zip(self.space.names, self.space.linear(point), strict=True))
        found, is_ok = jax.vmap(partial(self._one, values), axis_size=self.data.num_conditions)(
            columns
        )
        return found[self.data.row_condition, self.data.row_time], jnp.all(is_ok)

    def with_slopes(self, point: Array) -> tuple[Array, Array, Array]:
        """Outputs (N, O), their slopes by the point (N, O, P), and success.

        Only the directions that move the states are integrated.
        """

        def pushed(direction: Array) -> tuple[Array, Array, Array]:
            value, slope, is_ok = jax.jvp(self.outputs_of, (point,), (direction,), has_aux=True)
            return value, slope, is_ok

        slopes = jnp.zeros((len(self.data), len(self.outputs), len(point)), point.dtype)
        if not self.moving:
            value, is_ok = self.outputs_of(point)
            return value, slopes, is_ok
        basis = jnp.eye(len(point), dtype=point.dtype)[jnp.array(self.moving)]
        value, found, is_ok = jax.vmap(pushed, out_axes=(None, -1, None))(basis)
        return value, slopes.at[..., jnp.array(self.moving)].set(found), is_ok

    def _one(self, values: dict[str, Array], condition: dict[str, Array]) -> tuple[Array, Array]:
        """Outputs of one condition, (T, O), and success."""
        ts = jnp.asarray(self._times)
        given = {**values, **condition}
        given |= {n: evaluate(e, given, jnp, jnp.float64) for n, e in self.links.items()}
        held, start = self._held
        params = parameters_of(self.network, held, given)
        inputs = {i.name: jnp.asarray(given[i.name]) for i in self.network.inputs}
        y0 = initial_of(self.network, jnp.asarray(start), params, given)
        rows = rate_equations.Rows(params, y0, _constant_plan(inputs, len(y0)))
        entries = tuple((name, i, i + 1) for i, name in enumerate(inputs))
        states, is_ok = rate_equations.solve_patient(
            self.method, drift, self.network, entries, ts, rows, diffrax.ForwardMode()
        )
        environment_of = environment(self.network)

        def at(t: Array, x: Array) -> Array:
            known = environment_of(t, x, params, inputs)
            return jnp.stack([known[name] for name in self.outputs])

        return jax.vmap(at)(ts, states), is_ok

    @cached_property
    def _times(self) -> np.ndarray:
        """Save times; the solver needs some time to pass."""
        return rate_equations.save_times(self.data.save_times)

    @cached_property
    def _held(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The network's own numbers: parameters by name, and the state at time 0, (S,)."""
        initial = self.network.initial_values
        state = np.array([float(initial[n]) for n in state_names(self.network)])
        return resolve_parameters(self.network, {}), state


def _constant_plan(inputs: Mapping[str, Array], num_states: int) -> rate_equations.Plan:
    """Inputs that keep their level and a null dose at time 0."""
    level = jnp.stack([*inputs.values()]) if inputs else jnp.zeros(0)
    none = jnp.zeros_like(level)
    return rate_equations.Plan(
        rates=none,
        initial=level,
        gains=none,
        times=jnp.zeros(1),
        keep=jnp.ones((1, len(inputs))),
        increments=none[None],
        state_increments=jnp.zeros((1, num_states)),
    )
