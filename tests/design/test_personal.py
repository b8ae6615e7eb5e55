"""Dosing policies, tails and numbers of doses, each against an optimum that is known."""

from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest
from scipy import optimize, stats

import engine
from engine.design import (
    AugmentedLagrangian,
    Criterion,
    Design,
    Exponential,
    Fractions,
    Power,
    Subgroups,
    TherapyProblem,
    Variable,
    optimise,
    optimise_fractions,
    optimise_policy,
)
from engine.design.fractions import with_fractions
from engine.design.outcomes import gradient_problem
from engine.design.personal import within
from engine.design.tail import value_at_risk
from engine.design.verification import tail_estimate
from engine.errors import InvalidInput
from engine.gradient import DoseAmount, DoseDuration, Gradient, Outcome, ScoreFunction
from engine.gradient.problem import Problem
from engine.population.variability import LogNormal
from tests.design.test_design import DEATH, DECAY, HORIZON, PER_UNIT
from tests.simulation import network

SYSTEM = network(
    {"X": 0},
    [("0 -> X", engine.Formula("gain * drug")), ("X -> 0", DEATH)],
    parameters={"gain": 1.0},
    inputs=["drug"],
)
LAST = engine.FinalValue("X")
GAIN = LogNormal(1.0, cv=0.4)
LEAST, STORM, BOUND = 20, 30, 0.1


@dataclass(frozen=True)
class Scaled:
    """An estimator whose gradient is multiplied: -1 is the mistake to be noticed."""

    factors: tuple[float, ...]

    def estimate(self, problem: Problem) -> Gradient:
        found = ScoreFunction().estimate(problem)
        return replace(found, gradient=np.array(self.factors) * found.gradient)


QUICK = AugmentedLagrangian(
    num_rounds=3, num_steps=10, num_patients=600, growth=1.3, num_verified=6000
)


def problem(*more: Variable, **changed: object) -> TherapyProblem:
    """At least LEAST molecules are wanted; more than STORM are a storm; patients differ in gain."""
    given = TherapyProblem(
        Criterion("enough", SYSTEM, Outcome(LAST, lambda x: x >= LEAST), {"gain": GAIN}),
        Criterion("storm", SYSTEM, Outcome(LAST, lambda x: x > STORM), {"gain": GAIN}),
        BOUND,
        (Variable(DoseAmount(0), 5.0, 500.0, start=40.0, name="dose"), *more),
        HORIZON,
        engine.Regimen(engine.Dose(1.0, into="drug")),
        {"drug": engine.OneCompartment(clearance=DECAY, volume=1.0)},
    )
    return replace(given, **changed)


def best(bound: float = BOUND) -> tuple[float, float]:
    """The dose of a patient with gain 1, and the best benefit, under a bound.

    Both criteria look at the mean alone: its best value is the same for all patients, so the dose
    is that over the gain, an exponent of -1.
    """
    mean = optimize.brentq(lambda m: stats.poisson.sf(STORM, m) - bound, 1.0, 100.0)
    return mean / PER_UNIT, float(stats.poisson.sf(LEAST - 1, mean))


EXPONENT = Variable(Power("gain", 1.0), -2.0, 2.0, start=0.0, name="exponent")


def is_good(design: Design) -> bool:
    """Near the known policy and its benefit, safe, and better than one size for all."""
    dose, benefit = best()
    # The search may stop where it uses nine tenths of the risk that its aim allows.
    least, worst = best(0.7 * BOUND)
    found, one = design.verification, design.alternatives[0]
    assert one.gain is not None and one.verification is not None
    return (
        found.risk.low <= BOUND
        and one.verification.risk.low <= BOUND
        and abs(design["exponent"] + 1.0) < 0.2
        and 0.95 * least < design["dose"] < 1.03 * dose
        and worst < found.benefit.high
        and found.benefit.low < benefit
        and one.gain.low > 0.0
    )


@pytest.mark.full
def test_the_known_policy_is_found() -> None:
    options = replace(QUICK, estimator=ScoreFunction())
    design = optimise_policy(problem(EXPONENT), options, seed=1)
    assert is_good(design), design
    assert design.sensitivities["exponent"].risk_error > 0
    one = design.alternatives[0]
    # The search began at one size for all.
    assert design.path[0].values[1] == pytest.approx(0.0, abs=0.01)
    assert design.path[0].values[0] == pytest.approx(one.values[0], rel=0.01)


@pytest.mark.full
def test_subgroups_have_doses_of_their_own() -> None:
    subgroups = Subgroups("gain", (0.5,))
    design = optimise_policy(problem(EXPONENT), QUICK, seed=1, subgroups=subgroups)
    one, low, high = design.alternatives
    # Half of the patients need more, the others less.
    assert low.values[0] > one.values[0] > high.values[0] * 0.9
    assert low.values[0] > 1.3 * high.values[0]


@pytest.mark.full
def test_a_policy_with_a_wrong_sign_is_noticed() -> None:
    options = replace(QUICK, num_rounds=2, estimator=Scaled((1.0, -1.0)))
    try:
        design = optimise(problem(EXPONENT), options, seed=1)
    except InvalidInput:
        return
    assert abs(design["exponent"] + 1.0) > 0.5


def test_a_policy_keeps_the_bounds_of_the_dose() -> None:
    slope = Variable(Exponential("gain", 1.0), -50.0, 50.0, start=0.0, name="slope")
    posed = problem(slope)
    key = jax.random.key(1)
    found = gradient_problem(posed, posed.risk, np.array([40.0, 30.0]), key, "n", 500)
    amounts = [regimen.doses[0].amount for regimen in found.arguments.regimens]
    assert min(amounts) == 5.0 and max(amounts) == 500.0
    moved = np.asarray(found.targets[1].amounts)[:, 0]
    assert np.all((moved == 0.0) == np.isin(amounts, (5.0, 500.0)))


def test_the_doses_by_the_covariate_are_those_of_the_patients() -> None:
    """A (c / reference)^theta within the bounds, by the covariate's quantiles."""
    (curve,) = problem(EXPONENT).dose_curves(np.array([40.0, -1.0]))
    gains = GAIN.quantile(np.array(curve.shares))
    assert (curve.covariate, curve.dose) == ("gain", "dose")
    np.testing.assert_allclose(curve.covariates, gains)
    np.testing.assert_allclose(curve.amounts, np.clip(40.0 / gains, 5.0, 500.0))
    (clipped,) = problem(EXPONENT).dose_curves(np.array([400.0, -2.0]))
    assert max(clipped.amounts) == 500.0


def test_a_coefficient_moves_a_typical_dose_as_much_as_the_dose_itself() -> None:
    """Else its slope would be as noisy as the covariate is narrow."""
    posed, key = problem(EXPONENT), jax.random.key(1)
    found = gradient_problem(posed, posed.risk, np.array([40.0, -1.0]), key, "n", 5000)
    dose, exponent = found.targets
    assert dose.size(found.arguments) == pytest.approx(40.0)
    # log gain is normal with this deviation; 5,000 patients know it to 1%.
    assert exponent.size(found.arguments) == pytest.approx(1 / GAIN.sigma, rel=0.06)


# The tail.


def gaussian_tail(share: float) -> float:
    return float(stats.norm.pdf(stats.norm.ppf(1 - share)) / share)


def poisson_tail(mean: float, share: float) -> float:
    """CVaR of a Poisson count, the minimum over t of t + E[(X - t)+] / s."""
    x = np.arange(400)
    law = stats.poisson.pmf(x, mean)
    return float(min(t + np.sum(law * np.maximum(x - t, 0)) / share for t in range(200)))


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_tails_of_known_laws(share: float) -> None:
    """400 intervals of 4,000 outcomes cover CVaR (not the quantile) as often as they should."""
    rng = np.random.default_rng(2)
    for truth, wrong, draw in (
        (gaussian_tail(share), stats.norm.ppf(1 - share), lambda: rng.normal(size=4000)),
        (poisson_tail(9.0, share), stats.poisson.ppf(1 - share, 9.0), lambda: rng.poisson(9, 4000)),
    ):
        found = [tail_estimate(np.asarray(draw(), float), share) for _ in range(400)]
        hits = np.mean([one.low <= truth <= one.high for one in found])
        # Binomial bound at 1e-5 around 0.95; the mean within its standard error.
        assert hits > 0.95 - 4.3 * np.sqrt(0.95 * 0.05 / 400)
        values = np.array([one.value for one in found])
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - truth) < 4.5 * error + 1e-3 * truth
        assert not abs(values.mean() - wrong) < 4.5 * error + 1e-3 * truth


@pytest.mark.full
def test_a_tail_bound_is_kept() -> None:
    """The largest mean of a Poisson count whose worst tenth average at most 30."""
    share, bound = 0.1, 30.0
    system = problem()
    tail = TherapyProblem(
        Criterion("molecules", SYSTEM, Outcome(LAST)),
        Criterion("worst", SYSTEM, Outcome(LAST), worst=share),
        bound,
        system.variables,
        HORIZON,
        system.regimen,
        system.inputs,
    )
    best_mean = optimize.brentq(lambda m: poisson_tail(m, share) - bound, 5.0, 30.0)
    design = optimise(tail, replace(QUICK, num_patients=1000), seed=1)
    found = design.verification
    assert found.risk.kind == "tail" and found.is_safe
    assert 0.92 * best_mean < found.benefit.value < 1.005 * best_mean
    # The mean is far below the bound that it would otherwise be allowed to reach.
    assert found.benefit.value < 0.8 * bound
    # d/dm E[(X - t)+] = P(X >= t); of a count it jumps where the value at risk does.
    mean = design["dose"] * PER_UNIT
    t = stats.poisson.ppf(1 - share, mean)
    low, high = (PER_UNIT * stats.poisson.sf(k - 1, mean) / share for k in (t + 1, t - 1))
    slope = design.sensitivities["dose"]
    assert low - 5 * slope.risk_error < slope.risk < high + 5 * slope.risk_error
    # Without the division by the share it would be a tenth of that.
    assert not slope.risk < high * share + 5 * slope.risk_error


def test_too_few_patients_for_a_tail() -> None:
    with pytest.raises(InvalidInput, match="simulate at least 200"):
        value_at_risk(np.zeros(100), 0.05)


# Numbers of doses.


def fractionated(**changed: object) -> TherapyProblem:
    """The peak of the drug's molecules is the risk: more doses, each smaller, are better."""
    system = network(
        {"X": 0, "Y": 0},
        [
            ("0 -> X", engine.Formula("2 * drug")),
            ("X -> 0", 2.0),
            ("0 -> Y", engine.Formula("drug")),
        ],
        inputs=["drug"],
    )
    doses = [engine.Dose(2.0, 6.0 * i, into="drug") for i in range(3)]
    given = TherapyProblem(
        Criterion("exposure", system, Outcome(engine.FinalValue("Y"))),
        Criterion("peak", system, Outcome(engine.Maximum("X"), lambda x: x > 12)),
        0.2,
        tuple(
            Variable(DoseAmount(i), 0.5, 60.0, start=2.0, name=f"dose {i + 1}") for i in range(3)
        ),
        18.0,
        engine.Regimen(doses),
        {"drug": engine.OneCompartment(clearance=1.0, volume=1.0)},
    )
    return replace(given, **changed)


@pytest.mark.full
def test_more_doses_are_found_to_be_better() -> None:
    options = replace(QUICK, num_rounds=3, num_patients=1000, num_verified=8000)
    design = optimise_fractions(fractionated(), Fractions("drug", (1, 3)), options, seed=1)
    assert design.names == ("dose 1", "dose 2", "dose 3")
    one, three = design.alternatives
    assert one.verification is not None and three.verification is not None
    assert design.verification.is_safe
    assert three.verification.benefit.low > 1.2 * one.verification.benefit.high
    # The doses share the risk alike: by symmetry the best of three are equal.
    assert np.ptp(design.values) < 0.35 * np.mean(design.values)


def test_a_count_that_cannot_be_is_named_and_the_others_go_on() -> None:
    only = fractionated(
        variables=(
            Variable(DoseAmount(0), 0.5, 60.0, start=2.0, name="first"),
            Variable(DoseAmount(1), 50.0, 60.0, name="second"),
        )
    )
    options = replace(QUICK, num_rounds=1, num_steps=3, num_verified=1000)
    design = optimise_fractions(only, Fractions("drug", (1, 2)), options, seed=1)
    assert design.names == ("first",)
    assert "begins" in design.alternatives[1].note


def test_fractions_keep_other_doses() -> None:
    base = fractionated()
    doses = (engine.Dose(1.0, into="drug"), engine.Dose(1.0, 1.0, into="other", duration=2.0))
    given = replace(
        base,
        regimen=engine.Regimen((*doses, engine.Dose(3.0, 2.0, into="drug"))),
        variables=(
            Variable(DoseAmount(0), 0.5, 6.0, name="a"),
            Variable(DoseDuration(1), 0.5, 6.0, name="b"),
            Variable(DoseAmount(2), 0.5, 6.0, name="c"),
        ),
    )
    one = with_fractions(given, "drug", 1)
    assert one.names == ("a", "b") and [d.into for d in one.regimen.doses] == ["drug", "other"]
    two = with_fractions(given, "other", 1)
    assert two.names == ("a", "b", "c")


@pytest.mark.full
def test_the_length_of_an_infusion_is_found() -> None:
    """Slower is safer and as good: the longest infusion under the horizon's pressure to hurry."""
    system = network(
        {"X": 0},
        [("0 -> X", engine.Formula("30 * drug")), ("X -> 0", 2.0)],
        inputs=["drug"],
    )

    def mean(duration: float, t: float) -> float:
        """X is Poisson with this mean: two exponentials in a row under a constant rate."""

        def step(s: float) -> float:
            if s <= 0:
                return 0.0
            return 30.0 * ((1 - np.exp(-2 * s)) / 2 - (np.exp(-s) - np.exp(-2 * s)))

        return (step(t) - step(t - duration)) / duration

    horizon, level, bound = 3.0, 6, 0.05
    risky = TherapyProblem(
        Criterion("late", system, Outcome(engine.FinalValue("X"))),
        Criterion("early", system, Outcome(engine.FinalValue("X"), lambda x: x > level)),
        bound,
        (Variable(DoseDuration(0), 0.2, 2.9, start=0.4, name="duration"),),
        horizon,
        engine.Regimen(engine.Dose(1.0, into="drug", duration=0.4)),
        {"drug": engine.OneCompartment(clearance=1.0, volume=1.0)},
    )
    truth = optimize.brentq(lambda d: stats.poisson.sf(level, mean(d, horizon)) - bound, 0.2, 2.8)
    design = optimise(risky, replace(QUICK, num_patients=1000), seed=1)
    # Safe in truth; what fresh patients find has an interval around that.
    assert truth - 0.25 < design["duration"] < truth
    achieved = stats.poisson.sf(level, mean(design["duration"], horizon))
    assert design.verification.risk.low < achieved < design.verification.risk.high


REFUSED = {
    "worst": (lambda: Criterion("r", SYSTEM, Outcome(LAST), worst=1.5), "worst=1.5"),
    "scale": (lambda: Criterion("r", SYSTEM, Outcome(LAST), scale=-1.0), "scale=-1"),
    "benefit": (
        lambda: problem(benefit=Criterion("b", SYSTEM, Outcome(LAST), worst=0.1)),
        "only a risk",
    ),
    "unknown": (
        lambda: problem(Variable(Power("gian", 1.0), -1.0, 1.0)),
        "nothing is known of 'gian'; did you mean 'gain'",
    ),
    "unbounded": (
        lambda: problem(Variable(Power("gain", 1.0, (1,)), -1.0, 1.0)),
        "the amount of dose 1 is not a variable",
    ),
    "reference": (lambda: Power("gain", 0.0), "reference=0"),
    "no doses": (lambda: Power("gain", 1.0, ()), "no doses"),
    "no policy": (lambda: optimise_policy(problem()), "no variable is a term"),
    "counts": (lambda: Fractions("drug", (2, 2)), r"counts=\[2, 2\]"),
    "many": (lambda: with_fractions(problem(), "drug", 3), "3 doses into 'drug'"),
    "shares": (lambda: Subgroups("gain", (0.6, 0.4)), "shares="),
    "subgroup": (lambda: within(problem(), "weight", 0.0, 0.5), "knows nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(name: str) -> None:
    made, message = REFUSED[name]
    with pytest.raises(InvalidInput, match=message):
        made()
