import dataclasses

import jax
import numpy as np
import pytest

import engine
from engine.gradient import Outcome, ScoreFunction, score_function
from engine.gradient.tallies import LaneSums, Martingale, score
from engine.methods import direct_sparse
from engine.network.derivatives import ONE, ZERO
from engine.network.expressions import Number, call
from tests.gradient.problems import (
    BIRTH_DEATH,
    CASES,
    DIMERISATION,
    check_gradient,
    estimated,
)
from tests.simulation import network, run


@pytest.mark.parametrize(
    "name",
    [
        name if "P" in name and "birth" in name else pytest.param(name, marks=pytest.mark.full)
        for name in CASES
    ],
)
def test_unbiased_against_the_master_equation(name: str) -> None:
    case, outcome, function = CASES[name]
    found = estimated(case, ScoreFunction(), outcome, list(case.parameters), 20_000)
    result = check_gradient(found, case.gradient(function))
    assert result, result.message
    assert abs(found.value - case.value(function)) < 5 * found.value_standard_error
    assert np.all(found.standard_errors > 0)


def test_a_compensator_that_is_wrong_by_a_fifth_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: engine.ReactionNetwork, direction: object) -> object:
        right = score(model, direction)
        return dataclasses.replace(right, integrand=call("mul", Number(0.8), right.integrand))

    case, outcome, function = CASES["birth-death P"]
    truth = case.gradient(function)
    monkeypatch.setattr(score_function, "score", wrong)
    found = estimated(case, ScoreFunction(), outcome, list(case.parameters), 20_000)
    assert not check_gradient(found, truth)


def test_reward_to_go_is_unbiased_and_varies_less() -> None:
    # m(t) = k/g (1 - e^-gt): int_0^T m = k/g (T - (1 - e^-gT) / g)
    k, g, t = 10.0, 1.0, 20.0
    decay = np.exp(-g * t)
    truth = {
        "k": (t - (1 - decay) / g) / g,
        "g": -k / g**2 * (t - (1 - decay) / g) + k / g * ((1 - decay) / g**2 - t * decay / g),
    }
    area = engine.TimeIntegral("X")
    whole = estimated(BIRTH_DEATH, ScoreFunction(is_reward_to_go=False), area, ["k", "g"], 10_000)
    to_go = estimated(BIRTH_DEATH, ScoreFunction(), area, ["k", "g"], 10_000)
    assert check_gradient(whole, truth)
    assert check_gradient(to_go, truth)
    assert np.all(to_go.standard_errors**2 < 0.6 * whole.standard_errors**2)
    assert not check_gradient(to_go, {name: -value for name, value in truth.items()})


@pytest.mark.full
def test_a_parameter_of_parameters_follows_the_chain_rule() -> None:
    model = network(
        {"X": 0},
        [("0 -> X", engine.MassAction("made")), ("X -> 0", engine.MassAction(1.0))],
        parameters={"base": 2.0, "made": "3 * base^2"},
    )
    found = engine.gradient.estimate(
        model,
        ScoreFunction(),
        engine.FinalValue("X"),
        "base",
        10.0,
        key=jax.random.key(3),
        num_patients=10_000,
    )
    assert check_gradient(found, [12.0 * (1 - np.exp(-10.0))])


@pytest.mark.full
def test_squares_of_scores_explain_more_and_leave_no_bias() -> None:
    case, outcome, function = CASES["dimerisation mean"]
    names = list(case.parameters)
    one = estimated(case, ScoreFunction(), outcome, names, 20_000)
    two = estimated(case, ScoreFunction(is_squared=True), outcome, names, 20_000)
    assert check_gradient(two, case.gradient(function))
    # 1.14 was measured.
    assert np.exp(np.log((one.standard_errors / two.standard_errors) ** 2).mean()) > 1.05


def test_an_outcome_that_depends_on_the_parameter_itself() -> None:
    # E[k X(T)] = k^2 / g: twice what the path alone gives.
    found = estimated(BIRTH_DEATH, ScoreFunction(), engine.FinalValue("k * X"), "k", 20_000)
    assert check_gradient(found, [20.0])
    assert not check_gradient(found, [10.0])


@pytest.mark.full
def test_population_mean_by_the_chain_rule() -> None:
    factors = np.exp(0.3 * np.random.default_rng(0).standard_normal(4000))
    target = engine.gradient.PopulationMean("k", sensitivity=factors)
    found = estimated(
        BIRTH_DEATH,
        ScoreFunction(),
        engine.FinalValue("X"),
        [target],
        4000,
        params={"k": 10.0 * factors},
        num_replicates=4,
    )
    assert check_gradient(found, [factors.mean() * (1 - np.exp(-20.0))])


def test_same_key_same_gradient() -> None:
    one, two = (
        estimated(DIMERISATION, ScoreFunction(), engine.FinalValue("D"), ["c", "d"], 500)
        for _ in range(2)
    )
    assert np.array_equal(one.gradient, two.gradient)


def refusal(*arguments: object, **more: object) -> str:
    with pytest.raises(engine.InvalidInput) as caught:
        estimated(*arguments, 200, **more)  # type: ignore[arg-type]
    return str(caught.value)


def test_bad_input_is_named() -> None:
    mean = engine.FinalValue("X")
    case, method = BIRTH_DEATH, ScoreFunction()
    assert "did you mean" in refusal(case, method, mean, "kk")
    assert "twice" in refusal(case, method, mean, ["k", "k"])
    assert "not a tally" in refusal(case, method, "X", "k")
    never = Outcome(engine.Maximum("X"), lambda x: x > 1e6)
    assert "never reached" in refusal(case, method, never, "k")
    passage = engine.FirstPassage("X > 1000")
    assert "first passage" in refusal(case, method, passage, "k")
    zero = refusal(case, method, mean, "k", params={"k": 0.0}, x0={"X": 3})
    assert "'k' is 0" in zero and "CoupledDifference" in zero
    assert "CoupledDifference" in refusal(case, method, mean, engine.gradient.InitialCount("X"))
    assert "estimator" in refusal(case, "score", mean, "k")


def test_a_parameter_without_influence_is_named() -> None:
    model = network(
        {"X": 0, "Y": 0},
        [("0 -> X", engine.MassAction("k")), ("0 -> Y", engine.MassAction("other"))],
        parameters={"k": 1.0, "other": 1.0},
    )
    with pytest.raises(engine.InvalidInput, match="'other' does not influence the outcome"):
        engine.gradient.estimate(
            model,
            ScoreFunction(),
            engine.FinalValue("X"),
            ["k", "other"],
            1.0,
            key=jax.random.key(0),
            num_patients=100,
        )


@pytest.mark.parametrize("fewest", [1, 10_000], ids=["sparse step", "dense step"])
def test_a_sum_of_firings_is_their_number(fewest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in lanes that wait for the last trajectory to end."""
    monkeypatch.setattr(direct_sparse, "MANY", fewest)
    firings = LaneSums(martingales=(Martingale((("birth", ONE),), ZERO),))
    tallies = {"sum": firings, "number": engine.FiringCount("birth")}
    found = run(BIRTH_DEATH.model, [1.0, 3.0], 64, tallies=tallies)
    np.testing.assert_array_equal(found.tallies["sum"][:, 0], found.tallies["number"])
