"""Formulas of PEtab tables as expressions; the library `petab` knows their grammar."""

from collections.abc import Callable, Mapping
from functools import reduce

import sympy
from petab.v1.math import sympify_petab

from engine.errors import InvalidInput
from engine.network.expressions import Expression, Number, Symbol, call

_PLAIN: Mapping[str, str] = {
    "exp": "exp",
    "log": "log",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "asin",
    "acos": "acos",
    "atan": "atan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "Abs": "abs",
    "floor": "floor",
    "ceiling": "ceil",
    "Min": "min",
    "Max": "max",
    "StrictLessThan": "lt",
    "LessThan": "le",
    "StrictGreaterThan": "gt",
    "GreaterThan": "ge",
    "Equality": "eq",
    "Unequality": "ne",
    "And": "and",
    "Or": "or",
    "Xor": "xor",
    "Not": "not",
}


def read_formula(text: str | float, names: Mapping[str, str], where: str) -> Expression:
    """The expression of a formula.

    Args:
        text: a formula of the PEtab math language, or a number.
        names: the model's name of each identifier of its file, where they differ.
        where: what it belongs to, such as "observable 'pSTAT5'".

    Raises:
        InvalidInput: text outside the language.
    """
    try:
        tree = sympify_petab(text)
    except Exception as error:  # the parser raises ValueError, TypeError and its own
        reason = " ".join(str(error).split())
        raise InvalidInput(f"{where}: cannot read the formula '{text}': {reason}") from None
    return _expression(tree, names, f"{where}, formula '{text}'")


def _expression(node: sympy.Basic, names: Mapping[str, str], where: str) -> Expression:
    def inner(part: sympy.Basic) -> Expression:
        return _expression(part, names, where)

    if isinstance(node, sympy.Symbol):
        return Symbol(names.get(node.name, node.name))
    if node in (sympy.true, sympy.false):
        return Number(float(node == sympy.true))
    if node.is_number:
        return Number(float(node))
    if isinstance(node, sympy.Add):
        return call("add", *map(inner, node.args))
    if isinstance(node, sympy.Mul):
        return _product(node, inner)
    if isinstance(node, sympy.Pow):
        return _power(node, inner)
    if isinstance(node, sympy.Piecewise):
        return _piecewise(node, inner)
    function = _PLAIN.get(type(node).__name__)
    if function is None:
        raise InvalidInput(f"{where} uses '{type(node).__name__}', which is not read")
    arguments = [inner(part) for part in node.args]
    if function in ("min", "max"):
        return reduce(lambda a, b: call(function, a, b), arguments)
    return call(function, *arguments)


def _product(node: sympy.Mul, inner: Callable[[sympy.Basic], Expression]) -> Expression:
    """A quotient where factors have negative exponents."""
    below = [part for part in node.args if _is_divisor(part)]
    above = [part for part in node.args if not _is_divisor(part)]
    top = call("mul", Number(1.0), *map(inner, above))
    if not below:
        return top
    inverted = (inner(sympy.Pow(part.base, -part.exp)) for part in below)
    return call("div", top, call("mul", Number(1.0), *inverted))


def _is_divisor(part: sympy.Basic) -> bool:
    return isinstance(part, sympy.Pow) and part.exp.is_number and part.exp < 0


def _power(node: sympy.Pow, inner: Callable[[sympy.Basic], Expression]) -> Expression:
    base, exponent = node.args
    if exponent == sympy.Rational(1, 2):
        return call("sqrt", inner(base))
    if exponent.is_number and exponent < 0:
        return call("div", Number(1.0), inner(sympy.Pow(base, -exponent)))
    return call("pow", inner(base), inner(exponent))


def _piecewise(node: sympy.Piecewise, inner: Callable[[sympy.Basic], Expression]) -> Expression:
    arguments: list[Expression] = []
    for value, condition in node.args:
        if condition == sympy.true:
            arguments.append(inner(value))
            break
        arguments += [inner(value), inner(condition)]
    return call("piecewise", *arguments)
