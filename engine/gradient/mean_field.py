r"""The mean field and its adjoint: what the rate equations say, and how it depends on the state.

.. math:: d\bar x/dt = \sum_j v_j a_j(\bar x, t), \qquad
   -d\lambda/dt = J(\bar x(t))^T \lambda + \nabla r

lambda_i(t) is what one molecule more of species i at t adds to the outcome.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.dosing.schedule import concentration
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.critic import dose_times
from engine.gradient.shadows import without_shadows
from engine.kernel.tallies import FinalValue, FiringCount, Tally, TimeIntegral
from engine.kinetics.drift import (
    drift,
    environment,
    net_changes,
    reaction_rates,
    resolve_parameters,
    state_names,
)
from engine.kinetics.evaluate import evaluate
from engine.methods.ode import ODE
from engine.methods.rate_equations import representative
from engine.network.expressions import Expression, Number
from engine.network.network import ReactionNetwork
from engine.simulate import simulate

# How close to the horizon, and to a dose, the closest points of the grid lie, as shares of it.
FINEST, JUST_BEFORE = 1e-4, 1e-9


@dataclass(frozen=True, eq=False)
class MeanField:
    """The mean path of a network and the adjoint of an outcome along it.

    Attributes:
        network: the network.
        grid: times, (points,).
        states: counts (and variables that events change) at the grid, (points, S).
        params: every parameter's number, and that of variables which nothing changes.
        inputs: every input's level at the grid.
        adjoint: lambda of every species, (points, species).
        moved: lambda . v_j of every reaction, what it adds to the outcome, (points, M).
        rates: macroscopic rates, (points, M).
    """

    network: ReactionNetwork
    grid: np.ndarray
    states: np.ndarray
    params: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    adjoint: np.ndarray
    moved: np.ndarray
    rates: np.ndarray

    def along(self, expressions: tuple[Expression, ...]) -> np.ndarray:
        """The values of expressions along the path, (points, number)."""
        path = (self.grid, self.states, self.params, self.inputs)
        with jax.enable_x64(True):
            return np.asarray(_evaluated(representative(self.network), expressions, *path))


def time_grid(arguments: Arguments, number: int) -> np.ndarray:
    """Times from the start to the horizon, half of them denser towards it, (points,)."""
    start, end = arguments.start, arguments.horizon
    even = np.linspace(start, end, number // 2)
    dense = end - (end - start) * np.geomspace(1.0, FINEST, number // 2)
    doses = np.asarray(dose_times(arguments), np.float64)
    before = doses - JUST_BEFORE * (end - start)
    return np.unique(np.concatenate([even, dense, doses, before]))


def mean_field(arguments: Arguments, tally: Tally, grid: np.ndarray) -> MeanField:
    """Solve the rate equations of one patient forwards and their adjoint backwards.

    Args:
        arguments: of one patient.
        tally: a `FinalValue`, `TimeIntegral` or `FiringCount`.
        grid: from `time_grid`.

    Raises:
        InvalidInput: an adjoint that is not finite.
    """
    network = arguments.network
    states, inputs, variables = _path(arguments, grid)
    params = {k: np.asarray(v) for k, v in resolve_parameters(network, arguments.params).items()}
    params |= variables
    reward: Expression = Number(0.0)
    if isinstance(tally, TimeIntegral):
        reward = tally.expression
    elif isinstance(tally, FiringCount):
        position = network.reaction_names.index(str(tally.expression))
        reward = network.reactions[position].macroscopic_rate
    final = tally.expression if isinstance(tally, FinalValue) else Number(0.0)
    with jax.enable_x64(True):
        *found, rates = _linearised(
            representative(network), reward, final, grid, states, params, inputs
        )
        slopes, gradients, finals = map(np.asarray, found)
        steps = np.asarray(_propagators(slopes, gradients, np.diff(grid)))
    adjoint = np.empty_like(states)
    adjoint[-1] = finals[-1]
    for k in range(len(grid) - 2, -1, -1):
        adjoint[k] = steps[k, :-1, :-1] @ adjoint[k + 1] + steps[k, :-1, -1]
    if not np.all(np.isfinite(adjoint)):
        raise InvalidInput(
            "the adjoint of the rate equations is not finite; use engine.gradient.FittedCritic() "
            "or ScoreFunction()"
        )
    adjoint = adjoint[:, : len(network.species)]
    moved = adjoint @ net_changes(network)[: len(network.species)]
    if isinstance(tally, FiringCount):
        moved[:, network.reaction_names.index(str(tally.expression))] += 1.0
    return MeanField(network, grid, states, params, inputs, adjoint, moved, np.asarray(rates))


Numbers = Mapping[str, np.ndarray]


def _path(arguments: Arguments, grid: np.ndarray) -> tuple[np.ndarray, Numbers, Numbers]:
    """States and levels of the inputs at the grid, and variables that stay what they are."""
    network, moving = arguments.network, without_shadows(arguments)
    cohort = replace(arguments, ts=grid).cohort()
    ensemble = simulate(
        moving.network,
        ODE(rtol=1e-7, atol=1e-7),
        grid,
        key=moving.key,
        params=moving.params,
        x0=moving.x0,
        inputs=moving.inputs,
        regimen=moving.regimen,
        start=moving.start,
    )
    variables = {
        v.name: np.asarray(value, np.float64).ravel()[0]
        for v, value in zip(network.variables, cohort.variables, strict=True)
    }
    columns = [
        ensemble.levels[name][0] if name in variables else ensemble[name][0]
        for name in state_names(network)
    ]
    # An infusion into a species is a reaction of the cohort's network only: it has no adjoint.
    elapsed = grid - arguments.start
    inputs = {i.name: concentration(cohort.schedule, i.name, elapsed)[0] for i in network.inputs}
    return np.stack(columns, axis=1), inputs, variables


# The network is the representative of its structure and every number an argument: an estimate
# under other numbers compiles nothing.


@partial(jax.jit, static_argnums=(0, 1))
def _evaluated(
    network: ReactionNetwork,
    expressions: tuple[Expression, ...],
    times: Any,
    states: Any,
    params: Any,
    inputs: Any,
) -> Any:
    """The values of expressions along a path, (points, number)."""
    values_of = environment(network)

    def point(t: Any, x: Any, levels: Any) -> Any:
        values = values_of(t, x, params, levels)
        found = [evaluate(e, values, jnp, x.dtype) for e in expressions]
        return jnp.stack([jnp.asarray(v, x.dtype) for v in found])

    return jax.vmap(point)(times, states, inputs)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _linearised(
    network: ReactionNetwork,
    reward: Expression,
    final: Expression,
    times: Any,
    states: Any,
    params: Any,
    inputs: Any,
) -> Any:
    """Jacobians, gradients of the reward and of the final value, and rates along a path."""
    right, values_of = drift(network), environment(network)
    rates_of = reaction_rates(network)

    def observed(expression: Expression) -> Any:
        def function(t: Any, x: Any, levels: Any) -> Any:
            value = evaluate(expression, values_of(t, x, params, levels), jnp, x.dtype)
            return jnp.asarray(value, x.dtype)

        return jax.grad(function, argnums=1)

    def point(t: Any, x: Any, levels: Any) -> Any:
        jacobian = jax.jacfwd(lambda y: right(t, y, params, levels))(x)
        rates = rates_of(values_of(t, x, params, levels), x.dtype)
        return jacobian, observed(reward)(t, x, levels), observed(final)(t, x, levels), rates

    return jax.vmap(point)(times, states, inputs)


@jax.jit
def _propagators(slopes: Any, gradients: Any, dt: Any) -> Any:
    """exp of ((J^T, r), (0, 0)) dt with the numbers at the middle of each step."""
    middle = (slopes[1:] + slopes[:-1]) / 2
    reward = (gradients[1:] + gradients[:-1]) / 2
    size = slopes.shape[1]
    whole = jnp.zeros((len(dt), size + 1, size + 1), slopes.dtype)
    whole = whole.at[:, :size, :size].set(jnp.swapaxes(middle, 1, 2))
    whole = whole.at[:, :size, size].set(reward)
    return jax.vmap(jax.scipy.linalg.expm)(whole * dt[:, None, None])
