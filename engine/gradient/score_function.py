r"""The score function: weight every outcome by how much likelier its path becomes.

.. math:: dE[f]/dp = E[(f - c) S_p],
   S_p = \sum_{fired} d_p a_j / a_j - \int \sum_j d_p a_j dt

Unbiased for any outcome, smooth or not, whose law alone depends on p; where the outcome itself
does, E[df/dp] is added. The variance grows with the number of events, Var S = int sum (d_p a)^2 / a
dt. Cost: the path and one sum per parameter. Use when nothing better applies, and as the referee of
the others. Cannot do initial counts, or parameters of events. (Glynn 1990,
doi:10.1145/84537.84552; Plyasunov & Arkin 2007, doi:10.1016/j.jcp.2006.06.047.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.gradient import regression
from engine.gradient.directions import Direction, Prepared
from engine.gradient.outcome import Outcome
from engine.gradient.problem import (
    Problem,
    SameOutcome,
    check_influences,
    checked_values,
    direct_part,
    directions_of,
)
from engine.gradient.result import Gradient
from engine.gradient.stretches import closely_stopped, moves
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
            default True. Two to three times less variance. Not done where an input or the time
            moves a rate or the integrand: scores are then no lines between events.

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
        (found,) = self.estimate_all(problem, (problem.outcome,))
        if isinstance(found, SameOutcome):
            raise found
        return found

    def estimate_all(
        self, problem: Problem, outcomes: Sequence[Outcome]
    ) -> tuple[Gradient | SameOutcome, ...]:
        """The gradients of several outcomes from one simulation: they share the scores."""
        problems = [replace(problem, outcome=outcome) for outcome in outcomes]
        found = directions_of(problems[0])
        for one in problems[1:]:
            check_influences(one, found)
        results = closely_stopped(found).run(self._tallies(problems, found)).tallies
        shared = {"scores": results["scores"]} if "scores" in results else {}
        gradients: list[Gradient | SameOutcome] = []
        for i, one in enumerate(problems):
            end = f" of {i}"
            mine = {n.removesuffix(end): v for n, v in results.items() if n.endswith(end)}
            try:
                gradients.append(self._gradient(one, {**mine, **shared}))
            except SameOutcome as same:
                gradients.append(same)
        return tuple(gradients)

    def _tallies(self, problems: Sequence[Problem], found: Prepared) -> dict[str, Tally]:
        """Those of every outcome, "... of 0", and the scores that they share."""
        martingales = tuple(score(found.arguments.network, d) for d in found.directions)
        tallies: dict[str, Tally] = {}
        for i, one in enumerate(problems):
            tally = one.outcome.tally
            own = {"outcome": tally, **direct_tallies(one, found.directions)}
            if self._is_rewarded(one):
                own["rewards"] = RewardToGo(expression=tally.expression, martingales=martingales)
            tallies |= {f"{name} of {i}": part for name, part in own.items()}
        if not all(self._is_rewarded(one) for one in problems):
            squares = map(squared, martingales) if self.is_squared and self.is_regressed else ()
            tallies["scores"] = LaneSums(martingales=(*martingales, *squares))
        return tallies

    def _is_rewarded(self, problem: Problem) -> bool:
        outcome, network = problem.outcome, problem.arguments.network
        is_integral = isinstance(outcome.tally, TimeIntegral) and outcome.function is None
        # Where something moves, scores are no lines in time between two events.
        is_still = not moves(network, outcome.tally.expression)
        return self.is_reward_to_go and is_integral and is_still

    def _gradient(self, problem: Problem, results: Mapping[str, np.ndarray]) -> Gradient:
        """One outcome's gradient from what the lanes tallied."""
        values = checked_values(problem.outcome, results["outcome"])
        number, replicates = len(problem.targets), problem.arguments.num_replicates
        if self._is_rewarded(problem):
            rewards = results["rewards"]
            controls = np.concatenate([rewards[:, :number], rewards[:, 2 * number :]], axis=1)
            samples = _regressed(rewards[:, number : 2 * number], controls, replicates)
        else:
            scores, squares = results["scores"][:, :number], results["scores"][:, number:]
            samples = regression.baselined(values, scores, replicates)
            if self.is_regressed:
                # Without squares the second part is empty.
                more = scores[:, : squares.shape[1]] ** 2 - squares
                samples = _regressed(samples, np.concatenate([scores, more], axis=1), replicates)
        return finished(problem, values, samples, results, "ScoreFunction")


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
        samples[:, index] *= arguments.of_trajectories(target.weights(arguments))
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
