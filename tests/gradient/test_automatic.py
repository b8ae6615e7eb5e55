import numpy as np
import pytest

import engine
from engine.gradient import Automatic, InitialCount, Outcome
from tests.gradient.problems import BIRTH_DEATH, CASES, check_gradient, estimated


@pytest.mark.full
def test_picks_says_why_and_is_unbiased() -> None:
    case, outcome, function = CASES["birth-death mean"]
    found = estimated(case, Automatic(num_pilot=400), outcome, ["k", "g"], 4000)
    assert check_gradient(found, case.gradient(function))
    assert set(found.estimator) == {"MartingaleCritic"}
    assert any("variance x seconds" in note for note in found.notes)


@pytest.mark.full
def test_an_initial_count_goes_to_coupled_differences() -> None:
    wrt = ["k", InitialCount("X")]
    found = estimated(BIRTH_DEATH, Automatic(num_pilot=200), engine.TimeIntegral("X"), wrt, 1000)
    assert found.estimator[1] == "CoupledDifference"
    assert check_gradient(found, [19.0, 1 - np.exp(-20.0)])
    assert any("whole number" in note for note in found.notes)


def test_an_outcome_that_never_happens_is_named() -> None:
    never = Outcome(engine.Maximum("X"), lambda peak: peak > 1000)
    with pytest.raises(engine.InvalidInput, match="never reached"):
        estimated(BIRTH_DEATH, Automatic(), never, "k", 500)
