"""Tau-leaping: its bias within bounds and falling with epsilon, and where it must be exact."""

import jax
import numpy as np
import pytest

import engine
from engine import FiringCount, FirstPassage, Formula, MassAction, Maximum, TimeIntegral
from engine.kernel.status import Status
from tests import exact
from tests.simulation import network, run
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_distribution,
    check_means,
    check_variances,
)

Array = np.ndarray
TS = np.array([1.0, 5.0, 20.0])


def leaping(
    model: engine.ReactionNetwork, num: int, epsilon: float = 0.13, order: int = 2, **options
):
    method = engine.TauLeaping(epsilon, order)
    return run(model, options.pop("ts", TS), num, method=method, **options)


def immigration_death(birth: float = 2000.0, start: int = 0) -> engine.ReactionNetwork:
    return network({"X": start}, [("0 -> X", birth, "birth"), ("X -> 0", 0.5, "death")])


# Bias.


@pytest.mark.parametrize(
    ("epsilon", "order"), [pytest.param(0.03, 1, marks=pytest.mark.full), (0.13, 2)]
)
def test_immigration_death_within_a_percent(epsilon: float, order: int) -> None:
    """Linear: mean and variance in closed form."""
    found = leaping(immigration_death(), 20_000, epsilon, order)
    mean, variance = exact.immigration_death_moments(0, 2000.0, 0.5, TS)
    samples = found["X"].astype(float)
    assert_holds_and_twin_fails(
        lambda m: check_means(samples, m, np.sqrt(variance), slack=0.01 * mean), mean, 1.02 * mean
    )
    assert check_variances(samples, variance, slack=0.03 * variance)
    assert found.num_steps.mean() < found.num_events.mean() / 40


@pytest.mark.parametrize(
    ("epsilon", "order"), [(0.25, 1), pytest.param(0.5, 2, marks=pytest.mark.full)]
)
def test_the_bias_falls_with_epsilon_to_the_order(epsilon: float, order: int) -> None:
    """A fifth of the leap has a fifth of the bias with order 1, a 25th with order 2."""
    ts = np.array([1.0])
    model = network({"X": 20_000}, [("X -> 0", 1.0)])
    expected, biases = 20_000 * np.exp(-1.0), []
    for one in (epsilon, epsilon / 5):
        found = leaping(model, 4000, one, order, ts=ts)["X"].astype(float)
        biases.append(abs(found.mean() - expected))
    assert biases[0] > 20 * np.sqrt(expected / 4000)  # far more than noise
    assert biases[1] < biases[0] / (3 if order == 1 else 10)


@pytest.mark.full
def test_order_2_keeps_the_variance_of_a_steady_state() -> None:
    """Leaps of length h inflate a Poisson variance by k h / 2 with order 1, by O(h^2) with order 2.

    Only the bound on the losses limits a leap here: 2 epsilon of a life time.
    """
    ts, model = np.array([20.0]), immigration_death(5000.0, 10_000)
    ratios = {
        order: leaping(model, 40_000, 0.2, order, ts=ts)["X"].astype(float).var() / 10_000
        for order in (1, 2)
    }
    noise = np.sqrt(2 / 40_000)
    assert ratios[1] > 1.1 + 4.5 * noise
    assert abs(ratios[2] - 1) < 0.02 + 4.5 * noise


def test_dimerisation_within_a_percent() -> None:
    """Two orders of the law and a reverse reaction, against the master equation's large brother.

    4,000 molecules have no small state space: the direct method is the reference.
    """
    model = network(
        {"P": 4000, "D": 0}, [("2 P -> D", 1e-4), ("D -> 2 P", 0.1)], parameters={"k": 1.0}
    )
    exactly, found = run(model, TS, 6000, seed=1), leaping(model, 6000, seed=2)
    for name in ("P", "D"):
        a, b = exactly[name].astype(float), found[name].astype(float)
        error = np.hypot(a.std(axis=0), b.std(axis=0)) / np.sqrt(6000)
        assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4.5 * error + 0.01 * a.mean(axis=0))
        ratio = b.var(axis=0) / a.var(axis=0)
        assert np.all(np.abs(ratio - 1) < 0.03 + 4.5 * np.sqrt(4 / 6000))
    np.testing.assert_array_equal(found["P"] + 2 * found["D"], 4000)
    assert found.num_steps.mean() < 0.2 * exactly.num_steps.mean()


@pytest.mark.full
def test_hill_and_michaelis_menten_laws() -> None:
    """Laws without an integer order: the step selection takes their elasticities."""
    model = network(
        {"X": 3000, "Y": 1000},
        [
            ("0 -> X", engine.HillInhibition("4000", "2000", "3", "Y")),
            ("X -> Y", engine.MichaelisMenten("3000", "1500", "X")),
            ("Y -> 0", 0.8),
        ],
    )
    exactly, found = run(model, TS, 3000, seed=1), leaping(model, 3000, seed=2)
    for name in ("X", "Y"):
        a, b = exactly[name].astype(float), found[name].astype(float)
        error = np.hypot(a.std(axis=0), b.std(axis=0)) / np.sqrt(3000)
        assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4.5 * error + 0.01 * a.mean(axis=0))
    assert found.num_steps.mean() < 0.1 * exactly.num_steps.mean()


# Where it is exact.


def test_small_populations_are_exact() -> None:
    """Below 4 events a leap the steps are those of the direct method: the same distribution."""
    model = network({"X": 3}, [("0 -> X", 4.0), ("X -> 0", 0.8)])
    truth = exact.FiniteStateProjection(
        [[1], [-1]], lambda x, t: np.stack([4.0 + 0 * x[:, 0], 0.8 * x[:, 0]], 1), (40,), (3,)
    )
    found = leaping(model, 40_000, 0.03, ts=np.array([1.0, 4.0]))
    pmf = truth.distribution([1.0, 4.0]).marginal(0)
    for column in (0, 1):
        samples = found["X"][:, column]
        assert check_distribution(samples, pmf[column], slack=1e-6)
    assert np.all(found.num_events <= found.num_steps)


def test_a_switch_among_thousands_is_exact() -> None:
    """A gene of one copy is critical: its telegraph stays exact while its product leaps."""
    model = network(
        {"off": 1, "on": 0, "P": 5000},
        [
            ("off -> on", 0.3),
            ("on -> off", 0.7),
            ("on -> on + P", 4000.0),
            ("P -> 0", 1.0),
            ("0 -> P", 3000.0),
        ],
    )
    num, ts = 20_000, np.array([0.5, 3.0])
    found = leaping(model, num, ts=ts)
    share = 0.3 * (1 - np.exp(-ts))
    samples = found["on"].astype(float)
    assert_holds_and_twin_fails(
        lambda p: check_means(samples, p, np.sqrt(share * (1 - share))), share, 1.06 * share
    )
    np.testing.assert_array_equal(found["on"] + found["off"], 1)
    means, covariance = exact.affine_moments(
        np.array([[-1, 1, 0], [1, -1, 0], [0, 0, 1], [0, 0, -1], [0, 0, 1]]),
        [0.0, 0.0, 0.0, 0.0, 3000.0],
        [[0.3, 0, 0], [0, 0.7, 0], [0, 4000.0, 0], [0, 0, 1.0], [0, 0, 0]],
        [1.0, 0.0, 5000.0],
        ts,
    )
    product = found["P"].astype(float)
    assert check_means(product, means[:, 2], slack=0.01 * means[:, 2])
    assert check_variances(product, covariance[:, 2, 2], slack=0.03 * covariance[:, 2, 2])


def test_what_is_used_up_at_once_among_thousands_that_leap() -> None:
    """Half a molecule on average, made during leaps: a Poisson number, its own rate decides.

    Where only its loss was critical, what a leap made lived to its end: twice as many on average.
    """
    model = network(
        {"A": 0, "P": 20_000},
        [("0 -> A", 100.0), ("A -> 0", 200.0), ("0 -> P", 20_000.0), ("P -> 0", 1.0)],
    )
    found = leaping(model, 20_000, ts=np.array([0.5]))["A"].astype(float)
    assert_holds_and_twin_fails(
        lambda m: check_means(found, m, np.sqrt(0.5), slack=0.02), np.array([0.5]), np.array([0.55])
    )


def test_no_count_goes_negative() -> None:
    """Fast decay from thousands to nothing, and a reaction that takes three at once."""
    model = network({"X": 30_000, "Y": 0}, [("X -> 0", 3.0), ("3 X -> Y", 1e-9), ("0 -> X", 2.0)])
    found = leaping(model, 2000, epsilon=0.4, ts=np.array([0.5, 2.0, 6.0]))
    assert found.counts.min() == 0


def test_absorbing_state() -> None:
    found = leaping(network({"X": 5000}, [("X -> 0", 1.0)]), 200, ts=np.array([30.0, 1e6]))
    assert np.all(found["X"][:, 1] == 0) and np.all(found.num_events == 5000)


# What it shares with the direct method.


def test_reproducible_for_any_lanes_and_blocks() -> None:
    model, num = immigration_death(), 100
    base = leaping(model, num)
    for options in ({"lanes": 128}, {"lanes": 256, "block": 5}, {"block": 64}):
        other = run(model, TS, num, method=engine.TauLeaping(**options))
        np.testing.assert_array_equal(other.counts, base.counts)
        np.testing.assert_array_equal(other.num_events, base.num_events)
    few = leaping(model, 3, patient_ids=[7, 50, 2])
    np.testing.assert_array_equal(few.counts, base.counts[[7, 50, 2]])


def test_tallies() -> None:
    model = immigration_death()
    found = leaping(
        model,
        4000,
        ts=np.array([5.0]),
        tallies={
            "births": FiringCount("birth"),
            "deaths": FiringCount("death"),
            "area": TimeIntegral("X"),
            "top": Maximum("X"),
            "half": FirstPassage("X >= 1000"),
        },
    )
    births, deaths = found.tallies["births"], found.tallies["deaths"]
    np.testing.assert_array_equal(births - deaths, found["X"][:, 0])
    np.testing.assert_array_equal(births + deaths, found.num_events)
    mean = 4000 * (5 - 2 * (1 - np.exp(-2.5)))
    assert_holds_and_twin_fails(
        lambda m: check_means(found.tallies["area"], m, slack=0.005 * mean), mean, 1.02 * mean
    )
    assert np.all(found.tallies["top"] >= found["X"][:, 0])
    when = np.log(1 / (1 - 0.25)) / 0.5
    assert found.tallies["half"].mean() == pytest.approx(when, rel=0.02)


def test_a_drug_that_comes_and_goes() -> None:
    """Inputs enter by their means over a leap, at most 9% of change in each."""
    drug = engine.OneCompartment(clearance=1.0, volume=1.0, absorption=2.0)
    model = network({"X": 0}, [("0 -> X", Formula("3000 * D")), ("X -> 0", 0.5)], inputs=["D"])
    regimen = engine.Regimen.repeated(2.0, into="D", every=2.0, num_doses=2)
    options = {"inputs": {"D": drug}, "regimen": regimen}
    ts = np.array([0.5, 1.0, 2.0, 3.0, 6.0])
    truth = engine.simulate(model, engine.ODE(), ts, key=jax.random.key(0), **options)
    found = leaping(model, 4000, ts=ts, **options)["X"].astype(float)
    mean = truth["X"][0]
    assert_holds_and_twin_fails(
        lambda m: check_means(found, m, np.sqrt(mean), slack=0.01 * mean), mean, 1.03 * mean
    )
    assert check_variances(found, mean, slack=0.04 * mean)  # a Poisson number


def test_events_and_boluses() -> None:
    model = network(
        {"X": 0, "Y": 0},
        [("0 -> X", 5000.0), ("X -> 0", 1.0)],
        events=[
            engine.Event("stop", "X > 2000", {"Y": "Y + 1"}),
            engine.Event("reset", "time >= 2.5", {"X": "100"}),
        ],
    )
    regimen = engine.Regimen(engine.Dose(700, 4.0, into="X"))
    ts = np.array([2.5, 4.0])
    found = leaping(model, 1000, ts=ts, regimen=regimen)
    assert np.all(found["X"][:, 0] == 100) and np.all(found["Y"][:, 0] == 1)
    mean = 5000 - 4900 * np.exp(-1.5) + 700
    assert check_means(found["X"][:, 1].astype(float), mean, slack=0.01 * mean)


def test_per_patient_rates() -> None:
    birth = np.repeat([500.0, 4000.0], 2000)
    model = network({"X": 0}, [("0 -> X", MassAction("b")), ("X -> 0", 0.5)], parameters={"b": 1.0})
    found = leaping(model, 4000, params={"b": birth}, ts=np.array([3.0]))["X"][:, 0].astype(float)
    for b in (500.0, 4000.0):
        mean = 2 * b * (1 - np.exp(-1.5))
        assert check_means(found[birth == b], mean, np.sqrt(mean), slack=0.01 * mean)


# Bad input.


@pytest.mark.parametrize("epsilon", [0, 1, -0.1, 2.0, float("nan"), "small", None])
def test_bad_epsilon(epsilon) -> None:
    with pytest.raises(engine.InvalidInput, match=r"TauLeaping\(epsilon="):
        engine.TauLeaping(epsilon)


@pytest.mark.parametrize("order", [0, 3, 1.5, True, "second"])
def test_bad_order(order) -> None:
    with pytest.raises(engine.InvalidInput, match=r"TauLeaping\(order=.*: give 1 or 2"):
        engine.TauLeaping(order=order)


def test_bad_limits_and_rate_rules() -> None:
    with pytest.raises(engine.InvalidInput, match=r"TauLeaping\(lanes=0\)"):
        engine.TauLeaping(lanes=0)
    model = network(
        {"X": 0},
        [("0 -> X", Formula("V"))],
        variables=[engine.Variable("V", 1.0)],
        rate_rules=[engine.RateRule("V", "-V")],
    )
    with pytest.raises(engine.InvalidInput, match=r"rate rule of 'V'.*engine\.ODE"):
        leaping(model, 1)


def test_failures_have_a_status() -> None:
    model = network({"X": 2000}, [("0 -> X", Formula("5000 - X"), "r"), ("0 -> X", 900.0)])
    found = leaping(model, 3, ts=np.array([50.0]), is_failure_raised=False)
    assert np.all(found.status == Status.INVALID_PROPENSITY)
    growing = network({"X": 1000}, [("X -> 2 X", 5.0)])
    found = run(
        growing, [50.0], 2, method=engine.TauLeaping(max_events=2000), is_failure_raised=False
    )
    assert set(found.status) <= {Status.EVENT_BUDGET_SPENT, Status.POPULATION_OVERFLOW}
