"""What a critic wants of a path, as combinations of what the lanes add up.

Where a parameter only scales reactions, d_p a_j = w_pj a_j with w_pj a number of the patient, the
score of the parameter and its conditional term are combinations of sums of the reactions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.gradient.arguments import Arguments
from engine.gradient.directions import Direction
from engine.kernel.tallies import Tally
from engine.kinetics.drift import resolve_parameters
from engine.kinetics.evaluate import evaluate
from engine.network.derivatives import ZERO
from engine.network.expressions import Expression, symbols
from engine.network.network import ReactionNetwork

# A sum as a combination of what the lanes add up: positions and factors.
Combination = tuple[tuple[int, Expression], ...]


@dataclass(frozen=True)
class Combined(Tally):
    """A tally of several sums, of which others are wanted.

    Args:
        expression: not used.
        combinations: of every sum that is wanted, scores first, then M, then the conditional terms.
    """

    expression: Expression = field(default=ZERO, kw_only=True)
    combinations: tuple[Combination, ...] = field(default=(), kw_only=True)

    def combined(self, table: np.ndarray, arguments: Arguments) -> np.ndarray:
        """The wanted sums (n, 2 P + 1) from what the lanes added up (n, num_sums)."""
        params = resolve_parameters(arguments.network, arguments.params)
        wanted = np.zeros((len(table), len(self.combinations)))
        for column, combination in zip(wanted.T, self.combinations, strict=True):
            for position, factor in combination:
                column += arguments.of_trajectories(_number(factor, params)) * table[:, position]
        return wanted


def _number(factor: Expression, params: Mapping[str, np.ndarray]) -> np.ndarray:
    """A factor of every patient, 0 where it is no number.

    There the rate is always 0, and so is what it multiplies.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(evaluate(factor, params, np, np.float64))
    return np.where(np.isfinite(found), found, 0.0)


def fixed_names(network: ReactionNetwork) -> frozenset[str]:
    """Names of a patient's numbers, which nothing changes."""
    return frozenset({p.name for p in network.parameters} - {v.name for v in network.variables})


def scaling(
    network: ReactionNetwork, directions: Sequence[Direction]
) -> dict[str, dict[str, Expression]]:
    """By label, directions that only scale reactions: the factors w_pj."""
    fixed, found = fixed_names(network), {}
    for direction in directions:
        factors = {
            reaction.name: direction.relative_slope(reaction.propensity)
            for reaction in network.reactions
            if direction.slope(reaction.propensity) != ZERO
        }
        if all(symbols(factor) <= fixed for factor in factors.values()):
            found[direction.label] = factors
    return found
