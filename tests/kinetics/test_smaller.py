"""The smaller of two rates: its bounds are those of `min`, and no rate falls below it."""

import numpy as np
import pytest

from engine.kinetics.evaluate import evaluate
from engine.kinetics.hoisting import is_nonnegative, separated
from engine.kinetics.intervals import bounds
from engine.kinetics.smaller import parts_of_smallest, smaller
from engine.network.expressions import call, parse

X, Y = parse("k * x"), parse("k2 * y + 1")
COUNTS = frozenset({"x", "y"})


def test_it_is_the_smaller() -> None:
    rng = np.random.default_rng(1)
    values = dict(zip(("k", "x", "k2", "y"), rng.uniform(0, 3, (4, 200)), strict=True))
    found = evaluate(smaller(X, Y), values, np, np.float64)
    np.testing.assert_array_equal(found, evaluate(call("min", X, Y), values, np, np.float64))


def test_its_bounds_are_those_of_the_minimum() -> None:
    moving = {"x": (1.0, 2.0), "y": (0.2, 5.0)}
    values = {"k": 2.0, "k2": 1.0}
    found = bounds(smaller(X, Y), values, moving, np, np.float64)
    assert found == bounds(call("min", X, Y), values, moving, np, np.float64) == (1.2, 4.0)
    # A choice by another condition is bounded by the hull of its branches.
    other = call("piecewise", X, call("lt", Y, X), Y)
    assert bounds(other, values, moving, np, np.float64)[1] == 6.0


@pytest.mark.parametrize("least", [smaller(X, Y), call("min", X, Y)], ids=str)
def test_no_rate_falls_below_it(least: object) -> None:
    assert parts_of_smallest(least) == (X, Y)
    for rate in (X, Y):
        assert is_nonnegative(call("sub", rate, least), COUNTS)
    assert not is_nonnegative(call("sub", parse("k * y"), least), COUNTS)
    assert not is_nonnegative(call("sub", X, Y), COUNTS)


@pytest.mark.parametrize(
    ("law", "fixed", "shape"),
    [
        ("k * x", "k", "x"),
        ("k * x * (x - 1) / (2 * v)", "k / (2 * v)", "x * (x - 1)"),
        ("-k * x / y", "-k", "x / y"),
        ("k", "k", "1"),
        ("x / (v + x)", "1", "x / (v + x)"),
    ],
)
def test_a_constant_factor_is_set_apart(law: str, fixed: str, shape: str) -> None:
    found = separated(parse(law), frozenset({"k", "v"}))
    values = {"k": 1.3, "v": 0.7, "x": 4.0, "y": 3.0}
    for part, expected in zip(found, (fixed, shape), strict=True):
        assert np.isclose(
            evaluate(part, values, np, np.float64),
            evaluate(parse(expected), values, np, np.float64),
            rtol=1e-15,
        )
