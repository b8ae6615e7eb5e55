import numpy as np
import pytest

import engine
from engine.kinetics.evaluate import evaluate
from engine.network.derivatives import ONE, ZERO, derivative, logarithmic_derivative, shifted
from engine.network.expressions import parse

FORMULAS = [
    "k * x * (x - 1) * 0.5",
    "k^2 * x / (1 + k * x)",
    "v * (x / k)^n / (1 + (x / k)^n)",
    "v / (1 + (x / n)^k)",
    "exp(-k * x) - log(k) + sqrt(k + x)",
    "logistic(k * x - 4)",
    "log10(k) * log2(k + 1) - -k",
    "sin(k) * cos(k) / tan(k)",
    "asin(k / 9) + acos(k / 9) + atan(k)",
    "sinh(k) + cosh(k) * tanh(k)",
    "max(k * x, 3) + min(k, x, 2 * v)",
    "abs(k - 5 * x)",
    "k * x if x > 2 else k^3",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_against_central_differences(formula: str) -> None:
    expression = parse(formula)
    values = {"k": 1.7, "x": 3.0, "v": 2.3, "n": 2.0}
    slope = evaluate(derivative(expression, {"k": ONE}), values, np, np.float64)
    relative = evaluate(logarithmic_derivative(expression, {"k": ONE}), values, np, np.float64)
    step = 1e-5
    ends = [
        evaluate(expression, {**values, "k": 1.7 + sign * step}, np, np.float64) for sign in (1, -1)
    ]
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-8)
    whole = evaluate(expression, values, np, np.float64)
    assert relative * whole == pytest.approx(slope, rel=1e-12)


def test_nothing_changes_is_exactly_zero() -> None:
    assert derivative(parse("a * x / (b + x)"), {"k": ONE}) == ZERO
    assert logarithmic_derivative(parse("a * x"), {"k": ONE}) == ZERO


def test_a_hill_exponent_has_a_value_where_the_regulator_is_absent() -> None:
    slope = derivative(parse("(x / K)^n"), {"n": ONE})
    with np.errstate(all="ignore"):
        value = evaluate(slope, {"x": 0.0, "K": 2.0, "n": 2.0}, np, np.float64)
    assert value == 0.0


def test_what_jumps_is_refused_by_name() -> None:
    for formula in ("floor(k * x)", "x if x > k else 1", "rem(k, 2)"):
        with pytest.raises(engine.InvalidInput, match="'k'"):
            derivative(parse(formula), {"k": ONE})


def test_shifted_counts() -> None:
    moved = shifted(parse("x * (x - 1) + y"), {"x": -2})
    assert evaluate(moved, {"x": 5.0, "y": 1.0}, np, np.float64) == 7.0
