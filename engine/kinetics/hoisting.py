"""Split expressions into what a patient's parameters fix once and what each event changes.

Everything that depends on parameters alone becomes a *coefficient*: evaluated once per patient in
float64 on the host, then held by the lane in float32. This keeps unit conversions such as
k / (N_A V), whose factors overflow float32, exact, and leaves `c * x * (x - 1)` in the inner loop.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.kinetics.smaller import parts_of_excess, parts_of_smallest
from engine.network.expressions import Call, Expression, Number, Symbol, call, symbols


@dataclass
class Coefficients:
    """Collects the parameter-only subexpressions of many expressions, each once.

    Args:
        constants: names that do not change during a simulation.
    """

    constants: frozenset[str]
    expressions: dict[Expression, str] = field(default_factory=dict)

    def hoist(self, expression: Expression) -> Expression:
        """The expression with every maximal constant part replaced by a coefficient symbol."""
        if isinstance(expression, Number):
            return expression
        if symbols(expression) <= self.constants:
            return self._named(expression)
        if isinstance(expression, Symbol):
            return expression
        if expression.function in ("mul", "div", "neg"):
            return self._hoist_product(expression)
        if expression.function == "add":
            return self._hoist_sum(expression)
        return Call(expression.function, tuple(self.hoist(a) for a in expression.arguments))

    def _named(self, expression: Expression) -> Symbol:
        name = self.expressions.setdefault(expression, f"_c{len(self.expressions)}")
        return Symbol(name)

    def _hoist_product(self, expression: Expression) -> Expression:
        fixed, moving_above, moving_below = _parted(expression, self.constants)
        result: list[Expression] = []
        if isinstance(fixed, Number):
            if fixed.value != 1.0:
                result.append(fixed)
        else:
            result.append(self._named(fixed))
        result += [self.hoist(factor) for factor in moving_above]
        numerator = result[0] if len(result) == 1 else Call("mul", tuple(result))
        if not result:
            numerator = Number(1.0)
        if not moving_below:
            return numerator
        return Call("div", (numerator, _product([self.hoist(f) for f in moving_below])))

    def _hoist_sum(self, expression: Call) -> Expression:
        fixed, moving = _split(expression.arguments, self.constants)
        terms = [self.hoist(term) for term in moving]
        if fixed:
            constant = call("add", *fixed)
            terms.append(constant if isinstance(constant, Number) else self._named(constant))
        return terms[0] if len(terms) == 1 else Call("add", tuple(terms))


def separated(expression: Expression, constants: frozenset[str]) -> tuple[Expression, Expression]:
    """A constant factor and what is left, whose product the expression is.

    Example:
        >>> from engine.network.expressions import parse
        >>> [str(part) for part in separated(parse("k * x / v"), frozenset({"k", "v"}))]
        ['k / v', 'x']
    """
    fixed, moving_above, moving_below = _parted(expression, constants)
    return fixed, call("div", _product(moving_above), _product(moving_below))


def _parted(
    expression: Expression, constants: frozenset[str]
) -> tuple[Expression, list[Expression], list[Expression]]:
    """The constant factor of a product, and the other factors above and below the line."""
    above, below = _factors(expression)
    fixed_above, moving_above = _split(above, constants)
    fixed_below, moving_below = _split(below, constants)
    fixed = call("div", _product(fixed_above), _product(fixed_below))
    return fixed, moving_above, moving_below


def _product(factors: list[Expression]) -> Expression:
    return call("mul", Number(1.0), *factors)


def _split(
    parts: Iterable[Expression], constants: frozenset[str]
) -> tuple[list[Expression], list[Expression]]:
    fixed: list[Expression] = []
    moving: list[Expression] = []
    for part in parts:
        (fixed if symbols(part) <= constants else moving).append(part)
    return fixed, moving


def _factors(expression: Expression) -> tuple[list[Expression], list[Expression]]:
    """Numerator and denominator factors of a nest of products, quotients and signs."""
    if not isinstance(expression, Call) or expression.function not in ("mul", "div", "neg"):
        return [expression], []
    if expression.function == "neg":
        above, below = _factors(expression.arguments[0])
        return [Number(-1.0), *above], below
    above, below = [], []
    for position, argument in enumerate(expression.arguments):
        inner_above, inner_below = _factors(argument)
        if expression.function == "div" and position == 1:
            inner_above, inner_below = inner_below, inner_above
        above += inner_above
        below += inner_below
    return above, below


# What can be proved of a rate law without running it.


def is_nonnegative(
    expression: Expression, counts: frozenset[str], signed: frozenset[str] = frozenset()
) -> bool:
    """Whether the value is >= 0 wherever every name but the signed ones is; False if unproved.

    Args:
        expression: a rate law.
        counts: names that are whole numbers.
        signed: names that may be negative (variables).
    """
    if isinstance(expression, Number):
        return expression.value >= 0
    if isinstance(expression, Symbol):
        return expression.name not in signed
    function, arguments = expression.function, expression.arguments

    def is_proved(argument: Expression) -> bool:
        return is_nonnegative(argument, counts, signed)

    if function in ("exp", "logistic", "sqrt", "abs", "lt", "le", "gt", "ge", "eq", "ne"):
        return True
    if function in ("and", "or", "not", "xor"):
        return True
    if parts_of_excess(expression):
        return True
    if function == "sub":
        # What exceeds the smallest of some, of which it is one.
        return arguments[0] in (parts_of_smallest(arguments[1]) or ())
    if function == "mul":
        return all(_is_falling_factor(a, arguments, counts) or is_proved(a) for a in arguments)
    if function == "piecewise":
        values = [a for i, a in enumerate(arguments) if i % 2 == 0]
        return len(arguments) % 2 == 1 and all(map(is_proved, values))
    if function in ("add", "div", "pow", "max", "min", "floor", "ceil"):
        return all(map(is_proved, arguments))
    return False


def _is_falling_factor(
    factor: Expression, factors: tuple[Expression, ...], counts: frozenset[str]
) -> bool:
    """Whether `factor` is x - m beside x, x - 1, ... x - m + 1 of a count x: never negative."""
    match factor:
        case Call("sub", (Symbol(name) as x, Number(m))) if (
            name in counts and m >= 1 and m == int(m)
        ):
            lower = [x, *(Call("sub", (x, Number(float(i)))) for i in range(1, int(m)))]
            return all(term in factors for term in lower)
    return False


def vanishes_below(
    expression: Expression,
    name: str,
    required: int,
    counts: frozenset[str] = frozenset(),
    signed: frozenset[str] = frozenset(),
) -> bool:
    """Whether the value is provably not above 0 where the count `name` is below `required`.

    Args:
        expression: a rate law.
        name: of a count.
        required: how many molecules.
        counts, signed: as for `is_nonnegative`.
    """
    if parts := parts_of_smallest(expression):
        return any(vanishes_below(part, name, required, counts, signed) for part in parts)
    if pair := parts_of_excess(expression):
        is_proved = is_nonnegative(pair[1], counts, signed)
        return is_proved and vanishes_below(pair[0], name, required, counts, signed)
    return all(_at(expression, name, float(count)) == Number(0.0) for count in range(required))


def _at(expression: Expression, name: str, count: float) -> Expression:
    if isinstance(expression, Symbol):
        return Number(count) if expression.name == name else expression
    if isinstance(expression, Number):
        return expression
    return call(expression.function, *(_at(a, name, count) for a in expression.arguments))


def is_affine(expression: Expression, moving: frozenset[str]) -> bool:
    """Whether the value is provably c_0 + sum_i c_i m_i in the moving names m_i."""
    if isinstance(expression, Number | Symbol) or not symbols(expression) & moving:
        return True
    function, arguments = expression.function, expression.arguments
    if not all(is_affine(a, moving) for a in arguments):
        return False
    has_moving = [bool(symbols(a) & moving) for a in arguments]
    match function:
        case "add" | "sub" | "neg":
            return True
        case "mul":
            return sum(has_moving) == 1
        case "div":
            return not has_moving[1]
        case "piecewise":
            return not any(has_moving[1::2])
    return False
