"""The direct method with rates that move between events, against inhomogeneous Poisson laws.

0 -> X at rate k(t), X -> 0 from X = 0 makes X(t) Poisson with mean int k(s) e^{-d (t - s)} ds, so
means, variances and whole distributions are known for any k. Here k is driven by time, and by
inputs dosed in every form; their concentrations come from compartment ODEs solved by SciPy.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

import engine
from engine import Dose, Formula, MassAction, Regimen
from tests import exact
from tests.dosing.compartments import Body, truth
from tests.simulation import network, run
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_distribution,
    check_means,
    check_variances,
    samples_needed,
    samples_needed_for_distribution,
)

Array = np.ndarray
TS = np.array([0.0, 1.0, 3.7, 10.0])
DEATH = 0.35
NUM = 6000
WRONG = 1.02
WRONG_SHAPE = 1.05
NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)


def arrivals(intensity: Callable[[Array], Array], stops: Sequence[float], death: float) -> Array:
    """int_0^t k(s) e^{-death (t - s)} ds at TS; k is smooth between the stops."""
    result = np.zeros(TS.size)
    for i, t in enumerate(TS):
        inner = {float(s) for s in stops if 0 < s < t}
        edges = np.array(sorted({0.0, float(t), *inner}))
        for a, b in itertools.pairwise(edges):
            panels = np.linspace(a, b, 9)
            half = np.diff(panels)[:, None] / 2
            s = panels[:-1, None] + half * (NODES + 1)
            # A stop belongs to what follows it.
            value = intensity(np.clip(s, np.nextafter(a, b), np.nextafter(b, a)).ravel())
            result[i] += np.sum(half * WEIGHTS * value.reshape(s.shape) * np.exp(-death * (t - s)))
    return result


@dataclass(frozen=True)
class Driven:
    """A rate law, its value in time and where that has kinks."""

    law: str
    intensity: Callable[[Array], Array]
    stops: tuple[float, ...] = ()


def drug(name: str) -> Callable[[Array], Array]:
    """The concentration in time; the ODE wants times everywhere, so that it gets some more."""
    form, more = DOSING[name], np.linspace(0.0, TS[-1], 201)
    return lambda s: truth(form.body, form.regimen, np.append(s, more), num_past=400)[: s.size]


@dataclass(frozen=True)
class Form:
    """A way of dosing: what the engine is given, and the same for the ODE."""

    pharmacokinetics: engine.dosing.pharmacokinetics.Pharmacokinetics
    body: Body
    regimen: Regimen
    stops: tuple[float, ...]


def one(**more: float) -> engine.OneCompartment:
    return engine.OneCompartment(1.3, 4.0, **more)


def two(**more: float) -> engine.TwoCompartment:
    return engine.TwoCompartment(
        1.3, 4.0, intercompartmental_clearance=0.8, peripheral_volume=6.0, **more
    )


PERIPHERAL = {"exchange": 0.8, "peripheral": 6.0}
DOSING = {
    "bolus": Form(one(), Body(), Regimen(Dose(40.0, 0.0, into="D")), ()),
    "two_boluses_off_grid": Form(
        two(),
        Body(**PERIPHERAL),
        Regimen([Dose(30.0, 0.5, into="D"), Dose(20.0, 2.21, into="D")]),
        (0.5, 2.21),
    ),
    "oral": Form(
        one(absorption=1.1, bioavailability=0.7),
        Body(ka=1.1, bioavailability=0.7),
        Regimen(Dose(60.0, 0.3, into="D")),
        (0.3,),
    ),
    "oral_flip_flop": Form(
        two(absorption=0.2, baseline=2.0),
        Body(ka=0.2, baseline=2.0, **PERIPHERAL),
        Regimen(Dose(60.0, 0.0, into="D")),
        (),
    ),
    "equal_rates": Form(
        one(absorption=1.3 / 4.0), Body(ka=1.3 / 4.0), Regimen(Dose(60.0, 0.0, into="D")), ()
    ),
    "zero_order": Form(
        one(absorption=engine.ZeroOrder(2.5)),
        Body(absorbed_over=2.5),
        Regimen(Dose(60.0, 0.4, into="D")),
        (0.4, 2.9),
    ),
    "infusion": Form(
        one(), Body(), Regimen.infusion(60.0, into="D", duration=3.0, time=0.7), (0.7, 3.7)
    ),
    "overlapping_infusions": Form(
        two(),
        Body(**PERIPHERAL),
        Regimen([Dose(40.0, 0.1, into="D", rate=10.0), Dose(30.0, 2.0, into="D", duration=4.0)]),
        (0.1, 2.0, 4.1, 6.0),
    ),
    "repeated": Form(
        one(),
        Body(),
        Regimen.repeated(8.0, into="D", every=0.4, num_doses=25),
        tuple(0.4 * k for k in range(25)),
    ),
    "steady_bolus": Form(
        one(absorption=1.0),
        Body(ka=1.0),
        Regimen(Dose(15.0, 0.6, into="D", interval=2.0, additional=3, is_steady_state=True)),
        (0.6, 2.6, 4.6, 6.6),
    ),
    "steady_infusion": Form(
        one(),
        Body(),
        Regimen(Dose(20.0, 0.0, into="D", duration=1.0, interval=3.0, is_steady_state=True)),
        (1.0,),
    ),
    "constant": Form(engine.ConstantLevel(5.0), Body(baseline=5.0), Regimen(), ()),
}
LAWS = {
    "sine": Driven("8 * (1 + sin(time))", lambda s: 8 * (1 + np.sin(s))),
    "ramp": Driven("4 * time", lambda s: 4 * s),
    "parabola": Driven("(time - 4)^2", lambda s: (s - 4) ** 2),
    "decay": Driven("30 * exp(-time / 2)", lambda s: 30 * np.exp(-s / 2)),
    "window": Driven(
        "piecewise(25, time > 1.3 and time < 3.1, 2)",
        lambda s: np.where((s > 1.3) & (s < 3.1), 25.0, 2.0),
        (1.3, 3.1),
    ),
    "late": Driven("6 if time >= 3.5 else 0", lambda s: np.where(s >= 3.5, 6.0, 0.0), (3.5,)),
    "quotient": Driven("60 / (1 + time)^3", lambda s: 60 / (1 + s) ** 3),
    "saturated": Driven(
        "20 * oral / (3 + oral)", lambda s: 20 * drug("oral")(s) / (3 + drug("oral")(s)), (0.3,)
    ),
    "hill": Driven(
        "20 * bolus^1.7 / (5^1.7 + bolus^1.7)",
        lambda s: 20 * drug("bolus")(s) ** 1.7 / (5**1.7 + drug("bolus")(s) ** 1.7),
    ),
    "inhibited": Driven(
        "20 / (1 + (bolus / 4)^2)", lambda s: 20 / (1 + (drug("bolus")(s) / 4) ** 2)
    ),
    "through_rules": Driven(
        "20 * effect", lambda s: 20 * (1 - np.exp(-drug("infusion")(s) / 4)), (0.7, 3.7)
    ),
    "threshold": Driven(
        "15 * (bolus > 4)",
        lambda s: np.where(drug("bolus")(s) > 4, 15.0, 0.0),
        (float(np.log(10.0 / 4.0) * 4.0 / 1.3),),
    ),
}
LAWS |= {
    f"drug_{name}": Driven(f"3 * {name}", lambda s, name=name: 3 * drug(name)(s), form.stops)
    for name, form in DOSING.items()
}


def retargeted(name: str) -> tuple[Dose, ...]:
    return tuple(
        Dose(
            d.amount,
            d.time,
            into=name,
            rate=d.rate,
            duration=d.duration,
            interval=d.interval,
            additional=d.additional,
            is_steady_state=d.is_steady_state,
        )
        for d in DOSING[name].regimen.doses
    )


@pytest.fixture(scope="module")
def ensemble(quick_driver: str) -> engine.Ensemble:
    """All laws, with the steps of small networks."""
    return driven()


def driven(chosen: Sequence[str] = tuple(LAWS)) -> engine.Ensemble:
    """Every law drives a species of its own, beside a constant one and a species it kills."""
    names = list(chosen)
    reactions = [(f"0 -> x_{n}", Formula(LAWS[n].law), f"in_{n}") for n in names]
    reactions += [(f"x_{n} -> 0", MassAction("death")) for n in names]
    reactions += [("0 -> flat", 20.0), ("flat -> 0", MassAction("death"))]
    reactions += [("victim -> 0", Formula("0.05 * infusion * victim"))]
    model = network(
        {**{f"x_{n}": 0 for n in names}, "flat": 0, "victim": 300},
        reactions,
        parameters={"death": DEATH},
        inputs=list(DOSING),
        assignment_rules={"effect": "1 - exp(-half / 2)", "half": "infusion / 2"},
    )
    return run(
        model,
        TS,
        NUM,
        seed=4,
        inputs={name: form.pharmacokinetics for name, form in DOSING.items()},
        regimen=Regimen([d for name in DOSING for d in retargeted(name)]),
        tallies={
            "auc": engine.TimeIntegral("oral"),
            "exposure": engine.TimeIntegral("2 * infusion + 0.5 * time - 1"),
            "firings": engine.FiringCount("in_drug_oral"),
        },
    )


@pytest.fixture(scope="module")
def means() -> dict[str, Array]:
    return {name: arrivals(law.intensity, law.stops, DEATH) for name, law in LAWS.items()}


@pytest.mark.parametrize("name", LAWS)
def test_moments(ensemble: engine.Ensemble, means: dict[str, Array], name: str) -> None:
    samples, mean = np.asarray(ensemble[f"x_{name}"], float)[:, 1:], means[name][1:]
    assert np.all(ensemble[f"x_{name}"][:, 0] == 0)
    live = mean > 0
    assert not samples[:, ~live].any()
    samples, mean = samples[:, live], mean[live]
    fourth = mean + 3 * mean**2
    result = check_variances(samples, mean, fourth, slack=1e-4 * mean)
    assert result, result.message
    scale = 1.0 + max(0.02, 9.0 / np.sqrt(NUM * mean.max()))  # 2%, or what NUM samples can see
    assert samples_needed((scale - 1) * mean, np.sqrt(mean), num_comparisons=mean.size) <= NUM
    assert_holds_and_twin_fails(
        lambda m: check_means(samples, m, np.sqrt(m), slack=1e-4 * m), mean, scale * mean
    )


@pytest.mark.parametrize("name", LAWS)
def test_distribution(ensemble: engine.Ensemble, means: dict[str, Array], name: str) -> None:
    best = int(np.argmax(means[name]))
    samples, mean = ensemble[f"x_{name}"][:, best], means[name][best]
    counts = np.arange(int(mean + 12 * np.sqrt(mean) + 20))
    scale = 1.0 + max(WRONG_SHAPE - 1, 14.0 / np.sqrt(NUM * mean))
    right, wrong = stats.poisson.pmf(counts, mean), stats.poisson.pmf(counts, scale * mean)
    assert samples_needed_for_distribution(right, wrong) <= NUM
    assert_holds_and_twin_fails(lambda p: check_distribution(samples, p, slack=1e-5), right, wrong)


def test_constant_rates_beside_moving_ones(ensemble: engine.Ensemble) -> None:
    m = exact.immigration_death_moments(0, 20.0, DEATH, TS[1:])
    samples = ensemble["flat"][:, 1:]
    assert_holds_and_twin_fails(
        lambda scale: check_means(samples, scale * m.mean, np.sqrt(m.variance)), 1.0, WRONG
    )
    assert check_variances(samples, m.variance)


def test_a_death_rate_that_moves(ensemble: engine.Ensemble) -> None:
    """Survivors are binomial with p = exp(-0.05 int drug)."""
    area = arrivals(drug("infusion"), DOSING["infusion"].stops, 0.0)
    samples = ensemble["victim"]
    assert np.all(samples[:, 0] == 300)

    def check(scale: float):
        p = np.exp(-0.05 * scale * area[1:])
        return check_means(samples[:, 1:], 300 * p, np.sqrt(300 * p * (1 - p)), slack=1e-3)

    assert_holds_and_twin_fails(check, 1.0, WRONG)
    p = np.exp(-0.05 * area[-1])
    pmf = stats.binom.pmf(np.arange(301), 300, p)
    assert check_distribution(samples[:, -1], pmf, slack=1e-5)


@pytest.mark.parametrize("name", DOSING)
def test_recorded_levels(ensemble: engine.Ensemble, name: str) -> None:
    """At a dose time the level after the dose is recorded; no sampling error here."""
    expected = drug(name)(TS)
    levels = ensemble[name]
    assert levels.shape == (NUM, TS.size)
    rounding = 1e-5 if name != "equal_rates" else 2e-4
    expected = np.broadcast_to(expected, levels.shape)
    np.testing.assert_allclose(levels, expected, atol=rounding * expected.max(), rtol=1e-5)


def test_time_integral_of_inputs(ensemble: engine.Ensemble) -> None:
    """Affine in the inputs and time: a closed form, the same for every trajectory."""
    oral = arrivals(drug("oral"), DOSING["oral"].stops, 0.0)[-1]
    np.testing.assert_allclose(ensemble.tallies["auc"], oral, rtol=1e-5)
    infusion = arrivals(drug("infusion"), DOSING["infusion"].stops, 0.0)[-1]
    expected = 2 * infusion + 0.25 * TS[-1] ** 2 - TS[-1]
    np.testing.assert_allclose(ensemble.tallies["exposure"], expected, rtol=1e-5)


def test_number_of_firings_is_poisson(ensemble: engine.Ensemble) -> None:
    mean = 3 * arrivals(drug("oral"), DOSING["oral"].stops, 0.0)[-1]
    firings = ensemble.tallies["firings"]
    counts = np.arange(int(mean + 12 * np.sqrt(mean)))
    assert_holds_and_twin_fails(
        lambda m: check_distribution(firings, stats.poisson.pmf(counts, m), slack=1e-5),
        mean,
        1.05 * mean,
    )


def test_every_event_is_counted(ensemble: engine.Ensemble) -> None:
    assert np.all(ensemble.num_steps >= ensemble.num_events)
    assert ensemble.num_events.min() > ensemble.tallies["firings"].max()


# Doses into species.


@pytest.fixture(scope="module")
def dosed(driver: str) -> engine.Ensemble:
    model = network({"X": 0, "Y": 5, "Z": 0}, [("X -> 0", 0.5), ("Y -> 0", 0.5)])
    doses = [
        Dose(400, 1.0, into="X"),  # at a save time
        Dose(100, 2.345678, into="X"),  # off the grid
        Dose(7, 0.0, into="Y"),
        Dose(3, 0.1, into="Y", interval=0.1, additional=9),  # 0.1, 0.2, ... in floating point
        Dose(30.0, 0.5, into="Z", duration=2.0),
    ]
    return run(model, DOSED_TS, 20_000, seed=5, regimen=Regimen(doses))


DOSED_TS = np.array([0.0, 0.1, 0.1 * 3, 1.0, 2.0, 3.0])


def test_bolus_is_exact_and_saved_after(dosed: engine.Ensemble) -> None:
    x, y = dosed["X"], dosed["Y"]
    assert np.all(x[:, :3] == 0) and np.all(x[:, 3] == 400)
    assert np.all(y[:, 0] == 12)
    for column, t in ((4, 2.0), (5, 3.0)):
        late = 100 * (t > 2.345678)
        survival = np.exp(-0.5 * (t - 1.0)), np.exp(-0.5 * (t - 2.345678)) * (late > 0)
        mean = 400 * survival[0] + late * survival[1]
        variance = sum(n * p * (1 - p) for n, p in zip((400, late), survival, strict=True))
        assert_holds_and_twin_fails(
            lambda m, v=variance, c=column: check_means(x[:, c], m, np.sqrt(v)), mean, mean * WRONG
        )
        assert check_variances(x[:, column], variance)


def test_repeated_boluses(dosed: engine.Ensemble) -> None:
    times = np.array([0.1 + 0.1 * k for k in range(10)])
    for column, t in enumerate(DOSED_TS):
        p = np.exp(-0.5 * (t - times[times <= t]))
        start = np.exp(-0.5 * t)
        mean = 12 * start + 3 * p.sum()
        variance = 12 * start * (1 - start) + 3 * np.sum(p * (1 - p))
        result = check_means(
            dosed["Y"][:, column], mean, np.sqrt(variance), num_comparisons=DOSED_TS.size
        )
        assert result, (t, result.message)
    # One dose forgotten is seen.
    assert not check_means(dosed["Y"][:, 5], mean - 3 * p[0], np.sqrt(variance))


def test_infusion_into_a_species_is_poisson(dosed: engine.Ensemble) -> None:
    """Rate 15 from 0.5 to 2.5; Z has no other reaction."""
    for t in (1.0, 2.0, 3.0):
        column = int(np.flatnonzero(t == DOSED_TS)[0])
        mean = 15.0 * (min(t, 2.5) - 0.5)
        pmf = stats.poisson.pmf(np.arange(200), mean)
        other = stats.poisson.pmf(np.arange(200), mean * 1.05)
        assert samples_needed_for_distribution(pmf, other) <= 20_000
        assert_holds_and_twin_fails(
            lambda p, c=column: check_distribution(dosed["Z"][:, c], p), pmf, other
        )
    np.testing.assert_allclose(dosed["infusion_into_Z"][0], [0, 0, 0, 15, 15, 0])


def test_regimens_and_pharmacokinetics_per_patient() -> None:
    """Three groups of patients with their own doses and clearances in one cohort."""
    clearance = np.repeat([0.5, 1.0, 2.0], 2000)
    regimens = [
        Regimen(Dose(20.0, 0.0, into="D")),
        Regimen([Dose(10.0, 0.2, into="D"), Dose(30.0, 0.9, into="D")]),
        Regimen(),
    ]
    model = network(
        {"X": 0},
        [("0 -> X", Formula("5 * D")), ("X -> 0", MassAction("death"))],
        parameters={"death": DEATH},
        inputs=["D"],
    )
    e = run(
        model,
        [2.0],
        6000,
        seed=6,
        inputs={"D": engine.OneCompartment(clearance, 2.0)},
        regimen=[regimens[i] for i in range(3) for _ in range(2000)],
    )
    for group, (cl, regimen) in enumerate(zip((0.5, 1.0, 2.0), regimens, strict=True)):
        samples = e["X"][2000 * group : 2000 * (group + 1), 0]
        k = cl / 2.0
        mean = sum(
            5
            * d.amount
            / 2.0
            * (np.exp(-DEATH * (2 - d.time)) - np.exp(-k * (2 - d.time)))
            / (k - DEATH)
            for d in regimen.doses
        )
        if not regimen.doses:
            assert not samples.any()
            continue
        scale = 1 + 9 / np.sqrt(2000 * mean)
        assert_holds_and_twin_fails(
            lambda m, x=samples: check_means(x, m, np.sqrt(m)), mean, mean * scale
        )
        assert check_variances(samples, mean)
