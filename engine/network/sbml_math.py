"""MathML, as libSBML's syntax trees, to and from expressions.

References: the MathML subset of SBML Level 3 Version 2 Core, section 3.4
(doi:10.1515/jib-2017-0081).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import libsbml

from engine.errors import InvalidInput
from engine.network.expressions import TIME, Expression, Number, Symbol, call

AVOGADRO = 6.02214076e23
ONE = Number(1.0)

_OPERATORS = {
    libsbml.AST_PLUS: "add",
    libsbml.AST_TIMES: "mul",
    libsbml.AST_DIVIDE: "div",
    libsbml.AST_POWER: "pow",
    libsbml.AST_FUNCTION_POWER: "pow",
    libsbml.AST_RELATIONAL_EQ: "eq",
    libsbml.AST_RELATIONAL_NEQ: "ne",
    libsbml.AST_RELATIONAL_LT: "lt",
    libsbml.AST_RELATIONAL_LEQ: "le",
    libsbml.AST_RELATIONAL_GT: "gt",
    libsbml.AST_RELATIONAL_GEQ: "ge",
    libsbml.AST_LOGICAL_AND: "and",
    libsbml.AST_LOGICAL_OR: "or",
    libsbml.AST_LOGICAL_XOR: "xor",
    libsbml.AST_LOGICAL_NOT: "not",
    libsbml.AST_FUNCTION_PIECEWISE: "piecewise",
    libsbml.AST_FUNCTION_ABS: "abs",
    libsbml.AST_FUNCTION_EXP: "exp",
    libsbml.AST_FUNCTION_LN: "log",
    libsbml.AST_FUNCTION_FLOOR: "floor",
    libsbml.AST_FUNCTION_CEILING: "ceil",
    libsbml.AST_FUNCTION_MIN: "min",
    libsbml.AST_FUNCTION_MAX: "max",
    libsbml.AST_FUNCTION_REM: "rem",
    libsbml.AST_FUNCTION_SIN: "sin",
    libsbml.AST_FUNCTION_COS: "cos",
    libsbml.AST_FUNCTION_TAN: "tan",
    libsbml.AST_FUNCTION_ARCSIN: "asin",
    libsbml.AST_FUNCTION_ARCCOS: "acos",
    libsbml.AST_FUNCTION_ARCTAN: "atan",
    libsbml.AST_FUNCTION_SINH: "sinh",
    libsbml.AST_FUNCTION_COSH: "cosh",
    libsbml.AST_FUNCTION_TANH: "tanh",
}
# MathML allows these with no argument at all.
_EMPTY = {"add": 0.0, "mul": 1.0, "and": 1.0, "or": 0.0, "xor": 0.0}
_CONSTANTS = {
    libsbml.AST_NAME_AVOGADRO: AVOGADRO,
    libsbml.AST_CONSTANT_E: math.e,
    libsbml.AST_CONSTANT_PI: math.pi,
    libsbml.AST_CONSTANT_TRUE: 1.0,
    libsbml.AST_CONSTANT_FALSE: 0.0,
}
_NUMBERS = (libsbml.AST_REAL, libsbml.AST_REAL_E, libsbml.AST_RATIONAL)


def _inverse(x: Expression) -> Expression:
    return call("div", ONE, x)


def _shifted_square(x: Expression, shift: float) -> Expression:
    """sqrt(x^2 + shift)."""
    return call("sqrt", call("add", call("pow", x, Number(2.0)), Number(shift)))


def _arcsinh(x: Expression) -> Expression:
    return call("log", call("add", x, _shifted_square(x, 1.0)))


def _arccosh(x: Expression) -> Expression:
    return call("log", call("add", x, _shifted_square(x, -1.0)))


def _arctanh(x: Expression) -> Expression:
    ratio = call("div", call("add", ONE, x), call("sub", ONE, x))
    return call("mul", Number(0.5), call("log", ratio))


# Functions that the language lacks, written with those it has.
_EXPANDED: Mapping[int, Callable[[Expression], Expression]] = {
    libsbml.AST_FUNCTION_SEC: lambda x: _inverse(call("cos", x)),
    libsbml.AST_FUNCTION_CSC: lambda x: _inverse(call("sin", x)),
    libsbml.AST_FUNCTION_COT: lambda x: _inverse(call("tan", x)),
    libsbml.AST_FUNCTION_SECH: lambda x: _inverse(call("cosh", x)),
    libsbml.AST_FUNCTION_CSCH: lambda x: _inverse(call("sinh", x)),
    libsbml.AST_FUNCTION_COTH: lambda x: _inverse(call("tanh", x)),
    libsbml.AST_FUNCTION_ARCSEC: lambda x: call("acos", _inverse(x)),
    libsbml.AST_FUNCTION_ARCCSC: lambda x: call("asin", _inverse(x)),
    libsbml.AST_FUNCTION_ARCCOT: lambda x: call("atan", _inverse(x)),
    libsbml.AST_FUNCTION_ARCSINH: _arcsinh,
    libsbml.AST_FUNCTION_ARCCOSH: _arccosh,
    libsbml.AST_FUNCTION_ARCTANH: _arctanh,
    libsbml.AST_FUNCTION_ARCSECH: lambda x: _arccosh(_inverse(x)),
    libsbml.AST_FUNCTION_ARCCSCH: lambda x: _arcsinh(_inverse(x)),
    libsbml.AST_FUNCTION_ARCCOTH: lambda x: _arctanh(_inverse(x)),
}


@dataclass(frozen=True)
class MathReader:
    """Turns libSBML trees into expressions, with function definitions written out.

    Args:
        symbols: the expression that stands for each identifier of the file.
        functions: the lambda of each function definition.
    """

    symbols: Mapping[str, Expression]
    functions: Mapping[str, libsbml.ASTNode] = field(default_factory=dict)

    def read(
        self,
        node: libsbml.ASTNode | None,
        where: str,
        local: Mapping[str, Expression] | None = None,
    ) -> Expression:
        """The expression of `node`; `where` opens the message of a refusal.

        Args:
            node: the tree; None (an element without math) is refused.
            where: what the tree belongs to, such as "reaction 'bind'".
            local: names that hide the file's own, such as local parameters.

        Raises:
            InvalidInput: a construct outside the language, or an unknown name.
        """
        if node is None:
            raise InvalidInput(f"{where} has no math")
        try:
            return self._read(node, where, local or {}, ())
        except RecursionError:
            raise InvalidInput(f"{where}: the math is nested too deeply") from None

    def _read(
        self,
        node: libsbml.ASTNode,
        where: str,
        local: Mapping[str, Expression],
        open_functions: tuple[str, ...],
    ) -> Expression:
        kind = node.getType()
        if kind == libsbml.AST_INTEGER:
            return Number(float(node.getInteger()))
        if kind in _NUMBERS:
            return _number(node.getReal(), where)
        if kind in _CONSTANTS:
            return Number(_CONSTANTS[kind])
        if kind == libsbml.AST_NAME_TIME:
            return Symbol(TIME)
        if kind == libsbml.AST_NAME:
            return self._name(node.getName(), where, local)
        children = (node.getChild(i) for i in range(node.getNumChildren()))
        arguments = [self._read(child, where, local, open_functions) for child in children]
        if kind == libsbml.AST_FUNCTION:
            # A name applied to nothing, which some published files write, is the name.
            if not arguments and node.getName() not in self.functions:
                return self._name(node.getName(), where, local)
            return self._inlined(node.getName(), arguments, where, open_functions)
        return _apply(node, arguments, where)

    def _name(self, name: str, where: str, local: Mapping[str, Expression]) -> Expression:
        if name in local:
            return local[name]
        if name not in self.symbols:
            raise InvalidInput(f"{where} mentions '{name}', which the file does not define")
        return self.symbols[name]

    def _inlined(
        self, name: str, arguments: list[Expression], where: str, open_functions: tuple[str, ...]
    ) -> Expression:
        definition = self.functions.get(name)
        if definition is None:
            raise InvalidInput(f"{where} calls '{name}', which the file does not define")
        if name in open_functions:
            raise InvalidInput(f"function '{name}' calls itself")
        names = [definition.getChild(i).getName() for i in range(definition.getNumChildren() - 1)]
        if len(names) != len(arguments):
            raise InvalidInput(
                f"{where} calls '{name}' with {len(arguments)} arguments; it takes {len(names)}"
            )
        body = definition.getChild(definition.getNumChildren() - 1)
        bound = dict(zip(names, arguments, strict=True))
        return self._read(body, where, bound, (*open_functions, name))


def _number(value: float, where: str) -> Number:
    if math.isnan(value):
        raise InvalidInput(f"{where} uses notanumber, which no quantity can equal")
    return Number(value)


def _apply(node: libsbml.ASTNode, arguments: list[Expression], where: str) -> Expression:
    kind = node.getType()
    if kind in _OPERATORS:
        function = _OPERATORS[kind]
        if not arguments and function in _EMPTY:
            return Number(_EMPTY[function])
        if function in ("and", "or", "xor") and len(arguments) == 1:
            return call("ne", arguments[0], Number(0.0))
        return call(function, *arguments)
    if kind in _EXPANDED:
        return _EXPANDED[kind](*arguments)
    match kind:
        case libsbml.AST_MINUS:
            return call("neg" if len(arguments) == 1 else "sub", *arguments)
        case libsbml.AST_FUNCTION_LOG:
            base, x = arguments if len(arguments) == 2 else (Number(10.0), *arguments)
            return _log(base, x)
        case libsbml.AST_FUNCTION_ROOT:
            degree, x = arguments if len(arguments) == 2 else (Number(2.0), *arguments)
            return call("sqrt", x) if degree == Number(2.0) else call("pow", x, _inverse(degree))
        case libsbml.AST_FUNCTION_QUOTIENT:
            a, b = arguments
            return call("div", call("sub", a, call("rem", a, b)), b)
        case libsbml.AST_LOGICAL_IMPLIES:
            a, b = arguments
            return call("or", call("not", a), b)
        case libsbml.AST_FUNCTION_FACTORIAL:
            return _factorial(arguments[0], where)
    raise InvalidInput(f"{where} uses {_describe(node)}, which the engine cannot simulate exactly")


def _log(base: Expression, x: Expression) -> Expression:
    named = {Number(10.0): "log10", Number(2.0): "log2", Number(math.e): "log"}
    if base in named:
        return call(named[base], x)
    return call("div", call("log", x), call("log", base))


def _factorial(x: Expression, where: str) -> Expression:
    if isinstance(x, Number) and x.value >= 0 and x.value == round(x.value) and x.value <= 170:
        return Number(float(math.factorial(int(x.value))))
    raise InvalidInput(f"{where} uses factorial({x}); only the factorial of a constant is read")


def _describe(node: libsbml.ASTNode) -> str:
    names = {libsbml.AST_FUNCTION_DELAY: "delay", libsbml.AST_FUNCTION_RATE_OF: "rateOf"}
    name = names.get(node.getType()) or node.getName()
    return f"'{name}'" if name else f"'{libsbml.formulaToL3String(node)}'"


# Expressions out.

_KINDS = {name: kind for kind, name in _OPERATORS.items()} | {
    "pow": libsbml.AST_POWER,
    "sub": libsbml.AST_MINUS,
    "neg": libsbml.AST_MINUS,
}


def to_math(expression: Expression) -> libsbml.ASTNode:
    """The libSBML tree of an expression (Level 3 Version 2 MathML)."""
    if isinstance(expression, Number):
        return _number_node(expression.value)
    node = libsbml.ASTNode()
    if isinstance(expression, Symbol):
        is_time = expression.name == TIME
        node.setType(libsbml.AST_NAME_TIME if is_time else libsbml.AST_NAME)
        node.setName(expression.name)
        return node
    arguments = list(expression.arguments)
    function = expression.function
    if function == "logistic":
        below = call("add", Number(1.0), call("exp", call("neg", arguments[0])))
        return to_math(_inverse(below))
    if function in ("log10", "log2"):
        node.setType(libsbml.AST_FUNCTION_LOG)
        arguments.insert(0, Number(10.0 if function == "log10" else 2.0))
    elif function == "sqrt":
        node.setType(libsbml.AST_FUNCTION_ROOT)
        arguments.insert(0, Number(2.0))
    else:
        node.setType(_KINDS[function])
    for argument in arguments:
        node.addChild(to_math(argument))
    return node


def _number_node(value: float) -> libsbml.ASTNode:
    node = libsbml.ASTNode()
    # libSBML holds an integer in a C long of at least 32 bits.
    if math.isfinite(value) and value == round(value) and abs(value) < 2**31:
        node.setType(libsbml.AST_INTEGER)
        node.setValue(int(value))
        return node
    node.setType(libsbml.AST_REAL)
    node.setValue(float(value))
    return node
