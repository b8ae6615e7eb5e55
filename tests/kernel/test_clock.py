"""Times as pairs of float32, and the countdown that does not stall."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import engine
from engine.kernel import clock
from tests.simulation import network, run
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_distribution,
    check_poisson,
    check_variances,
)

Array = np.ndarray


def pair(values: object) -> clock.Time:
    high, low = clock.split(np.asarray(values, np.float64))
    return clock.Time(jnp.asarray(high), jnp.asarray(low))


def number(time: clock.Time) -> Array:
    return np.asarray(time.high, np.float64) + np.asarray(time.low, np.float64)


def test_split_keeps_48_bits() -> None:
    values = np.random.default_rng(1).uniform(0, 1, 1000) * 10.0 ** np.arange(-5, 5).repeat(100)
    error = np.abs(number(pair(values)) - values)
    assert np.all(error <= 2.0**-48 * values)
    high, low = clock.split(np.array([np.inf, 0.0]))
    assert np.isinf(high[0]) and low[0] == 0 and high[1] == 0


def test_order_beyond_float32() -> None:
    a, b = pair([4096.0, 0.3, 1.0]), pair([4096.0 + 1e-6, 0.3, 2.0])
    np.testing.assert_array_equal(clock.is_before(a, b), [True, False, True])
    np.testing.assert_array_equal(clock.is_same(a, b), [False, True, False])
    np.testing.assert_array_equal(number(clock.earlier(b, a)), number(a))
    never = pair([np.inf, np.inf, np.inf])
    np.testing.assert_array_equal(clock.is_same(never, never), [False] * 3)
    assert np.all(np.isinf(np.asarray(clock.difference(never, a))))
    np.testing.assert_allclose(clock.difference(b, a), [1e-6, 0.0, 1.0], rtol=1e-6)


def test_shift_is_exact() -> None:
    rng = np.random.default_rng(2)
    start, delta = rng.uniform(0, 1e4, 1000), rng.uniform(-1, 1, 1000).astype(np.float32)
    moved = clock.shift(pair(start), jnp.asarray(delta))
    expected = start + delta.astype(np.float64)
    assert np.all(np.abs(number(moved) - expected) <= 2.0**-46 * start)
    assert np.all(np.abs(np.asarray(moved.low)) <= np.spacing(np.asarray(moved.high)) / 2)


def test_due_up_to_rounding() -> None:
    """1 + 0.3 as a sum of pairs is due at 1.3; what is really later is not."""
    one = clock.shift(clock.shift(pair(1.0), jnp.float32(0.3)), pair(0.3).low)
    for now, due in ((pair(1.3), one), (one, pair(1.3)), (pair(0.0), pair(0.0))):
        assert clock.has_come(now, due)
    assert not clock.has_come(pair(1.3), pair(1.3 + 1e-9))
    assert not clock.has_come(pair(1e30), pair(np.inf))
    assert clock.has_come(pair(2.0), pair(1.0))


@pytest.mark.full
def test_fast_process_over_a_long_horizon() -> None:
    """Rate 4e3 to t = 4096 in one segment: a float32 clock, of 5e-4 there, would gain events."""
    model = network({"X": 0}, [("0 -> X", 4e3)])
    num, end = 4, 4096.0
    e = run(model, [end], num, seed=5)
    mean = num * 4e3 * end
    assert_holds_and_twin_fails(
        lambda m: check_poisson(float(e["X"].sum()), m), mean, mean * (1 + 1e-2)
    )


def test_counts_far_from_zero_are_poisson() -> None:
    """Windows of 0.1 at t = 4096 beside a rate of 1e4: 1000 events are due in each.

    An absolute float32 clock gave 2320.
    """
    late = network({"X": 0}, [("0 -> X", engine.Formula("1e4 * (time > 4095.9)"))])
    # A save time before the switch spares the direct method to look across it from afar.
    e = run(late, np.append(4095.8, 4096.0 + 0.1 * np.arange(1, 42)), 40, seed=6)
    counts = np.diff(e["X"][:, 1:], axis=1).ravel()
    assert_holds_and_twin_fails(
        lambda m: check_distribution(counts, stats.poisson.pmf(np.arange(2000), m)),
        1000.0,
        1020.0,
    )
    assert check_variances(counts, 1000.0)
