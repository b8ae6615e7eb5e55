"""Automatic choice: a short pilot measures variance x time for every parameter, and picks.

The score and the critic give all parameters from one set of paths; a coupled difference costs a run
of pairs for each. So one of the first two is chosen for all, and a parameter is left to coupled
differences where these do better with its share of the time. Cost: the pilot, and compiling every
candidate once. Use when the event count and the noise are not known beforehand.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.errors import InvalidInput
from engine.gradient.arguments import another_key
from engine.gradient.coupled_difference import CoupledDifference
from engine.gradient.martingale_critic import MartingaleCritic
from engine.gradient.problem import Estimator, Problem
from engine.gradient.result import Gradient
from engine.gradient.score_function import ScoreFunction

# The pilot's share of the trajectories, and its bounds; the step of its coupled differences.
SHARE, FEWEST, MOST, PILOT_STEP = 0.1, 256, 4096, 0.1


@dataclass(frozen=True)
class Automatic:
    """Picks among `ScoreFunction`, `MartingaleCritic` and `CoupledDifference`, per parameter.

    What it picked and why stands in the notes of the `Gradient`; candidates that are not valid for
    the outcome or parameter are named there with the reason. The choice depends on timing, so two
    runs on a busy machine may choose differently where candidates are close.

    Args:
        num_pilot: trajectories of each candidate's pilot; default a tenth of the estimate's,
            between 256 and 4096.

    Raises:
        InvalidInput: fewer than 8 trajectories.

    Example:
        >>> Automatic(num_pilot=500).num_pilot
        500
    """

    num_pilot: int | None = None

    def __post_init__(self) -> None:
        if self.num_pilot is not None and not self.num_pilot >= 8:
            raise InvalidInput(f"Automatic(num_pilot={self.num_pilot!r}): give at least 8")

    def choose(self, problem: Problem) -> "Chosen":
        """Pick, without estimating."""
        arguments = problem.arguments
        number = self.num_pilot or int(np.clip(SHARE * arguments.num_patients, FEWEST, MOST))
        pilot = problem.pilot(number, another_key(arguments.key, 50))
        trials = _Trials(pilot, arguments.num_patients)
        names, notes = trials.chosen()
        return Chosen(names, tuple(notes), trials.num_trajectories)

    def estimate(self, problem: Problem) -> Gradient:
        """The gradient with standard errors; see `engine.gradient.estimate`."""
        return self.choose(problem).estimate(problem)


_CANDIDATES: dict[str, Callable[[], Estimator]] = {
    "ScoreFunction": ScoreFunction,
    "MartingaleCritic": MartingaleCritic,
    "CoupledDifference": CoupledDifference,
}


@dataclass(frozen=True)
class Chosen:
    """An estimator for every parameter, as `Automatic` chose them; for many estimates alike.

    Args:
        names: of the parameters' estimators, in the parameters' order.
        notes: why.
        num_trajectories: simulated for the choice.

    Example:
        >>> Chosen(("ScoreFunction", "CoupledDifference")).names[1]
        'CoupledDifference'
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    num_trajectories: int = 0

    def estimate(self, problem: Problem) -> Gradient:
        """The gradient with standard errors; see `engine.gradient.estimate`."""
        parts = []
        for name in dict.fromkeys(self.names):
            indices = tuple(i for i, one in enumerate(self.names) if one == name)
            parts.append((indices, _CANDIDATES[name]().estimate(problem.only(*indices))))
        return _joined(problem, parts, list(self.notes), self.num_trajectories)


class _Trials:
    """Every candidate's variance x time for every target, from a pilot."""

    def __init__(self, pilot: Problem, num_patients: int) -> None:
        self.pilot, self.num_patients = pilot, num_patients
        self.num_trajectories = 0
        self.reasons: list[str] = []

    def chosen(self) -> tuple[tuple[str, ...], list[str]]:
        """The name of every target's estimator, and why."""
        number = len(self.pilot.targets)
        pairs = [self._cost(CoupledDifference(PILOT_STEP), (i,)) for i in range(number)]
        # A target without a score (an initial count) must not take the others' away.
        scored = tuple(i for i in range(number) if self._has_score(i))
        shared = {
            estimator: cost
            for estimator in (MartingaleCritic(), ScoreFunction())
            if scored and (cost := self._cost(estimator, scored)) is not None
        }
        best = min(shared, key=lambda e: float(np.log(shared[e]).mean()), default=None)
        names, notes = [], []
        for i in range(number):
            pair = pairs[i]
            one = None
            if best is not None and i in scored:
                one = float(shared[best][scored.index(i)]) / len(scored)
            if one is not None and (pair is None or one <= float(pair[0])):
                names.append(type(best).__name__)
            elif pair is not None:
                names.append("CoupledDifference")
            else:
                raise InvalidInput(
                    f"no estimator can do '{self.pilot.labels[i]}': {'; '.join(self.reasons)}"
                )
            notes.append(self._note(i, best, one, pair))
        return tuple(names), [*notes, *self.reasons]

    def _note(
        self, i: int, best: Estimator | None, one: float | None, pair: np.ndarray | None
    ) -> str:
        name = type(best).__name__ if best is not None else "ScoreFunction"
        costs = {name: one, "CoupledDifference": None if pair is None else float(pair[0])}
        known = {k: v for k, v in costs.items() if v is not None}
        picked = min(known, key=lambda k: known[k])
        text = ", ".join(f"{k} {v:.3g}" for k, v in known.items())
        return f"{self.pilot.labels[i]}: {picked} (variance x seconds {text})"

    def _has_score(self, index: int) -> bool:
        try:
            ScoreFunction(is_regressed=False).estimate(self.pilot.only(index))
        except InvalidInput as error:
            if "outcome is" in str(error) or "does not influence" in str(error):
                raise
            self.reasons.append(f"no score: {error}")
            return False
        return True

    def _cost(self, estimator: Estimator, indices: tuple[int, ...]) -> np.ndarray | None:
        """Variance x seconds of each target, without compilation; None where it cannot be."""
        problem = self.pilot.only(*indices)
        try:
            found = estimator.estimate(problem)
            fixed = 0
            if isinstance(estimator, MartingaleCritic):
                fixed = found.num_trajectories - problem.arguments.num_patients
                estimator = MartingaleCritic(found.critic)
            begin = time.perf_counter()
            again = estimator.estimate(problem)
            seconds = time.perf_counter() - begin
        except InvalidInput as error:
            self.reasons.append(f"no {type(estimator).__name__}: {error}")
            return None
        self.num_trajectories += found.num_trajectories + again.num_trajectories
        learning = 1 + fixed / self.num_patients
        variances = (found.standard_errors**2 + again.standard_errors**2) / 2
        return np.maximum(variances * seconds * learning, 1e-300)


def _joined(
    problem: Problem,
    parts: list[tuple[tuple[int, ...], Gradient]],
    notes: list[str],
    num_more: int,
) -> Gradient:
    """One gradient of the targets' several estimates."""
    number = len(problem.targets)
    gradient, errors, names = np.zeros(number), np.zeros(number), [""] * number
    for indices, found in parts:
        for place, i in enumerate(indices):
            gradient[i], errors[i] = found.gradient[place], found.standard_errors[place]
            names[i] = found.estimator[place]
    best = min((found for _, found in parts), key=lambda found: found.value_standard_error)
    return Gradient(
        best.value,
        best.value_standard_error,
        problem.labels,
        gradient,
        errors,
        min(found.residual_variance_ratio for _, found in parts),
        tuple(names),
        (*notes, *(note for _, found in parts for note in found.notes)),
        num_more + sum(found.num_trajectories for _, found in parts),
        next((found.critic for _, found in parts if found.critic is not None), None),
    )
