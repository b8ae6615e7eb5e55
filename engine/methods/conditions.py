"""When a condition on a continuous path changes its truth: comparisons taken apart for a solver."""

from dataclasses import dataclass
from itertools import pairwise

from engine.errors import InvalidInput
from engine.network.expressions import (
    COMPARISONS,
    LOGICAL,
    TIME,
    Call,
    Expression,
    Number,
    Symbol,
    call,
    symbols,
)
from engine.network.network import ReactionNetwork

ZERO = Number(0.0)


@dataclass(frozen=True)
class Atom:
    """A part of a condition that is true or false by itself, a comparison but where fixed.

    Attributes:
        name: the symbol that stands for it in a condition.
        whole: the comparison itself.
        left, right: its sides.
        is_upper: whether it is true where left is above right.
    """

    name: str
    whole: Expression
    left: Expression
    right: Expression
    is_upper: bool

    @property
    def difference(self) -> Expression:
        """Left minus right side: what changes its sign."""
        return call("sub", self.left, self.right)


class Atoms:
    """The comparisons that a set of conditions is made of, by how they can change.

    - fixed: between two jumps nothing in it moves; it is evaluated.
    - timed: affine in time, all else fixed: its moment is known, exactly.
    - moving: anything else; its change of sign is found on the way.

    Args:
        network: what the conditions are about.
    """

    def __init__(self, network: ReactionNetwork) -> None:
        self._standing = _standing(network)
        self.fixed: list[Atom] = []
        self.timed: list[Atom] = []
        self.moving: list[Atom] = []

    def rewrite(self, condition: Expression, what: str) -> Expression:
        """The condition as a logical expression of atoms, which are added.

        Raises:
            InvalidInput: an equality of moving quantities, or a moving number as a condition.
        """
        if isinstance(condition, Call) and condition.function in LOGICAL:
            parts = [self.rewrite(a, what) for a in condition.arguments]
            return Call(condition.function, tuple(parts))
        if isinstance(condition, Call) and condition.function in COMPARISONS:
            pairs = list(pairwise(condition.arguments))
            parts = [self._atom(Call(condition.function, pair), what) for pair in pairs]
            return parts[0] if len(parts) == 1 else Call("and", tuple(parts))
        if isinstance(condition, Number):
            return condition
        if symbols(condition) <= self._standing:
            return self._added(self.fixed, Atom(self._name(), condition, condition, ZERO, True))
        raise InvalidInput(
            f"{what}: '{condition}' is no comparison and moves with time; write one, such as "
            f"'{condition} > 0'"
        )

    def _atom(self, comparison: Call, what: str) -> Expression:
        left, right = comparison.arguments
        atom = Atom(self._name(), comparison, left, right, comparison.function in ("gt", "ge"))
        if symbols(comparison) <= self._standing:
            return self._added(self.fixed, atom)
        if comparison.function in ("eq", "ne"):
            raise InvalidInput(
                f"{what}: '{comparison}' compares for equality what moves with time, which holds "
                "for no stretch of time; use >= or <="
            )
        is_timed = symbols(comparison) <= self._standing | {TIME} and _is_affine(atom.difference)
        return self._added(self.timed if is_timed else self.moving, atom)

    def _name(self) -> str:
        return f"_atom{len(self.fixed) + len(self.timed) + len(self.moving)}"

    def _added(self, group: list[Atom], atom: Atom) -> Expression:
        """The symbol of an atom; the same comparison twice is one atom."""
        for known in group:
            if known.whole == atom.whole:
                return Symbol(known.name)
        group.append(atom)
        return Symbol(atom.name)

    def is_standing(self, expression: Expression) -> bool:
        """Whether nothing in the expression moves between two jumps."""
        return symbols(expression) <= self._standing


def _standing(network: ReactionNetwork) -> frozenset[str]:
    """Names whose values stand still between two jumps."""
    rated = {rule.target for rule in network.rate_rules}
    names = {p.name for p in network.parameters} | {c.name for c in network.compartments}
    names |= {v.name for v in network.variables if v.name not in rated}
    moved = rated.union(*(network.changes(reaction) for reaction in network.reactions))
    names |= set(network.species_names) - moved
    for target, rule in network.rules.items():
        if symbols(rule) <= names:
            names.add(target)
    return frozenset(names)


def _is_affine(expression: Expression) -> bool:
    """Whether an expression is affine in time, everything else taken as constant."""
    if not isinstance(expression, Call) or TIME not in symbols(expression):
        return True
    parts = expression.arguments
    depends = [TIME in symbols(part) for part in parts]
    if expression.function in ("add", "sub", "neg"):
        return all(map(_is_affine, parts))
    if expression.function == "mul":
        return sum(depends) == 1 and all(map(_is_affine, parts))
    return expression.function == "div" and not depends[1] and _is_affine(parts[0])
