"""Exact derivatives of expressions, as expressions."""

import math
from collections.abc import Callable, Mapping

from engine.errors import InvalidInput
from engine.network.expressions import (
    COMPARISONS,
    LOGICAL,
    Call,
    Expression,
    Number,
    Symbol,
    call,
    parse,
    substitute,
    symbols,
    walk,
)

ZERO, ONE = Number(0.0), Number(1.0)
Tangents = Mapping[str, Expression]
# The derivative of a call from the call, its arguments and their derivatives.
Rule = Callable[[Call, list[Expression], list[Expression]], Expression]


def derivative(expression: Expression, tangents: Tangents) -> Expression:
    r"""The directional derivative sum_s (d e / d s) t_s over the symbols s with a tangent t_s.

    Args:
        expression: what is differentiated.
        tangents: symbol -> its derivative; a symbol that is not there does not change.

    Returns:
        An expression, `Number(0)` where nothing changes.

    Raises:
        InvalidInput: a function that jumps (a condition, `floor`, `rem`) of something that changes.

    Example:
        >>> from engine.network.expressions import parse
        >>> str(derivative(parse("k * x^2"), {"x": Number(1.0)}))
        '2 * k * x'
    """
    if isinstance(expression, Number):
        return ZERO
    if isinstance(expression, Symbol):
        return tangents.get(expression.name, ZERO)
    if not symbols(expression) & tangents.keys():
        return ZERO
    if expression.function == "piecewise":
        return _piecewise(expression, tangents)
    inner = [derivative(argument, tangents) for argument in expression.arguments]
    if all(change == ZERO for change in inner):
        return ZERO
    if expression.function in _JUMPING:
        raise InvalidInput(
            f"'{expression}' jumps where {_named(expression, tangents)} changes and has no "
            "derivative; use engine.gradient.CoupledDifference()"
        )
    return _RULES[expression.function](expression, list(expression.arguments), inner)


def logarithmic_derivative(expression: Expression, tangents: Tangents) -> Expression:
    """The derivative of the logarithm, (d e) / e, with the factors that do not change gone.

    For `c * x * y` with respect to c it is 1 / c: a number of the patient, not of the state.

    Example:
        >>> from engine.network.expressions import parse
        >>> str(logarithmic_derivative(parse("c * x * y"), {"c": Number(1.0)}))
        '1 / c'
    """
    if not symbols(expression) & tangents.keys():
        return ZERO
    if isinstance(expression, Call):
        function, arguments = expression.function, expression.arguments
        if function == "mul":
            return call("add", *(logarithmic_derivative(a, tangents) for a in arguments))
        if function == "div":
            above, below = (logarithmic_derivative(a, tangents) for a in arguments)
            return _difference(above, below)
        if function == "neg":
            return logarithmic_derivative(arguments[0], tangents)
        if function == "exp":
            return derivative(arguments[0], tangents)
        if function == "pow" and derivative(arguments[1], tangents) == ZERO:
            return call("mul", arguments[1], logarithmic_derivative(arguments[0], tangents))
    change = derivative(expression, tangents)
    return call("div", change, expression)


def shifted(expression: Expression, change: Mapping[str, int]) -> Expression:
    """The expression after counts have changed: x -> x + n for every n of `change`."""
    moved = {
        name: call("add", Symbol(name), Number(float(number))) for name, number in change.items()
    }
    return substitute(expression, moved)


def without_rules(rules: dict[str, Expression], expression: Expression) -> Expression:
    """An expression with the assignment rules' expressions in place of their names."""
    for name in reversed(rules):
        if name in symbols(expression):
            expression = substitute(expression, {name: rules[name]})
    return expression


def _difference(a: Expression, b: Expression) -> Expression:
    if b == ZERO:
        return a
    return call("neg", b) if a == ZERO else call("sub", a, b)


def _named(expression: Expression, tangents: Tangents) -> str:
    return ", ".join(f"'{name}'" for name in sorted(symbols(expression) & tangents.keys()))


def _piecewise(node: Call, tangents: Tangents) -> Expression:
    """Branch by branch: where the condition itself moves, the value may jump."""
    for condition in node.arguments[1::2]:
        for part in walk(condition):
            if isinstance(part, Symbol) and tangents.get(part.name, ZERO) != ZERO:
                raise InvalidInput(
                    f"the condition '{condition}' depends on {_named(condition, tangents)}, where "
                    "the value may jump; use engine.gradient.CoupledDifference()"
                )
    parts = [
        argument if position % 2 else derivative(argument, tangents)
        for position, argument in enumerate(node.arguments)
    ]
    values = [part for i, part in enumerate(parts) if i % 2 == 0]
    return ZERO if all(value == ZERO for value in values) else call("piecewise", *parts)


_JUMPING = COMPARISONS | LOGICAL | {"floor", "ceil", "rem"}


def _add(node: Call, a: list[Expression], d: list[Expression]) -> Expression:
    return call("add", *d)


def _sub(node: Call, a: list[Expression], d: list[Expression]) -> Expression:
    return _difference(d[0], d[1])


def _mul(node: Call, a: list[Expression], d: list[Expression]) -> Expression:
    terms = (call("mul", *a[:i], change, *a[i + 1 :]) for i, change in enumerate(d))
    return call("add", *terms)


def _div(node: Call, a: list[Expression], d: list[Expression]) -> Expression:
    first = call("div", d[0], a[1])
    second = call("div", call("mul", a[0], d[1]), call("pow", a[1], Number(2.0)))
    return _difference(first, second)


def _pow(node: Call, a: list[Expression], d: list[Expression]) -> Expression:
    base, exponent = a
    lower = call("sub", exponent, ONE)
    first = call("mul", exponent, call("pow", base, lower), d[0])
    if d[1] == ZERO:
        return first
    # a^b log(a) -> 0 as a falls to 0, where the logarithm alone has no value.
    growth = call("mul", node, call("log", base), d[1])
    return call("add", first, call("piecewise", growth, call("gt", base, ZERO), ZERO))


def _neg(node: Call, a: list[Expression], d: list[Expression]) -> Expression:
    return _difference(ZERO, d[0])


def _abs(node: Call, a: list[Expression], d: list[Expression]) -> Expression:
    return call("piecewise", d[0], call("ge", a[0], ZERO), _difference(ZERO, d[0]))


def _extremum(node: Call, a: list[Expression], d: list[Expression]) -> Expression:
    """The change of the argument that is the extremum; the first where several are."""
    compare = "ge" if node.function == "max" else "le"
    result = d[-1]
    for i in reversed(range(len(a) - 1)):
        is_it = [call(compare, a[i], other) for j, other in enumerate(a) if j != i]
        condition = is_it[0] if len(is_it) == 1 else call("and", *is_it)
        result = call("piecewise", d[i], condition, result)
    return result


def _outer(slope: str) -> Rule:
    """The chain rule for a function of one argument; `slope` is its derivative at `u`."""
    written = parse(slope)

    def rule(node: Call, a: list[Expression], d: list[Expression]) -> Expression:
        return call("mul", substitute(written, {"u": a[0]}), d[0])

    return rule


_RULES: dict[str, Rule] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "neg": _neg,
    "abs": _abs,
    "min": _extremum,
    "max": _extremum,
    "exp": _outer("exp(u)"),
    "logistic": _outer("logistic(u) * logistic(-u)"),
    "log": _outer("1 / u"),
    "log10": _outer(f"1 / (u * {math.log(10.0)!r})"),
    "log2": _outer(f"1 / (u * {math.log(2.0)!r})"),
    "sqrt": _outer("0.5 / sqrt(u)"),
    "sin": _outer("cos(u)"),
    "cos": _outer("-sin(u)"),
    "tan": _outer("1 + tan(u)^2"),
    "asin": _outer("1 / sqrt(1 - u^2)"),
    "acos": _outer("-1 / sqrt(1 - u^2)"),
    "atan": _outer("1 / (1 + u^2)"),
    "sinh": _outer("cosh(u)"),
    "cosh": _outer("sinh(u)"),
    "tanh": _outer("1 - tanh(u)^2"),
}
