"""What an importer must know about a rate law: its signs, its powers, its common factors."""

from collections.abc import Callable, Collection
from functools import reduce
from typing import TypeGuard

from engine.network.expressions import (
    COMPARISONS,
    LOGICAL,
    Call,
    Expression,
    Number,
    Symbol,
    call,
    substitute,
    symbols,
)

ZERO, ONE = Number(0.0), Number(1.0)
_NEVER_NEGATIVE = COMPARISONS | LOGICAL | {"exp", "logistic", "abs", "sqrt", "cosh"}


def tidy(expression: Expression) -> Expression:
    """The same value with equal factors of numerators and denominators cancelled.

    `k * V * (A / V) * (B / V)` becomes `k * A * B / V`, so that a volume or Avogadro's number
    that drops out of a law leaves no rounding and no work behind.
    """
    if not isinstance(expression, Call):
        return expression
    if _is_ratio(expression):
        return _ratio(expression)
    return call(expression.function, *map(tidy, expression.arguments))


def _is_ratio(node: Expression) -> TypeGuard[Call]:
    if not isinstance(node, Call):
        return False
    is_power = node.function == "pow" and _small(node.arguments[1]) > 0
    return node.function in ("mul", "div") or is_power


def _ratio(node: Call) -> Expression:
    above: list[Expression] = []
    below: list[Expression] = []
    _collect(node, above, below)
    if ZERO in below:
        return node
    for factor in tuple(below):
        if factor in above:
            above.remove(factor)
            below.remove(factor)
    constant = _product_of_numbers(above) / _product_of_numbers(below)
    top = call("mul", Number(constant), *_powers(above))
    bottom = call("mul", ONE, *_powers(below))
    return top if bottom == ONE else call("div", top, bottom)


def _collect(node: Expression, above: list[Expression], below: list[Expression]) -> None:
    if isinstance(node, Call) and node.function == "mul":
        for argument in node.arguments:
            _collect(argument, above, below)
    elif isinstance(node, Call) and node.function == "div":
        _collect(node.arguments[0], above, below)
        _collect(node.arguments[1], below, above)
    elif isinstance(node, Call) and node.function == "pow" and _small(node.arguments[1]):
        for _ in range(_small(node.arguments[1])):
            _collect(node.arguments[0], above, below)
    else:
        simpler = tidy(node)
        if _is_ratio(simpler):
            _collect(simpler, above, below)
        else:
            above.append(simpler)


def _small(exponent: Expression) -> int:
    """A whole exponent from 1 to 4, else 0."""
    is_small = isinstance(exponent, Number) and exponent.value in (1.0, 2.0, 3.0, 4.0)
    return int(exponent.value) if is_small else 0  # type: ignore[union-attr]


def _product_of_numbers(factors: list[Expression]) -> float:
    numbers = [f.value for f in factors if isinstance(f, Number)]
    return reduce(lambda a, b: a * b, numbers, 1.0)


def _powers(factors: list[Expression]) -> list[Expression]:
    counts: dict[Expression, int] = {}
    for factor in factors:
        if not isinstance(factor, Number):
            counts[factor] = counts.get(factor, 0) + 1
    return [call("pow", factor, Number(float(n))) for factor, n in counts.items()]


def degree(expression: Expression, name: str) -> float | None:
    """The power d where the expression is `name`^d times something free of it, else None."""
    if isinstance(expression, Number):
        return 0.0
    if isinstance(expression, Symbol):
        return float(expression.name == name)
    if name not in symbols(expression):
        return 0.0
    arguments = expression.arguments
    match expression.function:
        case "mul":
            return _total([degree(a, name) for a in arguments])
        case "div":
            above, below = (degree(a, name) for a in arguments)
            return None if above is None or below is None else above - below
        case "pow" if isinstance(arguments[1], Number):
            base = degree(arguments[0], name)
            return None if base is None else base * arguments[1].value
        case "add" | "sub" | "neg":
            return _common([degree(a, name) for a in arguments])
        case "piecewise":
            values, conditions = arguments[::2], arguments[1::2]
            if any(name in symbols(condition) for condition in conditions):
                return None
            return _common([degree(a, name) for a in values if a != ZERO])
    return None


def _total(degrees: list[float | None]) -> float | None:
    known = [d for d in degrees if d is not None]
    return sum(known) if len(known) == len(degrees) else None


def _common(degrees: list[float | None]) -> float | None:
    return degrees[0] if degrees and all(d == degrees[0] for d in degrees) else None


def coefficient(expression: Expression, names: Collection[str]) -> Expression:
    """What multiplies the powers of `names` in an expression of known degrees."""
    return tidy(substitute(expression, dict.fromkeys(names, ONE)))


Signed = tuple[Expression, Expression]


def split_signs(expression: Expression, moving: Collection[str], pairs: Collection[str]) -> Signed:
    """Two expressions, positive and negative part, whose difference is the expression.

    Every name is taken to be non-negative. Differences are opened through sums, products,
    numerators and the branches of a piecewise, so `V * (kf * A - kr * B)` gives `V * kf * A`
    and `V * kr * B`. A difference of constants, such as `1 - blocked`, says nothing about a
    direction and stays whole; so does the falling factorial `X * (X - 1)` of one of `pairs`,
    which is never negative on counts.

    Args:
        expression: a law, tidied.
        moving: names that change with the state: species and quantities set by rules.
        pairs: reactants of stoichiometry 2 or more.
    """

    def split(part: Expression) -> Signed:
        return split_signs(part, moving, pairs)

    if isinstance(expression, Number):
        value = expression.value
        return (expression, ZERO) if value >= 0 else (ZERO, Number(-value))
    if isinstance(expression, Symbol):
        return expression, ZERO
    arguments = expression.arguments
    is_moving = not symbols(expression).isdisjoint(moving)
    match expression.function:
        case "add" if is_moving:
            parts = [split(a) for a in arguments]
            return call("add", *(p for p, _ in parts)), call("add", *(n for _, n in parts))
        case "sub" if is_moving:
            (p0, n0), (p1, n1) = map(split, arguments)
            return call("add", p0, n1), call("add", n0, p1)
        case "neg":
            positive, negative = split(arguments[0])
            return negative, positive
        case "mul":
            wholes = (_is_falling(factor, arguments, pairs) for factor in arguments)
            factors = zip(arguments, wholes, strict=True)
            return reduce(_times, ((f, ZERO) if whole else split(f) for f, whole in factors))
        case "div":
            positive, negative = split(arguments[0])
            return call("div", positive, arguments[1]), call("div", negative, arguments[1])
        case "piecewise":
            return _split_branches(expression, split)
    return expression, ZERO


def _times(a: Signed, b: Signed) -> Signed:
    (p, n), (q, m) = a, b
    return (
        call("add", call("mul", p, q), call("mul", n, m)),
        call("add", call("mul", p, m), call("mul", n, q)),
    )


def _is_falling(
    factor: Expression, arguments: tuple[Expression, ...], pairs: Collection[str]
) -> bool:
    """Whether `factor` is X - c beside a factor X, X one of `pairs`."""
    match factor:
        case Call("sub", (Symbol(name), taken)):
            pass
        case Call("add", (Number() as taken, Symbol(name))):
            pass
        case _:
            return False
    beside = {base.name for base in map(_base, arguments) if isinstance(base, Symbol)}
    return name in pairs and name in beside and symbols(taken).isdisjoint(pairs)


def _base(factor: Expression) -> Expression:
    is_power = isinstance(factor, Call) and factor.function == "pow"
    return factor.arguments[0] if is_power else factor  # type: ignore[union-attr]


def _split_branches(node: Call, split: Callable[[Expression], Signed]) -> Signed:
    positives, negatives = list(node.arguments), list(node.arguments)
    last = len(node.arguments) - 1
    for i, argument in enumerate(node.arguments):
        if i % 2 == 0 or (i == last and len(node.arguments) % 2):
            positives[i], negatives[i] = split(argument)
    if all(branch == ZERO for branch in negatives[::2]):
        return node, ZERO
    return call("piecewise", *positives), call("piecewise", *negatives)


def is_sign_unclear(
    expression: Expression, moving: Collection[str], pairs: Collection[str]
) -> bool:
    """Whether a law has no forward and reverse part that `split_signs` can tell apart.

    So has log(A / B), and so has a product of two differences, such as (n - X) (m - X).
    """
    if not isinstance(expression, Call) or symbols(expression).isdisjoint(moving):
        return False

    def is_unclear(part: Expression) -> bool:
        return is_sign_unclear(part, moving, pairs)

    def may_be_negative(part: Expression) -> bool:
        return split_signs(part, moving, pairs)[1] != ZERO or is_unclear(part)

    arguments, function = expression.arguments, expression.function
    if function == "mul":
        open_factors = [a for a in arguments if not _is_falling(a, arguments, pairs)]
        differences = [a for a in open_factors if split_signs(a, moving, pairs)[1] != ZERO]
        moving_differences = [a for a in differences if not symbols(a).isdisjoint(moving)]
        return len(moving_differences) > 1 or any(map(is_unclear, open_factors))
    if function in ("add", "sub", "neg"):
        return any(map(is_unclear, arguments))
    if function == "div":
        return is_unclear(arguments[0])
    if function == "piecewise":
        return any(map(is_unclear, arguments[::2]))
    if function in _NEVER_NEGATIVE:
        return False
    if function == "pow":
        exponent = arguments[1]
        is_even = isinstance(exponent, Number) and exponent.value % 2 == 0
        return not is_even and may_be_negative(arguments[0])
    if function == "max":
        return all(map(may_be_negative, arguments))
    if function in ("min", "floor", "ceil", "atan", "tanh", "sinh", "rem"):
        return any(map(may_be_negative, arguments))
    return True
