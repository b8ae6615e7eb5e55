"""Poisson and normal numbers against their laws."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from engine.kernel import random
from engine.kernel.poisson import normal, poisson
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_continuous,
    check_distribution,
    check_means,
    check_variances,
)

NUM = 400_000
Array = np.ndarray


def bits(num: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 2**32, num, dtype=np.uint32)


def samples(mean: float) -> Array:
    means = jnp.full(NUM, mean, jnp.float32)
    (found,) = poisson(True, [means], [jnp.asarray(bits(NUM, int(100 * mean) % 1000))])
    assert found.dtype == jnp.int32
    return np.asarray(found, np.float64)


@pytest.mark.parametrize("mean", [0.01, 0.3, 1.0, 4.9, 5.0, 7.0, 12.0, 60.0, 700.0])
def test_distribution(mean: float) -> None:
    """Exact below the threshold of 5, within 2e-4 in all above: too little for this size to see."""
    found = samples(mean)
    pmf = stats.poisson.pmf(np.arange(int(mean + 20 * np.sqrt(mean) + 20)), mean)
    other = stats.poisson.pmf(np.arange(pmf.size), 1.02 * mean)
    if mean > 0.1:
        assert_holds_and_twin_fails(lambda p: check_distribution(found, p), pmf, other)
    assert check_means(found, mean, np.sqrt(mean), slack=4e-5 * mean)
    assert check_variances(found, mean, slack=5e-4 * mean)


def thresholds(mean: float) -> list[tuple[float, float]]:
    """Of every count up to 20 the exact chance of reaching it, and that of our numbers.

    A number falls with v, the uniform that its bits stand for; where it does so is found by
    bisection over all words.
    """

    def reached(words: Array) -> Array:
        means = jnp.full(len(words), mean, jnp.float32)
        (found,) = poisson(True, [means], [jnp.asarray(words, jnp.uint32)])
        return np.asarray(found)

    counts = np.arange(1, 21)
    low, high = np.zeros(20, np.int64) - 1, np.full(20, 2**32, np.int64)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        is_reached = reached(np.clip(middle, 0, 2**32 - 1).astype(np.uint32)) >= counts
        low, high = np.where(is_reached, middle, low), np.where(is_reached, high, middle)
    exact = stats.poisson.sf(counts - 1, float(np.float32(mean)))
    return list(zip(exact, high * 2.0**-32, strict=True))


@pytest.mark.parametrize("mean", [1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 0.01, 0.1, 0.3, 1.0, 3.0, 4.99])
def test_small_means_to_their_tails(mean: float) -> None:
    """Every count is reached as often as it should be, to 4e-6, and never too often by 2e-7.

    Rare first firings are as frequent as their mean, which no sample could tell.
    """
    chances = thresholds(mean)
    for exact, found in chances:
        assert -4e-6 <= found - exact <= 2e-7
    first, found = chances[0]
    assert found == pytest.approx(first, rel=4e-6, abs=2.0**-31)
    if mean >= 1e-5:
        wrong = stats.poisson.sf(0, 1.001 * mean)
        assert found != pytest.approx(wrong, rel=4e-6, abs=2.0**-31)


@pytest.mark.parametrize("mean", [1e5, 1e7])
def test_large_means(mean: float) -> None:
    """The noise stays right where float32 counts in steps."""
    found = samples(mean)
    noise = (found - float(np.float32(mean))) / np.sqrt(mean)
    assert_holds_and_twin_fails(lambda m: check_means(noise, m, 1.0, slack=3e-4), 0.0, 0.02)
    assert check_variances(noise, 1.0, slack=1e-3)


def test_edges() -> None:
    """Nothing fires at a mean of zero, for any bits; the extreme bits give finite numbers."""
    extreme = jnp.asarray(np.array([0, 1, 2**32 - 1, 2**31], np.uint32))
    for mean in (0.0, 1e-30, 3.0, 8.0, 1e9):
        (found,) = poisson(True, [jnp.full(4, mean, jnp.float32)], [extreme])
        assert np.all(np.asarray(found) >= 0)
        if mean < 1e-20:
            assert np.all(np.asarray(found) == 0)
    assert np.all(np.isfinite(np.asarray(normal(extreme))))


def test_lanes_do_not_see_each_other() -> None:
    """A lane's number is its own, whatever its neighbours wait for."""
    means = np.random.default_rng(1).uniform(0, 20, 64).astype(np.float32)
    words = bits(64, 9)
    (together,) = poisson(True, [jnp.asarray(means)], [jnp.asarray(words)])
    alone = [
        int(poisson(True, [jnp.asarray(means[i : i + 1])], [jnp.asarray(words[i : i + 1])])[0][0])
        for i in range(64)
    ]
    np.testing.assert_array_equal(together, alone)


def test_normal() -> None:
    found = np.asarray(normal(jnp.asarray(bits(NUM, 4))), np.float64)
    assert_holds_and_twin_fails(
        lambda sd: check_continuous(found, lambda x: stats.norm.cdf(x / sd)), 1.0, 1.02
    )
    assert np.abs(found).max() < 5.5
    state = tuple(jnp.asarray(bits(1000, s)) for s in range(4))
    word, _ = random.draw(state)
    assert check_means(np.asarray(normal(word), np.float64), 0.0, 1.0)
