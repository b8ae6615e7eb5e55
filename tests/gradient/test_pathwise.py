import jax
import numpy as np
import pytest

import engine
from engine.gradient import InitialCount, Outcome, Pathwise
from tests.gradient.problems import BIRTH_DEATH, CASES, TELEGRAPH, check_gradient, estimated
from tests.gradient.test_doses import BOLUSES, DRIVEN, END, PEAKED, PK, DoseAmount, DoseTime, slope
from tests.gradient.test_doses import Arguments as Given


def test_a_linear_network_is_exact() -> None:
    case, outcome, function = CASES["telegraph mean"]
    found = estimated(case, Pathwise(), outcome, list(case.parameters), 1)
    truth = case.gradient(function)
    assert np.allclose(found.gradient, list(truth.values()), rtol=1e-4)
    assert found.value == pytest.approx(case.value(function), rel=1e-5)
    assert np.all(found.standard_errors == 0)


@pytest.mark.full
def test_integrals_counts_initial_counts_and_doses() -> None:
    wrt = ["k", InitialCount("X")]
    found = estimated(BIRTH_DEATH, Pathwise(), engine.TimeIntegral("k * X"), wrt, 1)
    # int k m dt with m = k (1 - e^-t): twice k (T - 1), and k a molecule that lives a unit of time.
    assert np.allclose(found.gradient, [2 * 10.0 * 19.0, 10.0], rtol=1e-4)
    fired = estimated(BIRTH_DEATH, Pathwise(), engine.FiringCount("death"), "k", 1)
    assert np.allclose(fired.gradient, [19.0], rtol=1e-4)
    targets = [DoseAmount(0), DoseTime(1), PK("drug", "clearance")]
    arguments = Given(
        DRIVEN,
        np.array([END]),
        np.array([0, 1], np.uint32),
        inputs={"drug": PEAKED},
        regimen=BOLUSES,
    )
    driven = engine.gradient.estimate(
        DRIVEN,
        Pathwise(),
        engine.FinalValue("X"),
        targets,
        END,
        key=jax.random.key(0),
        num_patients=1,
        inputs={"drug": PEAKED},
        regimen=BOLUSES,
    )
    assert np.allclose(driven.gradient, [slope(arguments, t) for t in targets], rtol=2e-3)


@pytest.mark.full
def test_langevin_tangents_of_a_birth_death_mean() -> None:
    method = Pathwise(engine.Langevin(dt=0.05))
    found = estimated(
        BIRTH_DEATH, method, engine.FinalValue("X"), ["k", "g"], 2000, params={"k": 100.0}
    )
    # An Euler step of 0.05 is wrong by less than its share of the fixed point, which it keeps.
    assert check_gradient(found, [1.0, -100.0])
    assert not check_gradient(found, [1.05, -105.0])


def test_where_paths_jump_it_is_refused_with_a_reason() -> None:
    def refusal(case: object, estimator: object, outcome: object, wrt: object = "k") -> str:
        with pytest.raises(engine.InvalidInput) as caught:
            estimated(case, estimator, outcome, wrt, 10)  # type: ignore[arg-type]
        return str(caught.value)

    high = Outcome(engine.FinalValue("X"), lambda x: x > 14)
    assert "may jump" in refusal(BIRTH_DEATH, Pathwise(), high)
    langevin = Pathwise(engine.Langevin(dt=0.1))
    assert "a switch" in refusal(TELEGRAPH, langevin, engine.FinalValue("m"))
    assert "one patient" in refusal_of_population()
    with pytest.raises(engine.InvalidInput, match="no pathwise derivative"):
        Pathwise(engine.Direct())


def refusal_of_population() -> str:
    with pytest.raises(engine.InvalidInput) as caught:
        estimated(BIRTH_DEATH, Pathwise(), engine.FinalValue("X"), "k", 2, params={"k": [1.0, 2.0]})
    return str(caught.value)
