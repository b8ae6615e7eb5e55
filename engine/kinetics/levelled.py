"""Many expressions at once: equal operations of the same depth are one operation on a vector.

A field of a hundred rate laws is then a few dozen array operations instead of thousands of scalar
ones. Compilation grows with the depth of the laws, not with their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from engine.kinetics.evaluate import apply
from engine.network.expressions import Call, Expression, Number, Symbol

Array = Any
# Exponents that `apply` turns into products; the operation is then another one.
_SMALL = (2.0, 3.0, 4.0)


class _Group(NamedTuple):
    """One operation on vectors: the i-th result is `node` of the values at columns[:, i]."""

    node: Call
    columns: np.ndarray  # (arity, n)


@dataclass
class _Builder:
    """Places every distinct subexpression in the vector of values."""

    columns: dict[Expression, int] = field(default_factory=dict)
    rules: Mapping[str, Expression] = field(default_factory=dict)
    literals: dict[float, None] = field(default_factory=dict)
    depths: dict[Expression, int] = field(default_factory=dict)
    levels: dict[int, dict[Any, list[Call]]] = field(default_factory=dict)

    def depth(self, expression: Expression) -> int:
        """The level of an expression, 0 for what is given; new ones are noted down."""
        if isinstance(expression, Number):
            self.literals.setdefault(expression.value)
            return 0
        if isinstance(expression, Symbol):
            rule = self.rules.get(expression.name)
            return 0 if rule is None else self.depth(rule)
        if expression not in self.depths:
            found = 1 + max((self.depth(a) for a in expression.arguments), default=0)
            self.depths[expression] = found
            groups = self.levels.setdefault(found, {})
            groups.setdefault(_kind(expression), []).append(expression)
        return self.depths[expression]

    def column(self, expression: Expression) -> int:
        """Where an expression's value stands."""
        while isinstance(expression, Symbol) and expression.name in self.rules:
            expression = self.rules[expression.name]
        return self.columns[expression]


def _kind(node: Call) -> tuple[Any, ...]:
    """What operations must share to be one operation."""
    exponent = None
    if node.function == "pow":
        match node.arguments[1]:
            case Number(value) if value in _SMALL:
                exponent = value
    return node.function, len(node.arguments), exponent


class Levelled:
    """Expressions of named numbers, compiled to operations on vectors.

    Every distinct subexpression is computed once. Values agree with `evaluate` to rounding.

    Args:
        outputs: the expressions, M of them; comparisons count as 0 or 1.
        names: the names that are given, in the order of `__call__`'s vector.
        rules: names that stand for expressions, not in a circle.

    Example:
        >>> from engine.network.expressions import parse
        >>> both = Levelled([parse("k * a"), parse("k * b")], ("k", "a", "b"))
        >>> both(jnp.array([2.0, 3.0, 4.0])).tolist()
        [6.0, 8.0]
    """

    def __init__(
        self,
        outputs: Sequence[Expression],
        names: Sequence[str],
        rules: Mapping[str, Expression] | None = None,
    ) -> None:
        builder = _Builder(rules=dict(rules or {}))
        for output in outputs:
            builder.depth(output)
        builder.columns |= {Symbol(name): i for i, name in enumerate(names)}
        for value in builder.literals:
            builder.columns[Number(value)] = len(builder.columns)
        self._literals = np.array(list(builder.literals), float)
        self._levels: list[list[_Group]] = []
        for level in sorted(builder.levels):
            groups = []
            for nodes in builder.levels[level].values():
                columns = [[builder.column(a) for a in node.arguments] for node in nodes]
                groups.append(_Group(nodes[0], np.array(columns, np.int32).T))
            for nodes in builder.levels[level].values():
                for node in nodes:
                    builder.columns[node] = len(builder.columns)
            self._levels.append(groups)
        self._outputs = np.array([builder.column(output) for output in outputs], np.int32)

    def __call__(self, values: Array) -> Array:
        """The expressions' values (M,) from those of the names."""
        found = jnp.concatenate([values, jnp.asarray(self._literals, values.dtype)])
        for groups in self._levels:
            parts = [found]
            for node, columns in groups:
                arguments = [_picked(found, column) for column in columns]
                result = apply(node, arguments, jnp, values.dtype)
                parts.append(result.astype(values.dtype))
            found = jnp.concatenate(parts)
        return _picked(found, self._outputs)


def _picked(values: Array, columns: np.ndarray) -> Array:
    return values.at[columns].get(mode="promise_in_bounds")
