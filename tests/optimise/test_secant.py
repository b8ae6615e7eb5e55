"""What Gauss-Newton leaves out of the Hessian, learnt from the gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from engine.optimise import gauss_newton
from engine.optimise.gauss_newton import GaussNewton
from engine.optimise.multi_start import multi_start
from engine.optimise.objective import LeastSquares
from engine.optimise.secant import secant_update
from engine.optimise.space import Bounded, Space


def test_the_update_explains_the_change_of_the_gradient():
    rng = np.random.default_rng(1)
    curvature, missing = (m @ m.T for m in rng.normal(size=(2, 4, 4)))
    with jax.enable_x64(True):
        secant = jnp.zeros((4, 4))
        for move in rng.normal(size=(40, 4)):
            change = (curvature + missing) @ move
            secant = secant_update(secant, jnp.asarray(move), jnp.asarray(change), curvature)
            np.testing.assert_allclose((curvature + secant) @ move, change, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(secant, secant.T, atol=1e-12)
        # A quadratic's missing part is constant, and moves in all directions tell it.
        np.testing.assert_allclose(secant, missing, rtol=0.02, atol=0.02 * np.abs(missing).max())
        # Where the curvature says all, nothing is left of the secant part.
        move = rng.normal(size=4)
        after = secant_update(secant, move, jnp.asarray(curvature @ move), curvature)
        np.testing.assert_allclose(after, 0.0, atol=1e-9)
        # A gradient that falls along the move teaches nothing.
        kept = secant_update(secant, move, jnp.asarray(-curvature @ move), curvature)
        np.testing.assert_array_equal(kept, secant)


def large_residuals(values):
    """The textbook's (x + 1, -6 x^2 + x - 1), minimum at 0, beside a flat valley along y."""
    x, y = values
    return jnp.stack([x + 1.0, -6.0 * x**2 + x - 1.0, 0.01 * (y - 5.0)])


def test_large_residuals_do_not_stop_the_valley(monkeypatch):
    """Gauss-Newton has a seventh of the curvature along x: it overshoots, and y must wait."""
    space = Space([Bounded("x", -10.0, 10.0), Bounded("y", -10.0, 10.0)])
    objective, start = LeastSquares(space, large_residuals), np.array([[0.4, -8.0]])
    found = multi_start(objective, GaussNewton(gain_tolerance=1e-12), start)
    np.testing.assert_allclose(found.points[0], [0.0, 5.0], atol=1e-3)
    monkeypatch.setattr(gauss_newton, "secant_update", lambda secant, *_: secant)
    plain = multi_start(objective, GaussNewton(gain_tolerance=1e-12), start)
    assert found.num_steps[0] < 30 < plain.num_steps[0]
