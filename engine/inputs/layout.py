"""How the modes of several inputs are laid out in one row of amplitudes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class InputLayout:
    """Names of the inputs and how many decaying modes each has.

    The amplitudes of all inputs stand in one row, each input's constant level first:
    `[level_0, A_00, A_01, ..., level_1, A_10, ...]`.

    Args:
        names: the inputs, in the network's order.
        num_modes: decaying modes of each.
        alike: for each the position of an input with the same decay rates, perhaps its own;
            default its own.
        tangents: inputs that say how the one they are like changes with a number. What stands for
            their decay rates is how that one's change, lambda', and a mode A' of theirs decays to
            (A' - A lambda' s) exp(-lambda s) in a time s, A the mode of that one.
        signed: inputs that may be below 0, the tangents among them.
    """

    names: tuple[str, ...] = ()
    num_modes: tuple[int, ...] = ()
    alike: tuple[int, ...] = ()
    tangents: frozenset[str] = frozenset()
    signed: frozenset[str] = frozenset()

    @property
    def total(self) -> int:
        """Length of the row of amplitudes."""
        return len(self.num_modes) + sum(self.num_modes)

    @property
    def still(self) -> frozenset[str]:
        """Inputs without decaying modes: they change only when they are dosed."""
        return frozenset(n for n, m in zip(self.names, self.num_modes, strict=True) if m == 0)

    def entries(self) -> Iterator[tuple[str, range]]:
        """Each input with the positions of its level and modes."""
        start = 0
        for name, modes in zip(self.names, self.num_modes, strict=True):
            yield name, range(start, start + 1 + modes)
            start += 1 + modes

    def is_level(self, entry: int) -> bool:
        """Whether a position holds a level rather than a mode."""
        return any(entry == positions.start for _, positions in self.entries())

    def rate_of(self, entry: int) -> int:
        """The first position of a mode with the same decay rate."""
        owner = self.owner(entry)
        if not self.alike or self.alike[owner] == owner:
            return entry
        starts = [positions.start for _, positions in self.entries()]
        return starts[self.alike[owner]] + entry - starts[owner]

    @cached_property
    def is_tangent(self) -> list[bool]:
        """Whether a position is of a tangent, for every one."""
        return [name in self.tangents for name, places in self.entries() for _ in places]

    @cached_property
    def sources(self) -> list[int]:
        """`rate_of` of every position; for a tangent also the mode of the input it is of."""
        return [self.rate_of(entry) for entry in range(self.total)]

    @cached_property
    def own_rates(self) -> list[int]:
        """The positions of modes with rates that no position before them has."""
        return sorted({s for e, s in enumerate(self.sources) if not self.is_level(e)})

    def owner(self, entry: int) -> int:
        """The number of the input that a position belongs to."""
        return next(i for i, (_, positions) in enumerate(self.entries()) if entry in positions)


def decayed(
    layout: InputLayout,
    state: np.ndarray,
    rates: np.ndarray,
    elapsed: ArrayLike,
    entries: Sequence[int] | None = None,
) -> np.ndarray:
    """The row of amplitudes after a time without doses.

    Args:
        layout: where what stands.
        state: amplitudes, (total, ...).
        rates: decay rates, 0 for levels, and of tangents the changes of these, (total, ...).
        elapsed: time, broadcast against the trailing axes.
        entries: positions that the state has, and their sources; default all.

    Example:
        >>> layout = InputLayout(("drug",), (1,))
        >>> decayed(layout, np.array([[1.0], [4.0]]), np.array([[0.0], [0.5]]), 2 * np.log(2.0))
        array([[1.],
               [2.]])
    """
    chosen = range(layout.total) if entries is None else entries
    sources = [layout.sources[entry] for entry in chosen]
    is_tangent = np.array([layout.is_tangent[entry] for entry in chosen], bool)
    if is_tangent.any():
        slopes = rates[list(chosen)]
        slopes = np.where(is_tangent.reshape(-1, *(1,) * (rates.ndim - 1)), slopes, 0.0)
        state = state - slopes * elapsed * state[[chosen.index(source) for source in sources]]
    return np.asarray(state * np.exp(-rates[sources] * elapsed))
