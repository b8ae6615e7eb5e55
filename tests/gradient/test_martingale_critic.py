from typing import Any

import jax
import numpy as np
import pytest

import engine
from engine.gradient import (
    FittedCritic,
    Gradient,
    MartingaleCritic,
    MeanFieldAdjoint,
    Outcome,
    ScoreFunction,
    adjoint_critic,
    critic,
    critic_sums,
)
from engine.network.expressions import Number
from tests.gradient.problems import (
    BIRTH_DEATH,
    CASES,
    TELEGRAPH,
    Exact,
    check_gradient,
    estimated,
    plant_conditional_terms,
)
from tests.simulation import network
from tests.statistics import normal_bound

NUM = 10_000


def reduction(case: Exact, outcome: Outcome, found: Gradient) -> float:
    """Variance of the score with a baseline over that of the estimate, geometric mean."""
    score = estimated(case, ScoreFunction(is_regressed=False), outcome, list(found.names), NUM)
    ratios = (score.standard_errors / found.standard_errors) ** 2
    return float(np.exp(np.log(ratios).mean()))


# Half of what was measured with 20,000 trajectories, so that noise cannot fail the test.
LEAST = {
    "birth-death mean": 250,
    "birth-death P": 28,
    "telegraph mean": 80,
    "telegraph P": 17,
    "dimerisation mean": 240,
    "dimerisation P": 14,
}


@pytest.mark.parametrize(
    "name",
    [
        "birth-death mean",
        "birth-death P",
        pytest.param("telegraph mean", marks=pytest.mark.full),
        pytest.param("telegraph P", marks=pytest.mark.full),
        pytest.param("dimerisation mean", marks=pytest.mark.full),
        pytest.param("dimerisation P", marks=pytest.mark.full),
    ],
)
def test_unbiased_and_far_less_noisy_than_the_score(name: str) -> None:
    case, outcome, function = CASES[name]
    found = estimated(case, MartingaleCritic(), outcome, list(case.parameters), NUM)
    truth = case.gradient(function)
    result = check_gradient(found, truth)
    assert result, result.message
    assert reduction(case, outcome, found) > LEAST[name]
    assert 0 < found.residual_variance_ratio < 0.1
    assert "residual variance ratio" in found.notes[0]


def test_without_the_conditional_term_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    case, outcome, function = CASES["birth-death mean"]
    plant_conditional_terms(monkeypatch, 0.95)
    found = estimated(case, MartingaleCritic(), outcome, ["k", "g"], NUM)
    assert not check_gradient(found, case.gradient(function))


def test_a_line_in_every_cell_follows_a_linear_network(monkeypatch: pytest.MonkeyPatch) -> None:
    case, outcome, _ = CASES["birth-death mean"]
    critic = MartingaleCritic(MeanFieldAdjoint(num_cells=12))
    lines = estimated(case, critic, outcome, ["k", "g"], NUM)
    right = adjoint_critic._lines

    def level(*arguments: Any) -> Any:
        levels, slopes, middles = right(*arguments)
        return levels, 0.0 * slopes, middles

    monkeypatch.setattr(adjoint_critic, "_lines", level)
    constants = estimated(case, critic, outcome, ["k", "g"], NUM)
    # The belief is exp(-g (T - t)), which a line on a fifth of a life time meets within 0.2 %.
    assert lines.residual_variance_ratio < 1e-4
    assert constants.residual_variance_ratio > 2e-3


def test_a_start_after_zero_changes_nothing() -> None:
    found = [
        engine.gradient.estimate(
            BIRTH_DEATH.model,
            MartingaleCritic(),
            engine.FinalValue("X"),
            ["k", "g"],
            start + 5.0,
            key=jax.random.key(1),
            num_patients=500,
            start=start,
        )
        for start in (0.0, 30.0)
    ]
    np.testing.assert_allclose(found[1].gradient, found[0].gradient, rtol=1e-5)
    assert found[1].residual_variance_ratio < 1e-3


@pytest.mark.full
@pytest.mark.parametrize("wrt", [["off_rate", "g"], ["k"], ["on_rate", "off_rate", "k", "g"]])
def test_few_sums_say_what_all_would(wrt: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(critic, "line_sums", lambda *_: None)
    found = patients_differ(wrt)
    with monkeypatch.context() as without:
        without.setattr(critic_sums, "_scaled", lambda *_: {})
        whole = patients_differ(wrt)
    assert np.allclose(found.gradient, whole.gradient, rtol=1e-4)
    assert np.allclose(found.standard_errors, whole.standard_errors, rtol=1e-3)
    monkeypatch.setattr(critic_sums, "MINUS_ONE", Number(-1.01))
    wrong = patients_differ(wrt)
    assert not np.allclose(wrong.standard_errors, whole.standard_errors, rtol=1e-3)


def patients_differ(wrt: list[str]) -> Gradient:
    """A telegraph's mean by lines, 100 patients of two replicates each."""
    return engine.gradient.estimate(
        TELEGRAPH.model,
        MartingaleCritic(MeanFieldAdjoint(num_cells=8)),
        engine.FinalValue("m"),
        wrt,
        TELEGRAPH.horizon,
        key=jax.random.key(5),
        num_patients=100,
        num_replicates=2,
        params={"k": np.linspace(10.0, 30.0, 100), "g": np.linspace(1.0, 1.5, 100)},
    )


def test_patients_in_whom_a_reaction_never_fires() -> None:
    silenced = network(
        {"X": 0},
        [("0 -> X", engine.MassAction("made")), ("X -> 0", engine.MassAction("g"))],
        parameters={"k": 10.0, "share": 1.0, "made": "k * share", "g": 1.0},
    )
    found = engine.gradient.estimate(
        silenced,
        MartingaleCritic(),
        engine.FinalValue("X"),
        "k",
        5.0,
        key=jax.random.key(1),
        num_patients=2000,
        params={"share": np.tile([0.0, 1.0], 1000)},
    )
    # d/dk of the mean over patients, share k / g (1 - exp(-5 g)).
    off = found.gradient - 0.5 * (1 - np.exp(-5.0))
    assert np.all(np.abs(off) < normal_bound(1) * found.standard_errors)


def test_a_stale_critic_stays_unbiased_and_useful() -> None:
    case, outcome, function = CASES["birth-death P"]
    first = estimated(case, MartingaleCritic(), outcome, ["k", "g"], 2000)
    moved = Exact(**{**case.__dict__, "parameters": {"k": 11.0, "g": 1.0}})
    again = estimated(
        moved, MartingaleCritic(first.critic), outcome, ["k", "g"], NUM, params={"k": 11.0}
    )
    assert check_gradient(again, moved.gradient(function))
    assert again.residual_variance_ratio < 0.2
    assert again.num_trajectories == NUM


@pytest.mark.full
def test_the_variance_does_not_grow_with_the_horizon() -> None:
    errors = []
    for horizon in (5.0, 80.0):
        found = engine.gradient.estimate(
            BIRTH_DEATH.model,
            MartingaleCritic(),
            engine.FinalValue("X"),
            ["k", "g"],
            horizon,
            key=jax.random.key(1),
            num_patients=2000,
        )
        errors.append(found.standard_errors)
    assert np.all((errors[1] / errors[0]) ** 2 < 3)


@pytest.mark.full
def test_means_of_integrals_and_firings() -> None:
    for tally, truth in (
        (engine.TimeIntegral("X"), 19.0),
        (engine.FiringCount("death"), 19.0),
    ):
        found = estimated(BIRTH_DEATH, MartingaleCritic(), tally, "k", 2000)
        assert check_gradient(found, [truth + np.exp(-20.0)])
        assert found.residual_variance_ratio < 0.05


@pytest.mark.full
def test_a_maximum_and_a_first_passage_are_one_outcome() -> None:
    high = Outcome(engine.Maximum("X"), lambda peak: peak >= 18)
    soon = Outcome(engine.FirstPassage("X >= 18"), lambda t: t < np.inf)
    fsp = BIRTH_DEATH.fsp
    step = 1e-4

    def probability(k: float) -> float:
        bracket = fsp({"k": k, "g": 1.0}, (0,)).first_passage_cdf([20.0], lambda x: x[:, 0] >= 18)
        return float(bracket.lower[0])

    truth = (probability(10 + step) - probability(10 - step)) / (2 * step)
    for outcome in (high, soon):
        found = estimated(BIRTH_DEATH, MartingaleCritic(), outcome, "k", 4000)
        assert check_gradient(found, [truth]), (found, truth)
        assert found.residual_variance_ratio < 0.2


def test_what_a_critic_cannot_describe_is_refused() -> None:
    def refusal(estimator: MartingaleCritic, outcome: object) -> str:
        with pytest.raises(engine.InvalidInput) as caught:
            estimated(BIRTH_DEATH, estimator, outcome, "k", 200)
        return str(caught.value)

    assert "Maximum" in refusal(MartingaleCritic(), engine.Maximum("X"))
    deadline = Outcome(engine.FirstPassage("X >= 10"), lambda t: t < 2)
    assert "deadline" in refusal(MartingaleCritic(), deadline)
    area = Outcome(engine.TimeIntegral("X"), lambda a: a > 180)
    assert "time integral" in refusal(MartingaleCritic(FittedCritic()), area)
    peak = Outcome(engine.Maximum("X"), lambda p: p > 14)
    assert "Maximum" in refusal(MartingaleCritic(MeanFieldAdjoint()), peak)


@pytest.mark.full
def test_an_area_threshold_scales_the_linear_belief() -> None:
    area = Outcome(engine.TimeIntegral("X"), lambda a: a > 190)
    found = estimated(BIRTH_DEATH, MartingaleCritic(MeanFieldAdjoint()), area, "k", 4000)
    plain = estimated(BIRTH_DEATH, ScoreFunction(), area, "k", 4000)
    gap = abs(found.gradient - plain.gradient)
    assert gap < 5 * np.hypot(found.standard_errors, plain.standard_errors)
    assert found.residual_variance_ratio < 0.6


@pytest.mark.full
def test_a_cascade_with_an_event() -> None:
    model = network(
        {"A": 0, "B": 0},
        [
            ("0 -> A", engine.MassAction("k")),
            ("A -> A + B", engine.MassAction("s")),
            ("A -> 0", engine.MassAction(1.0)),
            ("B -> 0", engine.MassAction(0.5)),
        ],
        parameters={"k": 5.0, "s": 2.0},
        events=[engine.Event("wash", "time >= 3", {"B": "0"})],
    )
    common = {"key": jax.random.key(2), "num_patients": 4000}
    # After the wash at 3, with A started from 0: E[B(6)] is linear in both rates.
    found = engine.gradient.estimate(
        model, MartingaleCritic(), engine.FinalValue("B"), ["k", "s"], 6.0, **common
    )
    assert found.value == pytest.approx(5.0 * found["k"], rel=0.05)
    assert found.value == pytest.approx(2.0 * found["s"], rel=0.05)
    assert found.residual_variance_ratio < 0.2
