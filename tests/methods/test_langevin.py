"""The chemical Langevin equation: moments, orders, the guard, inputs, doses, events, tallies."""

from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import engine
from engine import FiringCount, FirstPassage, Formula, Maximum, TimeIntegral
from engine.kernel.status import Status
from engine.methods.langevin import extent, limited
from tests import exact
from tests.simulation import network, run
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_continuous,
    check_means,
    check_variances,
)

Array = np.ndarray


def langevin(model: engine.ReactionNetwork, ts, num: int, dt: float = 0.02, **options):
    return run(model, ts, num, method=engine.Langevin(dt), **options)


def immigration_death(birth: float = 400.0, death: float = 0.5) -> engine.ReactionNetwork:
    return network({"X": 500}, [("0 -> X", birth, "birth"), ("X -> 0", death, "death")])


def test_linear_moments() -> None:
    """For linear laws the equation has the master equation's mean and variance."""
    ts = np.array([0.5, 2.0, 6.0])
    found = langevin(immigration_death(), ts, 20_000)
    mean, variance = exact.immigration_death_moments(500, 400.0, 0.5, ts)
    samples = found["X"]
    assert samples.dtype == np.float64 and np.any(samples % 1 != 0)
    assert_holds_and_twin_fails(
        lambda m: check_means(samples, m, np.sqrt(variance), slack=0.002 * mean), mean, 1.02 * mean
    )
    # The step's bias of a stationary variance: death * dt / 2.
    assert check_variances(samples, variance, slack=0.015 * variance)
    assert not check_variances(samples, 1.1 * variance, slack=0.015 * variance)


def test_weak_order_one() -> None:
    """Euler-Maruyama's mean is (1 - k h)^n: the bias at t = 1 halves with the step."""
    model, ts = network({"X": 1_000_000}, [("X -> 0", 1.0)]), np.array([1.0])
    for dt in (0.2, 0.1, 0.05):
        found = langevin(model, ts, 400, dt)["X"][:, 0]
        expected = 1e6 * (1 - dt) ** round(1 / dt)
        assert abs(found.mean() - expected) < 4.5 * found.std() / 20 + 30  # float32
        assert abs(found.mean() - 1e6 * np.exp(-1)) > 3e3


def test_strong_order_one_half() -> None:
    """The method's own step, driven by one Brownian path in steps of h, 4 h and 16 h.

    Births and deaths at rate x: the noise is multiplicative, and a step four times as long has
    twice the error of the path.
    """
    num, smallest = 2000, 256
    changes = np.array([[1], [-1]])
    increments = np.random.default_rng(5).normal(size=(smallest, 2, num)) / np.sqrt(smallest)

    def path(every: int) -> Array:
        x, h = jnp.full(num, 100.0, jnp.float32), jnp.float32(every / smallest)
        for first in range(0, smallest, every):
            summed = increments[first : first + every].sum(axis=0)
            noise = [jnp.asarray(dw, jnp.float32) / jnp.sqrt(h) for dw in summed]
            extents = [extent(jnp.float32(2) * x, h, one) for one in noise]
            (x,) = limited(changes, [x], extents)
        return np.asarray(x, np.float64)

    finest = path(1)
    errors = [np.sqrt(np.mean((path(every) - finest) ** 2)) for every in (4, 16, 64)]
    for short, long in pairwise(errors):
        assert 1.7 < long / short < 2.6  # 2, and a little more as the finest path has errors too


def test_agrees_with_direct_where_counts_are_large() -> None:
    model = network(
        {"P": 4000, "D": 500}, [("2 P -> D", 1e-4), ("D -> 2 P", 0.1)], parameters={"k": 1.0}
    )
    ts = np.array([1.0, 5.0])
    exactly, found = run(model, ts, 6000, seed=1), langevin(model, ts, 6000, 0.01, seed=2)
    for name in ("P", "D"):
        a, b = exactly[name].astype(float), found[name]
        error = np.hypot(a.std(axis=0), b.std(axis=0)) / np.sqrt(6000)
        off = np.abs(a.mean(axis=0) - b.mean(axis=0))
        assert np.all(off < 4.5 * error + 0.002 * a.mean(axis=0))
        assert np.all(np.abs(b.var(axis=0) / a.var(axis=0) - 1) < 0.02 + 4.5 * np.sqrt(4 / 6000))
    np.testing.assert_allclose(found["P"] + 2 * found["D"], 5000, rtol=1e-5)


def test_the_guard_keeps_counts_from_zero_on() -> None:
    """Near 0 the reflected process stays finite and non-negative; an empty species stays empty."""
    found = langevin(network({"X": 3}, [("0 -> X", 2.0), ("X -> 0", 1.0)]), [1.0, 5.0], 2000, 0.05)
    assert found["X"].min() >= 0 and np.all(np.isfinite(found["X"]))
    gone = langevin(network({"X": 0, "Y": 0}, [("X -> Y", 5.0)]), [1.0], 10)
    assert not gone["X"].any() and not gone["Y"].any()


def reflected_gene(opening: float, closing: float) -> tuple[float, float]:
    """Stationary mean and variance of the share x of one gene's copy that is on, held in [0, 1].

    Drift mu = k (1 - x) - l x, noise D = k (1 - x) + l x, no flux at 0 and 1: the density is
    exp(int 2 mu / D) / D.
    """
    x = (np.arange(20_000) + 0.5) / 20_000
    drift, noise = opening * (1 - x) - closing * x, opening * (1 - x) + closing * x
    density = np.exp(np.cumsum(2 * drift / noise) / len(x)) / noise
    mean = np.average(x, weights=density)
    return mean, np.average((x - mean) ** 2, weights=density)


def test_what_is_conserved_stays_where_species_come_to_zero() -> None:
    """A gene of one copy: a guard that mirrors each species alone made a thousand of them."""
    gene = network({"off": 1, "on": 0}, [("off -> on", 0.3), ("on -> off", 0.7)])
    found = langevin(gene, [8.0], 8000, 0.002)
    np.testing.assert_allclose(found["off"] + found["on"], 1.0, atol=1e-4)
    assert found["on"].min() >= 0 and found["off"].min() >= 0
    mean, variance = reflected_gene(0.3, 0.7)
    # The step's bias at the bounds is of order 1/2: 2% and 16% at ten times this step.
    assert_holds_and_twin_fails(
        lambda m: check_means(found["on"][:, 0], m, np.sqrt(variance), slack=0.01 * mean),
        mean,
        reflected_gene(0.36, 0.7)[0],
    )
    assert check_variances(found["on"][:, 0], variance, slack=0.08 * variance)


def test_extents_are_limited_by_what_there_is() -> None:
    """A + B -> C wants 3 where there are 2; C -> 0 goes as it wants; D gains what is taken."""
    changes = np.array([[-1, -1, 1, 0], [0, 0, -1, 1]])
    counts = [jnp.float32([x]) for x in (2.0, 9.0, 4.0, 0.0)]
    moved = limited(changes, counts, [jnp.float32([3.0]), jnp.float32([1.0])])
    np.testing.assert_allclose(np.ravel(moved), [0.0, 7.0, 5.0, 1.0])
    back = limited(changes, counts, [jnp.float32([-1.0]), jnp.float32([-2.0])])
    np.testing.assert_allclose(np.ravel(back), [3.0, 10.0, 3.0, 0.0])
    free = limited(changes, counts, [jnp.float32([1.5]), jnp.float32([0.5])])
    np.testing.assert_allclose(np.ravel(free), [0.5, 7.5, 5.0, 0.5])


def test_a_step_that_is_too_long_says_which_one_is_needed() -> None:
    """X lives 0.1 to begin with, and 0.001 when Y has come to 1,000."""
    model = network(
        {"X": 5000, "Y": 0},
        [("0 -> Y", 1000.0), ("Y -> 0", 1.0), ("X + Y -> Y", 1.0), ("0 -> X", 9e5)],
    )
    found = langevin(model, [5.0], 20, 0.3, is_failure_raised=False)
    assert np.all(found.status == Status.STEP_TOO_LONG) and np.all(np.isnan(found["X"]))
    with pytest.raises(engine.SimulationFailed, match=r"'X' may be used up within 0\.001: give"):
        langevin(model, [5.0], 20, 0.3)
    fine = langevin(model, [5.0], 200, 0.0005)
    assert abs(fine["X"].mean() / (9e5 / 993.3) - 1) < 0.02


@pytest.mark.full
def test_vilar_is_never_wrong_in_silence(shared: Path) -> None:
    """The circadian clock's repressor binds its activator within a step of 0.1."""
    model = engine.read_sbml(shared / "reference_models" / "vilar.xml")
    found = langevin(model, [10.0], 20, 0.1, is_failure_raised=False)
    assert np.all(found.status == Status.STEP_TOO_LONG)


def test_reproducible() -> None:
    model, ts = immigration_death(), np.array([0.3, 1.0])
    base = langevin(model, ts, 100)
    for options in ({"lanes": 128}, {"lanes": 32, "block": 3}):
        other = run(model, ts, 100, method=engine.Langevin(0.02, **options))
        np.testing.assert_array_equal(other.counts, base.counts)
    some = langevin(model, ts, 2, patient_ids=[40, 3])
    np.testing.assert_array_equal(some.counts, base.counts[[40, 3]])


def test_inputs_doses_events_and_tallies() -> None:
    drug = engine.OneCompartment(clearance=1.0, volume=1.0, absorption=2.0)
    model = network(
        {"X": 0, "Y": 0},
        [("0 -> X", Formula("3000 * D")), ("X -> 0", 0.5)],
        inputs=["D"],
        events=[
            engine.Event("seen", "X > 1500", {"Y": "Y + 1"}),
            engine.Event("later", "time >= 3.5", {"X": "X / 2"}),
        ],
    )
    regimen = engine.Regimen([engine.Dose(2.0, 0.0, into="D"), engine.Dose(300, 3.0, into="X")])
    ts = np.array([1.0, 3.0, 4.0])
    found = langevin(
        model,
        ts,
        4000,
        0.01,
        inputs={"D": drug},
        regimen=regimen,
        tallies={
            "area": TimeIntegral("X"),
            "top": Maximum("X"),
            "when": FirstPassage("X >= 1000"),
        },
    )
    plain = network({"X": 0}, [("0 -> X", Formula("3000 * D")), ("X -> 0", 0.5)], inputs=["D"])
    fine = np.linspace(0, 4, 401)
    truth = engine.simulate(
        plain, engine.ODE(), fine[1:], key=jax.random.key(0), inputs={"D": drug}, regimen=regimen
    )["X"][0]
    mean = truth[[99, 299]]
    assert_holds_and_twin_fails(
        lambda m: check_means(found["X"][:, :2], m, np.sqrt(m), slack=0.005 * m), mean, 1.03 * mean
    )
    after = truth[349] / 2 * np.exp(-0.25) + (truth[399] - truth[349] * np.exp(-0.25))
    assert check_means(found["X"][:, 2], after, slack=0.005 * after)
    assert np.all(found["Y"][:, 2] == 1)
    first = np.interp(1000.0, truth[:150], fine[1:151])
    assert found.tallies["when"].mean() == pytest.approx(first, abs=0.02)
    assert np.all(found.tallies["top"] >= found["X"].max(axis=1) - 1e-3)
    assert np.all(found.tallies["area"] > 0)


@pytest.mark.parametrize("dt", [0, -1.0, float("inf"), float("nan"), "small", None, True])
def test_bad_steps(dt) -> None:
    with pytest.raises(engine.InvalidInput, match=r"Langevin\(dt="):
        engine.Langevin(dt)


def test_refusals_and_failures() -> None:
    with pytest.raises(engine.InvalidInput, match=r"Langevin\(block=0\)"):
        engine.Langevin(0.1, block=0)
    with pytest.raises(engine.InvalidInput, match=r"Langevin integrates reaction 'birth'"):
        langevin(immigration_death(), [1.0], 1, tallies={"n": FiringCount("birth")})


@pytest.mark.parametrize("law", ["1 / (X - X)", "sqrt(60 - X)"])
@pytest.mark.parametrize("block", [1, 64])
def test_a_propensity_that_is_no_number_is_called_invalid(law: str, block: int) -> None:
    """Whatever step of a block it comes in: its counts must not overflow first."""
    model = network({"X": 5, "Y": 5}, [("0 -> X", 100.0), ("0 -> Y", Formula(law))])
    method = engine.Langevin(0.05, block=block)
    found = run(model, [3.0], 20, method=method, is_failure_raised=False)
    assert np.all(found.status == Status.INVALID_PROPENSITY) and np.all(np.isnan(found["X"]))
    with pytest.raises(engine.SimulationFailed, match=r"has propensity (inf|nan) at X=[1-9]"):
        run(model, [3.0], 20, method=method)


def test_stationary_law_of_a_fast_process_is_gaussian() -> None:
    model = network({"X": 10_000}, [("0 -> X", 10_000.0), ("X -> 0", 1.0)])
    samples = langevin(model, [8.0], 20_000, 0.05)["X"][:, 0]
    sd = np.sqrt(10_000 / (1 - 0.025))
    assert_holds_and_twin_fails(
        lambda s: check_continuous(samples, lambda x: stats.norm.cdf((x - 10_000) / s)),
        sd,
        1.07 * sd,
    )
