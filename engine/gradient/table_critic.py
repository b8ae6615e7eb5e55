r"""A table as a belief: straight lines between values on a grid of one or two species.

.. math:: \hat V_k(x) = \sum_{i} c_{ki}\, r_i(z(x)), \qquad r_0 = 1,\; r_i(z) = \min(\max(z - i + 1,
   0), 1)

with z the count of the chosen species in units of the grid (for two species the products of the
ramps, which is the bilinear interpolation of a table). The values on the grid come from backward
regression; those that no trajectory reached follow their neighbours. Cost: four operations for
every level, reaction and step, no exponential. Use for thresholds and passages that one or two
species decide, where a polynomial is too smooth. Cannot see other species.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.backward_regression import BackwardRegression
from engine.gradient.belief import Belief
from engine.gradient.critic import Critic, LearnedCritic
from engine.gradient.outcome import Outcome
from engine.gradient.polynomials import Basis
from engine.kernel.model import cell_name
from engine.network.expressions import Expression, Number, Symbol, call

Array = np.ndarray
# Levels of each species by default, where one and where two are chosen.
LEVELS = {1: 16, 2: 6}
# What a second difference of the table costs beside the squared errors of the fit.
SMOOTHNESS = 1e-3


@dataclass(frozen=True)
class TableCritic(Critic):
    """A table on a grid of one or two species and cells of time, by backward regression.

    For the outcomes of a `FittedCritic`.

    Args:
        species: one or two names; default the species that vary and do not follow from others,
            if there are at most two.
        num_levels: levels of each species; default 16 with one, 6 with two.
        num_cells: cells in time, half of them graded towards the horizon; default 24.
        num_starts: trajectories that start in each cell; default 4000.

    Raises:
        InvalidInput: no species or more than two, fewer than two levels.

    References:
        Munos & Szepesvari 2008, JMLR 9:815.

    Example:
        >>> TableCritic(("X",), num_levels=12).num_levels
        12
    """

    species: tuple[str, ...] | None = None
    num_levels: int | None = None
    num_cells: int = 24
    num_starts: int = 4000

    def __post_init__(self) -> None:
        if self.species is not None:
            names = (self.species,) if isinstance(self.species, str) else tuple(self.species)
            object.__setattr__(self, "species", names)
            if not 1 <= len(set(names)) == len(names) <= 2:
                raise InvalidInput(f"TableCritic(species={names!r}): name one species, or two")
        if self.num_levels is not None and not self.num_levels >= 2:
            raise InvalidInput(f"TableCritic(num_levels={self.num_levels!r}): give at least 2")

    def learn(self, arguments: Arguments, outcome: Outcome) -> LearnedCritic:
        """Pilot, starts, and regressions from the horizon back."""
        name = type(self).__name__
        fit = BackwardRegression(name, self.num_cells, self.num_starts, arguments, outcome)
        counts = fit.visited.reshape(-1, fit.visited.shape[2])
        chosen = self._chosen(fit, counts)
        number = self.num_levels or LEVELS[len(chosen)]
        lowest, highest = counts[:, chosen].min(axis=0), counts[:, chosen].max(axis=0)
        scale = (number - 1) / np.maximum(highest - lowest, 1)
        table = Table(tuple(chosen), lowest.astype(float), scale, number, fit.is_probability)
        return fit.learned(table)

    def _chosen(self, fit: BackwardRegression, counts: Array) -> list[int]:
        """Positions of the species of the table."""
        names = fit.network.species_names
        if self.species is not None:
            for name in self.species:
                fit.network.require(name, "species", what="TableCritic")
            return [names.index(name) for name in self.species]
        found = list(Basis.of(counts, 1).species)
        if not 1 <= len(found) <= 2:
            raise InvalidInput(
                f"TableCritic(): {len(found)} species vary ({', '.join(names[i] for i in found)}); "
                "name one or two that decide the outcome, TableCritic(species=('X',)), or use "
                "engine.gradient.FittedCritic()"
            )
        return found


@dataclass(frozen=True, eq=False)
class Table(Belief):
    """Straight lines between the levels of one or two species.

    Attributes:
        species: their positions.
        lowest, scale: z = (x - lowest) * scale of each.
        num_levels: levels of each.
        is_probability: whether values lie between 0 and 1.
    """

    species: tuple[int, ...]
    lowest: Array
    scale: Array
    num_levels: int
    is_probability: bool

    @property
    def kind(self) -> str:
        """A table."""
        return "table of " + " x ".join([str(self.num_levels)] * len(self.species))

    def _design(self, counts: Array) -> Array:
        """Products of the ramps, (n, num_levels ** species)."""
        result = np.ones((len(counts), 1))
        for k, i in enumerate(self.species):
            z = (counts[:, i] - self.lowest[k]) * self.scale[k]
            ramps = np.clip(z[:, np.newaxis] - np.arange(self.num_levels - 1), 0.0, 1.0)
            ramps = np.column_stack([np.ones(len(z)), ramps])
            result = (result[:, :, np.newaxis] * ramps[:, np.newaxis, :]).reshape(len(z), -1)
        return result

    def fitted(self, counts: Array, targets: Array, following: Array | None) -> Array:
        """Least squares with a small cost for bending, so that empty levels follow the others."""
        # A table's values are sums of its ramps' coefficients.
        sums = np.tril(np.ones((self.num_levels, self.num_levels)))
        to_values = sums if len(self.species) == 1 else np.kron(sums, sums)
        design = self._design(counts) @ np.linalg.inv(to_values)
        bending = _bending(self.num_levels, len(self.species))
        gram = design.T @ design / len(design) + SMOOTHNESS * bending
        gram += 1e-12 * np.eye(len(gram))
        values = np.linalg.solve(gram, design.T @ targets / len(design))
        if self.is_probability:
            values = np.clip(values, 0.0, 1.0)
        return np.asarray(np.linalg.solve(to_values, values))

    def values(self, coefficients: Array, counts: Array) -> Array:
        """The table in states (n, S)."""
        return np.asarray(self._design(counts) @ coefficients)

    def cells(self, table: Array) -> list[Array]:
        """Coefficients of the ramps, lowest levels, scales."""
        return [*table, *self.lowest[:, np.newaxis], *self.scale[:, np.newaxis]]

    def expression(self, names: Sequence[str]) -> Expression:
        """Sums of products of ramps."""
        first = self.num_levels ** len(self.species)
        ramps = [self._ramps(names, first, k) for k in range(len(self.species))]
        terms: list[Expression] = []
        if len(ramps) == 1:
            terms = [call("mul", Symbol(cell_name(i)), r) for i, r in enumerate(ramps[0])]
        else:
            for i, outer in enumerate(ramps[0]):
                row = [
                    call("mul", Symbol(cell_name(i * self.num_levels + j)), inner)
                    for j, inner in enumerate(ramps[1])
                ]
                terms.append(call("mul", call("add", *row), outer))
        return call("add", *terms)

    def _ramps(self, names: Sequence[str], first: int, k: int) -> list[Expression]:
        lowest, scale = cell_name(first + k), cell_name(first + len(self.species) + k)
        moved = call("sub", Symbol(names[self.species[k]]), Symbol(lowest))
        z = call("mul", moved, Symbol(scale))
        zero, one = Number(0.0), Number(1.0)
        return [
            one,
            *(
                call("min", call("max", call("sub", z, Number(float(i))), zero), one)
                for i in range(self.num_levels - 1)
            ),
        ]


def _bending(number: int, dimensions: int) -> Array:
    """The quadratic form of the second differences of a table along each of its axes."""
    second = np.diff(np.eye(number), n=2, axis=0)
    one, eye = second.T @ second, np.eye(number)
    if dimensions == 1:
        return np.asarray(one)
    return np.kron(one, eye) + np.kron(eye, one)
