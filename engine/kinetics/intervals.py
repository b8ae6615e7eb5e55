"""Interval arithmetic: bounds of a rate law while its inputs or time move within a window.

The direct method thins against an upper bound of the total propensity over a look-ahead window
(Voliotis et al. 2016, doi:10.1371/journal.pcbi.1004923). Given bounds of the inputs over the
window, the bounds of the law follow by interval arithmetic on its expression; symbols that do not
move have equal bounds and cost nothing extra.
"""

from collections.abc import Mapping
from typing import Any

from engine.kinetics.evaluate import apply, evaluate
from engine.network.expressions import (
    COMPARISONS,
    LOGICAL,
    Call,
    Expression,
    Number,
    Symbol,
    symbols,
)

Array = Any
Interval = tuple[Array, Array]

_INCREASING = frozenset(["exp", "log", "log10", "log2", "sqrt", "floor", "ceil", "atan", "sinh", "tanh", "asin"])
_BOUNDED = frozenset({"sin", "cos"})
BOUNDABLE = (
    _INCREASING
    | _BOUNDED
    | COMPARISONS
    | LOGICAL
    | frozenset(["add", "sub", "mul", "div", "neg", "pow", "abs", "min", "max", "piecewise"])
)


def unboundable(expression: Expression, moving: frozenset[str]) -> str | None:
    """The first function of a moving quantity that has no interval rule, or None."""
    if not isinstance(expression, Call) or not symbols(expression) & moving:
        return None
    if expression.function not in BOUNDABLE:
        return expression.function
    found = (unboundable(argument, moving) for argument in expression.arguments)
    return next((function for function in found if function), None)


def bounds(
    expression: Expression,
    values: Mapping[str, Array],
    moving: Mapping[str, Interval],
    xp: Any,
    dtype: Any,
) -> Interval:
    """Lower and upper bound of `expression` where the symbols of `moving` range in intervals.

    Args:
        expression: a law whose functions are all in `BOUNDABLE`.
        values: the symbols that do not move.
        moving: (lower, upper) of the symbols that do.
        xp: array namespace.
        dtype: floating type.

    Returns:
        (lower, upper); the upper bound is +inf where a quotient's denominator may be zero.
    """
    if isinstance(expression, Symbol) and expression.name in moving:
        return moving[expression.name]
    if isinstance(expression, Number | Symbol) or not symbols(expression) & moving.keys():
        value = evaluate(expression, values, xp, dtype)
        return value, value
    arguments = [bounds(a, values, moving, xp, dtype) for a in expression.arguments]
    return _RULES.get(expression.function, _monotone)(expression, arguments, xp, dtype)


def _monotone(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    """Functions that increase in every argument (min and max among them)."""
    lower = apply(node, [a[0] for a in arguments], xp, dtype)
    return lower, apply(node, [a[1] for a in arguments], xp, dtype)


def _sub(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    (a, b), (c, d) = arguments
    return a - d, b - c


def _neg(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    ((a, b),) = arguments
    return -b, -a


def _times(x: Interval, y: Interval, xp: Any) -> Interval:
    corners = [x[0] * y[0], x[0] * y[1], x[1] * y[0], x[1] * y[1]]
    lower = xp.minimum(xp.minimum(corners[0], corners[1]), xp.minimum(corners[2], corners[3]))
    upper = xp.maximum(xp.maximum(corners[0], corners[1]), xp.maximum(corners[2], corners[3]))
    return lower, upper


def _mul(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    result = arguments[0]
    for factor in arguments[1:]:
        result = _times(result, factor, xp)
    return result


def _div(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    numerator, (c, d) = arguments
    lower, upper = _times(numerator, (1 / d, 1 / c), xp)
    crosses = (c <= 0) & (d >= 0)
    infinite = xp.asarray(xp.inf, dtype)
    return xp.where(crosses, -infinite, lower), xp.where(crosses, infinite, upper)


def _pow(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    (a, b), (p, q) = arguments
    infinite = xp.asarray(xp.inf, dtype)
    corners = [xp.power(a, p), xp.power(a, q), xp.power(b, p), xp.power(b, q)]
    lower = xp.minimum(xp.minimum(corners[0], corners[1]), xp.minimum(corners[2], corners[3]))
    upper = xp.maximum(xp.maximum(corners[0], corners[1]), xp.maximum(corners[2], corners[3]))
    return xp.where(a < 0, -infinite, lower), xp.where(a < 0, infinite, upper)


def _abs(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    ((a, b),) = arguments
    largest = xp.maximum(xp.abs(a), xp.abs(b))
    smallest = xp.where((a <= 0) & (b >= 0), 0.0, xp.minimum(xp.abs(a), xp.abs(b)))
    return smallest, largest


def _unit(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    one = xp.ones_like(arguments[0][0])
    return -one, one


def _truth(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    one = xp.ones_like(arguments[0][0], dtype)
    return 0 * one, one


def _piecewise(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    """The hull of all branches: a condition on a moving quantity may switch within the window."""
    branches = [a for i, a in enumerate(arguments) if i % 2 == 0]
    lower, upper = branches[0]
    for a, b in branches[1:]:
        lower, upper = xp.minimum(lower, a), xp.maximum(upper, b)
    return lower, upper


_RULES = {
    "sub": _sub,
    "neg": _neg,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "abs": _abs,
    "piecewise": _piecewise,
    **dict.fromkeys(_BOUNDED, _unit),
    **dict.fromkeys(COMPARISONS | LOGICAL, _truth),
}
