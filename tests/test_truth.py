"""The truth and the statistics, against each other and against a plain NumPy simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg, stats

from tests import exact, statistics

Array = NDArray[np.float64]
NETWORK = [[1, 0], [-2, 1], [2, -1], [-1, 0]]  # 0 -> A, 2A -> B, B -> 2A, A -> 0
RATES = np.array([6.0, 0.2, 0.5, 0.8])
START = (3, 2)
TS = np.array([0.0, 0.5, 2.0])
LEVEL = 10  # of A, for first passage
NUM_SAMPLES = 20_000


def propensities(rates: Array) -> Callable[[Array, float], Array]:
    """The four propensities of NETWORK."""

    def propensity(x: Array, t: float) -> Array:
        a, b = x.T
        return rates * np.stack([np.ones_like(a), a * (a - 1) / 2, b, a], axis=1)

    return propensity


def project(scale: float = 1.0) -> exact.FiniteStateProjection:
    """The master equation of NETWORK with the immigration rate scaled."""
    rates = RATES * np.array([scale, 1.0, 1.0, 1.0])
    return exact.FiniteStateProjection(NETWORK, propensities(rates), (32, 16), START)


class Paths(NamedTuple):
    """What the plain simulation records of each path, N first."""

    counts: Array
    area: Array
    num_firings: Array
    maximum: Array
    passage: Array


def simulate(num: int, rng: np.random.Generator) -> Paths:
    """Gillespie's direct method for NETWORK, lanes side by side, to the last save time."""
    jumps, propensity = np.asarray(NETWORK), propensities(RATES)
    t, x = np.zeros(num), np.tile(np.asarray(START, float), (num, 1))
    counts, area, firings = np.zeros((num, TS.size, 2)), np.zeros(num), np.zeros((num, 4))
    maximum, passage = x[:, 0].copy(), np.full(num, np.inf)
    while np.any(t < TS[-1]):
        rates = propensity(x, 0.0)
        after = t + rng.standard_exponential(num) / rates.sum(axis=1)
        for k, save in enumerate(TS):
            is_here = (t <= save) & (save < after)
            counts[is_here, k] = x[is_here]
        area += x[:, 0] * np.maximum(np.minimum(after, TS[-1]) - t, 0.0)
        threshold = rng.random(num) * rates.sum(axis=1)
        chosen = np.minimum((threshold[:, None] >= np.cumsum(rates, axis=1)).sum(axis=1), 3)
        is_event = after < TS[-1]
        x[is_event] += jumps[chosen[is_event]]
        firings[is_event, chosen[is_event]] += 1
        maximum = np.maximum(maximum, x[:, 0])
        passage = np.where((x[:, 0] >= LEVEL) & np.isinf(passage), after, passage)
        t = after
    return Paths(counts, area, firings, maximum, passage)


@pytest.fixture(scope="module")
def paths() -> Paths:
    """One ensemble for all the checks."""
    return simulate(NUM_SAMPLES, np.random.default_rng(20240501))


# The truth against closed forms.


@pytest.mark.parametrize("birth, death", [(0.3, 0.5), (0.4, 0.4), (0.5, 0.3)])
def test_birth_death(birth: float, death: float) -> None:
    fsp = exact.FiniteStateProjection(
        [[1], [-1]], lambda x, t: x * [birth, death], upper=(250,), x0=(5,)
    )
    distribution = fsp.distribution(TS)
    moments = exact.birth_death_moments(5, birth, death, TS)
    np.testing.assert_allclose(distribution.means()[:, 0], moments.mean, rtol=1e-11)
    np.testing.assert_allclose(distribution.variances()[:, 0], moments.variance, atol=1e-9)
    extinct = exact.birth_death_extinction_cdf(5, birth, death, TS)
    np.testing.assert_allclose(distribution.marginal(0)[:, 0], extinct, atol=1e-12)
    passage = fsp.first_passage_cdf(TS, lambda x: x[:, 0] == 0)
    np.testing.assert_allclose(passage.lower, extinct, atol=1e-12)
    assert passage.lost.max() < 1e-12


@pytest.mark.parametrize("breakpoints", [None, ()])
def test_immigration_death(breakpoints: tuple[float, ...] | None) -> None:
    fsp = exact.FiniteStateProjection(
        [[1], [-1]], lambda x, t: np.c_[4.0 + 0 * x, 0.7 * x], (60,), (8,), breakpoints
    )
    distribution = fsp.distribution(TS)
    moments = exact.immigration_death_moments(8, 4.0, 0.7, TS)
    np.testing.assert_allclose(distribution.means()[:, 0], moments.mean, rtol=1e-9)
    np.testing.assert_allclose(distribution.variances()[:, 0], moments.variance, atol=1e-8)
    for t, pmf in zip(TS, distribution.marginal(0), strict=True):
        np.testing.assert_allclose(pmf, exact.immigration_death_pmf(8, 4.0, 0.7, t, 60), atol=1e-10)
    means, covariances = exact.affine_moments([[1], [-1]], [4.0, 0.0], [[0.0], [0.7]], [8], TS)
    np.testing.assert_allclose(means[:, 0], moments.mean, rtol=1e-12)
    np.testing.assert_allclose(covariances[:, 0, 0], moments.variance, atol=1e-12)


def test_batch_immigration() -> None:
    fsp = exact.FiniteStateProjection(
        [[5], [-1]], lambda x, t: np.c_[1.2 + 0 * x, 0.6 * x], upper=(120,), x0=(0,)
    )
    distribution, moments = fsp.distribution(TS), exact.batch_immigration_moments(1.2, 5, 0.6, TS)
    np.testing.assert_allclose(distribution.means()[:, 0], moments.mean, atol=1e-9)
    np.testing.assert_allclose(distribution.variances()[:, 0], moments.variance, atol=1e-7)


def test_dimerisation_by_brute_force() -> None:
    c, d = 0.3, 0.7
    fsp = exact.FiniteStateProjection(
        [[-2, 1], [2, -1]],
        lambda x, t: np.c_[c * x[:, 0] * (x[:, 0] - 1) / 2, d * x[:, 1]],
        upper=(6, 6),
        x0=(6, 0),
    )
    assert fsp.states.tolist() == [[0, 3], [2, 2], [4, 1], [6, 0]]
    generator = np.array(  # columns: from (0, 3), (2, 2), (4, 1), (6, 0)
        [
            [-3 * d, c, 0, 0],
            [3 * d, -c - 2 * d, 6 * c, 0],
            [0, 2 * d, -6 * c - d, 15 * c],
            [0, 0, d, -15 * c],
        ]
    )
    expected = np.stack([linalg.expm(generator * t)[:, 3] for t in TS])
    distribution = fsp.distribution(TS)
    np.testing.assert_allclose(distribution.probabilities, expected, atol=1e-13)
    assert not distribution.lost.any()
    covariances = distribution.covariances()  # A + 2 B is conserved
    np.testing.assert_allclose(covariances[:, 0, 1], -2 * covariances[:, 1, 1], atol=1e-12)


def test_lost_mass_is_what_left_the_box() -> None:
    fsp = exact.FiniteStateProjection([[1]], lambda x, t: 3.0 + 0 * x, upper=(9,), x0=(0,))
    np.testing.assert_allclose(fsp.distribution(TS).lost, stats.poisson.sf(9, 3 * TS), atol=1e-13)
    reached = fsp.maximum_survival(TS, lambda x: x[:, 0], [2, 9])
    expected = stats.poisson.sf([1, 8], 3 * TS[:, None])
    np.testing.assert_allclose(reached.lower, expected, atol=1e-13)
    assert not reached.lost.any()


def test_inhomogeneous_poisson_and_immigration_death() -> None:
    def intensity(t: float) -> float:
        return 2.0 * (1.5 * np.exp(-0.3 * t) + 0.5 * np.exp(-2 * t)) + 5.0 * (t >= 1.3)

    def propensity(x: Array, t: float) -> Array:
        return np.c_[intensity(t) + 0 * x, 0.9 * x]

    fsp = exact.FiniteStateProjection([[1], [-1]], propensity, (50,), (4,), (1.3,))
    late = exact.inhomogeneous_immigration_death_moments(
        intensity, 0.9, 2.0, x0=4, breakpoints=(1.3,)
    )
    distribution = fsp.distribution(TS)
    np.testing.assert_allclose(distribution.means()[-1, 0], late.mean, rtol=1e-8)
    np.testing.assert_allclose(distribution.variances()[-1, 0], late.variance, rtol=1e-8)
    arrivals = exact.inhomogeneous_poisson_mean(2.0, [1.5, 0.5], [0.3, 2.0], TS)
    arrivals += 5.0 * np.maximum(TS - 1.3, 0.0)
    tally = fsp.firing_counts(TS)
    np.testing.assert_allclose(tally.mean[:, 0], arrivals, atol=1e-8)
    np.testing.assert_allclose(tally.variance[:, 0], arrivals, atol=1e-7)


def test_tallies_of_pure_death() -> None:
    """The area is a sum of min(lifetime, t); the deaths are binomial."""
    death, x0 = 0.8, 7
    fsp = exact.FiniteStateProjection([[-1]], lambda x, t: death * x, upper=(7,), x0=(x0,))
    alive = np.exp(-death * TS)
    mean = (1 - alive) / death
    square = 2 * (1 - alive * (1 + death * TS)) / death**2
    area = fsp.time_integral(TS, lambda x: 3.0 * x[:, 0])
    np.testing.assert_allclose(area.mean, 3 * x0 * mean, atol=1e-12)
    np.testing.assert_allclose(area.variance, 9 * x0 * (square - mean**2), atol=1e-10)
    occupied = fsp.time_integral(TS, lambda x: x[:, 0] == x0)
    np.testing.assert_allclose(occupied.mean, (1 - alive**x0) / (death * x0), atol=1e-12)
    deaths = fsp.firing_counts(TS)
    np.testing.assert_allclose(deaths.mean[:, 0], x0 * (1 - alive), atol=1e-12)
    np.testing.assert_allclose(deaths.variance[:, 0], x0 * alive * (1 - alive), atol=1e-11)


def test_affine_moments_of_two_species() -> None:
    """Transcription, translation, decay of both."""
    jumps, constant = [[1, 0], [0, 1], [-1, 0], [0, -1]], np.array([1.0, 0, 0, 0])
    linear = np.array([[0, 0], [1.5, 0], [1.0, 0], [0, 0.6]])
    fsp = exact.FiniteStateProjection(
        jumps, lambda x, t: constant + x @ linear.T, upper=(14, 45), x0=(1, 2)
    )
    distribution = fsp.distribution(TS)
    means, covariances = exact.affine_moments(jumps, constant, linear, [1, 2], TS)
    np.testing.assert_allclose(distribution.means(), means, atol=1e-7)
    np.testing.assert_allclose(distribution.covariances(), covariances, atol=1e-6)


def test_a_wrong_propensity_is_refused() -> None:
    for propensity, message in [
        (lambda x, t: 1.0 + 0 * x, "makes a count negative"),
        (lambda x, t: -x, "negative or not finite"),
        (lambda x, t: np.ones(3), "expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            exact.FiniteStateProjection([[-1]], propensity, (3,), (3,)).distribution([1.0])


# The statistics: stated failure rate, stated power.

NUM_REPEATS = 4000
RATE = 0.01


def assert_rate(is_failed: NDArray[np.bool_], *, lowest: float) -> None:
    """The observed failure rate may not exceed RATE, nor lie below `lowest` (a dead check)."""
    num = np.sum(is_failed)
    assert stats.binom.sf(num - 1, is_failed.size, RATE) > 1e-5, f"{num} of {is_failed.size}"
    assert stats.binom.cdf(num, is_failed.size, lowest) > 1e-5, f"{num} of {is_failed.size}"


@pytest.mark.parametrize("sd", [3.0**0.5, None])
def test_failure_rate_of_means(sd: float | None) -> None:
    x = np.random.default_rng(1).poisson(3.0, (400, NUM_REPEATS))
    result = statistics.check_means(x, 3.0, sd, num_comparisons=1, failure_rate=RATE)
    assert_rate(result.scores > result.bound, lowest=0.3 * RATE)


@pytest.mark.parametrize("fourth", [3.0 + 3 * 9.0, None])
def test_failure_rate_of_variances(fourth: float | None) -> None:
    x = np.random.default_rng(2).poisson(3.0, (1000, NUM_REPEATS))
    result = statistics.check_variances(x, 3.0, fourth, num_comparisons=1, failure_rate=RATE)
    assert_rate(result.scores > result.bound, lowest=0.2 * RATE)


def test_failure_rate_of_distributions() -> None:
    rng, pmf = np.random.default_rng(3), stats.poisson.pmf(np.arange(30), 3.0)
    x, u = rng.poisson(3.0, (NUM_REPEATS // 4, 500)), rng.random((NUM_REPEATS // 4, 500))
    chi = [statistics.check_distribution(row, pmf, failure_rate=RATE).is_ok for row in x]
    assert_rate(~np.asarray(chi), lowest=0.2 * RATE)
    ks = [statistics.check_continuous(row, lambda v: v, failure_rate=RATE).is_ok for row in u]
    assert_rate(~np.asarray(ks), lowest=0.3 * RATE)


def test_failure_rate_of_exact_tails() -> None:
    rng = np.random.default_rng(4)
    options = statistics.Budget(num_comparisons=1, failure_rate=RATE)
    seen = rng.binomial(900, 0.03, NUM_REPEATS)
    result = statistics.check_proportion(seen, 900, 0.03, **options)
    assert_rate(result.scores > result.bound, lowest=0.2 * RATE)
    result = statistics.check_poisson(rng.poisson(20.0, NUM_REPEATS), 20.0, **options)
    assert_rate(result.scores > result.bound, lowest=0.2 * RATE)


def assert_power(is_seen: NDArray[np.bool_]) -> None:
    """The share of wrong truths seen is not below the stated power."""
    assert stats.binom.cdf(np.sum(is_seen), is_seen.size, statistics.POWER) > 1e-5


def test_power_of_means_and_variances() -> None:
    """Poisson of mean 100 against a truth 2% (mean) and 20% (variance) off."""
    rng, right, wrong = np.random.default_rng(5), 100.0, 102.0
    num = statistics.samples_needed(wrong - right, wrong**0.5, right**0.5, skewness=0.1)
    assert 1000 < num < 2000
    x = rng.poisson(right, (num, 500))
    result = statistics.check_means(x, wrong, wrong**0.5, num_comparisons=1)
    assert_power(result.scores > result.bound)
    fourth = right + 3 * right**2
    num = statistics.samples_needed_for_variances(1.2 * right, 1.44 * fourth, right, fourth)
    result = statistics.check_variances(
        rng.poisson(right, (num, 500)), 1.2 * right, num_comparisons=1
    )
    assert_power(result.scores > result.bound)


def test_power_of_distributions_and_proportions() -> None:
    rng, n = np.random.default_rng(6), np.arange(200)
    pmf, wrong = stats.poisson.pmf(n, 100.0), stats.poisson.pmf(n, 102.0)
    num = statistics.samples_needed_for_distribution(wrong, pmf)
    draws = rng.poisson(100.0, (200, num))
    assert_power(np.asarray([not statistics.check_distribution(x, wrong) for x in draws]))
    num = statistics.samples_needed_for_continuous(0.05)
    cdf = stats.uniform(0.05, 1.0).cdf
    assert_power(
        np.asarray([not statistics.check_continuous(x, cdf) for x in rng.random((200, num))])
    )
    num = statistics.samples_needed_for_proportion(0.3 * 1.02, 0.3)
    seen = rng.binomial(num, 0.3, 1000)
    result = statistics.check_proportion(seen, num, 0.3 * 1.02, num_comparisons=1)
    assert_power(result.scores > result.bound)


def test_degenerate_samples() -> None:
    same = np.full((10, 2), 3.0)
    assert statistics.check_means(same, [3.0, 3.0], [0.0, 1.0])
    assert statistics.check_means(same, 3.0 + 1e-9, 0.0, slack=1e-8)
    assert statistics.check_variances(same, 0.0)
    one_off = same + np.eye(10, 2)
    for failing in [
        statistics.check_means(one_off, np.mean(one_off, axis=0), 0.0),
        statistics.check_means(np.where(one_off > 3, np.nan, 3.0), 3.0, 1.0),
        statistics.check_variances(one_off, 0.0),
        statistics.check_variances(np.where(one_off > 3, np.nan, 3.0), 1.0),
        statistics.check_distribution(np.r_[np.zeros(50), np.ones(50), 2], [0.5, 0.5, 0.0]),
        statistics.check_distribution(np.r_[np.zeros(50), np.ones(50), np.nan], [0.5, 0.5]),
        statistics.check_continuous(np.r_[np.linspace(0, 1, 20), np.nan], lambda v: v),
        statistics.check_poisson(1, 0.0),
    ]:
        assert not failing.is_ok, failing.message
    with pytest.raises(TypeError):
        statistics.check_means(same, 3.0, 0.0, failure_rat=0.1)  # type: ignore[call-arg]


# The plain simulation against the master equation, each check with its twin.


def test_simulated_counts(paths: Paths) -> None:
    right, wrong = project().distribution(TS), project(1.02 * 1.02).distribution(TS)
    assert right.lost.max() < 1e-9
    effect = wrong.means()[-1, 0] - right.means()[-1, 0]
    sd = right.variances()[-1, 0] ** 0.5
    assert statistics.samples_needed(effect, sd, skewness=1.0, num_comparisons=6) < NUM_SAMPLES
    statistics.assert_holds_and_twin_fails(
        lambda d: statistics.check_means(paths.counts, d.means(), d.variances() ** 0.5, slack=1e-6),
        right,
        wrong,
    )
    statistics.assert_holds_and_twin_fails(
        lambda v: statistics.check_variances(paths.counts, v, slack=1e-6),
        right.variances(),
        right.variances() * 1.1,
    )


@pytest.mark.parametrize("species", [0, 1])
def test_simulated_distributions(paths: Paths, species: int) -> None:
    statistics.assert_holds_and_twin_fails(
        lambda d: statistics.check_distribution(
            paths.counts[:, -1, species], d.marginal(species)[-1], slack=1e-9
        ),
        project().distribution(TS),
        project(1.1).distribution(TS),
    )


@pytest.mark.parametrize("name", ["area", "num_firings"])
def test_simulated_tallies(paths: Paths, name: str) -> None:
    def tally(fsp: exact.FiniteStateProjection) -> exact.Tally:
        if name == "area":
            return fsp.time_integral(TS[-1:], lambda x: x[:, 0])
        return fsp.firing_counts(TS[-1:])

    samples = getattr(paths, name).reshape(NUM_SAMPLES, -1)
    right, wrong = tally(project()), tally(project(1.03))
    statistics.assert_holds_and_twin_fails(
        lambda y: statistics.check_means(samples, y.mean.ravel(), y.variance.ravel() ** 0.5),
        right,
        wrong,
    )
    variance = right.variance.ravel()
    statistics.assert_holds_and_twin_fails(
        lambda v: statistics.check_variances(samples, v), variance, 1.1 * variance
    )


def test_simulated_first_passage_and_maximum(paths: Paths) -> None:
    fsps = project(), project(1.05)
    cdfs = [fsp.first_passage_cdf(TS, lambda x: x[:, 0] >= LEVEL) for fsp in fsps]
    reached = (paths.passage[:, None] <= TS).sum(axis=0)
    statistics.assert_holds_and_twin_fails(
        lambda p: statistics.check_proportion(reached, NUM_SAMPLES, p.lower, slack=1e-9), *cdfs
    )
    levels = np.arange(3, 20)
    survivals = [fsp.maximum_survival(TS[-1:], lambda x: x[:, 0], levels) for fsp in fsps]
    above = (paths.maximum[:, None] >= levels).sum(axis=0)
    statistics.assert_holds_and_twin_fails(
        lambda p: statistics.check_proportion(above, NUM_SAMPLES, p.lower[0], slack=1e-9),
        *survivals,
    )


def test_dsmts_score(paths: Paths) -> None:
    distribution = project().distribution(TS)
    mean, sd = distribution.means(), distribution.variances() ** 0.5
    score = statistics.score_dsmts(paths.counts, mean, sd, slack=1e-6)
    assert score[:3] == (6, 0, 0), score
    assert statistics.score_dsmts(paths.counts, 1.05 * mean, sd).num_outside_mean == 6
    assert statistics.score_dsmts(paths.counts, mean, 1.1 * sd, slack=1e-6).num_outside_sd == 4
