r"""The martingale critic: a score whose noise is predicted away.

For any belief V(x, t) about the outcome,

.. math:: M = \sum_{fired} \Delta V_j - \int \sum_j a_j \Delta V_j dt, \qquad
   g_p = (f - M - c) S_p + \int \sum_j d_p a_j \Delta V_j dt

is unbiased: M has mean zero and covariance E[M S_p] = E[int sum_j d_p a_j Delta V_j dt]. With
V = E[f | x_t] the first term vanishes. What is left of the variance is about the residual variance
ratio rho = Var(f - M) / Var(f). Cost: the path, one sum more than two per parameter, and learning
the belief. Use for most outcomes, parameters and doses; by default a linear belief for means and a
fitted one for thresholds. Cannot do what a score cannot do.
(Doubly robust scores in reinforcement learning: Jiang & Li 2016, arXiv:1511.03722; martingale
control variates: Henderson & Glynn 2002, doi:10.1287/moor.27.2.253.329.)
"""

from dataclasses import dataclass, replace

import numpy as np

from engine.gradient import regression
from engine.gradient.adjoint_critic import MeanFieldAdjoint
from engine.gradient.critic import Critic
from engine.gradient.fitted_critic import FittedCritic
from engine.gradient.outcome import Outcome
from engine.gradient.problem import Problem, checked_values, directions_of
from engine.gradient.result import Gradient
from engine.gradient.score_function import direct_tallies, finished
from engine.gradient.stretches import closely_stopped
from engine.kernel.tallies import FinalValue, FiringCount, TimeIntegral


@dataclass(frozen=True)
class MartingaleCritic:
    """Score function with a critic.

    Args:
        critic: `MeanFieldAdjoint()`, `FittedCritic()`, or `gradient.critic` of an earlier
            estimate: reusing it between the steps of an optimiser stays unbiased. Default: the
            adjoint for means, a fitted one for thresholds and first passages.

    References:
        Jiang & Li 2016, arXiv:1511.03722. Henderson & Glynn 2002,
        doi:10.1287/moor.27.2.253.329.

    Example:
        >>> MartingaleCritic(MeanFieldAdjoint(num_cells=12)).critic.num_cells
        12
    """

    critic: Critic | None = None

    def estimate(self, problem: Problem) -> Gradient:
        """The gradient with standard errors; see `engine.gradient.estimate`."""
        found = directions_of(problem)
        outcome = problem.outcome
        directs = direct_tallies(problem, found.directions)
        critic = self.critic or default_critic(outcome)
        learned = critic.learn(problem.arguments, outcome)
        # Stops that the directions need (the ends of a time warp) split cells.
        stops = np.union1d(learned.stops, found.arguments.ts)
        arguments = closely_stopped(found, stops, learned.changes)
        sums, cells = learned.sums(arguments, found.directions)
        tallies = {"outcome": outcome.tally, **directs}
        ensemble = arguments.run({**tallies, "critic": sums}, cells)
        if not np.all(np.isfinite(ensemble.tallies["critic"])):
            # More fired between two stops than moments in float32 tell apart.
            sums, cells = learned.sums(arguments, found.directions, is_general=True)
            ensemble = arguments.run({**tallies, "critic": sums}, cells)
        values = checked_values(outcome, ensemble.tallies["outcome"])
        replicates, number = arguments.num_replicates, len(found.directions)
        table = sums.combined(ensemble.tallies["critic"], arguments)
        scores, belief, conditional = table[:, :number], table[:, number], table[:, number + 1 :]
        scale = _scales(values, belief, replicates)
        residual = values - scale * belief
        samples = regression.baselined(residual, scores, replicates)
        samples = samples + scale[:, np.newaxis] * conditional
        controls = np.concatenate([belief[:, np.newaxis], scores], axis=1)
        samples = np.stack([regression.without(s, controls, replicates) for s in samples.T], axis=1)
        ratio = float(np.var(residual) / np.var(values))
        note = (
            f"{learned.kind}: residual variance ratio {ratio:.3g}, scale {scale.mean():.3g}, "
            f"{len(arguments.ts)} stops, learned from {learned.num_trajectories} trajectories"
        )
        result = finished(
            problem,
            values,
            samples,
            ensemble.tallies,
            "MartingaleCritic",
            ratio,
            (note,),
            learned.num_trajectories,
        )
        return replace(result, critic=learned)


def default_critic(outcome: Outcome) -> Critic:
    """A linear belief for means, a fitted one for everything that has a threshold."""
    is_mean = outcome.function is None
    if is_mean and isinstance(outcome.tally, FinalValue | TimeIntegral | FiringCount):
        return MeanFieldAdjoint()
    return FittedCritic()


def _scales(values: np.ndarray, belief: np.ndarray, replicates: int) -> np.ndarray:
    """The multiple of the martingale that explains most of the outcome, from the other half."""
    is_first = regression.halves(len(values), replicates)
    result = np.ones(len(values))
    if not is_first.any() or is_first.all():
        return result
    for fitted, used in ((is_first, ~is_first), (~is_first, is_first)):
        m = belief[fitted]
        square = np.mean((m - m.mean()) ** 2)
        if square > 0:
            y = values[fitted]
            result[used] = np.mean((y - y.mean()) * (m - m.mean())) / square
    return result
