r"""The mean-field adjoint as a critic: a linear belief, from the rate equations alone.

.. math:: \hat V(x, t) = \lambda(t) \cdot x, \qquad -d\lambda/dt = J(\bar x(t))^T \lambda + \nabla r

with J the Jacobian of the rate equations along their solution, r what the outcome accrues and
lambda(T) the gradient of the final value. No pilot; exact for networks linear in the counts. Each
reaction changes the belief by lambda . v_j, in every cell of time a line: the noise that is left
falls with the fourth power of the number of cells, with levels only with its square.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments, few_sizes
from engine.gradient.critic import Critic, LearnedCritic, central, dose_times
from engine.gradient.line_sums import Lines
from engine.gradient.mean_field import JUST_BEFORE, MeanField, mean_field, time_grid
from engine.gradient.outcome import Outcome
from engine.kernel.model import cell_name
from engine.kernel.tallies import FinalValue, FiringCount, TimeIntegral
from engine.kinetics.drift import net_changes
from engine.network.expressions import TIME, Expression, Symbol, call

# Points at which the adjoint is followed.
NUM_POINTS = 400
# Cells are placed where the belief changes fast; this share of them evenly.
EVEN_SHARE = 0.2
# Points in a cell at which a belief is looked at.
NUM_NODES = 8
# A line for a belief with the second derivative s costs a s^2 h^5 / 720 a reaction and cell.
ERROR = 720.0
# As many cells as it takes for the residual variance ratio, times the number of events (which the
# variance of a score grows with), to fall below this.
TOLERANCE = 0.03
FEWEST_CELLS, MOST_CELLS = 4, 48


@dataclass(frozen=True)
class MeanFieldAdjoint(Critic):
    """Linear belief from the adjoint of the rate equations.

    For a `FinalValue`, `TimeIntegral` or `FiringCount`; where the outcome is a function of it (a
    threshold) the belief is scaled by regression. Use for means, with any number of species. Cannot
    do extrema and first passages.

    Args:
        num_cells: cells in time, placed where the belief bends; default 4 to 48, as many as it
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
        grid = time_grid(typical, NUM_POINTS)
        field = mean_field(typical, outcome.tally, grid)
        stops = _stops(grid, field.moved, field.rates, self.num_cells)
        stops = np.union1d(stops, [*arguments.ts, *dose_times(arguments)])
        used = np.flatnonzero(np.any(field.moved != 0.0, axis=0))
        names = [arguments.network.reaction_names[j] for j in used]
        levels, slopes, middles = _lines(grid, field.moved[:, used], stops)
        # A lane counts its time from the start.
        cells = (*levels, *slopes, middles - arguments.start)
        kind, lines = "mean-field adjoint", _by_species(field, outcome, stops, arguments)
        return LearnedCritic(stops, _changes(names), cells, None, 0, kind, lines=lines)


def _changes(names: Sequence[str]) -> dict[str, Expression]:
    """The change of the belief by each of these reactions, a line."""
    number = len(names)
    since = call("sub", Symbol(TIME), Symbol(cell_name(2 * number)))

    def line(i: int) -> Expression:
        return call("add", Symbol(cell_name(i)), call("mul", Symbol(cell_name(number + i)), since))

    return {name: line(i) for i, name in enumerate(names)}


def _by_species(
    field: MeanField, outcome: Outcome, stops: np.ndarray, arguments: Arguments
) -> Lines:
    """The same belief as lines of the species."""
    is_moved = np.any(net_changes(field.network) != 0, axis=1)[: field.adjoint.shape[1]]
    used = np.flatnonzero(np.any(field.adjoint != 0.0, axis=0) & is_moved)
    levels, slopes, middles = _lines(field.grid, field.adjoint[:, used], stops)
    is_count = isinstance(outcome.tally, FiringCount)
    return Lines(
        tuple(arguments.network.species_names[i] for i in used),
        levels,
        slopes,
        middles - arguments.start,
        _events(field, stops),
        str(outcome.tally.expression) if is_count else None,
    )


def _events(field: MeanField, stops: np.ndarray) -> np.ndarray:
    """How many events the rate equations expect in every cell."""
    rates = field.rates.sum(axis=1)
    steps = np.diff(field.grid) * (rates[1:] + rates[:-1]) / 2
    so_far = np.concatenate([[0.0], np.cumsum(steps)])
    return np.diff(np.interp(stops, field.grid, so_far), prepend=0.0)


def _stops(
    grid: np.ndarray, moved: np.ndarray, rates: np.ndarray, number: int | None
) -> np.ndarray:
    """Ends of cells on which the belief is close to a line.

    With s_j the second derivative of the belief's change by reaction j, what all cells cost is
    smallest where h is proportional to (sum_j a_j s_j^2)^(-1/5), and then is
    (int (sum_j a_j s_j^2)^(1/5) dt)^5 / error over the fourth power of the number of cells.
    """
    dt = np.diff(grid)
    mean_rates = np.maximum((rates[1:] + rates[:-1]) / 2, 0.0)
    mass = (mean_rates * _curvatures(grid, moved) ** 2).sum(axis=1) ** (1 / 5) * dt
    if number is None:
        middle = (moved[1:] + moved[:-1]) / 2
        variance = float(((mean_rates * middle**2).sum(axis=1) * dt).sum())
        events = float((mean_rates.sum(axis=1) * dt).sum())
        cost = float(mass.sum()) ** 5 / ERROR * events / TOLERANCE
        needed = (cost / variance) ** (1 / 4) if variance > 0 else 0.0
        needed = np.ceil(needed / (1 - EVEN_SHARE))
        number = few_sizes(int(np.clip(needed, FEWEST_CELLS, MOST_CELLS)))
    if mass.sum() > 0:
        mass = (1 - EVEN_SHARE) * mass / mass.sum()
    mass = mass + EVEN_SHARE * dt / dt.sum()
    share = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    stops = np.interp(np.arange(1, number + 1) / number, share, grid)
    stops[-1] = grid[-1]
    return stops


def _curvatures(grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Second derivatives of functions on the intervals of a grid, (points - 1, functions)."""
    dt = np.diff(grid)[:, np.newaxis]
    at_points = np.diff(np.diff(values, axis=0) / dt, axis=0) / ((dt[1:] + dt[:-1]) / 2)
    # At a dose a belief has a corner, but a cell ends there.
    is_corner = np.minimum(dt[1:], dt[:-1]) < 2 * JUST_BEFORE * (grid[-1] - grid[0])
    at_points = np.where(is_corner, 0.0, at_points)
    inner = np.concatenate([at_points[:1], at_points, at_points[-1:]])
    return (inner[1:] + inner[:-1]) / 2


def _lines(grid: np.ndarray, values: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, ...]:
    """The line closest to each function on every cell, by least squares.

    Returns:
        Means and slopes (functions, cells), and the middles of the cells (cells,).
    """
    edges = np.concatenate([[grid[0]], stops])
    middles, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    points, weights = np.polynomial.legendre.leggauss(NUM_NODES)
    times = middles[:, np.newaxis] + half[:, np.newaxis] * points
    at = np.array([np.interp(times, grid, column) for column in values.T])
    at = at.reshape(values.shape[1], len(stops), NUM_NODES)
    moments = 1.5 * (at @ (weights * points))
    slopes = np.where(half > 0, moments / np.where(half > 0, half, 1.0), 0.0)
    return at @ weights / 2, slopes, middles
