"""The smaller of two numbers, and what the first exceeds the second by, in few operations.

`min` and `max` also hand on a first argument that is no number, at three times the operations; the
smaller leaves that to whoever uses the first as well.
"""

from engine.network.derivatives import ZERO
from engine.network.expressions import Call, Expression, call


def smaller(a: Expression, b: Expression) -> Expression:
    """a where it is below b, otherwise b.

    Example:
        >>> from engine.network.expressions import parse
        >>> str(smaller(parse("x"), parse("y")))
        'piecewise(x, x < y, y)'
    """
    return call("piecewise", a, call("lt", a, b), b)


def parts_of_smallest(expression: Expression) -> tuple[Expression, ...] | None:
    """Of which an expression is the smallest; None where it is written as something else."""
    match expression:
        case Call("min", parts):
            return parts
        case Call("piecewise", (a, Call("lt", pair), b)) if pair == (a, b):
            return a, b
    return None


def excess(a: Expression, b: Expression) -> Expression:
    """a - b where a is above b, otherwise 0.

    Not a less the smaller of both: compilers make a comparison and a masked difference of that.

    Example:
        >>> from engine.network.expressions import parse
        >>> str(excess(parse("x"), parse("y")))
        'piecewise(0, x - y < 0, x - y)'
    """
    difference = call("sub", a, b)
    return call("piecewise", ZERO, call("lt", difference, ZERO), difference)


def parts_of_excess(expression: Expression) -> tuple[Expression, Expression] | None:
    """What exceeds what, of an `excess`; None where it is written as something else."""
    match expression:
        case Call("piecewise", (zero, Call("lt", (Call("sub", (a, b)) as left, below)), right)) if (
            left == right and zero == below == ZERO
        ):
            return a, b
    return None
