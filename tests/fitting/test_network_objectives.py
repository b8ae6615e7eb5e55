"""Objectives on arrays of our own networks, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import engine
from engine.fitting.fisher import fisher_information
from engine.fitting.linear_noise_objective import LinearNoiseObjective
from engine.fitting.moment_objective import MomentObjective
from engine.fitting.network_objective import CourseObjective
from engine.fitting.population import two_stage
from engine.optimise import likelihoods
from engine.optimise.gauss_newton import GaussNewton
from engine.optimise.multi_start import multi_start
from engine.optimise.space import Bounded, Space
from engine.optimise.transforms import Log10

TS = np.array([0.5, 1.0, 2.0, 4.0])


def network():
    """Immigration and death: Poisson at every time when it starts empty."""
    return engine.ReactionNetwork(
        species={"X": 0},
        parameters={"birth": 40.0, "death": 0.8},
        reactions=[
            engine.Reaction("0 -> X", engine.MassAction("birth")),
            engine.Reaction("X -> 0", engine.MassAction("death")),
        ],
        assignment_rules={"double": "2 * X"},
        name="immigration",
    )


def mean_at(birth, death, t=TS):
    return birth / death * (1.0 - np.exp(-death * t))


SPACE = Space([Bounded("birth", 1.0, 1e3, Log10()), Bounded("death", 0.01, 10.0, Log10())])
AT = {"birth": 50.0, "death": 1.1}


@pytest.mark.parametrize(
    ("likelihood", "density"),
    [
        (likelihoods.Gaussian(), lambda p, s: stats.norm(p, s)),
        (likelihoods.LogNormal(), lambda p, s: stats.lognorm(s, scale=p)),
        (likelihoods.Laplace(), lambda p, s: stats.laplace(p, s)),
    ],
)
def test_likelihoods_are_the_densities(likelihood, density):
    with jax.enable_x64(True):
        found = likelihood.negative_log(jnp.asarray(2.5), jnp.asarray(1.7), jnp.asarray(0.6))
    assert float(found) == pytest.approx(-density(1.7, 0.6).logpdf(2.5), rel=1e-12)


def test_a_course_is_the_closed_form_and_its_fit_the_truth():
    data = {"X": mean_at(40.0, 0.8), "double": 2.0 * mean_at(40.0, 0.8)}
    data["X"] = data["X"].copy()
    data["X"][1] = np.nan
    space = Space([*SPACE.parameters, Bounded("sd", 0.01, 100.0, Log10())])
    objective = CourseObjective(network(), space, TS, data, {"X": 2.0, "double": "sd"})
    point = space.to_point(AT | {"sd": 3.0})
    away = mean_at(50.0, 1.1) - mean_at(40.0, 0.8)
    seen = np.array([0, 2, 3])
    expected = -stats.norm(0, 2.0).logpdf(away[seen]).sum()
    expected -= stats.norm(0, 3.0).logpdf(2 * away).sum()
    with jax.enable_x64(True):
        local = jax.jit(objective.local)(jnp.asarray(point))
    assert float(local.value) == pytest.approx(expected, rel=1e-7)
    fits = multi_start(objective, GaussNewton(), point[None])
    found = space.to_mapping(fits.points[0])
    assert found["birth"] == pytest.approx(40.0, rel=1e-4)
    assert found["sd"] == pytest.approx(0.01, rel=1e-3)  # no noise: at its bound


@pytest.mark.full
def test_linear_noise_is_exact_for_moments_of_a_linear_network():
    rng = np.random.default_rng(8)
    cells = {"X": [rng.poisson(m, size=400) for m in mean_at(40.0, 0.8)]}
    objective = LinearNoiseObjective(network(), SPACE, TS, cells)
    point = SPACE.to_point(AT)
    with jax.enable_x64(True):
        local = jax.jit(objective.local)(jnp.asarray(point))

    def truth(birth, death):
        means = mean_at(birth, death)
        pairs = zip(cells["X"], means, strict=True)
        return -sum(stats.norm(m, m**0.5).logpdf(x).sum() for x, m in pairs)

    assert float(local.value) == pytest.approx(truth(50.0, 1.1), rel=1e-6)
    for i, step in enumerate(1e-5 * np.eye(2)):
        ends = [truth(*(10.0 ** (point + s * step))) for s in (1, -1)]
        assert float(local.gradient[i]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)
    # Information of a normal law whose mean and variance are both m: n (1/m + 1/(2 m^2)) m'^2.
    h = 1e-6
    slopes = np.stack(
        [
            (mean_at(*(10.0 ** (point + h * e))) - mean_at(*(10.0 ** (point - h * e)))) / (2 * h)
            for e in np.eye(2)
        ]
    )
    means = mean_at(50.0, 1.1)
    expected = (slopes * (400 * (1 / means + 0.5 / means**2))) @ slopes.T
    np.testing.assert_allclose(local.curvature, expected, rtol=1e-4)
    fits = multi_start(objective, GaussNewton(), point[None])
    errors = fisher_information(objective, fits.points[0]).standard_errors
    away = fits.points[0] - np.log10([40.0, 0.8])
    assert np.all(np.abs(away) < 4.5 * errors)


def test_moments_of_exact_simulation():
    rng = np.random.default_rng(9)
    cells = {"X": np.stack([rng.poisson(m, 2000) for m in mean_at(40.0, 0.8)], axis=1)}
    objective = MomentObjective(network(), SPACE, TS, cells, num_cells=4000)
    key = jax.random.key(3)
    truth = {"birth": 40.0, "death": 0.8}
    value, error = objective.value(truth, key)
    again, _ = objective.value(truth, key)
    assert again == value
    # Half a chi-square of 8 moments (mean and variance, four times), cells of a patient correlated.
    assert -10.0 < value < 25.0 and 0.0 < error < 10.0
    found = objective.value_and_gradient({"birth": 44.0, "death": 0.8}, key)
    # Expected: half the squared distance of the means and variances in standard errors.
    m, w = mean_at(40.0, 0.8), mean_at(44.0, 0.8)
    squares = (w - m) ** 2 / (m / 2000 + w / 4000)
    spread = [(x + 2 * x**2) / n for x, n in ((m, 2000), (w, 4000))]
    expected = 0.5 * np.sum(squares + (w - m) ** 2 / (spread[0] + spread[1]))
    # A sum of squares of normals with these means, twice as wide for moments that go together.
    bound = 5 * 2 * np.sqrt(2 * expected + 4.0)
    assert abs(found.value - expected) < bound < abs(value - expected)
    assert found.gradient[0] > 0.0
    with pytest.raises(engine.InvalidInput, match="'death' has no value"):
        objective.value({"birth": 1.0}, key)


def test_two_stages():
    rng = np.random.default_rng(4)
    covariance = np.array([[0.5, 0.2], [0.2, 0.3]])
    own = np.array([[0.2, 0.0], [0.0, 0.1]])
    true = rng.multivariate_normal([1.0, -2.0], covariance, size=60)
    estimates = true + rng.multivariate_normal([0.0, 0.0], own, size=60)
    found = two_stage(estimates, np.tile(own, (60, 1, 1)))
    # With equal uncertainty the maximum is the sample's mean, and its covariance less `own`.
    np.testing.assert_allclose(found.mean, estimates.mean(axis=0), atol=1e-6)
    expected = np.cov(estimates.T, bias=True) - own
    np.testing.assert_allclose(found.covariance, expected, atol=1e-5)
    errors = np.sqrt(np.diag(np.cov(estimates.T, bias=True)) / 60)
    np.testing.assert_allclose(found.mean_errors, errors, rtol=1e-4)
    assert found.is_converged
    naive = np.cov(estimates.T, bias=True)
    assert not np.allclose(naive, found.covariance, atol=0.05)
    with pytest.raises(engine.InvalidInput, match="individual 3"):
        broken = np.tile(own, (60, 1, 1))
        broken[3, 0, 0] = np.inf
        two_stage(estimates, broken)


def test_bad_input_is_named():
    with pytest.raises(engine.InvalidInput, match="the noise of 'X' is 'sd'"):
        CourseObjective(network(), SPACE, TS, {"X": TS}, {"X": "sd"})
    with pytest.raises(engine.InvalidInput, match="give \\(T,\\)"):
        CourseObjective(network(), SPACE, TS, {"X": TS[1:]}, {"X": 1.0})
    with pytest.raises(engine.InvalidInput, match="'x' is not a species"):
        LinearNoiseObjective(network(), SPACE, TS, {"x": [TS] * 4})
    with pytest.raises(engine.InvalidInput, match="two or more"):
        LinearNoiseObjective(network(), SPACE, TS, {"X": [TS[:1]] * 4})


def test_a_rounded_initial_count_cannot_be_fitted():
    """It would have no slope, and the fit would leave it where it starts."""
    turnover = {"made": 100.0, "lost": 0.3, "level": "made / lost"}

    def started(initial):
        return engine.ReactionNetwork(
            species={"X": initial},
            parameters=turnover,
            reactions=[engine.Reaction("X -> 0", engine.MassAction("lost"))],
        )

    space = Space([Bounded("made", 1.0, 1e3, Log10())])
    mean = 100.0 / 0.3 * np.exp(-0.3 * TS)
    refused = "'level' depends on the fit and sets the initial count of 'X' through a rounding"
    with pytest.raises(engine.InvalidInput, match=refused):
        CourseObjective(started("floor(level)"), space, TS, {"X": mean}, {"X": 1.0})
    with pytest.raises(engine.InvalidInput, match=refused):
        cells = {"X": [np.array([1.0, 2.0])] * len(TS)}
        LinearNoiseObjective(started("floor(level)"), space, TS, cells)
    # What is not rounded has its slope: the mean is proportional to `made`.
    objective = CourseObjective(started("level"), space, TS, {"X": 0.0 * mean}, {"X": 1.0})
    with jax.enable_x64(True):
        local = jax.jit(objective.local)(jnp.asarray(space.to_point({"made": 100.0})))
    assert float(local.gradient[0]) == pytest.approx(np.log(10.0) * np.sum(mean**2), rel=1e-6)
