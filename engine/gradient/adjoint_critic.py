r"""The mean-field adjoint as a critic: a linear belief, from the rate equations alone.

.. math:: \hat V(x, t) = \lambda(t) \cdot x, \qquad -d\lambda/dt = J(\bar x(t))^T \lambda + \nabla r

with J the Jacobian of the rate equations along their solution, r what the outcome accrues and
lambda(T) the gradient of the final value. No pilot; exact for networks linear in the counts. Each
reaction changes the belief by lambda . v_j, a number per cell.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from engine.dosing.schedule import concentration
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.critic import Critic, LearnedCritic, central, dose_times
from engine.gradient.outcome import Outcome
from engine.kernel.model import cell_name
from engine.kernel.tallies import FinalValue, FiringCount, TimeIntegral
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
from engine.network.expressions import Expression, Number, Symbol
from engine.simulate import simulate

# Points at which the adjoint is followed: half evenly spread, half denser towards the horizon.
NUM_POINTS = 400
FINEST = 1e-4
# Cells are placed where the belief changes fast; this share of them evenly.
EVEN_SHARE = 0.2
# As many cells as it takes for the residual variance ratio, times the number of events (which the
# variance of a score grows with), to fall below this.
TOLERANCE = 0.25
FEWEST_CELLS, MOST_CELLS = 16, 96


@dataclass(frozen=True)
class MeanFieldAdjoint(Critic):
    """Linear belief from the adjoint of the rate equations.

    For a `FinalValue`, `TimeIntegral` or `FiringCount`; where the outcome is a function of it (a
    threshold) the belief is scaled by regression. Use for means, with any number of species. Cannot
    do extrema and first passages.

    Args:
        num_cells: cells in time, placed where the belief changes; default 16 to 96, as many as it
            takes to keep what they cost small beside the noise of the score.
    """

    num_cells: int | None = None

    def learn(self, arguments: Arguments, outcome: Outcome) -> LearnedCritic:
        """Solve the rate equations forwards and their adjoint backwards."""
        if not isinstance(outcome.tally, FinalValue | TimeIntegral | FiringCount):
            raise InvalidInput(
                f"MeanFieldAdjoint() cannot describe a {type(outcome.tally).__name__}; use "
                "engine.gradient.FittedCritic() or ScoreFunction()"
            )
        typical = central(arguments)
        grid = _grid(typical)
        adjoint, rates = _adjoint(typical, outcome, grid)
        network = arguments.network
        changes = net_changes(network)[: len(network.species)]
        moved = adjoint @ changes  # (points, reactions)
        if isinstance(outcome.tally, FiringCount):
            moved[:, network.reaction_names.index(str(outcome.tally.expression))] += 1.0
        stops = _stops(grid, moved, rates, self.num_cells)
        stops = np.union1d(stops, [*arguments.ts, *dose_times(arguments)])
        columns = [_cell_means(grid, column, stops) for column in moved.T]
        used = [j for j, column in enumerate(columns) if np.any(column != 0.0)]
        symbols: dict[str, Expression] = {
            network.reaction_names[j]: Symbol(cell_name(i)) for i, j in enumerate(used)
        }
        cells = tuple(columns[j] for j in used)
        return LearnedCritic(stops, symbols, cells, None, 0, "mean-field adjoint")


def _grid(arguments: Arguments) -> np.ndarray:
    """Times from the start to the horizon, (points,)."""
    start, end = arguments.start, arguments.horizon
    even = np.linspace(start, end, NUM_POINTS // 2)
    dense = end - (end - start) * np.geomspace(1.0, FINEST, NUM_POINTS // 2)
    return np.unique(np.concatenate([even, dense, dose_times(arguments)]))


def _adjoint(
    arguments: Arguments, outcome: Outcome, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """lambda at the grid for every species (points, S), and the mean rates (points, M)."""
    network, tally = arguments.network, outcome.tally
    cohort = replace(arguments, ts=grid).cohort()
    ensemble = simulate(
        network,
        ODE(rtol=1e-6, atol=1e-6),
        grid,
        key=arguments.key,
        params=arguments.params,
        x0=arguments.x0,
        inputs=arguments.inputs,
        regimen=arguments.regimen,
        start=arguments.start,
    )
    # The network of the cohort has infusions as reactions; the adjoint is of the given one.
    names = state_names(network)
    held = {v.name: float(network.initial_values[v.name]) for v in network.variables}
    columns = [
        ensemble[name][0] if name not in held else ensemble.levels[name][0] for name in names
    ]
    states = np.stack(columns, axis=1)
    params = {k: np.asarray(v) for k, v in resolve_parameters(network, arguments.params).items()}
    elapsed = grid - arguments.start
    inputs = {i.name: concentration(cohort.schedule, i.name, elapsed)[0] for i in network.inputs}
    reward: Expression = Number(0.0)
    if isinstance(tally, TimeIntegral):
        reward = tally.expression
    elif isinstance(tally, FiringCount):
        position = network.reaction_names.index(str(tally.expression))
        reward = network.reactions[position].macroscopic_rate
    final = tally.expression if isinstance(tally, FinalValue) else Number(0.0)
    with jax.enable_x64(True):
        slopes, gradients, finals, rates = _linearised(
            network, (grid, states, inputs), params, reward, final
        )
        steps = _propagators(slopes, gradients, np.diff(grid))
    result = np.empty_like(states)
    result[-1] = finals
    for k in range(len(grid) - 2, -1, -1):
        result[k] = steps[k, :-1, :-1] @ result[k + 1] + steps[k, :-1, -1]
    if not np.all(np.isfinite(result)):
        raise InvalidInput(
            "MeanFieldAdjoint(): the adjoint of the rate equations is not finite; use "
            "engine.gradient.FittedCritic() or ScoreFunction()"
        )
    return result[:, : len(network.species)], rates


def _linearised(
    network: object,
    path: tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]],
    params: dict[str, np.ndarray],
    reward: Expression,
    final: Expression,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Jacobians, gradients of the reward and of the final value, and rates along a path."""
    right, values_of = drift(network), environment(network)  # type: ignore[arg-type]
    rates_of = reaction_rates(network)  # type: ignore[arg-type]
    numbers = {name: jnp.asarray(value) for name, value in params.items()}

    def observed(expression: Expression):  # type: ignore[no-untyped-def]
        def function(t, x, inputs):  # type: ignore[no-untyped-def]
            value = evaluate(expression, values_of(t, x, numbers, inputs), jnp, x.dtype)
            return jnp.asarray(value, x.dtype)

        return jax.grad(function, argnums=1)

    def point(t, x, inputs):  # type: ignore[no-untyped-def]
        jacobian = jax.jacfwd(lambda y: right(t, y, numbers, inputs))(x)
        rates = rates_of(values_of(t, x, numbers, inputs), x.dtype)
        return jacobian, observed(reward)(t, x, inputs), observed(final)(t, x, inputs), rates

    times, states, inputs = path
    arrays = {name: jnp.asarray(value) for name, value in inputs.items()}
    slopes, gradients, finals, rates = jax.jit(jax.vmap(point))(
        jnp.asarray(times), jnp.asarray(states), arrays
    )
    return np.asarray(slopes), np.asarray(gradients), np.asarray(finals)[-1], np.asarray(rates)


def _propagators(slopes: np.ndarray, gradients: np.ndarray, dt: np.ndarray) -> np.ndarray:
    """exp of ((J^T, r), (0, 0)) dt with the numbers at the middle of each step."""
    middle = (slopes[1:] + slopes[:-1]) / 2
    reward = (gradients[1:] + gradients[:-1]) / 2
    size = slopes.shape[1]
    whole = np.zeros((len(dt), size + 1, size + 1))
    whole[:, :size, :size] = np.swapaxes(middle, 1, 2)
    whole[:, :size, size] = reward
    return np.asarray(jax.vmap(jax.scipy.linalg.expm)(jnp.asarray(whole * dt[:, None, None])))


def _stops(
    grid: np.ndarray, moved: np.ndarray, rates: np.ndarray, number: int | None
) -> np.ndarray:
    """Ends of cells between which the belief changes alike.

    A constant in place of a belief that moves at the speed s costs a s^2 h^3 / 12 a reaction and
    cell; the sum is smallest where h is proportional to (sum_j a_j s_j^2)^(-1/3), and then is
    (int (sum_j a_j s_j^2)^(1/3) dt)^3 / 12 over the square of the number of cells.
    """
    dt = np.diff(grid)
    speed = np.diff(moved, axis=0) / dt[:, np.newaxis]
    mean_rates = np.maximum((rates[1:] + rates[:-1]) / 2, 0.0)
    mass = np.cbrt((mean_rates * speed**2).sum(axis=1)) * dt
    if number is None:
        middle = (moved[1:] + moved[:-1]) / 2
        variance = float(((mean_rates * middle**2).sum(axis=1) * dt).sum())
        events = float((mean_rates.sum(axis=1) * dt).sum())
        cost = float(mass.sum()) ** 3 / 12 * events / TOLERANCE
        needed = np.sqrt(cost / variance) / (1 - EVEN_SHARE) if variance > 0 else 0.0
        number = int(np.clip(np.ceil(needed), FEWEST_CELLS, MOST_CELLS))
    if mass.sum() > 0:
        mass = (1 - EVEN_SHARE) * mass / mass.sum()
    mass = mass + EVEN_SHARE * dt / dt.sum()
    share = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    stops = np.interp(np.arange(1, number + 1) / number, share, grid)
    stops[-1] = grid[-1]
    return stops


def _cell_means(grid: np.ndarray, values: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """The mean of a function on every cell, from its values on the grid."""
    areas = np.concatenate([[0.0], np.cumsum(np.diff(grid) * (values[1:] + values[:-1]) / 2)])
    edges = np.concatenate([[grid[0]], stops])
    # The area is quadratic between points; the grid is fine, and a straight line will do.
    at_edges = np.interp(edges, grid, areas)
    lengths = np.diff(edges)
    means = np.diff(at_edges) / np.where(lengths > 0, lengths, 1.0)
    return np.where(lengths > 0, means, values[0])
