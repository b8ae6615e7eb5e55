"""Arithmetic expressions of species, parameters, time and inputs: a small safe language.

An expression is a tree of three frozen node types: `Number`, `Symbol` and `Call`. It is read
from text with `parse` (Python's own grammar, walked with a white list, never evaluated as code)
or built from another format such as MathML. Species stand for molecule counts, `time` for time.
"""

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

from engine.errors import InvalidInput

TIME = "time"


@dataclass(frozen=True, slots=True)
class Number:
    """A literal constant."""

    value: float

    def __str__(self) -> str:
        return repr(int(self.value)) if self.value == round_or_nan(self.value) else repr(self.value)


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name: a species (its count), a parameter, a variable, an input, or `time`."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Call:
    """A function of `FUNCTIONS` applied to arguments."""

    function: str
    arguments: tuple["Expression", ...]

    def __str__(self) -> str:
        return _to_text(self)


Expression = Number | Symbol | Call


def round_or_nan(value: float) -> float:
    """The nearest integer, or NaN where there is none or where it would print badly."""
    return float(round(value)) if abs(value) < 1e15 else math.nan


def _piecewise(*arguments: float) -> float:
    pairs, otherwise = divmod(len(arguments), 2)
    for i in range(pairs):
        if arguments[2 * i + 1]:
            return arguments[2 * i]
    return arguments[-1] if otherwise else math.nan


def _logistic(x: float) -> float:
    """1 / (1 + exp(-x)), without an exponential that overflows."""
    return 1.0 / (1.0 + math.exp(-x)) if x > 0 else math.exp(x) / (1.0 + math.exp(x))


def _chain(compare: Callable[[float, float], bool]) -> Callable[..., float]:
    return lambda *a: float(all(compare(x, y) for x, y in pairwise(a)))


FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "add": lambda *a: math.fsum(a),
    "sub": lambda a, b: a - b,
    "mul": lambda *a: math.prod(a),
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "exp": math.exp,
    "logistic": _logistic,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "sqrt": math.sqrt,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "min": min,
    "max": max,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "rem": math.fmod,
    "lt": _chain(lambda a, b: a < b),
    "le": _chain(lambda a, b: a <= b),
    "gt": _chain(lambda a, b: a > b),
    "ge": _chain(lambda a, b: a >= b),
    "eq": _chain(lambda a, b: a == b),
    "ne": lambda a, b: float(a != b),
    "and": lambda *a: float(all(a)),
    "or": lambda *a: float(any(a)),
    "xor": lambda *a: float(sum(bool(x) for x in a) % 2),
    "not": lambda a: float(not a),
    "piecewise": _piecewise,
}

COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
LOGICAL = frozenset({"and", "or", "xor", "not"})
_ARITY = {
    **{name: (1, 1) for name in ("neg", "exp", "logistic", "log", "log10", "log2")},
    **{name: (1, 1) for name in ("sqrt", "abs", "floor", "ceil")},
    **{name: (1, 1) for name in ("sin", "cos", "tan", "asin", "acos", "atan", "not")},
    **{name: (1, 1) for name in ("sinh", "cosh", "tanh")},
    **{name: (2, 2) for name in ("sub", "div", "pow", "rem", "ne")},
    **{name: (1, None) for name in ("add", "mul", "min", "max", "and", "or", "xor")},
    "piecewise": (1, None),
    **{name: (2, None) for name in ("lt", "le", "gt", "ge", "eq")},
}


# Construction with the simplifications that keep trees small and make "is it zero?" decidable.


def call(function: str, *arguments: Expression) -> Expression:
    """The simplified application of `function`: constants folded, sums and products flattened.

    Raises:
        InvalidInput: the function is unknown or has another number of arguments.
    """
    if function not in FUNCTIONS:
        raise InvalidInput(
            f"unknown function '{function}' in an expression; known: {', '.join(sorted(FUNCTIONS))}"
        )
    least, most = _ARITY[function]
    if len(arguments) < least or (most is not None and len(arguments) > most):
        expected = f"{least}" if least == most else f"at least {least}"
        raise InvalidInput(
            f"function '{function}' takes {expected} arguments, {len(arguments)} were given"
        )
    if function in ("add", "mul"):
        return _flat(function, arguments)
    if function == "div" and arguments[0] == Number(0.0):
        return Number(0.0)
    if function == "div" and arguments[1] == Number(1.0):
        return arguments[0]
    if function == "sub" and arguments[1] == Number(0.0):
        return arguments[0]
    if function == "pow" and arguments[1] == Number(1.0):
        return arguments[0]
    return _folded(Call(function, arguments))


def _folded(node: Call) -> Expression:
    if all(isinstance(argument, Number) for argument in node.arguments):
        try:
            value = FUNCTIONS[node.function](*(a.value for a in node.arguments))  # type: ignore[union-attr]
        except (ArithmeticError, ValueError):
            return node
        if isinstance(value, int | float):
            return Number(float(value))
    return node


def _flat(function: str, arguments: tuple[Expression, ...]) -> Expression:
    """An n-ary sum or product: nested ones opened, numbers gathered in front."""
    opened: list[Expression] = []
    for argument in arguments:
        nested = isinstance(argument, Call) and argument.function == function
        opened.extend(argument.arguments if nested else (argument,))  # type: ignore[union-attr]
    neutral = 0.0 if function == "add" else 1.0
    numbers = [a.value for a in opened if isinstance(a, Number)]
    constant = FUNCTIONS[function](*numbers) if numbers else neutral
    rest: list[Expression] = [a for a in opened if not isinstance(a, Number)]
    if function == "mul" and constant == 0.0:
        return Number(0.0)
    if not rest:
        return Number(constant)
    if constant != neutral:
        rest.insert(0, Number(constant))
    return rest[0] if len(rest) == 1 else Call(function, tuple(rest))


# Walking.


def symbols(expression: Expression) -> frozenset[str]:
    """The names that an expression mentions."""
    return frozenset(node.name for node in walk(expression) if isinstance(node, Symbol))


def walk(expression: Expression) -> Iterator[Expression]:
    """Every node of the tree, the root first."""
    stack = [expression]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, Call):
            stack.extend(node.arguments)


def substitute(expression: Expression, values: Mapping[str, Expression]) -> Expression:
    """The expression with symbols replaced, simplified again."""
    if isinstance(expression, Symbol):
        return values.get(expression.name, expression)
    if isinstance(expression, Number):
        return expression
    return call(expression.function, *(substitute(a, values) for a in expression.arguments))


def evaluate(expression: Expression, values: Mapping[str, float]) -> float:
    """The number that an expression has where every symbol has a value.

    Raises:
        InvalidInput: a symbol without a value, or a result that is not a number.
    """
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, Symbol):
        if expression.name not in values:
            raise InvalidInput(f"'{expression.name}' has no value here")
        return values[expression.name]
    if expression.function == "piecewise":
        return _evaluate_branch(expression, values)
    arguments = [evaluate(a, values) for a in expression.arguments]
    try:
        value = FUNCTIONS[expression.function](*arguments)
    except (ArithmeticError, ValueError) as error:
        raise InvalidInput(f"'{expression}' has no value: {error}") from None
    if isinstance(value, complex):
        raise InvalidInput(f"'{expression}' is not a real number")
    return float(value)


def _evaluate_branch(node: Call, values: Mapping[str, float]) -> float:
    """The chosen branch of a piecewise only: the others may have no value."""
    branches = node.arguments
    for value, condition in zip(branches[::2], branches[1::2], strict=False):
        if evaluate(condition, values):
            return evaluate(value, values)
    return evaluate(branches[-1], values) if len(branches) % 2 else math.nan


# Text in.

_BINARY = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
    ast.Mod: "rem",
}
_COMPARE = {
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}
_ALIASES = {"ln": "log", "power": "pow", "ceiling": "ceil"}


def parse(text: str | float | Expression) -> Expression:
    """Read an expression such as `"k_on * IL6 * IL6R / (1 + SOCS3 / K)"`.

    Operators `+ - * / ^ **`, comparisons, `and or not`, `a if condition else b`, and the names
    in `FUNCTIONS`. Nothing is executed.

    Raises:
        InvalidInput: text that is not an arithmetic expression.
    """
    if isinstance(text, Number | Symbol | Call):
        return text
    if isinstance(text, int | float):
        return Number(float(text))
    try:
        tree = ast.parse(text.replace("^", "**").strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        raise InvalidInput(f"cannot read the expression '{text}'") from None
    return _from_python(tree.body, text)


def _from_python(node: ast.expr, text: str) -> Expression:
    def inner(child: ast.expr) -> Expression:
        return _from_python(child, text)

    match node:
        case ast.Constant(value=bool() as value):
            return Number(float(value))
        case ast.Constant(value=int() | float() as value):
            return Number(float(value))
        case ast.Name(id=name):
            return Symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            term = inner(operand)
            return Number(-term.value) if isinstance(term, Number) else call("neg", term)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return inner(operand)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return call("not", inner(operand))
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _BINARY:
            return call(_BINARY[type(operator)], inner(left), inner(right))
        case ast.BoolOp(op=operator, values=values):
            return call("and" if isinstance(operator, ast.And) else "or", *map(inner, values))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return call("piecewise", inner(body), inner(test), inner(orelse))
        case ast.Compare(left=left, ops=operators, comparators=others):
            terms = [inner(left), *map(inner, others)]
            if all(type(operator) in _COMPARE for operator in operators):
                links = [
                    call(_COMPARE[type(operator)], a, b)
                    for operator, a, b in zip(operators, terms, terms[1:], strict=False)
                ]
                return links[0] if len(links) == 1 else call("and", *links)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return call(_ALIASES.get(name, name), *map(inner, arguments))
    raise InvalidInput(
        f"cannot read '{ast.unparse(node)}' in the expression '{text}'; "
        "use numbers, names, + - * / ^, comparisons, and/or/not and the listed functions"
    )


# Text out.

_INFIX = {"add": (" + ", 4), "sub": (" - ", 4), "mul": (" * ", 5), "div": (" / ", 5)}
_INFIX |= {"pow": ("^", 7), "and": (" and ", 1), "or": (" or ", 0)}
_INFIX |= {"lt": (" < ", 3), "le": (" <= ", 3), "gt": (" > ", 3), "ge": (" >= ", 3)}
_INFIX |= {"eq": (" == ", 3), "ne": (" != ", 3)}


def _to_text(node: Call) -> str:
    if node.function == "neg":
        return f"-{_bracketed(node.arguments[0], 6)}"
    if node.function not in _INFIX or len(node.arguments) < 2:
        return f"{node.function}({', '.join(map(str, node.arguments))})"
    sign, strength = _INFIX[node.function]
    first = _bracketed(node.arguments[0], strength + (node.function == "pow"))
    associative = node.function in ("add", "mul", "and", "or")
    rest = (_bracketed(a, strength + (not associative)) for a in node.arguments[1:])
    return reduce(lambda text, term: f"{text}{sign}{term}", rest, first)


def _bracketed(node: Expression, strength: int) -> str:
    text = str(node)
    own = 9
    if isinstance(node, Call):
        own = 6 if node.function == "neg" else _INFIX.get(node.function, ("", 9))[1]
    elif isinstance(node, Number) and node.value < 0:
        own = 6
    return f"({text})" if own < strength else text
