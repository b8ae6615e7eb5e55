"""Conditions on time alone: where a right-hand side jumps, found before it is integrated."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from engine.errors import InvalidInput
from engine.network.expressions import (
    COMPARISONS,
    TIME,
    Call,
    Expression,
    Number,
    Symbol,
    call,
    substitute,
    symbols,
)

_JUMPING = frozenset({"floor", "ceil", "rem"})


@dataclass
class Switches:
    """Collects the comparisons of time in many expressions, each once.

    A comparison whose two sides differ by a + b t has one time -a / b at which it changes. It is
    replaced by a symbol that is 0 or 1 all through a stretch between two such times.

    Args:
        constants: names that do not change in time.
        rules: assignment rules, by whose means an expression may depend on time.
    """

    constants: Collection[str]
    rules: Mapping[str, Expression] = field(default_factory=dict)
    atoms: dict[Expression, str] = field(default_factory=dict)

    def extract(self, expression: Expression) -> Expression:
        """The expression with every comparison of time replaced by its symbol.

        Raises:
            InvalidInput: a condition whose times of change are not those of a straight line.
        """
        if not isinstance(expression, Call):
            return expression
        if expression.function in COMPARISONS:
            plain = self._inlined(expression)
            if TIME in symbols(plain) and symbols(plain) <= {TIME, *self.constants}:
                for difference in differences(plain):
                    if not is_affine(difference):
                        raise InvalidInput(
                            f"the condition {expression} on time is not linear in time, and its "
                            "times of change cannot be told; write it as time < constant"
                        )
                return Symbol(self.atoms.setdefault(plain, f"switch {len(self.atoms)}"))
        if expression.function in _JUMPING and TIME in symbols(self._inlined(expression)):
            raise InvalidInput(
                f"{expression} jumps in time without a condition; write it as a piecewise of time"
            )
        return Call(expression.function, tuple(self.extract(a) for a in expression.arguments))

    def _inlined(self, expression: Expression) -> Expression:
        """With rules written out that depend on nothing but time and constants."""
        while symbols(expression) & self.rules.keys():
            expression = substitute(expression, self.rules)
        return expression


def differences(comparison: Expression) -> list[Expression]:
    """Left minus right of every neighbouring pair that a comparison compares."""
    if not isinstance(comparison, Call):
        return []
    sides = comparison.arguments
    return [call("sub", a, b) for a, b in pairwise(sides)]


def is_affine(expression: Expression) -> bool:
    """Whether an expression is a + b t with a and b free of time."""
    if TIME not in symbols(expression) or isinstance(expression, Number | Symbol):
        return True
    arguments = expression.arguments
    timed = [a for a in arguments if TIME in symbols(a)]
    match expression.function:
        case "add" | "sub" | "neg":
            return all(map(is_affine, arguments))
        case "mul":
            return len(timed) == 1 and is_affine(timed[0])
        case "div":
            return TIME not in symbols(arguments[1]) and is_affine(arguments[0])
    return False
