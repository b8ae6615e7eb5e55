r"""The mean-field adjoint as a critic: a linear belief, from the rate equations alone.

.. math:: \hat V(x, t) = \lambda(t) \cdot x, \qquad -d\lambda/dt = J(\bar x(t))^T \lambda + \nabla r

with J the Jacobian of the rate equations along their solution, r what the outcome accrues and
lambda(T) the gradient of the final value. No pilot; exact for networks linear in the counts. Each
reaction changes the belief by lambda . v_j, in every cell of time a line: the noise that is left
falls with the fourth power of the number of cells, with levels only with its square.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments, few_sizes
from engine.gradient.critic import Critic, LearnedCritic, central, dose_times
from engine.gradient.mean_field import JUST_BEFORE, mean_field, time_grid
from engine.gradient.outcome import Outcome
from engine.kernel.model import cell_name
from engine.kernel.tallies import FinalValue, FiringCount, TimeIntegral
from engine.network.derivatives import without_rules
from engine.network.expressions import TIME, Expression, Symbol, call, symbols
from engine.network.network import ReactionNetwork

# Points at which the adjoint is followed.
NUM_POINTS = 400
# Cells are placed where the belief changes fast; this share of them evenly.
EVEN_SHARE = 0.2
# Points in a cell at which a belief is looked at.
NUM_NODES = 8


class Form(NamedTuple):
    """What a belief is in a cell of time: a polynomial.

    Attributes:
        order: of the polynomial, its degree and 1.
        error: in place of a belief whose derivative of this order is s, it costs
            a s^2 h^(2 order + 1) / error a reaction and cell.
        tolerance: as many cells as it takes for the residual variance ratio, times the number of
            events (which the variance of a score grows with), to fall below this.
        fewest, most: cells.
    """

    order: int
    error: float
    tolerance: float
    fewest: int
    most: int


LEVELS = Form(1, 12.0, 1.0, 12, 96)
LINES = Form(2, 720.0, 0.03, 4, 48)


@dataclass(frozen=True)
class MeanFieldAdjoint(Critic):
    """Linear belief from the adjoint of the rate equations.

    For a `FinalValue`, `TimeIntegral` or `FiringCount`; where the outcome is a function of it (a
    threshold) the belief is scaled by regression. Use for means, with any number of species. Cannot
    do extrema and first passages.

    Args:
        num_cells: cells in time, placed where the belief bends; default 4 to 48 (12 to 96
            where an input or the time moves a law), as many as it takes to keep what they cost
            small beside the noise of the score.
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
        form = LEVELS if _is_moving(network) else LINES
        stops = _stops(form, grid, field.moved, field.rates, self.num_cells)
        stops = np.union1d(stops, [*arguments.ts, *dose_times(arguments)])
        used = np.flatnonzero(np.any(field.moved != 0.0, axis=0))
        names = [network.reaction_names[j] for j in used]
        levels, slopes, middles = _lines(grid, field.moved[:, used], stops)
        cells = (*levels, *slopes, middles) if form is LINES else (*levels,)
        changes = _changes(form, names)
        return LearnedCritic(stops, changes, cells, None, 0, "mean-field adjoint")


def _changes(form: Form, names: Sequence[str]) -> dict[str, Expression]:
    """The change of the belief by each of these reactions: a number of the cell, or a line."""
    number = len(names)
    levels = {name: Symbol(cell_name(i)) for i, name in enumerate(names)}
    if form is LEVELS:
        return {**levels}
    since = call("sub", Symbol(TIME), Symbol(cell_name(2 * number)))
    slopes = {name: Symbol(cell_name(number + i)) for i, name in enumerate(names)}
    return {n: call("add", levels[n], call("mul", slopes[n], since)) for n in names}


def _is_moving(network: ReactionNetwork) -> bool:
    """Whether an input or the time moves a law.

    Then beliefs are levels: with lines so little noise is left that the tangents of
    pharmacokinetic parameters, exact to 1e-5 of the level, are off by twelve standard errors of
    a million trajectories.
    """
    moving = {TIME, *(one.name for one in network.inputs)}
    laws = (without_rules(network.rules, r.propensity) for r in network.reactions)
    return any(symbols(law) & moving for law in laws)


def _stops(
    form: Form, grid: np.ndarray, moved: np.ndarray, rates: np.ndarray, number: int | None
) -> np.ndarray:
    """Ends of cells on which the belief is close to its form.

    With s_j the derivative of the belief's change by reaction j, of the form's order n, what all
    cells cost is smallest where h is proportional to (sum_j a_j s_j^2)^(-1 / (2 n + 1)), and then
    is (int (sum_j a_j s_j^2)^(1 / (2 n + 1)) dt)^(2 n + 1) / error over the number of cells to the
    power 2 n.
    """
    dt, power = np.diff(grid), 2 * form.order + 1
    mean_rates = np.maximum((rates[1:] + rates[:-1]) / 2, 0.0)
    derivative = _slopes(grid, moved) if form.order == 1 else _curvatures(grid, moved)
    mass = (mean_rates * derivative**2).sum(axis=1) ** (1 / power) * dt
    if number is None:
        middle = (moved[1:] + moved[:-1]) / 2
        variance = float(((mean_rates * middle**2).sum(axis=1) * dt).sum())
        events = float((mean_rates.sum(axis=1) * dt).sum())
        cost = float(mass.sum()) ** power / form.error * events / form.tolerance
        needed = (cost / variance) ** (1 / (power - 1)) if variance > 0 else 0.0
        needed = np.ceil(needed / (1 - EVEN_SHARE))
        number = few_sizes(int(np.clip(needed, form.fewest, form.most)))
    if mass.sum() > 0:
        mass = (1 - EVEN_SHARE) * mass / mass.sum()
    mass = mass + EVEN_SHARE * dt / dt.sum()
    share = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    stops = np.interp(np.arange(1, number + 1) / number, share, grid)
    stops[-1] = grid[-1]
    return stops


def _slopes(grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """First derivatives of functions on the intervals of a grid, (points - 1, functions)."""
    return np.diff(values, axis=0) / np.diff(grid)[:, np.newaxis]


def _curvatures(grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Second derivatives of functions on the intervals of a grid, (points - 1, functions)."""
    dt = np.diff(grid)[:, np.newaxis]
    at_points = np.diff(_slopes(grid, values), axis=0) / ((dt[1:] + dt[:-1]) / 2)
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
