r"""The mean-field adjoint as a critic: a linear belief, from the rate equations alone.

.. math:: \hat V(x, t) = \lambda(t) \cdot x, \qquad -d\lambda/dt = J(\bar x(t))^T \lambda + \nabla r

with J the Jacobian of the rate equations along their solution, r what the outcome accrues and
lambda(T) the gradient of the final value. No pilot; exact for networks linear in the counts. Each
reaction changes the belief by lambda . v_j, a number per cell.
"""

from dataclasses import dataclass

import numpy as np

from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments, few_sizes
from engine.gradient.critic import Critic, LearnedCritic, central, dose_times
from engine.gradient.mean_field import mean_field, time_grid
from engine.gradient.outcome import Outcome
from engine.kernel.model import cell_name
from engine.kernel.tallies import FinalValue, FiringCount, TimeIntegral
from engine.network.expressions import Expression, Symbol

# Points at which the adjoint is followed.
NUM_POINTS = 400
# Cells are placed where the belief changes fast; this share of them evenly.
EVEN_SHARE = 0.2
# As many cells as it takes for the residual variance ratio, times the number of events (which the
# variance of a score grows with), to fall below this.
TOLERANCE = 1.0
FEWEST_CELLS, MOST_CELLS = 12, 96


@dataclass(frozen=True)
class MeanFieldAdjoint(Critic):
    """Linear belief from the adjoint of the rate equations.

    For a `FinalValue`, `TimeIntegral` or `FiringCount`; where the outcome is a function of it (a
    threshold) the belief is scaled by regression. Use for means, with any number of species. Cannot
    do extrema and first passages.

    Args:
        num_cells: cells in time, placed where the belief changes; default 12 to 96, as many as it
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
        network, grid = arguments.network, time_grid(typical, NUM_POINTS)
        field = mean_field(typical, outcome.tally, grid)
        stops = _stops(grid, field.moved, field.rates, self.num_cells)
        stops = np.union1d(stops, [*arguments.ts, *dose_times(arguments)])
        columns = [_cell_means(grid, column, stops) for column in field.moved.T]
        used = [j for j, column in enumerate(columns) if np.any(column != 0.0)]
        symbols: dict[str, Expression] = {
            network.reaction_names[j]: Symbol(cell_name(i)) for i, j in enumerate(used)
        }
        cells = tuple(columns[j] for j in used)
        return LearnedCritic(stops, symbols, cells, None, 0, "mean-field adjoint")


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
        number = few_sizes(int(np.clip(np.ceil(needed), FEWEST_CELLS, MOST_CELLS)))
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
