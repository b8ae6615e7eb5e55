"""Elementary functions of float32 arrays, beside NumPy's in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from engine.kinetics import elementary


def relative_error(found: jax.Array, wanted: np.ndarray) -> np.ndarray:
    """Of every element."""
    return np.abs(np.asarray(found, np.float64) / wanted - 1)


def test_logistic(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.linspace(-86, 90, 2_000_001).astype(np.float32)

    def excess() -> float:
        """The largest error over its bound."""
        bound = 2.0**-20 * (1 + np.abs(x) / 16)
        error = relative_error(elementary.logistic(jnp.asarray(x)), expit(x.astype(np.float64)))
        return float(np.max(error / bound))

    assert excess() < 1
    # A polynomial of a lower degree would be seen.
    monkeypatch.setattr(elementary, "_POWER_COEFFICIENTS", elementary._POWER_COEFFICIENTS[:-1])
    assert excess() > 100


def test_logistic_at_its_ends() -> None:
    found = np.asarray(elementary.logistic(jnp.asarray([-np.inf, -1e30, 0, 1e30, np.inf])))
    assert found == pytest.approx([1.2e-38, 1.2e-38, 0.5, 1, 1], rel=0.1)
    assert np.isnan(elementary.logistic(jnp.float32(np.nan)))


def test_logistic_never_jumps() -> None:
    """Where the exponent's whole part changes the polynomials of two powers meet."""
    edges = np.arange(-80, 80) * np.log(2.0)
    beside = np.stack([np.nextafter(np.float32(edges), np.float32(way)) for way in (-99, 99)])
    low, high = np.asarray(elementary.logistic(jnp.asarray(beside)), np.float64)
    # What they differ by lies two float32 numbers away.
    assert np.all(np.abs(high / low - 1) < 2.0**-21 + 4 * np.spacing(np.abs(np.float32(edges))))


def test_power_of_two() -> None:
    y = np.linspace(-126, 126.99, 1_000_001).astype(np.float32)
    error = relative_error(elementary.power_of_two(jnp.asarray(y)), np.exp2(y.astype(np.float64)))
    assert error.max() < 2.0**-21
