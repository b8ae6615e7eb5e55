"""The smaller of two numbers by one comparison.

`min` also hands on a first argument that is no number, at three times the operations; here that is
left to whoever uses the first as well.
"""

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
