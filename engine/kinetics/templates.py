"""Rate laws of the same form gathered into templates: one expression, a table of who enters it.

Three thousand mass-action reactions are two or three expressions in which different counts stand.
What is traced and compiled then grows with the number of forms, not of reactions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.kinetics.program import Guard, Program
from engine.network.expressions import Call, Expression, Number, Symbol, symbols

# A product of fewer counts is filled up with ones to this many, so that decay, conversion, pairs
# and bindings are one template.
FACTORS = 2


@dataclass(frozen=True)
class Template:
    """Reactions whose laws are equal up to the names in them.

    Attributes:
        law: the propensity as an expression of the slots, and of what moves between events.
        moving: what moves in it: time and inputs, by their own names.
        slots: the slots' names.
        is_count: whether a slot holds a count; otherwise a number that is fixed between two stops.
        guard: what the law does not prove, in terms of the slots.
        reactions: the reactions' positions in the network, (n,).
        columns: which count, or which fixed number, stands in each slot, (n, slots).
        offsets: what is taken off each count, (n, slots): 1 in the second factor of x (x - 1).
    """

    law: Expression
    moving: tuple[str, ...]
    slots: tuple[str, ...]
    is_count: tuple[bool, ...]
    guard: Guard
    reactions: np.ndarray
    columns: np.ndarray
    offsets: np.ndarray


class Templates(NamedTuple):
    """All reactions of a network, by template.

    Attributes:
        templates: every reaction is in one of them.
        levels: inputs that change at stops only and stand in the laws; their columns are behind
            those of the coefficients and variables.
        literals: the numbers in the columns behind them.
    """

    templates: tuple[Template, ...]
    levels: tuple[str, ...]
    literals: tuple[float, ...]


class _Entry(NamedTuple):
    """One reaction's law taken apart; its form is the key of its template."""

    law: Expression
    is_count: tuple[bool, ...]
    guard: Guard
    columns: tuple[int, ...]
    offsets: tuple[int, ...]


def templates_of(program: Program) -> Templates:
    """Gather a program's laws into templates.

    Assignment rules are put in place of their names. The column behind the species' holds a count
    of one.

    Args:
        program: the laws.

    Returns:
        The templates, in the order in which their first reactions stand in the network.
    """
    network = program.network
    counts = {name: column for column, name in enumerate(network.species_names)}
    names = tuple(f"_c{i}" for i in range(len(program.coefficient_expressions)))
    names += tuple(v.name for v in network.variables)
    wholes = [program.without_rules(law) for law in program.laws]
    met = frozenset().union(*map(symbols, wholes))
    levels = tuple(i.name for i in network.inputs if i.name in program.still & met)
    names += levels
    fixed = {name: column for column, name in enumerate(names)}
    literals: dict[float, int] = {}

    def literal(value: float) -> int:
        return len(names) + literals.setdefault(value, len(literals))

    groups: dict[tuple[Expression, tuple[bool, ...], Guard], list[tuple[int, _Entry]]] = {}
    for position, (whole, guard) in enumerate(zip(wholes, program.guards, strict=True)):
        entry = None
        if not guard.is_signed and not guard.required:
            entry = _product(whole, counts, fixed, literal)
        entry = entry or _general(whole, guard, counts, fixed, literal)
        groups.setdefault((entry.law, entry.is_count, entry.guard), []).append((position, entry))
    found = []
    for (law, is_count, guard), members in groups.items():
        shape = (len(members), len(is_count))
        found.append(
            Template(
                law,
                tuple(sorted(symbols(law) & program.moving)),
                tuple(_slot(i) for i in range(len(is_count))),
                is_count,
                guard,
                np.array([position for position, _ in members], np.int32),
                np.array([entry.columns for _, entry in members], np.int32).reshape(shape),
                np.array([entry.offsets for _, entry in members], np.int32).reshape(shape),
            )
        )
    return Templates(tuple(found), levels, tuple(literals))


def _slot(index: int) -> str:
    return f"_slot{index}"


def _product(
    law: Expression,
    counts: Mapping[str, int],
    fixed: Mapping[str, int],
    literal: Callable[[float], int],
) -> _Entry | None:
    """A product of fixed numbers and counts less whole numbers; None for any other law."""
    factors = law.arguments if isinstance(law, Call) and law.function == "mul" else (law,)
    numbers: list[int] = []
    taken: list[tuple[int, int]] = []
    for factor in factors:
        match factor:
            case Number(value):
                numbers.append(literal(value))
            case Symbol(name) if name in fixed:
                numbers.append(fixed[name])
            case Symbol(name) if name in counts:
                taken.append((counts[name], 0))
            case Call("sub", (Symbol(name), Number(value))) if name in counts and value == int(
                value
            ):
                taken.append((counts[name], int(value)))
            case _:
                return None
    numbers = numbers or [literal(1.0)]
    taken += [(len(counts), 0)] * (FACTORS - len(taken))
    width = len(numbers) + len(taken)
    return _Entry(
        Call("mul", tuple(Symbol(_slot(i)) for i in range(width))),
        (False,) * len(numbers) + (True,) * len(taken),
        Guard(False, ()),
        (*numbers, *(column for column, _ in taken)),
        (*(0 for _ in numbers), *(offset for _, offset in taken)),
    )


def _general(
    law: Expression,
    guard: Guard,
    counts: Mapping[str, int],
    fixed: Mapping[str, int],
    literal: Callable[[float], int],
) -> _Entry:
    """Any law: names and numbers become slots in the order in which they are met.

    What moves keeps its name, and an exponent its value: whole ones are multiplied out.
    """
    names: dict[str, str] = {}
    entrants: list[tuple[bool, int]] = []

    def slot(is_count: bool, column: int) -> str:
        entrants.append((is_count, column))
        return _slot(len(entrants) - 1)

    def named(name: str) -> str:
        if name not in names:
            column = counts[name] if name in counts else fixed[name]
            names[name] = slot(name in counts, column)
        return names[name]

    def renamed(node: Expression) -> Expression:
        if isinstance(node, Number):
            return Symbol(slot(False, literal(node.value)))
        if isinstance(node, Symbol):
            is_still = node.name in counts or node.name in fixed
            return Symbol(named(node.name)) if is_still else node
        arguments = node.arguments
        if node.function == "pow" and isinstance(arguments[1], Number):
            return Call("pow", (renamed(arguments[0]), arguments[1]))
        return Call(node.function, tuple(map(renamed, arguments)))

    form = renamed(law)
    required = tuple((named(name), needed) for name, needed in guard.required)
    return _Entry(
        form,
        tuple(is_count for is_count, _ in entrants),
        Guard(guard.is_signed, required),
        tuple(column for _, column in entrants),
        (0,) * len(entrants),
    )
