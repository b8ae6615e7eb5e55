"""Which counts a reaction changes, and which propensities and sums follow: tables in NumPy."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from engine.kinetics.program import Program
from engine.kinetics.templates import Templates, templates_of

# Children of a node of the tree of sums. A child is chosen by a chain of subtractions, which XLA
# works out once for each of its three results: 1,000 reactions ran at 5.6 million events per second
# with 16 children, 6.8 with 8, 7.4 with 4 and 3.9 with 2 (4.3, 6.1, 6.5 and 3.0 with 101 save
# points).
FAN_OUT = 4
# Entries of the fired reactions' lists that are worked on together.
STRIDE = 64


class Lists(NamedTuple):
    """A list of whole numbers for every reaction, end to end.

    Attributes:
        starts, lengths: where each list stands, (R + 2,), behind the reactions' an empty one and
            that of a renewal.
        items: their entries.
        filler: an entry that stands for nothing.
    """

    starts: np.ndarray
    lengths: np.ndarray
    items: np.ndarray
    filler: int


class Tables(NamedTuple):
    """What the sparse step looks up. Reactions are numbered by their leaves.

    R stands for none of them, R + 1 for the renewal of all bounds of propensities that move.

    Attributes:
        templates: the laws.
        leaves: the leaf of every reaction of the network, (R,).
        num_leaves: places for propensities, a multiple of the fan-out.
        num_nodes: places for the sums of so many of them, a multiple of the fan-out as well.
        changed: counts that a reaction changes, (R + 2, V), filled up with the spare column.
        changes: by how much, (R + 2, V).
        members: for each template, per member its leaf, (n + 1,), the last one spare.
        dependents: for each template, which of its members follow a reaction.
        nodes: which sums follow a reaction.
        places: for each template that moves, which of its members stands in a leaf, (num_leaves,),
            or the one behind the last.
        num_moving: reactions whose propensities move.
    """

    templates: Templates
    leaves: np.ndarray
    num_leaves: int
    num_nodes: int
    changed: np.ndarray
    changes: np.ndarray
    members: tuple[np.ndarray, ...]
    dependents: tuple[Lists, ...]
    nodes: Lists
    places: tuple[np.ndarray, ...]
    num_moving: int

    @property
    def nothing(self) -> int:
        """The row of no reaction."""
        return len(self.leaves)

    @property
    def renewal(self) -> int:
        """The row of the renewal of all bounds."""
        return len(self.leaves) + 1


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
    num_leaves = _rounded_up(num_reactions)
    num_nodes = _rounded_up(num_leaves // FAN_OUT)

    users: list[list[int]] = [[] for _ in range(num_species)]
    for reaction, names in enumerate(needed):
        for column in names:
            users[column].append(reaction)
    followers: list[list[int]] = []
    for reaction in order:
        columns = np.flatnonzero(program.net_changes[reaction])
        followers.append(sorted(set().union(*(users[c] for c in columns))))
    thinned = [t.reactions.tolist() for t in templates.templates if t.moving]
    followers += [[], sorted(r for found in thinned for r in found)]

    members, dependents, places = [], [], []
    for template in templates.templates:
        position = {int(r): row for row, r in enumerate(template.reactions)}
        lists = [[position[r] for r in found if r in position] for found in followers]
        members.append(np.append(leaves[template.reactions], num_leaves).astype(np.int32))
        dependents.append(_joined(lists, len(template.reactions)))
        if template.moving:
            place = np.full(num_leaves, len(template.reactions), np.int32)
            place[leaves[template.reactions]] = np.arange(len(template.reactions))
            places.append(place)
    changed, changes = _changes(program.net_changes[order], num_species + 1)
    return Tables(
        templates,
        leaves,
        num_leaves,
        num_nodes,
        changed,
        changes,
        tuple(members),
        tuple(dependents),
        _joined(
            [sorted({int(leaves[r]) // FAN_OUT for r in found}) for found in followers], num_nodes
        ),
        tuple(places),
        len(followers[-1]),
    )


def _rounded_up(number: int) -> int:
    return max(-(-number // FAN_OUT), 1) * FAN_OUT


def _needed(templates: Templates, num_reactions: int, num_species: int) -> list[set[int]]:
    """The counts that each reaction's propensity depends on."""
    needed: list[set[int]] = [set() for _ in range(num_reactions)]
    for template in templates.templates:
        for reaction, columns in zip(template.reactions, template.columns, strict=True):
            pairs = zip(columns, template.is_count, strict=True)
            needed[reaction] |= {int(c) for c, is_count in pairs if is_count and c < num_species}
    return needed


def _changes(net_changes: np.ndarray, spare: int) -> tuple[np.ndarray, np.ndarray]:
    """Net changes as short rows of (count, change), with two more rows that change nothing."""
    width = max(int(np.count_nonzero(net_changes, axis=1).max(initial=0)), 1)
    changed = np.full((len(net_changes) + 2, width), spare, np.int32)
    changes = np.zeros((len(net_changes) + 2, width), np.int32)
    for row, net in enumerate(net_changes):
        columns = np.flatnonzero(net)
        changed[row, : len(columns)] = columns
        changes[row, : len(columns)] = net[columns]
    return changed, changes


def _joined(lists: Sequence[Sequence[int]], filler: int) -> Lists:
    lengths = np.array(list(map(len, lists)), np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int32)
    items = [entry for found in lists for entry in found] + [filler]
    return Lists(starts, lengths, np.array(items, np.int32), filler)
