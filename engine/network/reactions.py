"""Reactions: `Reaction("IL6 + IL6R -> C", MassAction("k_on"))`."""

import re
from dataclasses import dataclass, field

from engine.errors import InvalidInput
from engine.network.expressions import Expression
from engine.network.rate_laws import Formula, MassAction, RateLaw, macroscopic

_TERM = re.compile(r"^(?:(\S+?)\s*\*?\s+)?([A-Za-z_]\w*)$|^(\d+)\s*\*?\s*([A-Za-z_]\w*)$")


@dataclass(frozen=True)
class Reaction:
    """A reaction: reactants, products and a rate law.

    Args:
        equation: what reacts, such as `"2 P -> P2"`, `"0 -> X"` or `"A + B -> A + C"`.
        rate_law: a rate law object; a string or number is a `Formula`, taken as written.
        name: identifier; by default r0, r1, ... by position in the network.
        description: what it is.

    Example:
        >>> from engine.network.rate_laws import MassAction
        >>> Reaction("IL6 + IL6R -> C", MassAction("k_on"), name="bind").reactants
        {'IL6': 1, 'IL6R': 1}
    """

    equation: str
    rate_law: RateLaw
    name: str = ""
    description: str = ""
    reactants: dict[str, int] = field(init=False)
    products: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.rate_law, str | int | float):
            object.__setattr__(self, "rate_law", Formula(self.rate_law))
        sides = self.equation.split("->")
        if len(sides) != 2 or "<" in self.equation:
            raise InvalidInput(
                f"reaction '{self.equation}' needs one '->' between reactants and products; "
                "write a reversible reaction as two reactions"
            )
        object.__setattr__(self, "reactants", _side(sides[0], self.equation))
        object.__setattr__(self, "products", _side(sides[1], self.equation))

    @property
    def propensity(self) -> Expression:
        """The propensity as an expression of molecule counts."""
        return self.rate_law.expression(self.reactants)

    @property
    def macroscopic_rate(self) -> Expression:
        """The rate in the limit of large counts (x^2 / 2 for x (x - 1) / 2), for ODEs."""
        return macroscopic(self.rate_law, self.reactants)

    @property
    def net_change(self) -> dict[str, int]:
        """Change of each species' count in one firing, zeros left out."""
        names = [*self.reactants, *(n for n in self.products if n not in self.reactants)]
        change = {n: self.products.get(n, 0) - self.reactants.get(n, 0) for n in names}
        return {name: value for name, value in change.items() if value}


def reversible(
    equation: str,
    forward: str | float | Expression,
    backward: str | float | Expression,
    name: str = "",
) -> tuple[Reaction, Reaction]:
    """The two mass-action reactions of `"A + B <-> C"` with their stochastic constants.

    Example:
        >>> [r.equation for r in reversible("A + B <-> C", "k_on", "k_off", name="bind")]
        ['A + B -> C', 'C -> A + B']
    """
    sides = [side.strip() for side in equation.split("<->")]
    if len(sides) != 2:
        raise InvalidInput(f"reversible reaction '{equation}' needs one '<->'")
    left, right = sides
    return (
        Reaction(f"{left} -> {right}", MassAction(forward), name=name),
        Reaction(
            f"{right} -> {left}", MassAction(backward), name=f"{name}_reverse" if name else ""
        ),
    )


def _side(text: str, equation: str) -> dict[str, int]:
    amounts: dict[str, int] = {}
    if text.strip() in ("", "0", "∅"):
        return amounts
    for term in (part.strip() for part in text.split("+")):
        match = _TERM.match(term)
        if match is None:
            raise InvalidInput(
                f"cannot read '{term}' in reaction '{equation}'; write '2 A + B -> C'"
            )
        number, name = match[1] or match[3] or "1", match[2] or match[4]
        if not number.isdigit() or int(number) < 1:
            raise InvalidInput(
                f"stoichiometry '{number}' of '{name}' in reaction '{equation}' is not a positive "
                "integer; exact simulation counts whole molecules"
            )
        amounts[name] = amounts.get(name, 0) + int(number)
    return amounts
