import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engine
from engine.gradient import InitialCount, MartingaleCritic, Outcome, ScoreFunction
from tests.gradient.problems import BIRTH_DEATH


def mean_of(estimator: object = None, wrt: object = ("k", "g"), **more: object) -> object:
    return engine.gradient.expected(
        BIRTH_DEATH.model,
        estimator or MartingaleCritic(),
        engine.FinalValue("X"),
        wrt,
        20.0,
        key=jax.random.key(0),
        num_patients=1000,
        **more,
    )


def test_value_and_gradient_inside_jit() -> None:
    mean = mean_of()
    value, slopes = jax.jit(jax.value_and_grad(mean))({"k": 10.0, "g": 1.0})
    assert value == pytest.approx(10.0, abs=5 * np.sqrt(10 / 1000))
    assert slopes["k"] == pytest.approx(1.0, rel=0.05)
    assert slopes["g"] == pytest.approx(-10.0, rel=0.05)


@pytest.mark.full
def test_the_same_step_has_the_same_randomness() -> None:
    mean = mean_of(ScoreFunction())
    point = {"k": 10.0, "g": 1.0}
    assert mean(point) == mean(point)
    assert mean(point) != mean(point, 1)
    jitted = jax.jit(mean)
    assert jitted(point, 1) == mean(point, 1)


@pytest.mark.full
def test_candidates_under_vmap() -> None:
    mean = mean_of()
    births = jnp.asarray([5.0, 10.0, 20.0])

    def loss(k: jax.Array) -> jax.Array:
        return (mean({"k": k, "g": 1.0}) - 10.0) ** 2

    slopes = jax.vmap(jax.grad(loss))(births)
    assert np.allclose(slopes, 2 * (np.array([5.0, 10, 20]) - 10), atol=1.5)


@pytest.mark.full
def test_gradient_descent_finds_the_rate() -> None:
    mean = mean_of()

    @jax.jit
    def update(log_k: jax.Array, step: jax.Array) -> jax.Array:
        def loss(theta: jax.Array) -> jax.Array:
            return (mean({"k": jnp.exp(theta), "g": 1.0}, step) / 10.0 - 1.0) ** 2

        return log_k - 0.4 * jax.grad(loss)(log_k)

    theta = jnp.log(jnp.asarray(4.0))
    for step in range(12):
        theta = update(theta, jnp.asarray(step))
    assert jnp.exp(theta) == pytest.approx(10.0, rel=0.03)


def test_bad_points_are_named() -> None:
    mean = mean_of()
    with pytest.raises(engine.InvalidInput, match="give a value for each"):
        mean({"k": 1.0})
    with pytest.raises(engine.InvalidInput, match="did you mean"):
        mean_of(wrt="kk")
    with pytest.raises(engine.InvalidInput, match="refresh"):
        mean_of(refresh=0)


@pytest.mark.full
def test_an_initial_count_and_a_threshold() -> None:
    storm = engine.gradient.expected(
        BIRTH_DEATH.model,
        engine.gradient.CoupledDifference(),
        Outcome(engine.FinalValue("X"), lambda x: x > 10),
        InitialCount("X"),
        1.0,
        key=jax.random.key(0),
        num_patients=4000,
    )
    slope = jax.grad(lambda x: storm({"X(0)": x}))(20.0)
    # X(1) is 20 molecules kept with probability 1/e each and a Poisson number of new ones.
    assert 0.01 < slope < 0.1
