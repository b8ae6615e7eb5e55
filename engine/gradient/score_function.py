r"""The score function: weight every outcome by how much likelier its path becomes.

.. math:: dE[f]/dp = E[(f - c) S_p],
   S_p = \sum_{fired} d_p a_j / a_j - \int \sum_j d_p a_j dt

Unbiased for any outcome, smooth or not, whose law alone depends on p; where the outcome itself
does, E[df/dp] is added. The variance grows with the number of events, Var S = int sum (d_p a)^2 / a
dt. Cost: the path and one sum per parameter. Use when nothing better applies, and as the referee of
the others. Cannot do initial counts, or parameters of events. (Glynn 1990,
doi:10.1145/84537.84552; Plyasunov & Arkin 2007, doi:10.1016/j.jcp.2006.06.047.)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.gradient import regression
from engine.gradient.directions import Direction
from engine.gradient.problem import Problem, checked_values, direct_part, directions_of
from engine.gradient.result import Gradient
from engine.gradient.tallies import LaneSums, RewardToGo, score, squared
from engine.kernel.tallies import Tally, TimeIntegral


@dataclass(frozen=True)
class ScoreFunction:
    """Likelihood-ratio gradient with a baseline, all parameters from one set of paths.

    Args:
        is_regressed: also subtract the multiple of all scores that varies most like the estimate;
            default True. Never biased: fitted on half of the trajectories and used on the other.
        is_squared: also of S_p^2 - sum_fired (d_p a_j / a_j)^2, whose mean is zero too; default
            False. A tenth of a mean's variance less, for one more sum per parameter.
        is_reward_to_go: for a `TimeIntegral`, weight what happens at t by the score up to t only;
            default True. Two to three times less variance.

    References:
        Glynn 1990, doi:10.1145/84537.84552. Plyasunov & Arkin 2007,
        doi:10.1016/j.jcp.2006.06.047.

    Example:
        >>> ScoreFunction().is_regressed
        True
    """

    is_regressed: bool = True
    is_reward_to_go: bool = True
    is_squared: bool = False

    def estimate(self, problem: Problem) -> Gradient:
        """The gradient with standard errors; see `engine.gradient.estimate`."""
        found = directions_of(problem)
        arguments, outcome = found.arguments, problem.outcome
        martingales = tuple(score(arguments.network, d) for d in found.directions)
        directs = direct_tallies(problem, found.directions)
        is_rewarded = (
            self.is_reward_to_go
            and isinstance(outcome.tally, TimeIntegral)
            and outcome.function is None
        )
        is_squared = self.is_squared and self.is_regressed and not is_rewarded
        squares = tuple(map(squared, martingales)) if is_squared else ()
        sums: Tally = (
            RewardToGo(expression=outcome.tally.expression, martingales=martingales)
            if is_rewarded
            else LaneSums(martingales=(*martingales, *squares))
        )
        ensemble = arguments.run({"outcome": outcome.tally, "score": sums, **directs})
        values = checked_values(outcome, ensemble.tallies["outcome"])
        number, replicates = len(martingales), arguments.num_replicates
        scores = ensemble.tallies["score"][:, :number]
        if is_rewarded:
            samples = ensemble.tallies["score"][:, number : 2 * number]
            controls = np.concatenate([scores, ensemble.tallies["score"][:, 2 * number :]], axis=1)
            samples = _regressed(samples, controls, replicates)
        else:
            samples = regression.baselined(values, scores, replicates)
            if self.is_regressed:
                # Without squares the second part is empty.
                more = scores[:, : len(squares)] ** 2 - ensemble.tallies["score"][:, number:]
                controls = np.concatenate([scores, more], axis=1)
                samples = _regressed(samples, controls, replicates)
        return finished(problem, values, samples, ensemble.tallies, "ScoreFunction")


def _regressed(samples: np.ndarray, controls: np.ndarray, replicates: int) -> np.ndarray:
    """Less what the controls explain."""
    return np.stack([regression.without(s, controls, replicates) for s in samples.T], axis=1)


def direct_tallies(problem: Problem, directions: tuple[Direction, ...]) -> dict[str, Tally]:
    """What must be tallied for the outcome's own dependence on the targets."""
    parts = {f"direct{i}": direct_part(problem, d) for i, d in enumerate(directions)}
    return {name: tally for name, tally in parts.items() if tally is not None}


def finished(
    problem: Problem,
    values: np.ndarray,
    samples: np.ndarray,
    tallies: Mapping[str, np.ndarray],
    estimator: str,
    ratio: float = 1.0,
    notes: tuple[str, ...] = (),
    num_more: int = 0,
) -> Gradient:
    """The gradient from one sample per trajectory and target, (n, P)."""
    arguments = problem.arguments
    replicates = arguments.num_replicates
    samples = np.array(samples)
    for index, target in enumerate(problem.targets):
        if f"direct{index}" in tallies:
            samples[:, index] += tallies[f"direct{index}"]
        weights = target.weights(arguments)
        samples[:, index] *= weights if np.ndim(weights) == 0 else np.repeat(weights, replicates)
    value, value_error = regression.mean_and_error(values, replicates)
    gradient, errors = regression.mean_and_error(samples, replicates)
    return Gradient(
        float(value),
        float(value_error),
        problem.labels,
        gradient,
        errors,
        ratio,
        (estimator,) * len(problem.targets),
        notes,
        len(values) + num_more,
    )
