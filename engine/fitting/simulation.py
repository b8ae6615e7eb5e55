"""Every condition of a problem side by side, and how its paths change with the parameters."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.fitting.dynamics import Dynamics, Given, Solver
from engine.fitting.steady import steady_state
from engine.fitting.tables import Conditions, Tables
from engine.network.expressions import symbols

Array = Any


@dataclass(frozen=True, eq=False)
class Simulation:
    """The paths of every lane as functions of the parameters (P,), linear scale.

    Lanes are vmapped with padded save times: one compilation for all conditions.

    Args:
        tables: the problem.
        solver: tolerances.
        is_implicit: differentiate steady states implicitly (see `steady_state`).
    """

    tables: Tables
    solver: Solver
    is_implicit: bool = True

    def __post_init__(self) -> None:
        _check_values(self.tables)

    @cached_property
    def dynamics(self) -> Dynamics:
        """The equations."""
        return Dynamics(self.tables.model, self.tables.open, self.solver)

    @cached_property
    def moving(self) -> np.ndarray:
        """Positions of the estimated parameters that the paths depend on, (D,)."""
        tables = self.tables
        used = [
            part.index[part.is_given] for part in (tables.before, tables.lanes) if part.index.size
        ]
        positions = np.unique(np.concatenate([*used, np.zeros(0, int)]))
        estimated = np.flatnonzero(tables.parameters.is_estimated)
        return np.intersect1d(positions, estimated)

    def pool(self, theta: Array) -> Array:
        """Parameters and the numbers behind them."""
        return jnp.concatenate([theta, jnp.asarray(self.tables.numbers, theta.dtype)])

    def constants(self, theta: Array) -> dict[str, Array]:
        """Every constant of the model in every lane, (L,)."""
        given = self._given(self.pool(theta), self.tables.lanes)
        return jax.vmap(lambda one: self.dynamics.start(one)[1])(given)

    def paths(self, theta: Array, adjoint: Any) -> tuple[Array, Array]:
        """States at the save times and, last, at rest, (L, T + 1, S); success of each lane, (L,).

        The last row is the steady state where a measurement asks for it, else the last state.
        """
        tables = self.tables
        pool = self.pool(theta)
        rested, is_rested = self._rested(pool, adjoint)

        def lane(given: Given, is_reset: Array, before: Array, ts: Array) -> tuple[Array, Array]:
            x0, constants = self.dynamics.start(given)
            is_ok = jnp.asarray(True)
            if rested is not None:
                known = jnp.maximum(before, 0)
                keeps = (before >= 0) & ~is_reset
                x0 = jnp.where(keeps, rested[known], x0)
                is_ok = is_rested[known] | (before < 0)
            values, is_done = self.dynamics.path(x0, constants, ts, adjoint)
            last, is_still = values[-1], jnp.asarray(True)
            if self._has_end:
                last, is_still = steady_state(
                    self.dynamics, x0, constants, is_implicit=self.is_implicit, adjoint=adjoint
                )
            return jnp.concatenate([values, last[None]]), is_ok & is_done & is_still

        return jax.vmap(lane)(
            self._given(pool, tables.lanes),
            jnp.asarray(self._resets),
            jnp.asarray(tables.before_of),
            jnp.asarray(tables.times),
        )

    def sensitivities(self, theta: Array) -> tuple[Array, Array, Array]:
        """Paths (L, T + 1, S), their derivatives (L, T + 1, S, D) by `moving`, and success."""

        def of_moving(values: Array) -> tuple[Array, tuple[Array, Array]]:
            found, is_ok = self.paths(theta.at[self.moving].set(values), diffrax.ForwardMode())
            return found, (found, is_ok)

        slopes, (values, is_ok) = jax.jacfwd(of_moving, has_aux=True)(theta[self.moving])
        return values, slopes, is_ok

    @cached_property
    def _resets(self) -> np.ndarray:
        """Whether a lane's condition sets each state anew after pre-equilibration, (L, S)."""
        tables = self.tables
        found = np.zeros((len(tables.times), len(tables.model.states)), bool)
        for i, name in enumerate(tables.model.states):
            if name in tables.open:
                found[:, i] = tables.lanes.is_reset[:, tables.open.index(name)]
        return found

    def is_rest_found(self, theta: Array) -> Array:
        """Whether each pre-equilibration and steady-state measurement finds its state."""
        found = [self._rested(self.pool(theta), diffrax.ForwardMode())[1]]
        if self._has_end:
            given = self._given(self.pool(theta), self.tables.lanes)
            found.append(jax.vmap(lambda one: self._rest(one, diffrax.ForwardMode()))(given)[1])
        return jnp.concatenate([one for one in found if one is not None])

    @property
    def _has_end(self) -> bool:
        """Whether a measurement is of the steady state."""
        return bool(np.any(self.tables.row_time < 0))

    def _rest(self, given: Given, adjoint: Any) -> tuple[Array, Array]:
        x0, constants = self.dynamics.start(given)
        return steady_state(
            self.dynamics, x0, constants, is_implicit=self.is_implicit, adjoint=adjoint
        )

    def _rested(self, pool: Array, adjoint: Any) -> tuple[Any, Any]:
        """Steady states of the pre-equilibrations."""
        if not len(self.tables.before.index):
            return None, None
        given = self._given(pool, self.tables.before)
        return jax.vmap(lambda one: self._rest(one, adjoint))(given)

    def _given(self, pool: Array, conditions: Conditions) -> Given:
        return Given(pool[conditions.index], jnp.asarray(conditions.is_given))


def _check_values(tables: Tables) -> None:
    """Raise unless every state and constant that is used has a value."""
    model = tables.model
    expressions = (
        *model.laws,
        *model.rules.values(),
        *model.rate_rules.values(),
        *model.start.values(),
        *(o.formula for o in tables.observables),
        *(o.noise for o in tables.observables),
    )
    used = frozenset(model.states).union(*map(symbols, expressions))
    used |= frozenset().union(*map(symbols, model.volumes.values()))
    given = np.concatenate([tables.before.is_given, tables.lanes.is_given])
    everywhere = np.asarray(np.all(given, axis=0))
    for name in (*model.states, *model.constants):
        is_given = name in tables.open and everywhere[tables.open.index(name)]
        if name in used and name not in model.start and not is_given:
            raise InvalidInput(
                f"'{name}' has no value in {model.name}, and not every condition gives it one"
            )
