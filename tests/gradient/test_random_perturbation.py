"""Slopes by regression on perturbed doses and rates, against the law of a Poisson count."""

from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss
from scipy import stats

import engine
from engine.gradient import DoseAmount, DoseTime, Gradient, Outcome, RandomPerturbation
from engine.gradient.estimate import estimate
from engine.gradient.problem import Problem
from engine.gradient.random_perturbation import WIDTH
from tests.simulation import network

# 0 -> X at k times the drug's level, X -> 0: X(T) is Poisson with mean k (d1 m(T) + d2 m(T - t2)).
HORIZON, DECAY, DEATH, SECOND, LEVEL = 4.0, 0.8, 0.3, 1.5, 30
DOSES, K = np.array([34.0, 16.0]), 1.0
# Bonferroni over the checks of this file, at 2e-5 in all.
Z = 4.7


def unit(t: np.ndarray | float) -> np.ndarray | float:
    """The mean of a dose of 1 after t."""
    return (np.exp(-DEATH * t) - np.exp(-DECAY * t)) / (DECAY - DEATH)


def mean(k: np.ndarray, d1: np.ndarray, d2: np.ndarray, t2: np.ndarray) -> np.ndarray:
    return k * (d1 * unit(HORIZON) + d2 * unit(HORIZON - t2))


TARGETS = ("k", DoseAmount(0), DoseAmount(1), DoseTime(1))
VALUES = np.array([K, *DOSES, SECOND])
# Of the time: to the first dose, which is nearer than the horizon.
SIZES = np.array([K, *DOSES, SECOND])


def smoothed(function: object, step: float) -> np.ndarray:
    """E[f(values + h eps) eps_p] / h_p, with the product rule of Gauss on 8^4 points."""
    nodes, weights = leggauss(8)
    grids = np.meshgrid(*[WIDTH * nodes] * 4, indexing="ij")
    weight = np.prod(np.meshgrid(*[weights / 2] * 4, indexing="ij"), axis=0)
    moved = [v + step * s * e for v, s, e in zip(VALUES, SIZES, grids, strict=True)]
    f = function(mean(*moved))  # type: ignore[operator]
    return np.array(
        [np.sum(weight * f * e) / (step * s) for s, e in zip(SIZES, grids, strict=True)]
    )


def tail(m: np.ndarray) -> np.ndarray:
    return stats.poisson.sf(LEVEL, m)


def found(estimator: object, outcome: Outcome, **changed: object) -> Gradient:
    system = network(
        {"X": 0},
        [("0 -> X", engine.Formula("k * drug")), ("X -> 0", DEATH)],
        inputs=["drug"],
        parameters={"k": K},
    )
    given = {
        "key": jax.random.key(3),
        "num_patients": 20_000,
        "inputs": {"drug": engine.OneCompartment(clearance=DECAY, volume=1.0)},
        "regimen": engine.Regimen(
            [engine.Dose(DOSES[0], into="drug"), engine.Dose(DOSES[1], SECOND, into="drug")]
        ),
        **changed,
    }
    wrt = given.pop("wrt", TARGETS)
    return estimate(system, estimator, outcome, wrt, HORIZON, **given)  # type: ignore[arg-type]


def is_right(one: Gradient, truth: np.ndarray) -> bool:
    return bool(np.all(np.abs(one.gradient - truth) < Z * one.standard_errors))


COUNT = Outcome(engine.FinalValue("X"))
STORM = Outcome(engine.FinalValue("X"), lambda x: x > LEVEL)


@dataclass(frozen=True)
class Longer(RandomPerturbation):
    """The mistake to be noticed: steps that are a tenth longer than the slope believes."""

    def _regressed(self, problem: Problem, values: np.ndarray, epsilon: object, steps: object):
        return super()._regressed(problem, values, epsilon, 0.9 * np.asarray(steps))


@pytest.mark.parametrize("step", [0.2, 0.1])
def test_slopes_of_a_threshold_are_those_of_the_law(step: float) -> None:
    truth = smoothed(tail, step)
    one = found(RandomPerturbation(step), STORM)
    assert is_right(one, truth)
    now = mean(K, *DOSES, SECOND)  # type: ignore[arg-type]
    assert abs(one.value - tail(now)) < Z * one.value_standard_error


def test_the_bias_is_of_second_order() -> None:
    """The smoothed slopes, which the estimates are held against, tend to those at the point."""
    now = mean(K, *DOSES, SECOND)  # type: ignore[arg-type]
    slope = stats.poisson.pmf(LEVEL, now) * now / K
    large, small = (abs(smoothed(tail, step)[0] - slope) for step in (0.1, 0.05))
    assert 3.3 < large / small < 4.7


def test_slopes_of_a_mean_and_a_wrong_twin() -> None:
    truth = smoothed(lambda m: m, 0.2)
    assert is_right(found(RandomPerturbation(), COUNT), truth)
    assert not is_right(found(Longer(), COUNT), truth)


def test_replicates_are_not_independent() -> None:
    """Errors of 4 replicates a patient lie between those of 1 and of 4 times the patients."""
    few = found(RandomPerturbation(), COUNT, num_patients=2000)
    many = found(RandomPerturbation(), COUNT, num_patients=8000)
    both = found(RandomPerturbation(), COUNT, num_patients=2000, num_replicates=4)
    assert both.num_trajectories == 8000
    errors = [one.standard_errors[1] for one in (many, both, few)]
    assert errors == sorted(errors)


REFUSED = {
    "whole": ({"wrt": ["k", engine.gradient.InitialCount("X")]}, r"X\(0\)' is a whole number"),
    "few": ({"num_patients": 10}, "10 patients for 4 parameters: give at least 36"),
    "negative": (
        {"wrt": "k", "params": {"k": np.r_[np.ones(99), 0.01]}, "num_patients": 100},
        "'k' would be -0.336 for a patient",
    ),
    "unknown": ({"wrt": "kk"}, "did you mean 'k'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_named(name: str) -> None:
    changed, message = REFUSED[name]
    with pytest.raises(engine.InvalidInput, match=message):
        found(RandomPerturbation(), COUNT, **changed)


def test_steps_are_shares() -> None:
    with pytest.raises(engine.InvalidInput, match=r"step=0\.7"):
        replace(RandomPerturbation(), step=0.7)
