"""Several outcomes of the same paths: one simulation gives for all what each gives alone."""

from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest

import engine
from engine.gradient import (
    DoseAmount,
    Gradient,
    MartingaleCritic,
    Outcome,
    RandomPerturbation,
    ScoreFunction,
    estimate_all,
)
from engine.gradient.arguments import Arguments, another_key
from engine.gradient.estimate import problem_of
from engine.gradient.problem import Estimator, Problem, SameOutcome
from tests.simulation import network

# A mean with its own share of k, a threshold, an integral that is rewarded to go, and a maximum
# that nobody reaches.
OUTCOMES = (
    Outcome(engine.FinalValue("k * X")),
    Outcome(engine.FinalValue("X"), lambda x: x > 12),
    Outcome(engine.TimeIntegral("X")),
    Outcome(engine.Maximum("X"), lambda peak: peak > 1e6),
)


def posed(estimator: Estimator, wrt: tuple[object, ...] = ("k", "g", DoseAmount(0))) -> Problem:
    """Birth at the drug's level and a constant, death; three targets."""
    system = network(
        {"X": 0},
        [
            ("0 -> X", engine.MassAction("k")),
            ("0 -> X", engine.Formula("drug")),
            ("X -> 0", engine.MassAction("g")),
        ],
        parameters={"k": 5.0, "g": 1.0},
        inputs=["drug"],
    )
    return problem_of(
        system,
        estimator,
        OUTCOMES[0],
        wrt,
        5.0,
        key=jax.random.key(4),
        num_patients=600,
        inputs={"drug": engine.OneCompartment(clearance=0.5, volume=1.0)},
        regimen=engine.Regimen(engine.Dose(10.0, into="drug")),
    )


def is_alike(estimator: Estimator, problem: Problem) -> bool:
    """Whether the joint estimates are the separate ones, to float32's rounding of sums."""
    together = estimate_all(estimator, problem, OUTCOMES)
    for outcome, found in zip(OUTCOMES, together, strict=True):
        try:
            alone = estimator.estimate(replace(problem, outcome=outcome))
        except SameOutcome as same:
            assert isinstance(found, SameOutcome) and str(found) == str(same)
            continue
        assert isinstance(found, Gradient)
        for name in ("value", "value_standard_error", "gradient", "standard_errors"):
            if not np.allclose(getattr(found, name), getattr(alone, name), rtol=1e-4, atol=1e-6):
                return False
        assert found.num_trajectories == alone.num_trajectories
    return True


@pytest.mark.parametrize(
    "estimator",
    [
        ScoreFunction(),
        pytest.param(ScoreFunction(is_squared=True, is_reward_to_go=False), marks=pytest.mark.full),
        pytest.param(RandomPerturbation(), marks=pytest.mark.full),
        pytest.param(MartingaleCritic(), marks=pytest.mark.full),
    ],
    ids=["score", "squares", "perturbed", "critic"],
)
def test_the_joint_estimate_is_the_separate_ones(estimator: Estimator) -> None:
    assert is_alike(estimator, posed(estimator))


@dataclass(frozen=True)
class Elsewhere(ScoreFunction):
    """The mistake to be noticed: the joint estimate with other reaction noise."""

    def estimate_all(self, problem, outcomes):
        arguments = problem.arguments
        if len(outcomes) > 1:
            arguments = replace(arguments, key=another_key(arguments.key, 1))
        return super().estimate_all(replace(problem, arguments=arguments), outcomes)


def test_other_noise_is_noticed() -> None:
    assert not is_alike(Elsewhere(), posed(Elsewhere()))


def test_the_score_simulates_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, run = [], Arguments.run

    def counted(self: Arguments, *given: object) -> engine.Ensemble:
        runs.append(given)
        return run(self, *given)

    monkeypatch.setattr(Arguments, "run", counted)
    estimate_all(ScoreFunction(), posed(ScoreFunction()), OUTCOMES)
    assert len(runs) == 1


def test_every_outcome_must_be_influenced() -> None:
    problem = posed(ScoreFunction())
    unmoved = Outcome(engine.FinalValue("1 + 0 * g"))
    with pytest.raises(engine.InvalidInput, match="'k' does not influence the outcome"):
        estimate_all(ScoreFunction(), problem, [OUTCOMES[0], unmoved])
