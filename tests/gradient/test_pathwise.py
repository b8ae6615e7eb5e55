from collections.abc import Callable

import jax
import numpy as np
import pytest

import engine
from engine.gradient import DoseDuration, DoseRate, InitialCount, Outcome, Pathwise, PopulationMean
from tests.gradient.problems import BIRTH_DEATH, CASES, TELEGRAPH, check_gradient, estimated
from tests.gradient.test_doses import BOLUSES, DRIVEN, END, PEAKED, PK, DoseAmount, DoseTime, slope
from tests.gradient.test_doses import Arguments as Given
from tests.simulation import network, run


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


# X leaves at 1 per unit of time, is there at the start, injected, infused and made by a drug.
GIVEN = network(
    {"X": 300},
    [("X -> 0", engine.MassAction("g")), ("0 -> X", engine.Formula("s * drug"))],
    parameters={"g": 1.0, "s": 400.0},
    inputs=["drug"],
)
GIVEN_END = 3.0
REGIMEN = engine.Regimen(
    [
        engine.Dose(200.0, 1.0, into="X"),
        engine.Dose(500.0, 0.5, into="X", duration=1.5),
        engine.Dose(2.0, 0.8, into="drug"),
    ]
)
ELIMINATION = 0.4


def slopes_of_what_is_given() -> dict[str, float]:
    """Exact slopes of E[X(T)], a sum of exponentials."""
    left = {time: np.exp(-(GIVEN_END - time)) for time in (0.0, 0.5, 0.8, 1.0, 2.0)}
    infused = 500.0 * (left[2.0] - left[0.5])

    # The drug 2 e^(-k u) makes X at s from 0.8 on: s 2 (e^(-k w) - e^(-w)) / (1 - k), w the rest.
    def made(k: float, rest: float) -> float:
        return float(800.0 * (np.exp(-k * rest) - np.exp(-rest)) / (1 - k))

    def central(function: Callable[[float], float], at: float) -> float:
        return (function(at + 1e-5) - function(at - 1e-5)) / 2e-5

    rest = GIVEN_END - 0.8
    return {
        "s": made(ELIMINATION, rest) / 400.0,
        "X(0)": left[0.0],
        "amount of dose 0": left[1.0],
        "time of dose 0": 200.0 * left[1.0],
        "amount of dose 1": infused / 1.5 / 500.0,
        "duration of dose 1": (500.0 * left[2.0] - infused / 1.5) / 1.5,
        "amount of dose 2": made(ELIMINATION, rest) / 2.0,
        "time of dose 2": -central(lambda w: made(ELIMINATION, w), rest),
        "drug clearance": central(lambda k: made(k, rest), ELIMINATION),
    }


def test_langevin_tangents_of_what_is_given() -> None:
    targets = ["s", InitialCount("X"), DoseAmount(0), DoseTime(0), DoseAmount(1), DoseDuration(1)]
    found = engine.gradient.estimate(
        GIVEN,
        Pathwise(engine.Langevin(dt=0.01)),
        engine.FinalValue("X"),
        [*targets, DoseAmount(2), DoseTime(2), PK("drug", "clearance")],
        GIVEN_END,
        key=jax.random.key(2),
        num_patients=1000,
        inputs={"drug": engine.OneCompartment(clearance=ELIMINATION, volume=1.0)},
        regimen=REGIMEN,
    )
    truth = slopes_of_what_is_given()
    exact = np.array([truth[name] for name in found.names])
    # An Euler step of 0.01 is wrong by 0.01 T / 2 of an exponential that decays at 1.
    slack = 0.02 * np.abs(exact)
    result = check_gradient(found, exact, slack)
    assert result, result.message
    for name in range(len(exact)):
        wrong = exact.copy()
        wrong[name] *= 1.15
        assert not check_gradient(found, wrong, slack), found.names[name]


@pytest.mark.full
def test_langevin_says_what_it_cannot_move() -> None:
    def refused(target: object, **more: object) -> str:
        with pytest.raises(engine.InvalidInput) as caught:
            engine.gradient.estimate(
                GIVEN,
                Pathwise(engine.Langevin(dt=0.5)),
                engine.FinalValue("X"),
                target,
                GIVEN_END,
                key=jax.random.key(2),
                num_patients=2,
                inputs={"drug": engine.OneCompartment(clearance=ELIMINATION, volume=1.0)},
                **more,
            )
        return str(caught.value)

    both = engine.Regimen([engine.Dose(1.0, 1.0, into="drug"), engine.Dose(1.0, 1.0, into="drug")])
    assert "both ways" in refused(DoseTime(0), regimen=both)
    assert "both ways" in refused(DoseTime(0), regimen=engine.Regimen(engine.Dose(5.0, into="X")))
    # Two records closer than a time is moved: one would pass the other.
    near = engine.Regimen([engine.Dose(9.0, 1.0, into="X"), engine.Dose(9.0, 1.000005, into="X")])
    assert "both ways" in refused(DoseTime(0), regimen=near)
    assert "both ways" in refused(DoseTime(1), regimen=near)
    rated = engine.Regimen(engine.Dose(500.0, 0.5, into="X", rate=250.0))
    for target in (DoseAmount(0), DoseRate(0)):
        assert "an infusion of rate=250 whose end moves with it; give duration=2" in refused(
            target, regimen=rated
        )
    late = engine.Regimen(engine.Dose(5.0, GIVEN_END + 1.0, into="X"))
    assert "does not influence" in refused(DoseAmount(0), regimen=late)
    assert "cannot do 'mean of g'" in refused(PopulationMean("g", [1.0, 1.0]), regimen=REGIMEN)


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


@pytest.mark.parametrize("method", [engine.ODE(), engine.Langevin(dt=0.05)])
@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"clearance": [0.2, 0.4]}, r"input 'drug' \(rates\) differs .* \(0.2 to 0.4\); use"),
        ({"absorption": engine.ZeroOrder([0.5, 1.0])}, r"input 'drug' \(duration\) differs"),
        ({"bioavailability": [0.5, 0.5]}, ""),
    ],
)
def test_pharmacokinetics_of_patients_are_refused(
    method: engine.ODE | engine.Langevin, numbers: dict[str, object], said: str
) -> None:
    """The first patient's drug would have stood for everyone's."""

    def estimate() -> None:
        engine.gradient.estimate(
            GIVEN,
            Pathwise(method),
            engine.FinalValue("X"),
            "s",
            GIVEN_END,
            key=jax.random.key(2),
            num_patients=2,
            inputs={"drug": engine.OneCompartment(**{"clearance": 0.4, "volume": 1.0, **numbers})},
            regimen=REGIMEN,
        )

    if not said:
        return estimate()
    with pytest.raises(engine.InvalidInput, match=said):
        estimate()


def langevin_slopes(model, dt: float, wrt, end: float, outcome=None, num: int = 200, **more):
    return engine.gradient.estimate(
        model,
        Pathwise(engine.Langevin(dt=dt)),
        outcome or engine.FinalValue("X"),
        wrt,
        end,
        key=jax.random.key(3),
        num_patients=num,
        **more,
    )


@pytest.mark.full
def test_langevin_paths_keep_what_is_conserved_at_zero() -> None:
    """X comes to 0 on the way: a guard of each species alone makes more of both together."""
    model = network({"X": 20, "Y": 0}, [("X -> Y", 1.0)])
    both = engine.FinalValue("X + Y")
    found = langevin_slopes(model, 0.05, InitialCount("X"), 8.0, both)
    assert found.value == pytest.approx(20.0, abs=1e-3)
    assert found.gradient == pytest.approx([1.0], abs=1e-3)


@pytest.mark.full
def test_a_langevin_tangent_passes_a_species_that_is_empty() -> None:
    """Nothing happens until the dose at 1: X(0) decays on the mean, as it does later."""
    model = network({"X": 0}, [("X -> 0", 1.0)])
    regimen = engine.Regimen(engine.Dose(1000, 1.0, into="X"))
    found = langevin_slopes(model, 0.01, InitialCount("X"), 2.0, regimen=regimen)
    result = check_gradient(found, np.array([0.99**200]), np.array([1e-4]))
    assert result, result.message
    assert not check_gradient(found, np.array([1.05 * 0.99**200]), np.array([1e-4]))


@pytest.mark.full
def test_langevin_paths_say_which_step_is_needed() -> None:
    """X lives 0.1: a step of 0.3 would take three times what there is."""
    model = network({"X": 1000}, [("0 -> X", 10_000.0), ("X -> 0", 10.0)])
    with pytest.raises(engine.InvalidInput, match=r"dt=0.3.*'X' lives 0\.1 .* dt below 0\.1, or"):
        langevin_slopes(model, 0.3, InitialCount("X"), 1.0)
    assert np.isfinite(langevin_slopes(model, 0.05, InitialCount("X"), 1.0).gradient).all()


def test_langevin_paths_have_the_propensities_of_the_method() -> None:
    """Pairs of 40 molecules: x (x - 1) / 2 and not x^2 / 2, which takes one of 40 more of them."""
    model, method = network({"P": 40}, [("2 P -> 0", 0.02)]), engine.Langevin(0.02)
    simulated = run(model, np.array([2.0]), 8000, method=method)["P"][:, 0]
    found = langevin_slopes(model, 0.02, InitialCount("P"), 2.0, engine.FinalValue("P"), 8000)
    mean, error = simulated.mean(), simulated.std() / np.sqrt(8000)
    error = np.hypot(error, found.value_standard_error)
    assert abs(found.value - mean) < 4.5 * error
    # On x^2 / 2 the mean is 0.43 lower.
    assert abs(found.value - 0.43 - mean) > 4.5 * error


def test_a_law_that_is_no_number_on_some_path_is_refused() -> None:
    model = network({"X": 100}, [("0 -> X", "sqrt(X - 95)"), ("X -> 0", 0.02)])
    with pytest.raises(engine.InvalidInput, match=r"on \d+ of 64 paths a rate law, the outcome"):
        engine.gradient.estimate(
            model,
            Pathwise(engine.Langevin(dt=0.1)),
            engine.FinalValue("X"),
            [InitialCount("X")],
            10.0,
            key=jax.random.key(0),
            num_patients=64,
        )


@pytest.mark.full
def test_equal_regimens_of_different_patients_are_one() -> None:
    def found(regimen: object) -> object:
        return engine.gradient.estimate(
            DRIVEN,
            Pathwise(),
            engine.FinalValue("X"),
            [DoseAmount(0)],
            END,
            key=jax.random.key(0),
            num_patients=2,
            inputs={"drug": PEAKED},
            regimen=regimen,
        )

    doses = BOLUSES.doses
    one, two = found(BOLUSES), found([engine.Regimen(doses), engine.Regimen(doses)])
    assert np.array_equal(one.gradient, two.gradient)
    with pytest.raises(engine.InvalidInput, match="give one regimen"):
        found([BOLUSES, engine.Regimen(doses[:1])])
