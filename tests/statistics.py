"""Bounds computed from sampling error, with a stated family-wise failure rate.

Every check turns its comparisons into two-sided normal scores and compares the worst with

    bound = Phi^{-1}(1 - failure_rate / (2 K)),   K = num_comparisons (Bonferroni),

so a correct program fails a whole check with probability at most failure_rate. `slack` is an
absolute allowance for the truth's own error (lost mass, rounding in a file), never for sampling.
NaN fails. Each check has a `samples_needed_...` partner: size tests with it, and give each a twin
that must fail (`assert_holds_and_twin_fails`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]
T = TypeVar("T")
FAILURE_RATE = 2e-5
POWER = 1.0 - 1e-3
MAX_SAMPLES = 10**12
CHI_SQUARE_SAFETY = 3.0


class Budget(TypedDict, total=False):
    """The keywords every check takes."""

    num_comparisons: int | None  # K; default the number of comparisons. More if checks share it
    failure_rate: float  # probability that a correct program fails; default FAILURE_RATE


@dataclass(frozen=True, eq=False)
class CheckResult:
    """The outcome of a check: true in a condition when it holds."""

    worst_z: float  # the largest score; infinite where an exact equality fails
    bound: float  # a correct program exceeds it with the stated failure rate
    scores: Array  # all scores, in the shape of the comparisons
    message: str  # what was compared, and where it was worst

    @property
    def is_ok(self) -> bool:
        """Whether the worst score is within the bound (NaN is not)."""
        return bool(self.worst_z <= self.bound)

    def __bool__(self) -> bool:
        return self.is_ok


def normal_bound(num_comparisons: int = 1, failure_rate: float = FAILURE_RATE) -> float:
    """Phi^{-1}(1 - failure_rate / (2 K)): 4.26 for one comparison, 5.20 for a hundred."""
    return float(stats.norm.isf(failure_rate / (2 * num_comparisons)))


def _bound(
    size: int, num_comparisons: int | None = None, failure_rate: float = FAILURE_RATE
) -> float:
    return normal_bound(num_comparisons or size, failure_rate)


def _result(
    what: str, scores: ArrayLike, detail: ArrayLike, **budget: Unpack[Budget]
) -> CheckResult:
    """Compare scores with the bound; detail (same shape) says what the worst one looked like."""
    z = np.atleast_1d(np.asarray(scores, np.float64))
    bound = _bound(z.size, **budget)
    index = int(np.argmax(np.where(np.isnan(z), np.inf, z)))
    where = tuple(int(i) for i in np.unravel_index(index, z.shape))
    worst = float(z.ravel()[index])
    text = np.broadcast_to(np.asarray(detail, object), z.shape).ravel()[index]
    verdict = "within" if worst <= bound else "OUTSIDE"
    message = f"{what}: worst score {worst:.3f} {verdict} {bound:.3f}, at {where}: {text}"
    return CheckResult(worst, bound, z, message)


def _details(**columns: ArrayLike) -> NDArray[np.object_]:
    """One string 'name=value ...' for each comparison."""
    arrays = np.broadcast_arrays(*(np.asarray(column) for column in columns.values()))
    flat = zip(*(array.ravel() for array in arrays), strict=True)
    text = [" ".join(f"{k}={v:.8g}" for k, v in zip(columns, row, strict=True)) for row in flat]
    return np.asarray(text, object).reshape(arrays[0].shape)


def _score(p_value: ArrayLike) -> Array:
    """The two-sided normal score of a p-value."""
    return np.asarray(stats.norm.isf(np.minimum(p_value, 1.0) / 2.0))


def _skewness(centred: Array) -> Array:
    """Sample skewness along axis 0; 0 where nothing varies."""
    variance = np.mean(centred**2, axis=0)
    third = np.mean(centred**3, axis=0)
    return np.divide(third, variance**1.5, out=np.zeros_like(third), where=variance > 0.0)


def _edgeworth_scores(
    deviation: Array, sd: Array, skewness: Array, n: int, bound: float, *, is_studentised: bool
) -> Array:
    """sqrt(n) |deviation| / sd less the first Edgeworth correction of the bound, two-sided.

    A mean's tail at z is that of z - |g| (z^2 - 1) / (6 sqrt n), a studentised mean's that of
    z - |g| (2 z^2 + 1) / (6 sqrt n); the correction is taken at the bound and on both sides, so
    it is conservative on the light side. Zero sd asks for exact equality.
    """
    z = np.divide(np.sqrt(n) * deviation, sd, out=np.zeros_like(deviation), where=sd > 0.0)
    z = np.where((sd > 0.0) | (deviation == 0.0), z, np.inf)
    if is_studentised:
        z = stats.norm.isf(stats.t.sf(z, n - 1))
    factor = 2.0 * bound**2 + 1.0 if is_studentised else bound**2 - 1.0
    return np.asarray(z - np.abs(skewness) * factor / (6.0 * np.sqrt(n)))


def check_means(
    samples: ArrayLike,
    expected_mean: ArrayLike,
    expected_sd: ArrayLike | None = None,
    *,
    slack: Array | float = 0.0,
    **budget: Unpack[Budget],
) -> CheckResult:
    """Scores sqrt(N) (|mean - mu| - slack) / sigma, corrected for the samples' skewness.

    Where sigma is 0 every sample must equal mu (to the slack). The Edgeworth correction is good
    while |skewness| / sqrt(N) < 0.2; for rarer events use `check_poisson` or `check_proportion`,
    which are exact.

    Args:
        samples: shape (N, ...), along axis 0 independent.
        expected_mean: mu, broadcast to (...).
        expected_sd: sigma of one sample; default the samples' own, with Student's t.
        slack: absolute error allowed in mu.
        **budget: `num_comparisons` and `failure_rate`, see `Budget`.

    Returns:
        The result; `scores` has the shape of the means.
    """
    x = np.asarray(samples, np.float64)
    mean = np.mean(x, axis=0)
    mu = np.broadcast_to(np.asarray(expected_mean, np.float64), mean.shape)
    is_studentised = expected_sd is None
    sd = np.std(x, axis=0, ddof=1) if expected_sd is None else np.asarray(expected_sd, np.float64)
    sd = np.broadcast_to(sd, mean.shape)
    bound = _bound(mean.size, **budget)
    farthest = np.max(np.abs(x - mu), axis=0)
    deviation = np.maximum(np.where(sd > 0.0, np.abs(mean - mu), farthest) - slack, 0.0)
    skewness = np.where(sd > 0.0, _skewness(x - mean), 0.0)
    z = _edgeworth_scores(deviation, sd, skewness, len(x), bound, is_studentised=is_studentised)
    return _result("means", z, _details(mean=mean, expected=mu, sd=sd), **budget)


def check_variances(
    samples: ArrayLike,
    expected_variance: ArrayLike,
    expected_fourth: ArrayLike | None = None,
    *,
    slack: Array | float = 0.0,
    **budget: Unpack[Budget],
) -> CheckResult:
    """Scores sqrt(N) (|S^2 - sigma^2| - slack) / sqrt(mu_4 - sigma^4), less skewness.

    S^2 is treated as the mean of y = (x - mean)^2 N / (N - 1), so no normality is assumed. mu_4
    is the exact fourth central moment where given, else the samples' (and then Student's t).
    Arguments otherwise as `check_means`; zero variance asks for equal samples.
    """
    x = np.asarray(samples, np.float64)
    n = len(x)
    y = (x - np.mean(x, axis=0)) ** 2 * n / (n - 1)
    expected = np.broadcast_to(np.asarray(expected_variance, np.float64), y.shape[1:])
    if expected_fourth is None:
        sd = np.where(expected > 0.0, np.std(y, axis=0, ddof=1), 0.0)
    else:
        excess = np.asarray(expected_fourth, np.float64) - expected**2 * (n - 3) / (n - 1)
        sd = np.sqrt(np.maximum(excess, 0.0))
    variance = np.mean(y, axis=0)
    bound = _bound(variance.size, **budget)
    deviation = np.maximum(np.abs(variance - expected) - slack, 0.0)
    skewness = np.where(sd > 0.0, _skewness(y - variance), 0.0)
    is_studentised = expected_fourth is None
    z = _edgeworth_scores(deviation, sd, skewness, n, bound, is_studentised=is_studentised)
    return _result("variances", z, _details(variance=variance, expected=expected), **budget)


def _pool(pmf: Array, num_samples: float, min_expected: float) -> NDArray[np.int64]:
    """First index of each bin of adjacent counts with at least min_expected expected samples."""
    starts, mass = [0], 0.0
    for count, probability in enumerate(pmf):
        if mass * num_samples >= min_expected:
            starts.append(count)
            mass = 0.0
        mass += probability
    if mass * num_samples < min_expected and len(starts) > 1:
        starts.pop()
    if len(starts) < 2:
        raise ValueError(f"{num_samples:g} samples leave one bin: too few for chi-square")
    return np.asarray(starts)


def check_distribution(
    samples: ArrayLike,
    pmf: ArrayLike,
    *,
    slack: float = 0.0,
    min_expected: float = 10.0,
    **budget: Unpack[Budget],
) -> CheckResult:
    """Pearson's chi-square of counts against a pmf, adjacent counts pooled.

    The statistic is sum_b (O_b - N p_b)^2 / (N p_b) on B - 1 degrees of freedom. Its tail at 2e-5
    is up to 2.3 times the chi-square's (multinomials, 8 to 63 bins, 10 expected), so the p-value
    is tripled. A sample where the pmf is exactly 0 fails; counts beyond it share its missing mass.

    Args:
        samples: shape (N,), counts at least 0.
        pmf: probability of each count 0..K-1.
        slack: total-variation error allowed in the pmf: sqrt(chi2) is lowered by
            sqrt(2 N) slack / sqrt(min_b p_b).
        min_expected: expected samples in a bin, at least.
        **budget: see `Budget`.
    """
    given, p = np.asarray(samples), np.asarray(pmf, np.float64)
    x = np.where(given >= 0, given, 0).astype(np.int64)
    if np.any(x != given) or np.any(p[x[x < p.size]] == 0.0):
        return _result("distribution", np.inf, "a sample of zero probability", **budget)
    observed = np.bincount(np.minimum(x, p.size), minlength=p.size + 1)
    p = np.append(p, max(0.0, 1.0 - p.sum()))
    starts = _pool(p, x.size, min_expected)
    expected, seen = (np.add.reduceat(v, starts) for v in (p * x.size, observed))
    root = np.sqrt(np.sum((seen - expected) ** 2 / expected))
    root = max(0.0, root - slack * x.size * np.sqrt(2.0 / expected.min()))
    z = _score(CHI_SQUARE_SAFETY * stats.chi2.sf(root**2, expected.size - 1))
    detail = f"chi-square {root**2:.6g} on {expected.size - 1} degrees of freedom"
    return _result("distribution", z, detail, **budget)


def check_continuous(
    samples: ArrayLike,
    cdf: Callable[[Array], ArrayLike],
    *,
    slack: float = 0.0,
    **budget: Unpack[Budget],
) -> CheckResult:
    """Kolmogorov-Smirnov with the DKW bound P(sup |F_N - F| > e) <= 2 exp(-2 N e^2).

    Holds for every N and every F, atoms included (a censored time may be inf, with cdf(inf) = 1).
    Massart 1990, doi:10.1214/aop/1176990746. slack is the error allowed in the cdf.
    """
    x, counts = np.unique(np.asarray(samples, np.float64), return_counts=True)
    upper = np.cumsum(counts) / counts.sum()
    before = np.asarray(cdf(np.nextafter(x, -np.inf)))
    gaps = np.stack([upper - np.asarray(cdf(x)), before - (upper - counts / counts.sum())])
    distance = max(float(np.max(gaps)) - slack, 0.0)
    z = _score(2.0 * np.exp(-2.0 * counts.sum() * distance**2))
    return _result("cdf", z, f"distance {distance:.6g}", **budget)


def _exact_result(
    what: str, seen: ArrayLike, low: Any, high: Any, **budget: Unpack[Budget]
) -> CheckResult:
    """Both exact tails: P(X <= seen) under the law `low`, P(X >= seen) under the law `high`."""
    seen = np.asarray(seen)
    tail = np.minimum(low.cdf(seen), high.sf(seen - 1))
    detail = _details(seen=seen, expected=(low.mean() + high.mean()) / 2.0)
    return _result(what, _score(2.0 * tail), detail, **budget)


def check_proportion(
    successes: ArrayLike,
    num_trials: ArrayLike,
    probability: ArrayLike,
    *,
    slack: Array | float = 0.0,
    **budget: Unpack[Budget],
) -> CheckResult:
    """Exact binomial tails: holds where the Clopper-Pearson interval contains the probability.

    Arguments broadcast; slack is the error allowed in the probability (lost mass, say).
    """
    p, n = np.asarray(probability, np.float64), np.asarray(num_trials)
    low = stats.binom(n, np.clip(p - slack, 0.0, 1.0))
    high = stats.binom(n, np.clip(p + slack, 0.0, 1.0))
    return _exact_result("proportion", successes, low, high, **budget)


def check_poisson(
    counts: ArrayLike,
    expected: ArrayLike,
    *,
    slack: Array | float = 0.0,
    **budget: Unpack[Budget],
) -> CheckResult:
    """Exact Poisson tails of total counts against their means; slack is in counts."""
    mean = np.asarray(expected, np.float64)
    low, high = stats.poisson(np.maximum(mean - slack, 0.0)), stats.poisson(mean + slack)
    return _exact_result("Poisson counts", counts, low, high, **budget)


def assert_twin_fails(check: Callable[[T], CheckResult], wrong: T) -> None:
    """Assert that the check sees a wrong expectation (a rate off by 2%, say)."""
    result = check(wrong)
    assert not result.is_ok, f"the check cannot see a wrong truth: {result.message}"


def assert_holds_and_twin_fails(check: Callable[[T], CheckResult], right: T, wrong: T) -> None:
    """Assert that check(right) holds and that its twin, the same check of `wrong`, does not."""
    result = check(right)
    assert result.is_ok, result.message
    assert_twin_fails(check, wrong)


def _smallest(is_enough: Callable[[int], bool]) -> int:
    """The smallest N with is_enough(N), by doubling and bisection."""
    high = 16
    while not is_enough(high):
        high *= 2
        if high > MAX_SAMPLES:
            raise ValueError(f"more than {MAX_SAMPLES:g} samples are needed: there is no effect")
    low = high // 2
    while high - low > max(1, high // 1000):
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def samples_needed(
    effect: ArrayLike,
    sd: ArrayLike,
    wrong_sd: ArrayLike | None = None,
    *,
    skewness: ArrayLike = 0.0,
    power: float = POWER,
    **budget: Unpack[Budget],
) -> int:
    """N at which `check_means` sees a shift of the mean with the given power.

    sqrt(N) effect = (bound + |g| (2 bound^2 + 1) / (6 sqrt N)) sd + z_power wrong_sd, solved for
    N. Of several effects (arrays broadcast) the one easiest to see counts.

    Args:
        effect: |wrong mean - right mean|, less any slack.
        sd: standard deviation of one sample that the check uses.
        wrong_sd: that of the samples when the mean is wrong; default sd.
        skewness: of one sample.
        power: probability of seeing the effect.
        **budget: the check's, see `Budget`; K defaults to 1.

    Example:
        >>> samples_needed(0.02 * 100, 10.0)  # a Poisson mean of 100, 2% off
        1353
    """
    bound, z_power = _bound(1, **budget), stats.norm.ppf(power)
    effect, sd = np.abs(np.asarray(effect, np.float64)), np.asarray(sd, np.float64)
    linear = bound * sd + z_power * np.asarray(sd if wrong_sd is None else wrong_sd)
    constant = np.abs(skewness) * (2.0 * bound**2 + 1.0) / 6.0 * sd
    with np.errstate(divide="ignore", invalid="ignore"):
        root = (linear + np.sqrt(linear**2 + 4.0 * effect * constant)) / (2.0 * effect)
    needed = np.min(np.where(effect > 0.0, root, np.inf)) ** 2
    if not needed < MAX_SAMPLES:
        raise ValueError("no effect to see: right and wrong agree")
    return int(np.ceil(needed))


def samples_needed_for_variances(
    variance: ArrayLike,
    fourth: ArrayLike,
    wrong_variance: ArrayLike,
    wrong_fourth: ArrayLike,
    *,
    skewness: float = 2.0 * 2.0**0.5,
    **options: Any,
) -> int:
    """N at which `check_variances` sees a wrong variance; `fourth` are fourth central moments.

    skewness is that of (x - mean)^2, by default the normal's. Options as `samples_needed`.
    """
    v, w = np.asarray(variance, np.float64), np.asarray(wrong_variance, np.float64)
    sd, wrong_sd = np.sqrt(np.asarray(fourth) - v**2), np.sqrt(np.asarray(wrong_fourth) - w**2)
    return samples_needed(w - v, np.maximum(sd, wrong_sd), wrong_sd, skewness=skewness, **options)


def samples_needed_for_distribution(
    pmf: ArrayLike,
    wrong_pmf: ArrayLike,
    *,
    power: float = POWER,
    min_expected: float = 10.0,
    **budget: Unpack[Budget],
) -> int:
    """N at which `check_distribution` sees wrong_pmf, by the noncentral chi-square."""
    rate = 2.0 * stats.norm.sf(_bound(1, **budget))
    p, q = (np.append(v, max(0.0, 1.0 - np.sum(v))) for v in (pmf, wrong_pmf))

    def is_enough(n: int) -> bool:
        if n * p.max() < 2.0 * min_expected:
            return False
        starts = _pool(p, n, min_expected)
        right, wrong = np.add.reduceat(p, starts), np.add.reduceat(q, starts)
        limit = stats.chi2.isf(rate / CHI_SQUARE_SAFETY, right.size - 1)
        shift = n * np.sum((wrong - right) ** 2 / right)
        return bool(stats.ncx2.sf(limit, right.size - 1, shift) >= power)

    return _smallest(is_enough)


def samples_needed_for_continuous(
    distance: float,
    *,
    power: float = POWER,
    **budget: Unpack[Budget],
) -> int:
    """N at which `check_continuous` sees a cdf wrong by `distance` somewhere (Hoeffding there).

    sqrt(2 N) distance = sqrt(log(2 K / failure_rate)) + sqrt(log(1 / (1 - power))).
    """
    roots = np.sqrt(-stats.norm.logsf(_bound(1, **budget))) + np.sqrt(-np.log1p(-power))
    return int(np.ceil((roots / distance) ** 2 / 2.0))


def samples_needed_for_proportion(
    probability: float,
    wrong: float,
    *,
    power: float = POWER,
    **budget: Unpack[Budget],
) -> int:
    """N at which `check_proportion` sees a wrong probability, from the exact binomial."""
    tail = stats.norm.sf(_bound(1, **budget))

    def is_enough(n: int) -> bool:
        right, other = stats.binom(n, probability), stats.binom(n, wrong)
        if wrong > probability:
            return bool(other.sf(right.isf(tail)) >= power)
        return bool(other.cdf(right.ppf(tail) - 1) >= power)

    return _smallest(is_enough)


class DsmtsScore(NamedTuple):
    """Points of a published stochastic SBML case outside the ranges, and the worst of each."""

    num_points: int
    num_outside_mean: int
    num_outside_sd: int
    worst_mean: float
    worst_sd: float


def score_dsmts(
    samples: ArrayLike,
    expected_mean: ArrayLike,
    expected_sd: ArrayLike,
    *,
    mean_range: float = 3.0,
    sd_range: float = 5.0,
    slack: float = 0.0,
) -> DsmtsScore:
    """The stochastic SBML suite's rule (Evans et al. 2008, doi:10.1093/bioinformatics/btm566).

    Z_t = sqrt(n) (mean_t - mu_t) / sigma_t in (-3, 3) and Y_t = sqrt(n / 2) (S_t^2 / sigma_t^2 -
    1) in (-5, 5), S_t^2 = sum (x - mu_t)^2 / n. Where sigma is 0 all samples must equal mu. In
    the whole suite at n = 10,000 two or three means and five or six sds outside are normal.
    samples are (n, ...), mu and sigma (...); `slack` is the rounding of mu and sigma in the file
    and lowers both deviations.
    """
    x, n = np.asarray(samples, np.float64), len(np.asarray(samples))
    mu, sigma = np.asarray(expected_mean, np.float64), np.asarray(expected_sd, np.float64)
    exact = np.where(np.all(np.abs(x - mu) <= slack, axis=0), 0.0, np.inf)
    safe = np.where(sigma > 0.0, sigma, 1.0)
    shift = np.maximum(np.abs(x.mean(axis=0) - mu) - slack, 0.0)
    spread = np.maximum(np.abs(np.mean((x - mu) ** 2, axis=0) - sigma**2) - 2 * slack * sigma, 0.0)
    z = np.where(sigma > 0.0, np.sqrt(n) * shift / safe, exact)
    y = np.where(sigma > 0.0, np.sqrt(n / 2.0) * spread / safe**2, exact)
    outside = (int(np.sum(~(z < mean_range))), int(np.sum(~(y < sd_range))))
    return DsmtsScore(z.size, *outside, float(z.max()), float(y.max()))
