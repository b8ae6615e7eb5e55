"""Every condition of a problem side by side, and how its paths change with the parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.fitting.dynamics import Dynamics, Given
from engine.fitting.solver import Solver
from engine.fitting.steady import Relaxation, integrated, steady_state
from engine.fitting.tables import Conditions, Lanes, Tables
from engine.network.expressions import symbols

Array = Any
T = TypeVar("T")

# Side by side all lanes step until the slowest ends, and their states want more room than a
# processor's cache has; one after the other each operation serves one lane only. Value and gradient
# on one core, side by side and one after the other: 33 states and 72 parameters a lane 3.4 and
# 57 s against 1.4 and 9.5; 25 states, 120 lanes 9.2 and 166 against 4.7 and 28; 14 states 0.09 and
# 0.31 against 0.09 and 0.39; 11 states 0.19 and 0.77 against 0.35 and 0.72; 4 states 0.3 and 1.1
# against 1.4 and 3.7. One after the other compiles in half to two thirds of the time.
MANY_STATES = 20


class _Fixed(NamedTuple):
    """What a lane has whatever the parameters."""

    is_given: Array  # (K,) bool
    keeps: Array  # whether a state stays as pre-equilibration left it, (S,) bool
    times: Array  # (T,)


@dataclass(frozen=True, eq=False)
class Simulation:
    """The paths of every lane as functions of the parameters (P,), linear scale.

    Lanes have padded save times: one compilation for all conditions.

    Args:
        tables: the problem.
        solver: tolerances.
        is_implicit: differentiate steady states implicitly (see `steady_state`).
        relaxation: how steady states are approached.
    """

    tables: Tables
    solver: Solver
    is_implicit: bool = True
    relaxation: Relaxation = integrated

    def __post_init__(self) -> None:
        _check_values(self.tables)

    @property
    def lanes(self) -> Lanes:
        """What is simulated."""
        return self.tables.lanes

    @cached_property
    def dynamics(self) -> Dynamics:
        """The equations."""
        zeros = frozenset(self.tables.always_zero)
        return Dynamics(self.tables.model, self.lanes.open, self.solver, zeros)

    def pool(self, theta: Array) -> Array:
        """Parameters and the numbers behind them."""
        return jnp.concatenate([theta, jnp.asarray(self.tables.numbers, theta.dtype)])

    def constants(self, theta: Array) -> dict[str, Array]:
        """Every constant of the model in every lane, (L,)."""
        given = self._given(self.pool(theta), self.lanes.after)
        return jax.vmap(lambda one: self.dynamics.start(one)[1])(given)

    def paths(self, theta: Array, adjoint: Any) -> tuple[Array, Array]:
        """States at the save times and, last, at rest, (L, T + 1, S); success of each lane, (L,).

        The last row is the steady state where a measurement asks for it, else the last state.
        """
        pool = self.pool(theta)
        rested, is_rested = self._rested(pool, adjoint)

        def lane(values: Array, rest: Array, is_ok: Array, fixed: _Fixed) -> tuple[Array, Array]:
            states, is_found = self._lane(values, rest, fixed, adjoint)
            return states, is_ok & is_found

        given = pool[self.lanes.after.index]
        begun = self._begun(rested, is_rested)
        return self._by_lane(lane)(given, *begun, self._fixed)

    def _by_lane(self, lane: Callable[..., T]) -> Callable[..., T]:
        """A lane's function as one of all lanes: side by side, or one after the other."""
        if len(self.tables.model.states) < MANY_STATES or jax.default_backend() != "cpu":
            return jax.vmap(lane)
        return lambda *arguments: jax.lax.map(lambda own: lane(*own), arguments)

    def _begun(self, rested: Array, is_rested: Array) -> tuple[Array, Array]:
        """The state (L, S) that each lane's pre-equilibration hands over, and whether it has it."""
        before = self.lanes.before_of
        known = np.maximum(before, 0)
        return rested[known], is_rested[known] | (before < 0)

    def _lane(self, values: Array, rest: Array, fixed: _Fixed, adjoint: Any) -> tuple[Array, Array]:
        """States (T + 1, S) of one lane, given what the condition sets (K,) and a state at rest."""
        x0, constants = self.dynamics.start(Given(values, fixed.is_given))
        x0 = jnp.where(fixed.keeps, rest, x0)
        found, is_done = self.dynamics.path(x0, constants, fixed.times, adjoint)
        last, is_still = found[-1], jnp.asarray(True)
        if self.lanes.has_end:
            last, is_still = self._settled(x0, constants, adjoint)
        return jnp.concatenate([found, last[None]]), is_done & is_still

    @property
    def _fixed(self) -> _Fixed:
        keeps = (self.lanes.before_of >= 0)[:, None] & ~self._resets
        # XLA would spend seconds on what a constant table of many times comes to: sorting it.
        times = jax.lax.optimization_barrier(jnp.asarray(self.lanes.times))
        return _Fixed(jnp.asarray(self.lanes.after.is_given), jnp.asarray(keeps), times)

    def sensitivities(self, theta: Array) -> tuple[Array, Array, Array]:
        """Paths (L, T + 1, S), their derivatives (L, T + 1, S, W) by `local`, and success.

        A lane is differentiated by the parameters that it or its pre-equilibration depends on,
        not by those of other lanes.
        """
        lanes, pool, adjoint = self.lanes, self.pool(theta), diffrax.ForwardMode()
        local_before = _positions(lanes.before, self.tables.parameters.is_estimated)
        rested, is_rested, rest_slopes = self._rest_slopes(pool, local_before)
        rest, is_begun = self._begun(rested, is_rested)
        # Which parameter of its pre-equilibration is which of the lane's, (L, W, W').
        known = np.maximum(lanes.before_of, 0)
        local = self.local
        is_same = (local[:, :, None] == local_before[known][:, None, :]) & (local[:, :, None] >= 0)
        is_same &= (lanes.before_of >= 0)[:, None, None]
        handed = jnp.einsum("lwv,lvs->lws", is_same.astype(float), rest_slopes[known])
        moved = jnp.asarray(_directions(lanes.after, local))

        def lane(
            values: Array, rest: Array, fixed: _Fixed, moved: Array, handed: Array
        ) -> tuple[Array, Array, Array]:
            def states(values: Array, rest: Array) -> tuple[Array, Array]:
                return self._lane(values, rest, fixed, adjoint)

            def along(*tangents: Array) -> Any:
                return jax.jvp(states, (values, rest), tangents, has_aux=True)

            return jax.vmap(along, out_axes=(None, -1, None))(moved, handed)

        given = pool[self.lanes.after.index]
        found, slopes, is_ok = self._by_lane(lane)(given, rest, self._fixed, moved, handed)
        return found, slopes, is_ok & is_begun

    def _rest_slopes(self, pool: Array, local: np.ndarray) -> tuple[Array, Array, Array]:
        """Steady states (B, S), whether they were found, and derivatives by local (B, W', S)."""
        before = self.lanes.before
        if not len(before.index):
            rested, is_rested = self._rested(pool, diffrax.ForwardMode())
            return rested, is_rested, jnp.zeros((1, local.shape[1], rested.shape[1]))

        def one(values: Array, is_given: Array, moved: Array) -> tuple[Array, Array, Array]:
            def rest(values: Array) -> tuple[Array, Array]:
                return self._rest(Given(values, is_given), diffrax.ForwardMode())

            def along(tangent: Array) -> Any:
                return jax.jvp(rest, (values,), (tangent,), has_aux=True)

            return jax.vmap(along, out_axes=(None, 0, None))(moved)

        moved = jnp.asarray(_directions(before, local))
        given = self._given(pool, before)
        found, slopes, is_ok = self._by_lane(one)(*given, moved)
        return found, is_ok, slopes

    @cached_property
    def local(self) -> np.ndarray:
        """The estimated parameters that each lane depends on, padded with -1, (L, W)."""
        is_estimated = self.tables.parameters.is_estimated
        own = _positions(self.lanes.after, is_estimated)
        before = _positions(self.lanes.before, is_estimated)
        rows = [
            np.union1d(row, before[b]) if b >= 0 else row
            for row, b in zip(own, self.lanes.before_of, strict=True)
        ]
        return _padded([row[row >= 0] for row in rows])

    @cached_property
    def _resets(self) -> np.ndarray:
        """Whether a lane's condition sets each state anew after pre-equilibration, (L, S)."""
        lanes, states = self.lanes, self.tables.model.states
        found = np.zeros((len(lanes.times), len(states)), bool)
        for i, name in enumerate(states):
            if name in lanes.open:
                found[:, i] = lanes.after.is_reset[:, lanes.open.index(name)]
        return found

    def is_rest_found(self, theta: Array) -> Array:
        """Whether each pre-equilibration and steady-state measurement finds its state."""
        found = [self._rested(self.pool(theta), diffrax.ForwardMode())[1]]
        if self.lanes.has_end:
            given = self._given(self.pool(theta), self.lanes.after)
            found.append(self._at_rest(given, diffrax.ForwardMode())[1])
        return jnp.concatenate(found)

    def _rest(self, given: Given, adjoint: Any) -> tuple[Array, Array]:
        return self._settled(*self.dynamics.start(given), adjoint)

    def _settled(self, x0: Array, constants: dict[str, Array], adjoint: Any) -> tuple[Array, Array]:
        return steady_state(
            self.dynamics,
            x0,
            constants,
            is_implicit=self.is_implicit,
            adjoint=adjoint,
            relaxation=self.relaxation,
        )

    def _rested(self, pool: Array, adjoint: Any) -> tuple[Array, Array]:
        """Steady states of the pre-equilibrations, (B, S), one that nobody uses without any."""
        if not len(self.lanes.before.index):
            return jnp.zeros((1, len(self.tables.model.states))), jnp.ones(1, bool)
        return self._at_rest(self._given(pool, self.lanes.before), adjoint)

    def _at_rest(self, given: Given, adjoint: Any) -> tuple[Array, Array]:
        return self._by_lane(lambda one: self._rest(one, adjoint))(given)

    def _given(self, pool: Array, conditions: Conditions) -> Given:
        return Given(pool[conditions.index], jnp.asarray(conditions.is_given))


def _positions(conditions: Conditions, is_estimated: np.ndarray) -> np.ndarray:
    """The estimated parameters that each condition's values are, padded with -1, (lanes, W)."""
    rows = []
    for index, is_given in zip(conditions.index, conditions.is_given, strict=True):
        mentioned = np.unique(index[is_given])
        mentioned = mentioned[mentioned < len(is_estimated)]
        rows.append(mentioned[is_estimated[mentioned]])
    return _padded(rows)


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of positions filled up with -1; one row at least, one column at least."""
    found = np.full((max(len(rows), 1), max([1, *map(len, rows)])), -1)
    for i, row in enumerate(rows):
        found[i, : len(row)] = row
    return found


def _directions(conditions: Conditions, local: np.ndarray) -> np.ndarray:
    """How the values (K,) of each condition move with its parameters, (lanes, W, K)."""
    is_same = conditions.index[:, None, :] == local[:, :, None]
    return (is_same & conditions.is_given[:, None, :]).astype(float)


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
    lanes = tables.lanes
    used = frozenset(model.states).union(*map(symbols, expressions))
    used |= frozenset().union(*map(symbols, model.volumes.values()))
    given = np.concatenate([lanes.before.is_given, lanes.after.is_given])
    everywhere = np.asarray(np.all(given, axis=0))
    for name in (*model.states, *model.constants):
        is_given = name in lanes.open and everywhere[lanes.open.index(name)]
        if name in used and name not in model.start and not is_given:
            raise InvalidInput(
                f"'{name}' has no value in {model.name}, and not every condition gives it one"
            )
