r"""Constrained stochastic optimisation: an augmented Lagrangian with Adam.

.. math:: \min_z\; -B(z) / B_0 + \kappa \frac{\rho}{2} \max(0, g(z) + \lambda / \rho)^2,
          \qquad g = (R - \alpha) / \alpha

B the benefit, R the risk, alpha its bound, z the variables' positions, B_0 the benefit's size, and
kappa = |grad B / B_0| / |grad g| the exchange rate of the two at every step, so that the multiplier
lambda is 1 at an optimum on the bound, whatever the units are; it begins there and moves by eta g
with every step. Within a round the patients are the same and their reaction noise is new at every
step; the next round has others and more. Adam's steps shrink by a cosine. Gradients
are unbiased estimates through the exact simulation. (Nocedal and Wright 2006, chapter 17,
doi:10.1007/978-0-387-40065-5; Adam: Kingma and Ba 2015, arXiv:1412.6980, by optax.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from engine.design.problem import Criterion, TherapyProblem, patients_key
from engine.design.result import Design, Point, Sensitivity, Step
from engine.design.verification import Verification, verify
from engine.errors import InvalidInput
from engine.gradient.problem import Estimator, SameOutcome
from engine.gradient.score_function import ScoreFunction

# The risk that the penalty sees is an average over about this many steps: its product with the
# risk's gradient from the same patients is biased where the risk is noisy.
MEMORY = 2.0
# eta, and the largest multiplier: it must find back where a start was far from the bound.
DUAL_RATE, LARGEST_MULTIPLIER = 0.1, 4.0
# What is left of the learning rate at the end, and in rounds that are added.
SMALLEST_RATE = 0.05
# Rounds that are added while fresh patients do not keep the bound, or meet less than this share of
# the risk that is allowed; and what the aim is multiplied by where they nearly keep it.
MAX_MORE_ROUNDS = 6
USED = 0.75
TIGHTENING = 0.95
# The optimiser aims at a risk whose interval on fresh patients should keep the bound: below it by
# this many half widths.
MARGIN = 1.3
# A benefit's size is taken as no less than this share of what its standard error is.
SMALLEST_SIZE = 2.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AugmentedLagrangian:
    """Options of the optimiser.

    Args:
        num_rounds: rounds, each with patients of its own; default 6.
        num_steps: steps of Adam in a round; default 15.
        num_patients: patients of the first round; default 1000.
        growth: factor on them from round to round; default 1.4.
        learning_rate: step of Adam on the positions z at the beginning; default 0.3.
        penalty: rho; default 1.
        num_verified: fresh patients on which the design is verified; default 20,000.
        estimator: of the gradients; default `ScoreFunction()`.

    Raises:
        InvalidInput: a number that is not positive.

    Example:
        >>> AugmentedLagrangian(num_rounds=3).num_steps
        15
    """

    num_rounds: int = 6
    num_steps: int = 15
    num_patients: int = 1000
    growth: float = 1.4
    learning_rate: float = 0.3
    penalty: float = 1.0
    num_verified: int = 20_000
    estimator: Estimator = field(default_factory=ScoreFunction)

    def __post_init__(self) -> None:
        for name in ("num_rounds", "num_steps", "num_patients", "num_verified"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InvalidInput(f"{name}={value!r}: give a whole number of at least 1")
        for name in ("learning_rate", "penalty"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name}={getattr(self, name)!r}: give a positive number")
        if not self.growth >= 1:
            raise InvalidInput(f"growth={self.growth!r}: give a factor of at least 1")


def optimise(
    problem: TherapyProblem,
    options: AugmentedLagrangian | None = None,
    *,
    seed: int = 0,
    frontier: Sequence[float] = (),
    progress: Progress | None = None,
) -> Design:
    """Find a therapy and say what it achieves on fresh patients.

    Where the risk's interval, on fresh patients, reaches above the bound, the search goes on; what
    is reported comes from patients used for nothing else.

    Args:
        problem: what to maximise, what to bound, what to choose.
        options: of the optimiser; default `AugmentedLagrangian()`.
        seed: of everything random.
        frontier: further bounds, for the efficacy-toxicity frontier.
        progress: called with (steps done, steps in all).

    Returns:
        The design.

    Raises:
        InvalidInput: no design of the variables' bounds keeps the bound on the risk.
    """
    chosen = options or AugmentedLagrangian()
    rounds = chosen.num_rounds * (1 + len(frontier))
    counter = _Counter(progress, rounds * chosen.num_steps)
    start = np.array([variable.start for variable in problem.variables], float)
    before = verify(problem, start, chosen.num_verified, seed, "start")
    search = _Search(problem, chosen, seed, counter)
    positions, notes = search.until_safe(np.array(_positions(problem, start)))
    values = problem.values_at(positions)
    verification = verify(problem, values, chosen.num_verified, seed, "verification")
    if verification.risk.low > problem.bound:
        raise InvalidInput(
            f"no design was found with a risk of at most {problem.bound:g}: the last has "
            f"{verification.risk.value:.3g}; raise the bound, or widen the variables' ranges"
        )
    if not verification.is_safe:
        notes.append(
            f"the risk's interval on fresh patients, up to {verification.risk.high:.3g}, reaches "
            f"above the bound {problem.bound:g}; verify with more patients"
        )
    return Design(
        problem.names,
        tuple(variable.unit for variable in problem.variables),
        tuple(map(float, values)),
        verification,
        before,
        tuple(search.path),
        _sensitivities(problem, chosen, values, seed),
        _frontier(problem, chosen, positions, seed, frontier, counter),
        tuple(notes),
    )


class _Counter:
    """Steps done, for progress."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))


class _Search:
    """One search for a design; it keeps its path."""

    def __init__(
        self, problem: TherapyProblem, options: AugmentedLagrangian, seed: int, counter: _Counter
    ) -> None:
        self.problem, self.options, self.seed, self.counter = problem, options, seed, counter
        self.path: list[Step] = []
        self.multiplier, self.target, self.size = 1.0, _aim(problem, options), 0.0
        self.gap: float | None = None

    def until_safe(self, positions: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """The rounds, then more while fresh patients do not keep the bound, or need less care.

        Of the designs that fresh patients found safe the one with the largest benefit among them.
        """
        notes: list[str] = []
        for number in range(self.options.num_rounds):
            positions = self.round(positions, number)
        safe: list[tuple[float, np.ndarray]] = []
        for number in range(MAX_MORE_ROUNDS):
            found = self._checked(positions, number)
            if found.is_safe:
                safe.append((found.benefit.value, positions))
                if found.risk.value >= USED * self.target or self.multiplier == 0.0:
                    break
            elif found.risk.low <= self.problem.bound:
                self.target *= TIGHTENING
            notes.append(
                f"fresh patients had a risk of {found.risk.value:.3g} ({found.risk.low:.3g} to "
                f"{found.risk.high:.3g}); the search went on, aiming at {self.target:.3g}"
            )
            self.gap, self.multiplier = self._relative(found.risk.value), 1.0
            positions = self.round(positions, self.options.num_rounds + number)
        best = max(safe, key=lambda one: one[0], default=(0.0, positions))
        return best[1], notes

    def _checked(self, positions: np.ndarray, number: int) -> Verification:
        values = self.problem.values_at(positions)
        return verify(self.problem, values, self.options.num_verified, self.seed, f"check {number}")

    def round(self, positions: np.ndarray, number: int) -> np.ndarray:
        """Steps with the same patients and multiplier; returns the mean of the later ones."""
        options = self.options
        adam = optax.adam(self._schedule(number), b1=0.8, b2=0.95)
        z = jnp.asarray(positions, jnp.float32)
        state = adam.init(z)
        num_patients = int(options.num_patients * options.growth**number)
        visited = [np.asarray(z, float)]
        for step in range(options.num_steps):
            gradient = self._gradient(np.asarray(z, float), number, step, num_patients)
            if gradient is None:
                # Every patient is harmed there: half of the way back, with Adam's memory cleared.
                z = jnp.asarray((visited[-1] + self._sound(positions)) / 2, jnp.float32)
                state = adam.init(z)
                visited.append(np.asarray(z, float))
                continue
            # optax mixes types where the user's strictest promotion rules would refuse to.
            with jax.numpy_dtype_promotion("standard"):
                updates, state = adam.update(jnp.asarray(gradient, jnp.float32), state)
                z = jnp.asarray(optax.apply_updates(z, updates))
            visited.append(np.asarray(z, float))
            self.counter.step()
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
        return np.array(_positions(self.problem, np.array(self.path[-1].values)))

    def _gradient(
        self, positions: np.ndarray, number: int, step: int, num_patients: int
    ) -> np.ndarray | None:
        """dL/dz, from fresh reaction noise of the round's patients; None where all are harmed."""
        problem, options = self.problem, self.options
        values = problem.values_at(positions)
        key, noise = patients_key(self.seed, f"round {number}"), f"step {step}"
        try:
            benefit, risk = (
                problem.gradient(one, options.estimator, values, key, noise, num_patients)
                for one in (problem.benefit, problem.risk)
            )
        except SameOutcome as same:
            if not self.path:
                raise InvalidInput(
                    f"'{problem.risk.name}' is {same.value:g} for all {same.number} patients where "
                    "the search begins; give another start="
                ) from None
            self.gap = 1.0
            return None
        gain, harm = problem.benefit.scale, problem.risk.scale
        error = gain * benefit.value_standard_error
        self.size = max(self.size, abs(gain * benefit.value), SMALLEST_SIZE * error)
        self.gap = _remembered(self.gap, self._relative(harm * risk.value))
        slopes = np.array([v.slope(z) for v, z in zip(problem.variables, positions, strict=True)])
        uphill = slopes * gain * benefit.gradient / self.size
        harmful = slopes * harm * risk.gradient / problem.bound
        size = np.linalg.norm(harmful)
        exchange = np.linalg.norm(uphill) / size if size > 0 else 0.0
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

    def _relative(self, risk: float) -> float:
        """How far a risk is above the aim, in shares of the bound, at most 1."""
        return min((risk - self.target) / self.problem.bound, 1.0)


def _remembered(before: float | None, new: float) -> float:
    return new if before is None else before + (new - before) / MEMORY


def _aim(problem: TherapyProblem, options: AugmentedLagrangian) -> float:
    """The risk to aim at; the half width is a probability's, the widest that is usual."""
    share = min(problem.bound, 0.5)
    half = 1.96 * np.sqrt(share * (1.0 - share) / options.num_verified)
    return float(max(problem.bound - MARGIN * half, 0.5 * problem.bound))


def _positions(problem: TherapyProblem, values: np.ndarray) -> list[float]:
    pairs = zip(problem.variables, values, strict=True)
    return [variable.position(value) for variable, value in pairs]


def _sensitivities(
    problem: TherapyProblem, options: AugmentedLagrangian, values: np.ndarray, seed: int
) -> dict[str, Sensitivity]:
    key = patients_key(seed, "sensitivity")

    def slopes(criterion: Criterion) -> tuple[np.ndarray, np.ndarray]:
        found = problem.gradient(
            criterion, options.estimator, values, key, "sensitivity", options.num_verified
        )
        return criterion.scale * found.gradient, criterion.scale * found.standard_errors

    (benefit, benefit_error), (risk, risk_error) = map(slopes, (problem.benefit, problem.risk))
    columns = zip(benefit, benefit_error, risk, risk_error, strict=True)
    return {
        name: Sensitivity(*map(float, numbers))
        for name, numbers in zip(problem.names, columns, strict=True)
    }


def _frontier(
    problem: TherapyProblem,
    options: AugmentedLagrangian,
    positions: np.ndarray,
    seed: int,
    bounds: Sequence[float],
    counter: _Counter,
) -> tuple[Point, ...]:
    """Designs under other bounds, each from the one before."""
    points = []
    for bound in sorted(bounds):
        search = _Search(replace(problem, bound=bound), options, seed, counter)
        positions, _ = search.until_safe(positions)
        values = problem.values_at(positions)
        found = verify(
            replace(problem, bound=bound), values, options.num_verified, seed, "frontier"
        )
        points.append(Point(bound, tuple(map(float, values)), found))
    return tuple(points)
