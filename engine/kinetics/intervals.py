"""Interval arithmetic: bounds of a rate law while its inputs or time move within a window.

The direct method thins against an upper bound of the total propensity over a look-ahead window
(Voliotis et al. 2016, doi:10.1371/journal.pcbi.1004923). Given bounds of the inputs over the
window, the bounds of the law follow by interval arithmetic on its expression; symbols that do not
move have equal bounds and cost nothing extra.
"""

from collections.abc import Mapping
from functools import reduce
from itertools import pairwise
from typing import Any

from engine.kinetics.evaluate import apply, evaluate
from engine.kinetics.smaller import parts_of_excess, parts_of_smallest
from engine.network.derivatives import ZERO
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

_INCREASING = frozenset(
    ["exp", "log", "log10", "log2", "sqrt", "floor", "ceil", "atan", "sinh", "tanh", "asin"]
) | {"logistic"}
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
    if parts := parts_of_smallest(expression):
        # Tighter than the hull of the branches.
        expression = Call("min", parts)
    elif pair := parts_of_excess(expression):
        expression = Call("max", (ZERO, Call("sub", pair)))
    arguments = [bounds(a, values, moving, xp, dtype) for a in expression.arguments]
    if expression.function not in LOGICAL and expression.function != "piecewise":
        arguments = _numbers(arguments, xp, dtype)
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
    low, high = (xp.asarray(sign * xp.inf, dtype) for sign in (-1, 1))
    return xp.where(crosses, low, lower), xp.where(crosses, high, upper)


def _pow(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    (a, b), (p, q) = arguments
    exponent = node.arguments[1]
    if isinstance(exponent, Number) and exponent.value in _WHOLE_POWERS:
        return _whole_power((a, b), int(exponent.value), xp)
    low, high = (xp.asarray(sign * xp.inf, dtype) for sign in (-1, 1))
    corners = [xp.power(a, p), xp.power(a, q), xp.power(b, p), xp.power(b, q)]
    lower = xp.minimum(xp.minimum(corners[0], corners[1]), xp.minimum(corners[2], corners[3]))
    upper = xp.maximum(xp.maximum(corners[0], corners[1]), xp.maximum(corners[2], corners[3]))
    return xp.where(a < 0, low, lower), xp.where(a < 0, high, upper)


# Powers of a base of either sign; the evaluator writes 2 to 4 as products.
_WHOLE_POWERS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def _whole_power(base: Interval, exponent: int, xp: Any) -> Interval:
    a, b = base
    first, last = reduce(xp.multiply, [a] * exponent), reduce(xp.multiply, [b] * exponent)
    if exponent % 2:
        return first, last
    smallest = xp.where((a <= 0) & (b >= 0), xp.zeros_like(first), xp.minimum(first, last))
    return smallest, xp.maximum(first, last)


def _abs(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    ((a, b),) = arguments
    largest = xp.maximum(xp.abs(a), xp.abs(b))
    smallest = xp.where((a <= 0) & (b >= 0), 0.0, xp.minimum(xp.abs(a), xp.abs(b)))
    return smallest, largest


def _unit(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    one = xp.ones_like(arguments[0][0])
    return -one, one


# Comparisons hold for certain only by this much, so that rounding cannot contradict a bound.
_MARGIN = 2.0**-20


def _compare(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    """Truth values: (is it always so, may it be so)."""
    always: list[Array] = []
    maybe: list[Array] = []
    for first, second in pairwise(arguments):
        (a, b), (c, d) = (second, first) if node.function in ("gt", "ge") else (first, second)
        size = xp.maximum(xp.abs(a), xp.abs(b)) + xp.maximum(xp.abs(c), xp.abs(d))
        margin = xp.asarray(_MARGIN, dtype) * size
        is_below, is_touching = b + margin < c, (a <= d + margin) & (c <= b + margin)
        match node.function:
            case "lt" | "gt" | "le" | "ge":
                always.append(is_below)
                maybe.append(a <= d + margin)
            case "eq":
                always.append(xp.zeros_like(is_below))
                maybe.append(is_touching)
            case _:
                always.append(~is_touching)
                maybe.append(xp.ones_like(is_below))
    return reduce(xp.logical_and, always), reduce(xp.logical_and, maybe)


def _logic(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    truths = [_truth(argument, xp) for argument in arguments]
    always, maybe = [a for a, _ in truths], [b for _, b in truths]
    match node.function:
        case "and":
            return reduce(xp.logical_and, always), reduce(xp.logical_and, maybe)
        case "or":
            return reduce(xp.logical_or, always), reduce(xp.logical_or, maybe)
        case "not":
            return ~maybe[0], ~always[0]
    # xor is known only where every argument is.
    is_known = reduce(xp.logical_and, [a == b for a, b in truths])
    is_odd = reduce(xp.logical_xor, always)
    return is_known & is_odd, ~is_known | is_odd


def _truth(bound: Interval, xp: Any) -> Interval:
    """Bounds of a condition: a number counts as true unless it is zero."""
    low, high = (xp.asarray(end) for end in bound)
    if low.dtype == bool:
        return low, high
    return (low > 0) | (high < 0), ~((low == 0) & (high == 0))


def _piecewise(node: Call, arguments: list[Interval], xp: Any, dtype: Any) -> Interval:
    """The hull of the branches that some moment of the window may take."""
    values, conditions = _numbers(arguments[::2], xp, dtype), arguments[1::2]
    if len(values) == len(conditions):
        values.append((xp.asarray(xp.nan, dtype),) * 2)
    lower, upper = xp.asarray(xp.inf, dtype), xp.asarray(-xp.inf, dtype)
    is_open = xp.asarray(True)
    for value, condition in zip(values, [*conditions, None], strict=True):
        always, maybe = (is_open, is_open) if condition is None else _truth(condition, xp)
        lower = xp.where(is_open & maybe, xp.minimum(lower, value[0]), lower)
        upper = xp.where(is_open & maybe, xp.maximum(upper, value[1]), upper)
        is_open = is_open & ~always
    return lower, upper


def _numbers(arguments: list[Interval], xp: Any, dtype: Any) -> list[Interval]:
    """Truth values as 0 and 1."""

    def number(value: Array) -> Array:
        array = xp.asarray(value)
        return array.astype(dtype) if array.dtype == bool else array

    return [(number(a), number(b)) for a, b in arguments]


_RULES = {
    "sub": _sub,
    "neg": _neg,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "abs": _abs,
    "piecewise": _piecewise,
    **dict.fromkeys(_BOUNDED, _unit),
    **dict.fromkeys(COMPARISONS, _compare),
    **dict.fromkeys(LOGICAL, _logic),
}
