r"""Coupled finite difference: two systems a step apart that share as many firings as they can.

.. math:: dE[f]/dp = E[f(x^{p+h}) - f(x^{p-h})] / 2h + O(h^2)

The variance is that of a difference that is mostly zero; it grows like 1/h and, unlike a score's,
not with the number of events. Cost: two paths of three times the reactions for every parameter. Use
for initial counts and integer doses, for event-rich networks with few parameters, and where a
score does not exist (a rate that is zero, parameters of events). Cannot do many parameters cheaply.
(Anderson 2012, doi:10.1137/110849079; Srivastava et al. 2013, doi:10.1063/1.4790650.)
"""

from dataclasses import dataclass

import numpy as np

from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments, another_key
from engine.gradient.coupling import coupled, pair_tallies, pair_values
from engine.gradient.directions import Direction
from engine.gradient.dose_targets import DoseAmount
from engine.gradient.problem import Problem, influences
from engine.gradient.regression import mean_and_error
from engine.gradient.result import Gradient
from engine.gradient.targets import Parameter, PopulationMean, Target
from engine.network.derivatives import ONE
from engine.network.expressions import symbols

# The fit uses steps up to twice the chosen one: extrapolating from h and 2 h leaves 4 times the
# fourth-order bias at h, which is about (b h^2)^2 / g; it is to be below half a standard error.
LEFT_OVER = 2.0 * 4.0
# Steps that the pilot compares, as shares of the target's size, and its share of the pairs.
STEPS = (0.32, 0.16, 0.08, 0.04, 0.02)
PILOT_SHARE, SMALLEST_PILOT = 0.05, 200
# The second-order bias that a step may have, as a share of the gradient; it is corrected for, and
# what is left is about this share of it.
LARGEST_BIAS = 0.1


@dataclass(frozen=True)
class CoupledDifference:
    """Central differences of split-coupled pairs, one run of pairs per parameter.

    The step is chosen from a pilot at five step sizes: among those whose bias b h^2 is below a
    tenth of the gradient the one with the smallest error, in which the fourth-order bias that is to
    be expected counts twice. Pilot and run together are then fitted by g + b h^2, so that the
    result is free of the second-order bias and its standard error knows what that costs. Whole
    numbers are moved by one.

    Args:
        step: relative step to use instead of the pilot's; then the bias O(step^2) stays. Default
            None.

    Raises:
        InvalidInput: a step that is not between 0 and 1.

    References:
        Anderson 2012, doi:10.1137/110849079.

    Example:
        >>> CoupledDifference(step=0.05).step
        0.05
    """

    step: float | None = None

    def __post_init__(self) -> None:
        if self.step is not None and not 0 < self.step < 1:
            raise InvalidInput(
                f"CoupledDifference(step={self.step!r}): give a share between 0 and 1, or None"
            )

    def estimate(self, problem: Problem) -> Gradient:
        """The gradient with standard errors; see `engine.gradient.estimate`."""
        found, notes, total = [], [], 0
        for index, target in enumerate(problem.targets):
            check_influence(problem, target)
            pairs = _Pairs(problem.only(index))
            gradient, error, note = self._one(pairs)
            found.append((gradient, error, *pairs.value))
            notes += note
            total += 2 * pairs.num_pairs
        gradients, errors, values, value_errors = (np.asarray(c) for c in zip(*found, strict=True))
        best = int(np.argmin(value_errors))
        return Gradient(
            float(values[best]),
            float(value_errors[best]),
            problem.labels,
            gradients,
            errors,
            1.0,
            ("CoupledDifference",) * len(found),
            tuple(notes),
            total,
        )

    def _one(self, pairs: "_Pairs") -> tuple[float, float, list[str]]:
        problem, target = pairs.problem, pairs.target
        arguments = problem.arguments
        number = arguments.num_patients
        if target.is_whole or is_molecules(arguments, target):
            return (*_resolved(target, pairs.run(1.0, problem)), [])
        size = target.size(arguments)
        if self.step is not None:
            return (*_resolved(target, pairs.run(self.step * size, problem)), [])
        pilot = max(SMALLEST_PILOT, int(PILOT_SHARE * number))
        steps = np.asarray(STEPS)
        found = np.array(
            [
                pairs.run(h * size, problem.pilot(pilot, another_key(arguments.key, 100 + i)))
                for i, h in enumerate(steps)
            ]
        )
        chosen = _best_step(steps, found[:, 0], found[:, 1], number / pilot)
        gradient, error = _resolved(target, pairs.run(chosen * size, problem))
        used = steps <= 2 * chosen
        used &= found[:, 1] > 0
        h = np.append(steps[used], chosen)
        d, se = np.append(found[used, 0], gradient), np.append(found[used, 1], error)
        corrected, corrected_error, curvature, _ = _intercept(h, d, se)
        note = (
            f"{target.label}: relative step {chosen:g}, its bias {curvature * chosen**2:.2g} "
            "(estimated from the pilot) is taken off"
        )
        return corrected, corrected_error, [note]


class _Pairs:
    """Runs of coupled pairs for one target, counted."""

    def __init__(self, problem: Problem) -> None:
        self.problem, (self.target,) = problem, problem.targets
        self.num_pairs = 0
        self.value = (np.nan, np.inf)

    def run(self, change: float, problem: Problem) -> tuple[float, float]:
        """The difference quotient at +-change and its standard error."""
        arguments, outcome = problem.arguments, problem.outcome
        (target,) = problem.targets
        value = target.value(arguments)
        weights = np.asarray(target.weights(arguments), np.float64)
        is_lowest = not target.is_signed and bool(np.any(value - change * weights < 0))
        steps = (change, 0.0 if is_lowest else -change)
        moved = [target.moved(arguments, np.asarray(step)) for step in steps]
        both = coupled(*moved)
        ensemble = both.run(pair_tallies(arguments.network, outcome))
        high, low = pair_values(outcome, ensemble)
        samples = np.stack([(high - low) / (steps[0] - steps[1]), (high + low) / 2], axis=1)
        (gradient, middle), (error, middle_error) = mean_and_error(
            samples, arguments.num_replicates
        )
        self.num_pairs += len(high)
        self.value = (float(middle), float(middle_error))
        return float(gradient), float(error)


def _resolved(target: Target, found: tuple[float, float]) -> tuple[float, float]:
    """A run in which no pair differed says only that the gradient is small, not that it is zero."""
    if found[1] == 0 and found[0] == 0:
        raise InvalidInput(
            f"'{target.label}': no coupled pair had different outcomes, so that the gradient is "
            "below what this number of patients resolves, or zero; simulate more, or use "
            "engine.gradient.MartingaleCritic()"
        )
    return found


def _intercept(h: np.ndarray, d: np.ndarray, se: np.ndarray) -> tuple[float, float, float, float]:
    """g and its standard error, and b and its, of the weighted fit d = g + b h^2."""
    if len(np.unique(h)) < 2:
        return float(d[-1]), float(se[-1]), 0.0, 0.0
    design = np.stack([np.ones_like(h), h**2], axis=1) / se[:, np.newaxis]
    covariance = np.linalg.inv(design.T @ design)
    g, b = covariance @ design.T @ (d / se)
    g_error, b_error = np.sqrt(np.diag(covariance))
    return float(g), float(g_error), float(b), float(b_error)


def _best_step(h: np.ndarray, d: np.ndarray, se: np.ndarray, more: float) -> float:
    """The step with the smallest error after correction, among those with a small bias."""
    is_seen = se > 0
    if is_seen.sum() < 3:
        return float(h[0])
    g, g_error, b, b_error = _intercept(h[is_seen], d[is_seen], se[is_seen])
    known = max(b**2 - b_error**2, 0.0) / (abs(g) + g_error)
    best, least = float(h[is_seen][-1]), np.inf
    for step, error in zip(h[is_seen], se[is_seen], strict=True):
        if abs(b) * step**2 > LARGEST_BIAS * (abs(g) + g_error):
            continue
        used = is_seen & (h <= 2 * step)
        with_run = (
            np.append(h[used], step),
            np.append(d[used], 0.0),
            np.append(se[used], error / np.sqrt(more)),
        )
        _, expected, *_ = _intercept(*with_run)
        error_and_bias = float(np.hypot(expected, LEFT_OVER * known * step**4))
        if error_and_bias < least:
            best, least = float(step), error_and_bias
    return best


def is_molecules(arguments: Arguments, target: Target) -> bool:
    """Whether a dose is a bolus of molecules into a species, a whole number."""
    if not isinstance(target, DoseAmount):
        return False
    doses = arguments.doses(target.index)
    kinds = {arguments.network.kind_of(getattr(dose, "into", "")) for dose in doses}
    is_infused = any(getattr(dose, "infusion_duration", None) for dose in doses)
    return "species" in kinds and not is_infused


def check_influence(problem: Problem, target: Target) -> None:
    """A parameter that no reaction depends on is named; other targets show it in the run."""
    arguments = problem.arguments
    target.value(arguments)
    if not isinstance(target, Parameter | PopulationMean):
        return
    tangents = {p.name: ONE for p in arguments.network.parameters if p.name == target.name}
    direction = Direction(target.label, tangents)
    is_simple = all(
        target.name not in symbols(p.value) for p in arguments.network.parameters
    ) and all(target.name not in symbols(e) for e in arguments.network.initial_expressions.values())
    if is_simple and not influences(arguments.network, direction, problem.outcome.tally):
        raise InvalidInput(
            f"'{target.label}' does not influence the outcome: no reaction whose rate depends on "
            "it leads to what the outcome looks at; leave it out of wrt"
        )
