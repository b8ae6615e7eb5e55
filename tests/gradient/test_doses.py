from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest

import engine
from engine.dosing.schedule import compile_schedule, concentration
from engine.gradient import (
    CoupledDifference,
    DoseAmount,
    DoseDuration,
    DoseRate,
    DoseTime,
    IndividualDoses,
    MartingaleCritic,
    MeanFieldAdjoint,
    PharmacokineticParameter,
    ScoreFunction,
    directions,
    stretches,
)
from engine.gradient.arguments import Arguments, stops_of
from engine.gradient.stretches import closely_stopped
from engine.gradient.tallies import LaneSums, score
from engine.gradient.targets import Parameter, Target
from engine.network.derivatives import ZERO
from engine.network.expressions import parse
from tests.gradient.bistable import COMMON, HORIZON, MODEL, OUTCOME, TARGETS, Truth, dosing
from tests.gradient.problems import check_gradient
from tests.simulation import network

# Central differences of the master equation; recomputed by the fuller suite below.
SLOPES = {
    "gain": 0.02364481,
    "first": -0.0614587,
    "second": -0.2873724,
    "elimination": 2.40500177,
    "time": -0.0634229,
}


def switching(estimator: Any, wrt: Any, num: int) -> engine.gradient.Gradient:
    return engine.gradient.estimate(
        MODEL,
        estimator,
        OUTCOME,
        wrt,
        HORIZON,
        key=jax.random.key(1),
        num_patients=num,
        params=COMMON,
        **dosing(),
    )


@pytest.mark.full
@pytest.mark.parametrize("names", [("gain", "second"), tuple(SLOPES)], ids=["two", "all"])
def test_a_bistable_switch_with_two_doses(names: tuple[str, ...]) -> None:
    truth = np.array([SLOPES[name] for name in names])
    wrt = [TARGETS[name] for name in names]
    score = switching(ScoreFunction(is_regressed=False), wrt, 10_000)
    critic = switching(MartingaleCritic(), wrt, 10_000)
    for found in (score, critic):
        result = check_gradient(found, truth)
        assert result, result.message
    ratios = (score.standard_errors / critic.standard_errors) ** 2
    assert np.exp(np.log(ratios).mean()) > 8
    assert critic.residual_variance_ratio < 0.1
    assert not check_gradient(critic, 1.2 * truth), "a fifth is seen"


@pytest.mark.full
def test_the_slopes_are_those_of_the_master_equation() -> None:
    exact = Truth(COMMON)
    for name, slope in SLOPES.items():
        assert exact.slope(name) == pytest.approx(slope, rel=1e-5)


@pytest.mark.full
def test_a_dose_time_without_the_dilation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = directions.warped

    def wrong(*arguments: Any) -> Any:
        found = right(*arguments)
        return (*found[:2], ZERO, found[3])

    monkeypatch.setattr(directions, "warped", wrong)
    found = switching(MartingaleCritic(), DoseTime(1), 10_000)
    assert not check_gradient(found, [SLOPES["time"]])


@pytest.mark.full
def test_coupled_differences_agree_for_doses() -> None:
    found = switching(CoupledDifference(), [TARGETS["second"], TARGETS["time"]], 20_000)
    assert check_gradient(found, [SLOPES["second"], SLOPES["time"]])


# A linear network, E[X(T)] = s int u(t) exp(-g (T - t)) dt for any level u.

DRIVEN = network(
    {"X": 0},
    [("0 -> X", engine.Formula("s * drug")), ("X -> 0", engine.MassAction("g"))],
    parameters={"s": 20.0, "g": 1.0},
    inputs=["drug"],
)
END = 6.0
PEAKED = engine.TwoCompartment(
    2.0, 2.0, intercompartmental_clearance=0.6, peripheral_volume=1.5, absorption=2.5
)
SIMPLE = engine.OneCompartment(1.0, 2.0, bioavailability=0.8, baseline=0.3)


def mean(arguments: Arguments, is_weighted: bool = True) -> float:
    """The exact mean of X at the horizon; not weighted, of what was made until then."""
    _, schedule = compile_schedule(DRIVEN, arguments.inputs, arguments.regimen, 1)
    edges = np.unique([0.0, END, *(t for t in schedule.times[0] if t < END)])
    total = 0.0
    for a, b in pairwise(edges):
        nodes, weights = np.polynomial.legendre.leggauss(80)
        t = (b + a) / 2 + (b - a) / 2 * nodes
        level = concentration(schedule, "drug", t)[0]
        left = np.exp(-(END - t)) if is_weighted else 1.0
        total += (b - a) / 2 * np.sum(weights * level * left)
    return 20.0 * total


def slope(arguments: Arguments, target: Target, is_weighted: bool = True) -> float:
    value = float(np.ravel(target.value(arguments))[0])
    step = 1e-4 * value
    moved = [target.moved(arguments, np.asarray(sign * step)) for sign in (1, -1)]
    ends = [mean(one, is_weighted) for one in moved]
    return (ends[0] - ends[1]) / (2 * step)


BOLUSES = engine.Regimen([engine.Dose(3.0, 0.0, into="drug"), engine.Dose(2.0, 2.5, into="drug")])
INFUSION = engine.Regimen(
    [engine.Dose(3.0, 0.5, into="drug", duration=2.0), engine.Dose(1.0, 4.0, into="drug")]
)
PK = PharmacokineticParameter


@pytest.mark.full
@pytest.mark.parametrize(
    ("pharmacokinetics", "regimen", "targets"),
    [
        (
            PEAKED,
            BOLUSES,
            [
                DoseAmount(0),
                DoseTime(1),
                PK("drug", "clearance"),
                PK("drug", "absorption"),
                PK("drug", "peripheral_volume"),
            ],
        ),
        (
            SIMPLE,
            INFUSION,
            [
                DoseAmount(0),
                DoseAmount(1),
                PK("drug", "volume"),
                PK("drug", "bioavailability"),
                PK("drug", "baseline"),
            ],
        ),
    ],
    ids=["absorbed", "infused"],
)
def test_every_number_of_a_dose(pharmacokinetics: Any, regimen: Any, targets: Any) -> None:
    inputs = {"drug": pharmacokinetics}
    key = np.array([0, 1], np.uint32)
    arguments = Arguments(DRIVEN, stops_of(END), key, inputs=inputs, regimen=regimen)
    truth = np.array([slope(arguments, target) for target in targets])
    found = engine.gradient.estimate(
        DRIVEN,
        MartingaleCritic(),
        engine.FinalValue("X"),
        targets,
        END,
        key=jax.random.key(5),
        num_patients=8000,
        inputs=inputs,
        regimen=regimen,
    )
    result = check_gradient(found, truth)
    assert result, result.message
    assert not check_gradient(found, -truth)
    assert np.all(found.standard_errors < 0.05 * np.abs(truth))
    assert found.residual_variance_ratio < 5e-4


@pytest.mark.parametrize("pharmacokinetics", [PEAKED, SIMPLE], ids=["absorbed", "plain"])
def test_a_score_without_events_is_an_area(pharmacokinetics: Any) -> None:
    """In one stretch from dose to dose a level that is linear in the score has a closed form."""
    names = ("clearance", "volume")
    key = np.array([0, 1], np.uint32)
    given: Any = {"inputs": {"drug": pharmacokinetics}, "regimen": BOLUSES}
    arguments = Arguments(DRIVEN, stops_of(END), key, 64, params={"s": 1e-6, "g": 0.0}, **given)
    targets = tuple(PK("drug", name) for name in names)
    found = directions.prepared(arguments, targets)
    scores = tuple(score(found.arguments.network, one) for one in found.directions)
    ensemble = closely_stopped(found).run({"scores": LaneSums(martingales=scores)})
    assert not ensemble.num_events.any()
    areas = [slope(arguments, target, is_weighted=False) / 20.0 for target in targets]
    np.testing.assert_allclose(ensemble.tallies["scores"] / -1e-6, [areas] * 64, rtol=2e-5)


def test_an_area_under_a_drug_has_no_reward_to_go() -> None:
    """E int u X dt = s int u(t) U(t) dt with U the area of u until t."""
    model = network(
        {"X": 0}, [("0 -> X", engine.Formula("s * drug"))], parameters={"s": 0.3}, inputs=["drug"]
    )
    found = engine.gradient.estimate(
        model,
        ScoreFunction(),
        engine.TimeIntegral("drug * X"),
        ["s", PK("drug", "clearance")],
        12.0,
        key=jax.random.key(1),
        num_patients=50_000,
        inputs={"drug": engine.OneCompartment(1.0, 1.0)},
        regimen=engine.Regimen(engine.Dose(1.5, into="drug")),
    )
    # (A / V)^2 / 2 / k^2 s for a bolus A and k = clearance / volume, over long after the drug.
    result = check_gradient(found, [1.125, -0.675])
    assert result, result.message
    assert not check_gradient(found, [1.211, -0.675])


def test_a_rule_that_mentions_the_time_is_a_law_that_does() -> None:
    def stops(law: str, *rules: engine.AssignmentRule) -> int:
        model = network(
            {"X": 0},
            [("0 -> X", engine.Formula(law))],
            parameters={"k": 1.0, "w": 2.0},
            assignment_rules=rules,
        )
        arguments = Arguments(model, stops_of(END), np.array([0, 1], np.uint32))
        found = directions.prepared(arguments, (Parameter("w"),))
        return len(closely_stopped(found).ts)

    plain = stops("k * (1 + sin(w * time))")
    assert plain >= 16
    assert stops("kt", engine.AssignmentRule("kt", "k * (1 + sin(w * time))")) == plain


def seldom(num: int) -> tuple[engine.gradient.Gradient, dict[str, float]]:
    """Two reactions a trajectory, and a drug that is absorbed in a fiftieth of it."""
    given = {"inputs": {"drug": replace(PEAKED, absorption=8.0)}, "regimen": BOLUSES}
    targets = {name: PK("drug", name) for name in ("clearance", "absorption", "peripheral_volume")}
    key = np.array([0, 1], np.uint32)
    arguments = Arguments(DRIVEN, stops_of(END), key, **given)
    share = 0.4 / 20.0
    truth = {target.label: share * slope(arguments, target) for target in targets.values()}
    found = engine.gradient.estimate(
        DRIVEN,
        MartingaleCritic(MeanFieldAdjoint(num_cells=4)),
        engine.FinalValue("X"),
        [*targets.values(), "s"],
        END,
        key=jax.random.key(0),
        num_patients=num,
        params={"s": 0.4},
        **given,
    )
    return found, {**truth, "s": mean(arguments) / 20.0}


@pytest.mark.full
def test_a_belief_that_moves_between_two_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its product with a level has no closed form: stretches are cut."""
    found, truth = seldom(20_000)
    result = check_gradient(found, truth)
    assert result, result.message
    assert found.residual_variance_ratio < 2e-3
    for name in ("LONGEST_STRETCH", "GONE"):
        monkeypatch.setattr(stretches, name, np.inf)
    uncut, _ = seldom(20_000)
    assert not check_gradient(uncut, truth)


def test_stops_are_close_only_while_a_mode_lives() -> None:
    horizon, doses = 168.0, (0.0, 84.0)
    drug = engine.OneCompartment(0.1, 2.0, absorption=3.0)

    def stretches_of(**given: Any) -> tuple[np.ndarray, np.ndarray]:
        regimen = engine.Regimen([engine.Dose(30.0, at, into="drug") for at in doses])
        shared = {"inputs": {"drug": drug}, "regimen": regimen, **given}
        arguments = Arguments(DRIVEN, stops_of(horizon), np.array([0, 1], np.uint32), **shared)
        found = directions.prepared(arguments, (PK("drug", "clearance"),))
        # A belief that grows with the time: its products with a level have no closed form.
        ts = closely_stopped(found, changes={"r0": parse("time")}).ts
        return np.concatenate([[0.0], ts[:-1]]), np.diff([0.0, *ts])

    begins, lengths = stretches_of()
    since = begins - np.where(begins < doses[1], *doses)
    is_fast = since < 16.0 / 3.0 - 1e-9
    assert np.all(lengths[is_fast] <= 1.25 / 3.0 + 1e-9)
    assert np.all(lengths <= 1.25 / 0.05 + 1e-9)
    assert len(lengths) <= 48, "403 where they are all close"
    begins, _ = stretches_of(inputs={"drug": engine.OneCompartment(1.0, 2.0, absorption=3.0)})
    assert doses[1] in begins, "it is long gone before the second dose"
    infused = engine.Regimen(engine.Dose(30.0, 10.0, into="drug", duration=20.0))
    begins, lengths = stretches_of(regimen=infused)
    for bend in (10.0, 30.0):
        is_fast = (begins >= bend) & (begins < bend + 16.0 / 3.0 - 1e-9)
        assert np.all(lengths[is_fast] <= 1.25 / 3.0 + 1e-9)
    absorbed = engine.TwoCompartment(0.1, 2.0, 1.0, 1.0, absorption=engine.ZeroOrder(5.0))
    _, lengths = stretches_of(inputs={"drug": absorbed})
    assert np.ptp(lengths) < 1e-9, "an absorption may end at any time"


RATED = engine.Regimen(
    [
        engine.Dose(3.0, 0.5, into="drug", rate=1.5),
        engine.Dose(2.0, 0.0, into="drug", duration=0.8, interval=3.0, additional=1),
    ]
)


@pytest.mark.parametrize("estimator", [ScoreFunction(), CoupledDifference(0.1)], ids=["s", "c"])
def test_lengths_and_rates_of_infusions(estimator: Any) -> None:
    """One rated and one repeated infusion, absorbed first: means by quadrature; twins fail."""
    targets = [DoseAmount(0), DoseRate(0), DoseDuration(1)]
    inputs = {"drug": PEAKED}
    key = np.array([0, 1], np.uint32)
    arguments = Arguments(DRIVEN, stops_of(END), key, inputs=inputs, regimen=RATED)
    truth = np.array([slope(arguments, target) for target in targets])
    found = engine.gradient.estimate(
        DRIVEN,
        estimator,
        engine.FinalValue("X"),
        targets,
        END,
        key=jax.random.key(5),
        num_patients=60_000,
        inputs=inputs,
        regimen=RATED,
    )
    slack = 0.0 if isinstance(estimator, ScoreFunction) else 0.03
    result = check_gradient(found, truth, slack=slack)
    assert result, result.message
    for wrong in (-truth, truth * np.array([1.0, 1.6, 1.0]), truth * np.array([1.0, 1.0, 0.4])):
        assert not check_gradient(found, wrong, slack=slack)


def test_doses_of_every_patient_move_along_a_number() -> None:
    """A_i = 3 c_i^theta: dE/dtheta = mean(A_i log c_i) E per unit; without the factor it fails."""
    num = 20_000
    c = np.random.default_rng(3).lognormal(0.3, 0.4, num)
    amounts = 3.0 * c**0.7
    regimens = [engine.Regimen(engine.Dose(float(a), into="drug")) for a in amounts]
    inputs = {"drug": engine.OneCompartment(1.0, 2.0)}
    found = engine.gradient.estimate(
        DRIVEN,
        ScoreFunction(),
        engine.FinalValue("X"),
        IndividualDoses("theta", 0.7, (0,), amounts[:, np.newaxis], np.log(c)),
        END,
        key=jax.random.key(5),
        num_patients=num,
        inputs=inputs,
        regimen=regimens,
    )
    unit = engine.Regimen(engine.Dose(1.0, into="drug"))
    per_unit = mean(
        Arguments(DRIVEN, stops_of(END), np.zeros(2, np.uint32), inputs=inputs, regimen=unit)
    )
    truth = per_unit * np.mean(amounts * np.log(c))
    result = check_gradient(found, [truth])
    assert result, result.message
    assert found.standard_errors[0] < 0.1 * truth
    assert not check_gradient(found, [per_unit * np.mean(amounts)])


def test_an_area_of_the_drug_itself() -> None:
    # int u = F D / CL for each dose, nothing of it through the path.
    found = engine.gradient.estimate(
        DRIVEN,
        ScoreFunction(),
        engine.TimeIntegral("drug + 0.001 * X"),
        DoseAmount(0),
        60.0,
        key=jax.random.key(5),
        num_patients=500,
        inputs={"drug": engine.OneCompartment(1.0, 2.0)},
        regimen=engine.Regimen(engine.Dose(3.0, into="drug")),
    )
    assert check_gradient(found, [1.0 + 0.001 * 20.0], slack=1e-4)


def test_doses_without_a_score_are_refused_by_name() -> None:
    def refusal(target: Any, regimen: Any, outcome: Any = None) -> str:
        with pytest.raises(engine.InvalidInput) as caught:
            engine.gradient.estimate(
                DRIVEN,
                ScoreFunction(),
                outcome or engine.FinalValue("X"),
                target,
                END,
                key=jax.random.key(5),
                num_patients=100,
                inputs={"drug": engine.OneCompartment(1.0, 2.0)},
                regimen=regimen,
            )
        return str(caught.value)

    zero = engine.Regimen([engine.Dose(0.0, into="drug"), engine.Dose(1.0, 3.0, into="drug")])
    assert "is 0" in refusal(DoseAmount(0), zero)
    assert "no dose 2" in refusal(DoseAmount(2), BOLUSES)
    assert "has no time-warp score" in refusal(DoseTime(0), BOLUSES)
    assert "infusion's end" in refusal(DoseTime(1), INFUSION)
    assert "have no number" in refusal(PK("drug", "halflife"), BOLUSES)
    timed = engine.gradient.Outcome(engine.FirstPassage("X > 3"), lambda t: np.minimum(t, END))
    assert "itself shifts" in refusal(DoseTime(1), BOLUSES, timed)
    assert "has no rate; give rate=" in refusal(DoseRate(0), BOLUSES)
    assert "has no duration" in refusal(DoseDuration(1), INFUSION)
    steady = engine.Dose(1.0, into="drug", duration=2.0, interval=6.0, is_steady_state=True)
    assert "steady state" in refusal(DoseDuration(0), engine.Regimen(steady))
    individual = IndividualDoses("slope", 1.0, (0,), [[1.0], [2.0]], [1.0, 1.0])
    assert "(regimens, doses) = (1, 1)" in refusal(individual, BOLUSES)
