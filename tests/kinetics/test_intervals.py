"""Interval bounds hold everywhere in the window, and are tight where they can be."""

import numpy as np
import pytest

from engine.kinetics.evaluate import evaluate
from engine.kinetics.intervals import BOUNDABLE, bounds, unboundable
from engine.network.expressions import parse

LAWS = [
    "k * L * R",
    "vmax * L / (km + L)",
    "vmax * L^2 / (km^2 + L^2)",
    "vmax * km^n / (km^n + L^n)",
    "k * exp(-L) * (1 + sin(t))",
    "k * abs(L - 2) + sqrt(L)",
    "min(L, 3) * max(L, R)",
    "piecewise(k * L, t < 3, 5 * L, t > 6, 0)",
    "(L > 2) * k + (not (L > 4 and t < 5)) * R",
    "log(1 + L) * k / (1 + t)",
    "(L - 3)^3 + (L - 3)^2 + 40",
    "(1 - L) * (2 - t)",
    "cos(t) * L - sin(L)",
    "logistic(L - 2) * k",
    "floor(L) + ceil(t) + atan(L) + tanh(L)",
    "(L == 3) + (L != 3) + xor(L > 1, t > 2)",
]
STILL = {"k": 0.7, "vmax": 4.0, "km": 1.5, "n": 2.5, "R": 3.0}


@pytest.mark.parametrize("law", LAWS)
def test_bounds_hold_everywhere(law: str) -> None:
    expression = parse(law)
    rng = np.random.default_rng(3)
    ends = rng.uniform(0, 8, (2, 2, 300))
    low, high = ends.min(axis=0), ends.max(axis=0)
    moving = {"L": (low[0], high[0]), "t": (low[1], high[1])}
    values = {name: np.float64(v) for name, v in STILL.items()}
    lower, upper = bounds(expression, values, moving, np, np.float64)
    share = np.concatenate([rng.uniform(0, 1, (2, 200, 1)), np.mgrid[0:2, 0:2].reshape(2, 4, 1)], 1)
    inside = low[:, None] + share * (high - low)[:, None]
    found = evaluate(expression, values | {"L": inside[0], "t": inside[1]}, np, np.float64)
    slack = 1e-12 * (1 + np.abs(found))
    assert np.all(found <= np.asarray(upper) + slack)
    assert np.all(found >= np.asarray(lower) - slack)


def test_bounds_of_monotone_laws_are_tight() -> None:
    """A product of positive factors is largest at the corner."""
    lower, upper = bounds(
        parse("k * L * R"), {"k": 2.0, "R": 3.0}, {"L": (0.5, 4.0)}, np, np.float64
    )
    assert (lower, upper) == (3.0, 24.0)


def test_a_zero_denominator_has_no_bound() -> None:
    _, upper = bounds(
        parse("1 / (L - 1)"), {}, {"L": (np.array([0.0, 2.0]), np.array([2.0, 3.0]))}, np, float
    )
    assert upper.tolist() == [np.inf, 1.0]


def test_what_has_no_rule_is_named() -> None:
    moving = frozenset({"L"})
    assert unboundable(parse("k * tan(L) + 1"), moving) == "tan"
    assert unboundable(parse("tan(k) * L"), moving) is None
    assert "tan" not in BOUNDABLE
