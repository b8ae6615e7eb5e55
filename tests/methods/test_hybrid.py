"""The hybrid method: jump times from the integrated hazard, integration between them, partition."""

import jax
import numpy as np
import pytest

import engine
from engine import FiringCount, FirstPassage, Formula, Maximum, TimeIntegral
from engine.kernel.status import Status
from tests import exact
from tests.simulation import network, run
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_continuous,
    check_distribution,
    check_means,
    check_variances,
)

Array = np.ndarray


def hybrid(model: engine.ReactionNetwork, ts, num: int, continuous=("P",), **options):
    method = engine.Hybrid(continuous=continuous, **options.pop("method", {}))
    return run(model, ts, num, method=method, **options)


def telegraph() -> engine.ReactionNetwork:
    """A gene of one copy and its plentiful product."""
    return network(
        {"off": 1, "on": 0, "P": 5000},
        [
            ("off -> on", 0.3, "open"),
            ("on -> off", 0.7, "close"),
            ("on -> on + P", 4000.0, "make"),
            ("P -> 0", 1.0),
        ],
    )


def telegraph_moments(ts: Array, intrinsic: float, scale: float = 1.0) -> tuple[Array, Array]:
    """Means and covariances of (on, P): exact for the jumps, `intrinsic` times the noise of P."""
    jumps = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    whole = exact.affine_moments(
        jumps,
        [0.3 * scale, 0.0, 0.0, 0.0],
        [[-0.3 * scale, 0.0], [0.7, 0.0], [4000.0, 0.0], [0.0, 1.0]],
        [0.0, 5000.0],
        ts,
    )
    return whole


# Jump times.


def test_jumps_follow_the_integrated_hazard() -> None:
    """One jump at the rate k y(t), y = 800 exp(-t): P(T > t) = exp(-k 800 (1 - exp(-t)))."""
    k, model = (
        0.002,
        network(
            {"P": 800, "A": 1, "B": 0},
            [("P -> 0", 1.0), ("A -> B", Formula("0.002 * A * P"), "jump")],
        ),
    )
    found = hybrid(model, [6.0], 40_000, tallies={"when": FirstPassage("B > 0")})
    when = found.tallies["when"]

    def cdf(scale: float):
        last = 1 - np.exp(-scale * k * 800 * (1 - np.exp(-6.0)))
        return lambda t: (1 - np.exp(-scale * k * 800 * (1 - np.exp(-t)))) / last

    happened = when[np.isfinite(when)]
    assert_holds_and_twin_fails(lambda scale: check_continuous(happened, cdf(scale)), 1.0, 1.12)
    share = 1 - np.exp(-k * 800 * (1 - np.exp(-6.0)))
    assert check_distribution(found["B"][:, 0].astype(int), np.array([1 - share, share]))


def test_jumps_beside_a_large_pool_against_the_master_equation() -> None:
    """Receptors bind a ligand that hardly changes: the bound number by finite state projection."""
    model = network(
        {"L": 20_000, "R": 12, "C": 0}, [("L + R -> C", 1e-4, "bind"), ("C -> L + R", 1.0)]
    )
    found = hybrid(model, [0.2, 1.0], 30_000, continuous=("L",))
    np.testing.assert_allclose(found["L"] + found["C"], 20_000, rtol=1e-6)

    def truth(scale: float):
        def propensity(x: Array, t: float) -> Array:
            c = x[:, 0]
            return np.stack([1e-4 * scale * (20_000 - c) * (12 - c), c], axis=1)

        return exact.FiniteStateProjection([[1], [-1]], propensity, (12,), (0,))

    for column, time in enumerate((0.2, 1.0)):
        samples = found["C"][:, column].astype(int)
        assert_holds_and_twin_fails(
            lambda p, samples=samples: check_distribution(samples, p),
            truth(1.0).distribution([time]).marginal(0)[0],
            truth(1.06).distribution([time]).marginal(0)[0],
        )


# Moments.


def test_telegraph() -> None:
    """The gene's law exactly; the product without its own Poisson noise."""
    ts = np.array([0.5, 3.0])
    found = hybrid(telegraph(), ts, 40_000)
    assert found.continuous == ("P",) and found["on"].dtype == np.float64
    means, covariance = telegraph_moments(ts, 1.0)
    wrong, _ = telegraph_moments(ts, 1.0, 1.05)
    share = means[:, 0]
    assert_holds_and_twin_fails(
        lambda p: check_means(found["on"], p, np.sqrt(share * (1 - share))), share, wrong[:, 0]
    )
    assert check_means(found["P"], means[:, 1], slack=1e-3 * means[:, 1])
    # What the chain of P alone would add: deaths of the start, and births and deaths since.
    intrinsic = means[:, 1] - 5000 * np.exp(-2 * ts)
    expected = covariance[:, 1, 1] - intrinsic
    assert check_variances(found["P"], expected, slack=2e-3 * expected)


def test_noise_on_request() -> None:
    ts = np.array([0.5, 3.0])
    found = hybrid(telegraph(), ts, 20_000, method={"is_noisy": True})
    _, covariance = telegraph_moments(ts, 1.0)
    assert check_variances(found["P"], covariance[:, 1, 1], slack=5e-3 * covariance[:, 1, 1])


def test_converges_to_direct() -> None:
    """STAT-like: a few receptors phosphorylate a pool of 2e4."""
    model = network(
        {"R": 30, "A": 0, "S": 20_000, "pS": 0},
        [
            ("R -> A", 0.5),
            ("A -> R", 0.8),
            ("S -> pS", Formula("0.03 * A * S")),
            ("pS -> S", 0.4),
        ],
    )
    ts = np.array([1.0, 4.0])
    exactly = run(model, ts, 1500, seed=1)
    found = hybrid(model, ts, 6000, continuous=("S", "pS"), seed=2)
    for name in ("A", "pS"):
        a, b = exactly[name].astype(float), found[name]
        error = np.hypot(a.std(axis=0) / np.sqrt(1500), b.std(axis=0) / np.sqrt(6000))
        off = np.abs(a.mean(axis=0) - b.mean(axis=0))
        assert np.all(off < 4.5 * error + 1e-3 * a.mean(axis=0))
        assert np.all(np.abs(b.std(axis=0) / a.std(axis=0) - 1) < 0.02 + 4.5 * np.sqrt(0.5 / 1200))
    np.testing.assert_allclose(found["S"] + found["pS"], 20_000, rtol=1e-5)
    assert found.num_steps.mean() < 0.05 * exactly.num_steps.mean()


def test_order_two_in_the_step() -> None:
    """Without jumps it is Heun's method: a fifth of epsilon leaves a 25th of the error."""
    model = network({"P": 100_000, "Q": 0}, [("P -> Q", 1.0), ("Q -> 0", 2.0)])
    truth = engine.simulate(model, engine.ODE(), [1.0], key=jax.random.key(0))["Q"][0, 0]
    errors = []
    for epsilon in (0.1, 0.02):
        found = hybrid(model, [1.0], 1, ("P", "Q"), method={"epsilon": epsilon})
        errors.append(abs(found["Q"][0, 0] - truth))
    assert errors[1] < errors[0] / 12
    assert errors[1] < 5e-3 * truth


# Partition.


def test_the_automatic_partition_is_reported() -> None:
    found = hybrid(telegraph(), [1.0], 5, continuous=None)
    assert found.continuous == ("P",)
    exactly = hybrid(telegraph(), [1.0], 5, continuous=None, method={"plenty": 1e6})
    assert exactly.continuous == ()
    assert hybrid(telegraph(), [1.0], 5, continuous=()).counts.dtype == np.int32


def test_nothing_continuous_is_the_direct_method_in_law() -> None:
    model = network({"X": 3}, [("0 -> X", 4.0), ("X -> 0", 0.8)])
    truth = exact.FiniteStateProjection(
        [[1], [-1]], lambda x, t: np.stack([4.0 + 0 * x[:, 0], 0.8 * x[:, 0]], 1), (40,), (3,)
    )
    found = hybrid(model, [2.0], 30_000, continuous=())
    pmf = truth.distribution([2.0]).marginal(0)[0]
    assert check_distribution(found["X"][:, 0], pmf, slack=1e-6)


# What it shares with the other methods.


def test_reproducible() -> None:
    ts = np.array([0.3, 1.0])
    base = hybrid(telegraph(), ts, 100)
    for options in ({"lanes": 128}, {"lanes": 32, "block": 3}):
        other = hybrid(telegraph(), ts, 100, method=options)
        np.testing.assert_array_equal(other.counts, base.counts)
    some = hybrid(telegraph(), ts, 2, patient_ids=[40, 3])
    np.testing.assert_array_equal(some.counts, base.counts[[40, 3]])


def test_inputs_doses_events_and_tallies() -> None:
    drug = engine.OneCompartment(clearance=1.0, volume=1.0, absorption=2.0)
    model = network(
        {"P": 0, "G": 0, "N": 0},
        [("0 -> P", Formula("3000 * D")), ("P -> 0", 0.5), ("0 -> G", 2.0, "tick")],
        inputs=["D"],
        events=[
            engine.Event("seen", "P > 1500", {"N": "N + 1"}),
            engine.Event("later", "time >= 3.5", {"P": "P / 2"}),
        ],
    )
    regimen = engine.Regimen([engine.Dose(2.0, 0.0, into="D"), engine.Dose(300, 3.0, into="P")])
    ts = np.array([1.0, 3.0, 4.0])
    found = hybrid(
        model,
        ts,
        3000,
        inputs={"D": drug},
        regimen=regimen,
        tallies={"area": TimeIntegral("P"), "top": Maximum("P"), "ticks": FiringCount("tick")},
    )
    plain = network({"P": 0}, [("0 -> P", Formula("3000 * D")), ("P -> 0", 0.5)], inputs=["D"])
    truth = engine.simulate(
        plain,
        engine.ODE(),
        np.linspace(0, 4, 401)[1:],
        key=jax.random.key(0),
        inputs={"D": drug},
        regimen=regimen,
    )["P"][0]
    np.testing.assert_allclose(
        found["P"][:, :2], np.broadcast_to(truth[[99, 299]], (3000, 2)), rtol=2e-3
    )
    after = truth[349] / 2 * np.exp(-0.25) + truth[399] - truth[349] * np.exp(-0.25)
    np.testing.assert_allclose(found["P"][:, 2], after, rtol=2e-3)
    assert np.all(found["N"][:, 2] == 1)
    np.testing.assert_array_equal(found.tallies["ticks"], found["G"][:, 2])
    assert check_means(found.tallies["ticks"].astype(float), 8.0, np.sqrt(8.0))
    area = np.trapezoid(np.append(0.0, truth), np.linspace(0, 4, 401))
    lost = truth[349] / 2 * (1 - np.exp(-0.25)) / 0.5
    np.testing.assert_allclose(found.tallies["area"], area - lost, rtol=5e-3)
    np.testing.assert_allclose(found.tallies["top"], truth[:350].max(), rtol=5e-3)


BAD = [
    ({"epsilon": 0}, r"Hybrid\(epsilon=0\)"),
    ({"epsilon": "small"}, r"Hybrid\(epsilon='small'\)"),
    ({"plenty": -1}, r"Hybrid\(plenty=-1\)"),
    ({"continuous": "P"}, r"give a list, \['P'\]"),
    ({"lanes": 0}, r"Hybrid\(lanes=0\)"),
]


@pytest.mark.parametrize("options, message", BAD)
def test_bad_options(options, message) -> None:
    with pytest.raises(engine.InvalidInput, match=message):
        engine.Hybrid(**options)


def test_refusals_and_failures() -> None:
    with pytest.raises(engine.InvalidInput, match="'Q'"):
        hybrid(telegraph(), [1.0], 1, continuous=("Q",))
    tallies = {"n": FiringCount("make")}
    with pytest.raises(engine.InvalidInput, match="integrates reaction 'make'"):
        hybrid(telegraph(), [1.0], 1, tallies=tallies)
    model = network(
        {"P": 500, "X": 3, "Y": 0}, [("P -> 0", 0.1), ("X -> Y", Formula("2.0"), "leak")]
    )
    found = hybrid(model, [100.0], 2, is_failure_raised=False)
    assert np.all(found.status == Status.INVALID_PROPENSITY)


def test_nothing_fires_once_all_trajectories_have_ended() -> None:
    """As many trajectories as lanes: they wait for the last, and for the results to be written."""
    model = network(
        {"G": 0, "M": 0, "P": 0},
        [
            ("0 -> M", 3.0, "make"),
            ("M -> 0", 0.5, "lose"),
            ("M -> M + P", 40.0, "translate"),
            ("P -> 0", 0.1, "decay"),
        ],
    )
    method = engine.Hybrid(continuous=["P"], lanes=64)
    found = run(
        model,
        [1.0, 4.0],
        64,
        method=method,
        tallies={name: FiringCount(name) for name in ("make", "lose")},
    )
    fired = found.tallies["make"] + found.tallies["lose"]
    np.testing.assert_array_equal(found.num_events, fired)
