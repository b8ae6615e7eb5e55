"""Transforms, priors and optimisers, on problems whose optimum is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, stats

from engine.errors import InvalidInput
from engine.optimise import priors
from engine.optimise.first_order import LBFGS, FirstOrder
from engine.optimise.gauss_newton import GaussNewton
from engine.optimise.multi_start import multi_start
from engine.optimise.objective import FunctionObjective, LeastSquares
from engine.optimise.space import Bounded, Space
from engine.optimise.starts import screened_starts
from engine.optimise.status import FitStatus
from engine.optimise.transforms import LINEAR, Linear, Log, Log10, Logit

TS = np.linspace(0.0, 4.0, 9)
TRUTH = np.array([2.0, 0.7])
DATA = TRUTH[0] * np.exp(-TRUTH[1] * TS)
SPACE = Space([Bounded("a", 1e-2, 1e2, Log10()), Bounded("k", 1e-2, 1e2, Log10())])
OPTIMISERS = (GaussNewton(), FirstOrder(max_steps=1500), LBFGS())


def residuals(values):
    return (values[0] * jnp.exp(-values[1] * jnp.asarray(TS)) - jnp.asarray(DATA)) / 0.1


@pytest.mark.parametrize(
    ("transform", "values"),
    [
        (Linear(), (-3.0, 4.0)),
        (Log(), (0.1, 30.0)),
        (Log10(), (1e-5, 1e5)),
        (Logit(2, 5), (2.1, 4)),
    ],
)
def test_transforms_return_what_they_took(transform, values):
    with jax.enable_x64(True):
        for value in values:
            z = transform.forward(value)
            assert float(transform.backward(z)) == pytest.approx(value, rel=1e-12)
    assert float(Logit(2, 5).backward(jnp.asarray(-800.0))) == 2.0


@pytest.mark.parametrize(
    ("prior", "density"),
    [
        (priors.Normal(1.0, 2.0), stats.norm(1.0, 2.0)),
        (priors.Laplace(-1.0, 0.5), stats.laplace(-1.0, 0.5)),
        (priors.LogNormal(0.3, 0.6), stats.lognorm(0.6, scale=math.exp(0.3))),
        (priors.LogLaplace(0.3, 0.5), stats.loglaplace(2.0, scale=math.exp(0.3))),
        (priors.Uniform(0.5, 3.0), stats.uniform(0.5, 2.5)),
    ],
)
def test_priors_are_the_densities(prior, density):
    with jax.enable_x64(True):
        for x in (0.7, 1.9):
            assert float(prior.negative_log(x)) == pytest.approx(-density.logpdf(x), rel=1e-9)
    whole = integrate.quad(density.pdf, 0.7, 1.9)[0]
    assert whole == pytest.approx(density.cdf(1.9) - density.cdf(0.7), rel=1e-6)


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda o: type(o).__name__)
def test_every_optimiser_finds_the_optimum(optimiser):
    fits = multi_start(LeastSquares(SPACE, residuals), optimiser, SPACE.sample(6, 1), batch=4)
    assert fits.num_at_best(1e-3) >= 4
    assert fits.values[fits.best] < 1e-5
    np.testing.assert_allclose(10.0 ** fits.points[fits.best], TRUTH, rtol=1e-3)
    assert "starts ended within 0.1 of the best" in fits.diagnosis()


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda o: type(o).__name__)
def test_an_optimum_at_a_bound(optimiser):
    # Without the bound a = 2; with a <= 1 the best k solves the one-parameter problem.
    space = Space([Bounded("a", 1e-2, 1.0, Log10()), Bounded("k", 1e-2, 1e2, Log10())])
    fits = multi_start(LeastSquares(space, residuals), optimiser, space.sample(4, 1))
    grid = np.linspace(0.01, 1.0, 100_001)
    sums = sum((np.exp(-grid * t) - d) ** 2 for t, d in zip(TS, DATA, strict=True))
    found = 10.0 ** fits.points[fits.best]
    assert found[0] == pytest.approx(1.0, rel=1e-4)
    assert found[1] == pytest.approx(grid[np.argmin(sums)], rel=1e-3)
    assert fits.values[fits.best] == pytest.approx(50.0 * sums.min(), rel=1e-4)


def test_a_schedule_and_another_transformation():
    schedule = optax.exponential_decay(0.1, 100, 0.5)
    optimiser = FirstOrder(lambda: optax.adamw(schedule, weight_decay=0.0), max_steps=800)
    fits = multi_start(LeastSquares(SPACE, residuals), optimiser, SPACE.sample(2, 1))
    assert fits.values.min() < 1e-3


def test_a_start_that_fails_is_reported_and_others_go_on():
    def function(values):
        return jnp.where(values[0] > 0.5, (values[0] - 1.0) ** 2, jnp.nan)

    space = Space([Bounded("x", 0.0, 3.0)])
    for optimiser in (GaussNewton(), FirstOrder(max_steps=600), LBFGS()):
        fits = multi_start(FunctionObjective(space, function), optimiser, np.array([[0.2], [2.5]]))
        assert fits.statuses[0] == FitStatus.NOT_FINITE and fits.values[0] == np.inf
        assert fits.values[1] < 1e-5
        assert "1 could not start" in fits.diagnosis()
    none = multi_start(FunctionObjective(space, function), GaussNewton(), np.array([[0.2]]))
    assert none.diagnosis().startswith("every start failed")


def test_a_start_that_stops_the_program_ends_alone():
    def stop(value):
        if value < 0.5:
            raise FloatingPointError("no value below 0.5")
        return value

    def residual(values):
        x = values[0]
        shape = jax.ShapeDtypeStruct((), jnp.float64)
        checked = jax.pure_callback(stop, shape, jax.lax.stop_gradient(x), vmap_method="sequential")
        return (x - 1.0 + 0.0 * checked)[None]

    space = Space([Bounded("x", 0.0, 3.0)])
    starts = np.array([[0.2], [2.5], [1.5]])
    fits = multi_start(LeastSquares(space, residual), GaussNewton(), starts, batch=2)
    assert fits.statuses[0] == FitStatus.NOT_FINITE
    assert np.all(fits.values[1:] < 1e-10)


def test_out_of_steps_says_so():
    optimiser = GaussNewton(max_steps=3)
    fits = multi_start(LeastSquares(SPACE, residuals), optimiser, SPACE.sample(2, 1))
    assert set(fits.statuses) == {FitStatus.OUT_OF_STEPS}
    assert "raise max_steps" in fits.diagnosis() and "raise max_steps" in FitStatus(3).message


def test_batches_do_not_change_what_is_found():
    objective, starts = LeastSquares(SPACE, residuals), SPACE.sample(5, 2)
    one = multi_start(objective, GaussNewton(), starts, batch=1)
    many = multi_start(objective, GaussNewton(), starts, batch=3)
    np.testing.assert_allclose(many.values, one.values, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(SPACE.sample(3, 2), starts[:3])


class Interrupted(Exception):
    pass


def test_a_killed_run_continues(tmp_path, monkeypatch):
    from engine.optimise import multi_start as module

    monkeypatch.setattr(module, "_SAVE_SECONDS", 0.0)
    objective, starts = LeastSquares(SPACE, residuals), SPACE.sample(6, 2)
    whole = multi_start(objective, GaussNewton(), starts, batch=2)
    calls = []

    def stop(done, total, best):
        calls.append(done)
        if done >= 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        multi_start(objective, GaussNewton(), starts, batch=2, folder=tmp_path, progress=stop)
    resumed = []
    again = multi_start(
        objective,
        GaussNewton(),
        starts,
        batch=2,
        folder=tmp_path,
        progress=lambda done, total, best: resumed.append(done),
    )
    assert resumed[0] >= 3 and resumed[-1] == 6
    np.testing.assert_array_equal(again.values, whole.values)
    np.testing.assert_array_equal(again.num_steps, whole.num_steps)
    with pytest.raises(InvalidInput, match="holds another fit"):
        multi_start(objective, GaussNewton(), starts + 0.1, folder=tmp_path)


def test_bad_input_is_named():
    with pytest.raises(InvalidInput, match="parameter 'a' has bounds 1, 0"):
        Bounded("a", 1.0, 0.0)
    with pytest.raises(InvalidInput, match="do not fit Log10"):
        Bounded("a", -1.0, 1.0, Log10())
    with pytest.raises(InvalidInput, match="same name"):
        Space([Bounded("a", 0.0, 1.0, LINEAR)] * 2)
    with pytest.raises(InvalidInput, match="did you mean 'a'"):
        SPACE.to_point({"aa": 1.0, "k": 1.0})
    with pytest.raises(InvalidInput, match="give \\(starts, 2\\)"):
        multi_start(LeastSquares(SPACE, residuals), GaussNewton(), np.zeros((3, 1)))
    with pytest.raises(InvalidInput, match="max_steps is 0"):
        GaussNewton(max_steps=0)


def test_screened_starts_are_the_best_of_their_draws():
    objective = LeastSquares(SPACE, residuals)
    starts = screened_starts(objective, 4, seed=3, draws=5, batch=3)
    np.testing.assert_array_equal(starts[:2], screened_starts(objective, 2, seed=3, draws=5))
    with jax.enable_x64(True):
        value = jax.vmap(objective.value)
        first = np.asarray(value(jnp.asarray(SPACE.sample(4, 3))))
        found = np.asarray(value(jnp.asarray(starts)))
    assert np.all(found <= first) and np.any(found < first)
    np.testing.assert_array_equal(screened_starts(objective, 2, 3, draws=1), SPACE.sample(2, 3))
