"""The smaller of two rates and what one exceeds it by: values, bounds, what is proved of them."""

import numpy as np
import pytest

from engine.kinetics.evaluate import evaluate
from engine.kinetics.hoisting import is_nonnegative, separated, vanishes_below
from engine.kinetics.intervals import bounds
from engine.kinetics.smaller import excess, parts_of_excess, parts_of_smallest, smaller
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


def test_an_excess_and_the_smaller_make_the_whole() -> None:
    rng = np.random.default_rng(2)
    values = dict(zip(("k", "x", "k2", "y"), rng.uniform(0, 3, (4, 200)), strict=True))
    values["x"][:3] = np.nan
    found = evaluate(excess(X, Y), values, np, np.float64)
    whole, other = (evaluate(law, values, np, np.float64) for law in (X, Y))
    np.testing.assert_array_equal(found, np.maximum(whole - other, 0.0))
    assert np.all(np.isnan(found[:3])) and np.any(found == 0) and np.any(found > 0)
    least = evaluate(smaller(X, Y), values, np, np.float64)
    np.testing.assert_allclose(found[3:] + least[3:], whole[3:], rtol=1e-14)


def test_bounds_of_an_excess_are_those_of_the_maximum() -> None:
    moving = {"x": (1.0, 2.0), "y": (0.2, 5.0)}
    values = {"k": 2.0, "k2": 1.0}
    found = bounds(excess(X, Y), values, moving, np, np.float64)
    assert found == pytest.approx((0.0, 4.0 - 1.2))


def test_what_is_proved_of_an_excess() -> None:
    signed = parse("x - 3")
    assert parts_of_excess(excess(X, Y)) == (X, Y)
    assert (
        parts_of_excess(call("piecewise", parse("1"), parse("x - y < 0"), parse("x - y"))) is None
    )
    assert is_nonnegative(excess(X, signed), COUNTS)
    # Where there is no x nothing exceeds what is at least 0; it may exceed what is less.
    assert vanishes_below(excess(X, Y), "x", 1, COUNTS)
    assert not vanishes_below(excess(X, signed), "x", 1, COUNTS)
    assert not vanishes_below(excess(Y, X), "x", 1, COUNTS)
    # The smaller is at most 0 where one is.
    assert vanishes_below(smaller(X, Y), "x", 1) and vanishes_below(smaller(Y, X), "x", 1)
    assert not vanishes_below(smaller(X, Y), "y", 1)


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
