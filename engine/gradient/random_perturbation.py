r"""Random perturbation: every patient gets numbers of their own near the design; regress on them.

.. math:: f_i \approx a + \sum_p (b_p \epsilon_{ip} + c_p \epsilon_{ip}^2), \qquad
   dE[f]/dp = b_p / h_p + O(h_p^2), \quad \epsilon \sim U(-\sqrt 3, \sqrt 3)

The variance is Var(f) / (n h^2), whatever the number of events and of parameters: all come from one
set of paths, with nothing to be tallied beside the outcome. Cost: the path. Use for doses and their
times, and for thresholds of event-rich networks, where a score is noisy and a bias of second order
does not matter. Cannot do whole numbers. (Random search directions: Spall 1992,
doi:10.1109/9.119632; local regression in place of differences: Fan and Gijbels 1996,
doi:10.1201/9780203748725.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.coupled_difference import check_influence, is_molecules
from engine.gradient.dose_targets import DoseTime
from engine.gradient.outcome import Outcome
from engine.gradient.problem import Problem, SameOutcome, checked_values
from engine.gradient.result import Gradient
from engine.gradient.targets import Target
from engine.gradient.time_warp import surroundings

# Half the width of a uniform law of variance 1, and patients per coefficient of the regression.
WIDTH, FEWEST = float(np.sqrt(3.0)), 4


@dataclass(frozen=True)
class RandomPerturbation:
    """Gradient by regression on random perturbations of all parameters at once.

    Args:
        step: h as a share of the parameter's size (of a dose's time: of the time to its nearest
            neighbour), between 0 and 0.5; default 0.2. The bias is of its second order; the
            variance falls with its square.

    Raises:
        InvalidInput: a step that is not between 0 and 0.5.

    References:
        Spall 1992, doi:10.1109/9.119632.

    Example:
        >>> RandomPerturbation(step=0.1).step
        0.1
    """

    step: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.step < 0.5:
            raise InvalidInput(f"RandomPerturbation(step={self.step!r}): give one below 0.5")

    def estimate(self, problem: Problem) -> Gradient:
        """The gradient with standard errors; see `engine.gradient.estimate`."""
        (found,) = self.estimate_all(problem, (problem.outcome,))
        if isinstance(found, SameOutcome):
            raise found
        return found

    def estimate_all(
        self, problem: Problem, outcomes: Sequence[Outcome]
    ) -> tuple[Gradient | SameOutcome, ...]:
        """The gradients of several outcomes from one simulation."""
        arguments, targets = problem.arguments, problem.targets
        number, needed = arguments.num_patients, FEWEST * (1 + 2 * len(targets))
        if number < needed:
            raise InvalidInput(
                f"RandomPerturbation() with {number} patients for {len(targets)} parameters: give "
                f"at least {needed}"
            )
        for target in targets:
            for outcome in outcomes:
                check_influence(replace(problem, outcome=outcome), target)
        steps = np.array([self._step(arguments, target) for target in targets])
        epsilon = _draws(arguments, len(targets))
        moved = arguments
        for target, step, column in zip(targets, steps, epsilon.T, strict=True):
            moved = target.moved(moved, step * column)
        tallies = {f"outcome {i}": outcome.tally for i, outcome in enumerate(outcomes)}
        results = moved.run(tallies).tallies
        found: list[Gradient | SameOutcome] = []
        for i, outcome in enumerate(outcomes):
            try:
                values = checked_values(outcome, results[f"outcome {i}"])
                found.append(self._regressed(problem, values, epsilon, steps))
            except SameOutcome as same:
                found.append(same)
        return tuple(found)

    def _step(self, arguments: Arguments, target: Target) -> float:
        """The standard deviation of a target's perturbations, in its unit."""
        value = target.value(arguments)
        if target.is_whole or is_molecules(arguments, target):
            raise InvalidInput(
                f"'{target.label}' is a whole number; use engine.gradient.CoupledDifference()"
            )
        if isinstance(target, DoseTime):
            first, middle, last = surroundings(arguments, target)
            return self.step * min(middle - first, last - middle)
        step = self.step * target.size(arguments)
        lowest = np.min(value - WIDTH * step * np.asarray(target.weights(arguments)))
        if not target.is_signed and lowest < 0:
            raise InvalidInput(
                f"'{target.label}' would be {lowest:.3g} for a patient; give a smaller step than "
                f"{self.step:g}"
            )
        return step

    def _regressed(
        self, problem: Problem, values: np.ndarray, epsilon: np.ndarray, steps: np.ndarray
    ) -> Gradient:
        """Value and slopes by least squares; errors that hold for any variances (HC1)."""
        number, size = epsilon.shape
        # A patient's replicates have the same perturbation.
        means = values.reshape(number, -1).mean(axis=1)
        design = np.concatenate([np.ones((number, 1)), epsilon, epsilon**2], axis=1)
        inverse = np.linalg.inv(design.T @ design)
        coefficients = inverse @ design.T @ means
        weighted = design * (means - design @ coefficients)[:, np.newaxis]
        freedom = number / (number - design.shape[1])
        covariance = freedom * inverse @ (weighted.T @ weighted) @ inverse
        errors = np.sqrt(np.diag(covariance))
        slopes = slice(1, 1 + size)
        note = f"slopes over steps of {self.step:g}, a bias of second order stays"
        return Gradient(
            float(coefficients[0]),
            float(errors[0]),
            problem.labels,
            coefficients[slopes] / steps,
            errors[slopes] / steps,
            1.0,
            ("RandomPerturbation",) * size,
            (note,),
            len(values),
        )


def _draws(arguments: Arguments, number: int) -> np.ndarray:
    """The perturbations of all patients, (num_patients, number), of mean 0 and variance 1."""
    rng = np.random.default_rng(np.random.SeedSequence([*map(int, arguments.key), number]))
    return rng.uniform(-WIDTH, WIDTH, (arguments.num_patients, number))
