"""How the modes of several inputs are laid out in one row of amplitudes."""

from collections.abc import Iterator
from dataclasses import dataclass


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
    """

    names: tuple[str, ...] = ()
    num_modes: tuple[int, ...] = ()
    alike: tuple[int, ...] = ()

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

    def owner(self, entry: int) -> int:
        """The number of the input that a position belongs to."""
        return next(i for i, (_, positions) in enumerate(self.entries()) if entry in positions)
