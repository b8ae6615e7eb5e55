"""Which counts a reaction changes, and which propensities and sums follow: tables in NumPy."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from engine.kinetics.program import Program
from engine.kinetics.templates import Templates, templates_of

# Children of a node of the tree of sums.
FAN_OUT = 16
# Entries of a list that are worked on together; lists are as long as they need to be.
STRIDE = 4


class Lists(NamedTuple):
    """A list of whole numbers for every reaction, end to end.

    Attributes:
        starts, lengths: where each list stands, (R + 1,); the last one is empty.
        items: their entries.
        filler: an entry that stands for nothing.
    """

    starts: np.ndarray
    lengths: np.ndarray
    items: np.ndarray
    filler: int


class Layout(NamedTuple):
    """Where the tree of sums lies in a row of memory.

    Attributes:
        starts: first entry of each level, the leaves' first.
        sizes: entries of each level, multiples of the fan-out; the last has just so many.
        width: entries in all, with a spare one at the end.
    """

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    width: int


class Tables(NamedTuple):
    """What the sparse step looks up. Reactions are numbered by their leaves; R stands for none.

    Attributes:
        templates: the laws.
        leaves: the leaf of every reaction of the network, (R,).
        layout: the tree of sums.
        changed: counts that a reaction changes, (R + 1, V), filled up with the spare column.
        changes: by how much, (R + 1, V).
        members: for each template, per member its leaf, (n + 1,), the last one spare.
        dependents: for each template, which of its members follow a reaction.
        sums: for each level above the leaves, which of its entries follow a reaction.
    """

    templates: Templates
    leaves: np.ndarray
    layout: Layout
    changed: np.ndarray
    changes: np.ndarray
    members: tuple[np.ndarray, ...]
    dependents: tuple[Lists, ...]
    sums: tuple[Lists, ...]


@lru_cache(maxsize=16)
def tables_of(program: Program) -> Tables:
    """The tables of a program, made once."""
    templates = templates_of(program)
    num_reactions, num_species = program.net_changes.shape
    needed = _needed(templates, num_reactions, num_species)
    # Reactions that wait for the same count stand together: they follow each other's firings, and
    # then share sums.
    order = sorted(range(num_reactions), key=lambda r: min(needed[r], default=num_species))
    leaves = np.empty(num_reactions, np.int32)
    leaves[order] = np.arange(num_reactions)
    layout = layout_of(num_reactions)

    users: list[list[int]] = [[] for _ in range(num_species)]
    for reaction, names in enumerate(needed):
        for column in names:
            users[column].append(reaction)
    followers: list[list[int]] = []
    for reaction in order:
        columns = np.flatnonzero(program.net_changes[reaction])
        followers.append(sorted(set().union(*(users[c] for c in columns))))

    members, dependents = [], []
    for template in templates.templates:
        position = {int(r): row for row, r in enumerate(template.reactions)}
        lists = [[position[r] for r in found if r in position] for found in followers]
        members.append(np.append(leaves[template.reactions], layout.width - 1).astype(np.int32))
        dependents.append(_joined(lists, len(template.reactions)))
    changed, changes = _changes(program.net_changes[order], num_species + 1)
    return Tables(
        templates,
        leaves,
        layout,
        changed,
        changes,
        tuple(members),
        tuple(dependents),
        _sums(layout, [[int(leaves[r]) for r in found] for found in followers]),
    )


def layout_of(num_reactions: int) -> Layout:
    """The levels of a tree of sums over so many reactions."""
    starts, sizes, first, count = [], [], 0, num_reactions
    while True:
        size = -(-count // FAN_OUT) * FAN_OUT
        starts.append(first)
        sizes.append(size)
        first += size
        if size == FAN_OUT:
            return Layout(tuple(starts), tuple(sizes), first + 1)
        count = size // FAN_OUT


def _needed(templates: Templates, num_reactions: int, num_species: int) -> list[set[int]]:
    """The counts that each reaction's propensity depends on."""
    needed: list[set[int]] = [set() for _ in range(num_reactions)]
    for template in templates.templates:
        for reaction, columns in zip(template.reactions, template.columns, strict=True):
            pairs = zip(columns, template.is_count, strict=True)
            needed[reaction] |= {int(c) for c, is_count in pairs if is_count and c < num_species}
    return needed


def _changes(net_changes: np.ndarray, spare: int) -> tuple[np.ndarray, np.ndarray]:
    """Net changes as short rows of (count, change), with one more row that changes nothing."""
    width = max(int(np.count_nonzero(net_changes, axis=1).max(initial=0)), 1)
    changed = np.full((len(net_changes) + 1, width), spare, np.int32)
    changes = np.zeros((len(net_changes) + 1, width), np.int32)
    for row, net in enumerate(net_changes):
        columns = np.flatnonzero(net)
        changed[row, : len(columns)] = columns
        changes[row, : len(columns)] = net[columns]
    return changed, changes


def _sums(layout: Layout, followers: Sequence[Sequence[int]]) -> tuple[Lists, ...]:
    """Level by level, the sums above the propensities that follow each reaction."""
    result = []
    below = [set(found) for found in followers]
    for level in range(1, len(layout.sizes)):
        below = [{entry // FAN_OUT for entry in found} for found in below]
        lists = [[layout.starts[level] + entry for entry in sorted(found)] for found in below]
        result.append(_joined(lists, layout.width - 1))
    return tuple(result)


def _joined(lists: Sequence[Sequence[int]], filler: int) -> Lists:
    lengths = np.array([*map(len, lists), 0], np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int32)
    items = [entry for found in lists for entry in found] + [filler] * STRIDE
    return Lists(starts, lengths, np.array(items, np.int32), filler)
