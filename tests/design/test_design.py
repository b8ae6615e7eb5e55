"""Therapy design against an optimum that is known: Poisson counts under a bound on their tail."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import optimize, stats

import engine
from engine import cli
from engine.design import (
    AugmentedLagrangian,
    Criterion,
    TherapyProblem,
    Variable,
    optimise,
    search_grid,
    verify,
)
from engine.design.spec import DesignSpec, read_design
from engine.design.verification import estimated
from engine.errors import InvalidInput
from engine.gradient import DoseAmount, DoseTime, Gradient, Outcome, ScoreFunction
from engine.gradient.problem import Problem
from tests.conftest import ROOT
from tests.simulation import network

HORIZON, DECAY, DEATH = 4.0, 0.8, 0.3
LEVEL, BOUND = 30, 0.1
# 0 -> X at the drug's level, X -> 0: X(T) is Poisson with this mean for a dose of 1 at time 0.
PER_UNIT = (np.exp(-DEATH * HORIZON) - np.exp(-DECAY * HORIZON)) / (DECAY - DEATH)


def best_dose() -> float:
    """The dose at which P(X > LEVEL) is the bound."""
    return float(optimize.brentq(lambda d: stats.poisson.sf(LEVEL, d * PER_UNIT) - BOUND, 1.0, 1e3))


def problem(**changed: object) -> TherapyProblem:
    """Many molecules are wanted; more than LEVEL of them are a storm."""
    system = network(
        {"X": 0},
        [("0 -> X", engine.Formula("drug")), ("X -> 0", DEATH)],
        inputs=["drug"],
    )
    last = engine.FinalValue("X")
    given = TherapyProblem(
        Criterion("molecules", system, Outcome(last)),
        Criterion("storm", system, Outcome(last, lambda x: x > LEVEL)),
        BOUND,
        (Variable(DoseAmount(0), 10.0, 1000.0, start=40.0, name="dose"),),
        HORIZON,
        engine.Regimen(engine.Dose(1.0, into="drug")),
        {"drug": engine.OneCompartment(clearance=DECAY, volume=1.0)},
    )
    return replace(given, **changed)


QUICK = AugmentedLagrangian(
    num_rounds=4, num_steps=10, num_patients=1000, growth=1.3, num_verified=20_000
)


@dataclass(frozen=True)
class Signed:
    """An estimator whose gradient is multiplied by a sign: -1 is the mistake to be noticed."""

    sign: float

    def estimate(self, problem: Problem) -> Gradient:
        found = ScoreFunction().estimate(problem)
        return replace(found, gradient=self.sign * found.gradient)


def is_good(design: engine.design.Design) -> bool:
    """Close to the known optimum, safe, and better than the start, on fresh patients."""
    m = best_dose() * PER_UNIT
    found = design.verification
    return (
        found.risk.low <= BOUND
        and found.benefit.value > design.start.benefit.high
        and 0.93 * m < found.benefit.value < 1.02 * m
    )


def test_it_finds_the_known_optimum() -> None:
    design = optimise(problem(), replace(QUICK, estimator=Signed(1.0)), seed=1)
    assert is_good(design), design
    slopes = design.sensitivities["dose"]
    assert abs(slopes.benefit - PER_UNIT) < 5 * slopes.benefit_error
    assert slopes.risk > 0
    json.dumps(design.contents())


def test_a_gradient_of_the_wrong_sign_is_noticed() -> None:
    try:
        design = optimise(problem(), replace(QUICK, estimator=Signed(-1.0)), seed=1)
    except InvalidInput:
        return
    assert not is_good(design)


def test_the_grid_agrees() -> None:
    doses = best_dose() * np.array([0.8, 0.9, 1.0, 1.1])
    found = search_grid(problem(), {"dose": doses.tolist()}, 20_000)
    kept = [point for point in found if point.verification.violation == 0]
    # At the optimum itself chance decides.
    assert kept[0].values[0] in doses[1:3]
    assert all(point.values[0] != doses[3] for point in kept)
    with pytest.raises(InvalidInput, match="points: 'dose'"):
        search_grid(problem(), {}, 10)


@pytest.mark.full
def test_a_screened_grid_finds_the_same() -> None:
    """Those that cannot be the best are looked at once, by fewer; the others as ever."""
    doses = (best_dose() * np.array([0.3, 0.9, 1.02, 1.6])).tolist()
    whole = search_grid(problem(), {"dose": doses}, 8000)
    fast = search_grid(problem(), {"dose": doses}, 8000, num_screened=400)
    assert fast[0] == whole[0]
    numbers = {p.values[0]: p.verification.benefit.num_patients for p in fast}
    assert [numbers[dose] for dose in doses] == [400, 8000, 8000, 400]


def test_verification_is_an_interval_of_the_truth() -> None:
    dose = 60.0
    found = verify(problem(), np.array([dose]), 20_000, 3, "test")
    truth = stats.poisson.sf(LEVEL, dose * PER_UNIT)
    assert abs(found.benefit.value - dose * PER_UNIT) < 5 * (found.benefit.high - found.benefit.low)
    assert found.risk.low - 0.01 < truth < found.risk.high + 0.01
    again = verify(problem(), np.array([dose]), 20_000, 3, "another purpose")
    assert again.benefit.value != found.benefit.value


def test_wilson_intervals_cover() -> None:
    """Of 2,000 samples of 200, about 95% hold the truth (binomial bound at 1e-5)."""
    rng = np.random.default_rng(5)
    for truth in (0.03, 0.4):
        hits = 0
        for sample in rng.random((2000, 200)) < truth:
            found = estimated(sample.astype(float))
            hits += found.low <= truth <= found.high
        assert 0.93 < hits / 2000 < 0.985
    assert estimated(np.zeros(50)).low == 0.0
    assert 0.0 < estimated(np.zeros(50)).high < 0.1


@pytest.mark.parametrize("low, high", [(0.5, 8.0), (0.0, 3.0), (-2.0, 2.0)])
def test_variables_stay_within_their_bounds(low: float, high: float) -> None:
    variable = Variable("k", low, high)
    for z in (-50.0, -1.0, 0.0, 2.0, 50.0):
        assert low <= variable.value(z) <= high
    for z in (-2.0, 0.3):
        assert variable.position(variable.value(z)) == pytest.approx(z)
        slope = (variable.value(z + 1e-5) - variable.value(z - 1e-5)) / 2e-5
        assert variable.slope(z) == pytest.approx(slope, rel=1e-5)


def test_times_are_not_logarithmic() -> None:
    assert not Variable(DoseTime(0), 1.0, 9.0).is_logarithmic
    assert Variable(DoseTime(0), 1.0, 9.0).start == pytest.approx(5.0)


REFUSED = {
    "bounds": (lambda: Variable("k", 2.0, 1.0), "low=2 of the design variable 'k' is not below"),
    "start": (lambda: Variable("k", 1.0, 2.0, start=3.0), "start=3 .* outside of 1 to 2"),
    "bound": (lambda: problem(bound=0.0), "bound=0: give a positive bound"),
    "none": (lambda: problem(variables=()), "without variables"),
    "twice": (lambda: problem(variables=(Variable("k", 1, 2),) * 2), "'k' stands twice"),
    "rounds": (lambda: AugmentedLagrangian(num_rounds=0), "num_rounds=0"),
    "rate": (lambda: AugmentedLagrangian(learning_rate=0.0), "learning_rate=0.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(name: str) -> None:
    made, message = REFUSED[name]
    with pytest.raises(InvalidInput, match=message):
        made()


def test_a_bound_that_nothing_keeps_is_named() -> None:
    variable = Variable(DoseAmount(0), 300.0, 1000.0, name="dose")
    quick = replace(QUICK, num_rounds=1, num_steps=2, num_verified=1000)
    with pytest.raises(InvalidInput, match=r"storm' is 1 for all|no design was found"):
        optimise(problem(variables=(variable,)), quick)


# The file, the folder and the command.


def contents() -> dict[str, object]:
    return {
        "name": "one dose",
        "seed": 2,
        "model": "cytokine_storm",
        "horizon": 260.0,
        "bound": 0.9,
        "benefit": {"name": "activity", "tally": "maximum", "of": "agonist"},
        "risk": {"name": "storm", "tally": "maximum", "of": "cytokine", "above": 0.02},
        "population": {
            "b_xy": {
                "distribution": "log_normal",
                "median": 0.9,
                "cv": 0.2,
                "unit": "h^-1",
                "source": "assumed",
            }
        },
        "doses": [{"into": "depot", "amount": 2.0, "time": 200.0}],
        "variables": [{"name": "dose", "dose": 0, "low": 0.5, "high": 6.0, "start": 2.0}],
        "optimiser": {"num_rounds": 1, "num_steps": 2, "num_patients": 64, "num_verified": 128},
        "grid": {"dose": [1.0, 3.0]},
    }


def test_the_command(tmp_path, capsys) -> None:
    from engine.trial.tables import to_toml

    spec, out = tmp_path / "design.toml", tmp_path / "out"
    spec.write_text(to_toml(contents()))
    assert cli.run(["design", str(spec), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "What it achieves" in shown and "best of 2 on a grid" in shown
    assert {p.name for p in out.iterdir()} == {"design.toml", "design.json", "design.png"}
    before = (out / "design.json").read_bytes()
    assert cli.run(["design", str(spec), "--out", str(out)]) == 0
    assert (out / "design.json").read_bytes() == before
    other = {**contents(), "seed": 3}
    spec.write_text(to_toml(other))
    assert cli.run(["design", str(spec), "--out", str(out)]) == 1
    assert "holds another design" in capsys.readouterr().err
    assert (out / "design.json").read_bytes() == before


WRONG = {
    "model": ({"model": "cytokine_strom"}, "did you mean 'cytokine_storm'"),
    "cell": ({"risk": {"name": "r", "tally": "final", "of": "x", "cell": "NK"}}, "risk.cell"),
    "symbol": (
        {"variables": [{"name": "k", "parameter": "b_xz", "low": 1.0, "high": 2.0}]},
        "b_xz",
    ),
    "dose": ({"variables": [{"name": "k", "dose": 4, "low": 1.0, "high": 2.0}]}, "no dose 4"),
    "kind": ({"variables": [{"name": "k", "low": 1.0, "high": 2.0}]}, "give dose = NUMBER"),
    "both": (
        {"risk": {"name": "r", "tally": "final", "of": "x", "above": 1.0, "below": 2.0}},
        "above and below",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_in_the_file(name: str) -> None:
    changed, message = WRONG[name]
    with pytest.raises(InvalidInput, match=message):
        DesignSpec.parsed({**contents(), **changed}, "design").problem()


EXAMPLES = {
    "storm": ("dose 1", "dose 2", "dose 3", "dose 4"),
    "storm_fractions": ("dose 1", "dose 2", "dose 3", "dose 4", "time of dose 2"),
    "storm_policy": ("dose at b_xy = 0.9", "exponent"),
    "low_dose_il2": None,
    "mutein": None,
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_sound(name: str) -> None:
    _, found = read_design(ROOT / "examples" / f"{name}_design.toml")
    assert EXAMPLES[name] is None or found.names == EXAMPLES[name]
