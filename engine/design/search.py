r"""Constrained stochastic optimisation: an augmented Lagrangian with Adam.

.. math:: \min_z\; -B(z) / B_0 + \kappa \frac{\rho}{2} \max(0, g(z) + \lambda / \rho)^2,
          \qquad g = (R - \alpha) / \alpha

B the benefit, R the risk, alpha its bound, z the variables' positions, B_0 the benefit's size, and
kappa = |grad B / B_0| / |grad g| the exchange rate of the two, of gradients averaged over steps
(noise would lengthen the smaller of single ones and make the risk cheap), so that the multiplier
lambda is 1 at an optimum on the bound, whatever the units are; it begins there and moves by eta g
with every step. Within a round the patients are the same and their reaction noise is new at every
step; the next round has others and more. Adam's steps shrink by a cosine. Gradients are estimates
through the exact simulation. Where fresh patients find the risk near the aim but off it, one step
of Newton's along its averaged gradient corrects that. (Nocedal and Wright 2006, chapter 17,
doi:10.1007/978-0-387-40065-5; Adam: Kingma and Ba 2015, arXiv:1412.6980, by optax.)
"""

from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from engine.design.outcomes import Estimators, gradients
from engine.design.problem import TherapyProblem, patients_key
from engine.design.result import Step
from engine.design.task import Task
from engine.design.verification import Verification, Z
from engine.errors import InvalidInput
from engine.gradient.problem import SameOutcome
from engine.gradient.several import Found

# The risk that the penalty sees is an average over about this many steps: its product with the
# risk's gradient from the same patients is biased where the risk is noisy.
MEMORY = 2.0
# The gradients that set the price, and the correction's direction, are averages over about as many.
PULL_MEMORY = 5.0
# A correction for a risk that is off the aim by less than this share of the bound, and its longest
# step in the positions.
NEAR, LONGEST_CORRECTION = 0.6, 0.3
# eta, and the largest multiplier: it must find back where a start was far from the bound.
DUAL_RATE, LARGEST_MULTIPLIER = 0.1, 4.0
# What is left of the learning rate at the end, and in rounds that are added.
SMALLEST_RATE = 0.05
# Rounds that are added while fresh patients find more risk than is careful, or less than this share
# of the aim; and what the aim is multiplied by where they nearly keep it.
MAX_MORE_ROUNDS = 6
USED = 0.9
# What counts for a mean or a tail as much as the whole bound does for a probability.
SHARE_OF_MEAN = 0.2
TIGHTENING = 0.95
# The optimiser aims at a risk whose interval on fresh patients should keep the bound: below it by
# MARGIN half widths. A design is taken where those who check it find it below by LEAST_MARGIN of
# them: to take what just passes would choose luck, and fail with the next patients. With a standard
# error of half a half width in what the search reaches and in either look at it, the last interval
# keeps the bound in some 19 of 20 designs.
MARGIN, LEAST_MARGIN = 2.1, 1.6
# A benefit's size is taken as no less than this share of what its standard error is.
SMALLEST_SIZE = 2.0


class Search:
    """One search for a design; it keeps its path.

    Args:
        task: what is to be solved.
        before: what the start achieves, on fresh patients.
        estimators: of the gradients of benefit and risk.
    """

    def __init__(self, task: Task, before: Verification, estimators: Estimators) -> None:
        self.task, self.problem, self.options = task, task.problem, task.options
        self.estimators = estimators
        self.path: list[Step] = []
        half = _half_width(task, before)
        self.multiplier, self.size = 1.0, 0.0
        self.target = _below(self.problem.bound, MARGIN * half)
        self.most = _below(self.problem.bound, LEAST_MARGIN * half)
        self.gap: float | None = None
        # Averages of the gradients of benefit / size and risk / bound in the positions.
        self.pulls: np.ndarray | None = None
        # A probability changes by multiples where a mean or a tail changes by shares of itself.
        self.unit = 1.0 if before.risk.kind == "probability" else SHARE_OF_MEAN
        self.num_trajectories = 0

    def until_safe(self, positions: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """The rounds, then more while fresh patients find too much risk, or need less care.

        Where the rounds run out, of the designs that were careful enough the one with the largest
        benefit among those patients; without any, the one with the smallest risk.
        """
        notes: list[str] = []
        for number in range(self.options.num_rounds):
            positions = self.round(positions, number)
        checked: list[tuple[Verification, np.ndarray]] = []
        for number in range(MAX_MORE_ROUNDS):
            found = self._checked(positions, number)
            checked.append((found, positions))
            if self._is_careful(found):
                enough = self.target * (1.0 - self.unit * (1.0 - USED))
                # A bound that does not bind leaves no price, after a round that began with one.
                if found.risk.value >= enough or (number > 0 and self.multiplier == 0.0):
                    return positions, notes
            elif number > 0 and found.risk.low <= self.problem.bound < found.risk.high:
                self.target *= 1.0 - self.unit * (1.0 - TIGHTENING)
            if number == MAX_MORE_ROUNDS - 1:
                break
            notes.append(
                f"fresh patients had a risk of {found.risk.value:.3g} ({found.risk.low:.3g} to "
                f"{found.risk.high:.3g}); the search went on, aiming at {self.target:.3g}"
            )
            self.gap = self._relative(found.risk.value)
            if abs(self.gap) < NEAR and self.multiplier > 0.0:
                positions = self._corrected(positions, found.risk.value)
                continue
            self.multiplier = 1.0
            positions = self.round(positions, self.options.num_rounds + number)
        return max(checked, key=lambda one: self._rank(one[0]))[1], notes

    def _is_careful(self, found: Verification) -> bool:
        return found.is_safe and found.risk.value <= self.most

    def _rank(self, found: Verification) -> tuple[bool, float]:
        is_careful = self._is_careful(found)
        return is_careful, found.benefit.value if is_careful else -found.risk.value

    def _corrected(self, positions: np.ndarray, risk: float) -> np.ndarray:
        """Newton's step to the aim, along the risk's averaged gradient."""
        if self.pulls is None or not np.any(self.pulls[1]):
            return positions
        slope = self.pulls[1] * self.problem.bound
        step = (self.target - risk) * slope / np.sum(slope**2)
        return np.asarray(positions + step * min(1.0, LONGEST_CORRECTION / np.linalg.norm(step)))

    def _checked(self, positions: np.ndarray, number: int) -> Verification:
        self.num_trajectories += self.problem.num_systems * self.options.num_verified
        return self.task.verified(self.problem.values_at(positions), f"check {number}")

    def round(self, positions: np.ndarray, number: int) -> np.ndarray:
        """A round, done or remembered; returns the mean of its later steps."""
        before = list(self.path)

        def done() -> Any:
            mean = self._steps(positions, number)
            return {
                "positions": mean.tolist(),
                "state": [self.multiplier, self.size, self.gap, self.num_trajectories],
                "pulls": None if self.pulls is None else self.pulls.tolist(),
                "path": [asdict(step) for step in self.path[len(before) :]],
            }

        found = self.task.memory(f"{self.task.name}: round {number}", done)
        self.multiplier, self.size, self.gap, self.num_trajectories = found["state"]
        self.pulls = None if found["pulls"] is None else np.array(found["pulls"])
        self.path = before + [Step.of(step) for step in found["path"]]
        self.task.counter.step(self.options.num_steps)
        return np.array(found["positions"])

    def _steps(self, positions: np.ndarray, number: int) -> np.ndarray:
        """Steps with the same patients."""
        # A start far above the bound winds it up, and 1 is what it is on the bound.
        self.multiplier = min(self.multiplier, 1.0)
        options = self.options
        adam = optax.adam(self._schedule(number), b1=0.8, b2=0.95)
        z = jnp.asarray(positions, jnp.float32)
        state = adam.init(z)
        # Rounds that are added are as large as the last that was planned.
        grown = options.growth ** min(number, options.num_rounds - 1)
        num_patients = int(options.num_patients * grown)
        visited = [np.asarray(z, float)]
        for step in range(options.num_steps):
            gradient = self._gradient(np.asarray(z, float), number, step, num_patients)
            if gradient is None:
                # All patients are alike there, harmed for instance: half of the way back, with
                # Adam's memory cleared.
                z = jnp.asarray((visited[-1] + self._sound(positions)) / 2, jnp.float32)
                state = adam.init(z)
                visited.append(np.asarray(z, float))
                continue
            # optax mixes types where the user's strictest promotion rules would refuse to.
            with jax.numpy_dtype_promotion("standard"):
                updates, state = adam.update(jnp.asarray(gradient, jnp.float32), state)
                z = jnp.asarray(optax.apply_updates(z, updates))
            visited.append(np.asarray(z, float))
        mean: np.ndarray = np.mean(visited[len(visited) // 2 :], axis=0)
        return mean

    def _schedule(self, number: int) -> optax.Schedule:
        """Adam's rate in a round: a cosine over all planned steps."""
        options = self.options
        total = options.num_rounds * options.num_steps
        first = number * options.num_steps

        def rate(step: Any) -> Any:
            share = jnp.minimum((first + step) / total, 1.0)
            wave = 0.5 * (1.0 + jnp.cos(jnp.pi * share))
            return options.learning_rate * (SMALLEST_RATE + (1.0 - SMALLEST_RATE) * wave)

        return rate

    def _sound(self, positions: np.ndarray) -> np.ndarray:
        """The positions of the last step at which not every patient was harmed."""
        if not self.path:
            return positions
        return np.array(positions_of(self.problem, np.array(self.path[-1].values)))

    def _gradient(
        self, positions: np.ndarray, number: int, step: int, num_patients: int
    ) -> np.ndarray | None:
        """dL/dz, from fresh reaction noise of the round's patients; None where all are alike."""
        problem, options = self.problem, self.options
        values = problem.values_at(positions)
        key, noise = patients_key(self.task.seed, f"round {number}"), f"step {step}"
        found = gradients(problem, self.estimators, values, key, noise, num_patients)
        self.num_trajectories += found.num_trajectories
        benefit, risk = found.benefit, found.risk
        if isinstance(benefit, SameOutcome) or isinstance(risk, SameOutcome):
            self._stuck(benefit, risk)
            return None
        gain, harm = problem.benefit.scale, problem.risk.scale
        error = gain * benefit.value_standard_error
        self.size = max(self.size, abs(gain * benefit.value), SMALLEST_SIZE * error)
        self.gap = float(_remembered(self.gap, self._relative(harm * risk.value), MEMORY))
        slopes = np.array([v.slope(z) for v, z in zip(problem.variables, positions, strict=True)])
        uphill = slopes * gain * benefit.gradient / self.size
        harmful = slopes * harm * risk.gradient / problem.bound
        self.pulls = _remembered(self.pulls, np.stack([uphill, harmful]), PULL_MEMORY)
        gain_size, size = np.linalg.norm(self.pulls, axis=1)
        exchange = gain_size / size if size > 0 else 0.0
        price = float(exchange * max(0.0, self.multiplier + options.penalty * self.gap))
        moved = self.multiplier + DUAL_RATE * self.gap
        self.multiplier = min(max(moved, 0.0), LARGEST_MULTIPLIER)
        self.path.append(
            Step(
                tuple(map(float, values)),
                gain * benefit.value,
                error,
                harm * risk.value,
                harm * risk.value_standard_error,
                price,
                num_patients,
            )
        )
        return price * harmful - uphill

    def _stuck(self, benefit: Found, risk: Found) -> None:
        """Benefit or risk is the same for all patients: refused where the search begins."""
        for criterion, found in ((self.problem.benefit, benefit), (self.problem.risk, risk)):
            if isinstance(found, SameOutcome) and not self.path:
                raise InvalidInput(
                    f"'{criterion.name}' is {found.value:g} for all {found.num_trajectories} "
                    "patients where the search begins; begin elsewhere (start=), or simulate more "
                    "patients"
                )
        if isinstance(risk, SameOutcome):
            self.gap = 1.0

    def _relative(self, risk: float) -> float:
        """How far a risk is above the aim, in units of the bound, at most 1 either way."""
        return float(np.clip((risk - self.target) / (self.unit * self.problem.bound), -1.0, 1.0))


def _remembered(before: Any, new: Any, memory: float) -> Any:
    return new if before is None else before + (new - before) / memory


def _half_width(task: Task, before: Verification) -> float:
    """Half of what the interval of a risk at the bound is wide.

    A probability's width follows from the bound; that of a mean is the start's, in proportion.
    """
    problem, options, risk = task.problem, task.options, before.risk
    if risk.kind == "probability":
        share = min(problem.bound / problem.risk.scale, 0.5)
        error = problem.risk.scale * np.sqrt(share * (1.0 - share) / options.num_verified)
        return float(Z * error)
    return (risk.high - risk.value) * problem.bound / max(abs(risk.value), problem.bound)


def _below(bound: float, margin: float) -> float:
    return float(max(bound - margin, 0.5 * bound))


def positions_of(problem: TherapyProblem, values: np.ndarray) -> list[float]:
    """The positions z of the variables' numbers."""
    pairs = zip(problem.variables, values, strict=True)
    return [variable.position(value) for variable, value in pairs]
