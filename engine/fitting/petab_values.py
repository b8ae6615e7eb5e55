"""Cells of PEtab's tables that hold a parameter's name or a number, as positions in one vector."""

import math
from typing import Any

from engine.errors import InvalidInput
from engine.network.network import hint


class Pool:
    """Positions of parameters and numbers in one vector."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.position = {name: i for i, name in enumerate(names)}
        self.numbers: dict[float, int] = {}

    def index(self, value: Any, where: str) -> int:
        """The position of a parameter's name or of a number."""
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                if value not in self.position:
                    raise InvalidInput(
                        f"{where} mentions '{value}', which is not in the parameter table"
                        f"{hint(value, self.position)}"
                    ) from None
                return self.position[value]
        number = float(value)
        if not math.isfinite(number):
            raise InvalidInput(f"{where} is {number}; give a finite number or a parameter")
        return self.numbers.setdefault(number, len(self.position) + len(self.numbers))
