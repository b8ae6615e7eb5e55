import jax
import numpy as np
import pytest

import engine
from engine.gradient import CoupledDifference, DoseAmount, InitialCount, Outcome, ScoreFunction
from engine.gradient.arguments import Arguments, stops_of
from engine.gradient.coupling import coupled, pair_tallies
from engine.models.storm import cytokine_storm, storm_depot
from engine.simulate import key_words
from tests.gradient.problems import BIRTH_DEATH, CASES, DIMERISATION, check_gradient, estimated
from tests.simulation import network


@pytest.mark.parametrize(
    "name",
    [
        "birth-death P",
        pytest.param("telegraph mean", marks=pytest.mark.full),
        pytest.param("dimerisation mean", marks=pytest.mark.full),
    ],
)
def test_unbiased_against_the_master_equation(name: str) -> None:
    case, outcome, function = CASES[name]
    found = estimated(case, CoupledDifference(), outcome, list(case.parameters), 10_000)
    result = check_gradient(found, case.gradient(function))
    assert result, result.message
    assert all("step" in note for note in found.notes)


@pytest.mark.full
def test_a_large_fixed_step_is_biased_and_the_pilot_sees_it() -> None:
    case, outcome, function = CASES["birth-death P"]
    truth = case.gradient(function)
    fixed = estimated(case, CoupledDifference(step=0.5), outcome, ["k", "g"], 40_000)
    assert not check_gradient(fixed, truth)


@pytest.mark.full
def test_varies_less_than_the_score_for_a_mean() -> None:
    case, outcome, _ = CASES["dimerisation mean"]
    pair = estimated(case, CoupledDifference(step=0.05), outcome, ["c", "d"], 2000)
    score = estimated(case, ScoreFunction(), outcome, ["c", "d"], 2000)
    assert np.all(pair.standard_errors**2 < score.standard_errors**2 / 5)


@pytest.mark.full
def test_an_initial_count_against_the_master_equation() -> None:
    case, outcome, function = CASES["dimerisation P"]
    ends = [case.value(function, x0=(99 + n, 0)) for n in (1, -1)]
    truth = (ends[0] - ends[1]) / 2
    wrt = InitialCount("P")
    found = estimated(DIMERISATION, CoupledDifference(), outcome, wrt, 40_000, x0={"P": 99})
    assert found.names == ("P(0)",)
    assert check_gradient(found, [truth])
    assert not check_gradient(found, [-truth])


def test_a_rate_of_zero_has_a_gradient() -> None:
    found = estimated(
        BIRTH_DEATH,
        CoupledDifference(),
        engine.FinalValue("X"),
        "k",
        4000,
        params={"k": 0.0},
        x0={"X": 5},
    )
    assert check_gradient(found, [1 - np.exp(-20.0)])


@pytest.mark.full
def test_molecules_of_a_dose_and_a_parameter_of_an_event() -> None:
    model = network(
        {"X": 0, "Y": 0},
        [("X -> 0", engine.MassAction("g")), ("X -> X + Y", engine.MassAction(1.0))],
        parameters={"g": 0.5, "due": 1.0},
        events=[engine.Event("pulse", "time >= due", {"X": "X + 10"})],
    )
    common = {
        "key": jax.random.key(4),
        "num_patients": 4000,
        "regimen": engine.Regimen(engine.Dose(20, 1.0, into="X")),
    }
    area = engine.TimeIntegral("X")
    left = (1 - np.exp(-0.5 * 3.0)) / 0.5
    found = engine.gradient.estimate(model, CoupledDifference(), area, DoseAmount(0), 4.0, **common)
    assert check_gradient(found, [left])
    moved = engine.gradient.estimate(model, CoupledDifference(), area, "due", 4.0, **common)
    assert check_gradient(moved, [-10 * np.exp(-0.5 * 3.0)])
    with pytest.raises(engine.InvalidInput, match=r"event 'pulse'.*CoupledDifference"):
        engine.gradient.estimate(model, ScoreFunction(), area, "due", 4.0, **common)
    with pytest.raises(engine.InvalidInput, match="whole number"):
        engine.gradient.estimate(model, ScoreFunction(), area, DoseAmount(0), 4.0, **common)


@pytest.mark.full
def test_firings_are_counted_in_both_systems() -> None:
    found = estimated(
        BIRTH_DEATH, CoupledDifference(step=0.1), engine.FiringCount("birth"), "k", 2000
    )
    assert check_gradient(found, [20.0])


def test_no_difference_is_not_a_zero_gradient() -> None:
    rare = Outcome(engine.Maximum("X"), lambda x: x > 45)
    with pytest.raises(engine.InvalidInput, match="no coupled pair"):
        estimated(BIRTH_DEATH, CoupledDifference(step=0.01), rare, "g", 200)


STORM_DOSES = ((4.0, 200.0), (3.0, 224.0), (3.0, 248.0))


def test_a_propensity_at_the_threshold_of_the_rare_ones() -> None:
    """A coupled storm in which one stood there, and was counted twice, for this very patient."""
    arguments = Arguments(
        cytokine_storm(200.0),
        stops_of(600.0),
        key_words(jax.random.key(1)),
        patient_ids=np.array([52]),
        params={"b_xy": np.array([1.1968127596727072])},
        inputs={"depot": storm_depot()},
        regimen=engine.Regimen([engine.Dose(a, t, into="depot") for a, t in STORM_DOSES]),
    )
    moved = [DoseAmount(0).moved(arguments, np.asarray(step)) for step in (0.4, -0.4)]
    outcome = Outcome(engine.Maximum("cytokine"))
    ensemble = coupled(*moved).run(pair_tallies(arguments.network, outcome))
    assert ensemble.is_complete.all()
