"""A table of measurements under many conditions, and parameters that differ between its groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from engine.errors import InvalidInput
from engine.network.network import hint
from engine.optimise.priors import Prior
from engine.optimise.space import Bounded
from engine.optimise.transforms import LINEAR, Transform


@dataclass(frozen=True, eq=False)
class Measurements:
    """N measurements in long form: one value at one time of one condition a row.

    Args:
        times: time of each, (N,), the network's unit, not negative.
        values: what was measured, (N,).
        conditions: what differs between experiments, by name, (N,) numbers each: inputs and
            parameters of the network, or names of the objective's `links` (a dose, a receptor
            count, an affinity). Rows with the same numbers are one condition.
        labels: what rows belong to, by name, (N,) texts each (a cell type, a plate).

    Raises:
        InvalidInput: no rows, columns of different lengths, a number that is not finite.

    Example:
        >>> table = Measurements([1.0, 2.0, 1.0], [3.0, 4.0, 9.0], {"dose": [0.1, 0.1, 5.0]})
        >>> len(table), table.num_conditions
        (3, 2)
    """

    times: np.ndarray
    values: np.ndarray
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = {"times": self.times, "values": self.values, **self.conditions}
        for name, column in numbers.items():
            _check(name, np.asarray(column, np.float64), len(np.atleast_1d(self.times)))
        for name, column in self.labels.items():
            if np.shape(column) != np.shape(self.times):
                raise InvalidInput(f"label '{name}' has {np.size(column)} rows; give one a row")
        if np.min(self.times) < 0:
            raise InvalidInput(f"a measurement is at time {np.min(self.times):g}; times start at 0")
        object.__setattr__(self, "times", np.asarray(self.times, np.float64))
        object.__setattr__(self, "values", np.asarray(self.values, np.float64))
        columns = {n: np.asarray(c, np.float64) for n, c in self.conditions.items()}
        object.__setattr__(self, "conditions", columns)
        texts = {n: np.asarray(c).astype(str) for n, c in self.labels.items()}
        object.__setattr__(self, "labels", texts)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        time: str,
        value: str,
        conditions: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> "Measurements":
        """The columns of a table that are named.

        Args:
            frame: the table.
            time: column of the times.
            value: column of the measured values.
            conditions: columns that make the conditions.
            labels: columns of labels.

        Raises:
            InvalidInput: a column that is missing.
        """
        for name in (time, value, *conditions, *labels):
            if name not in frame.columns:
                raise InvalidInput(f"the table has no column '{name}'{hint(name, frame.columns)}")
        return cls(
            frame[time].to_numpy(),
            frame[value].to_numpy(),
            {name: frame[name].to_numpy() for name in conditions},
            {name: frame[name].to_numpy() for name in labels},
        )

    def __len__(self) -> int:
        return len(self.times)

    def where(self, is_kept: np.ndarray) -> "Measurements":
        """The rows that are kept, (N,) booleans."""
        return Measurements(
            self.times[is_kept],
            self.values[is_kept],
            {n: c[is_kept] for n, c in self.conditions.items()},
            {n: c[is_kept] for n, c in self.labels.items()},
        )

    @cached_property
    def save_times(self) -> np.ndarray:
        """All times, each once, (T,)."""
        return np.unique(self.times)

    @cached_property
    def _distinct(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.conditions:
            return np.zeros((1, 0)), np.zeros(len(self), np.int64)
        table = np.stack(list(self.conditions.values()), axis=1)
        found, row = np.unique(table, axis=0, return_inverse=True)
        return found, row.reshape(-1)

    @property
    def num_conditions(self) -> int:
        """How many conditions differ, C."""
        return len(self._distinct[0])

    @property
    def condition_values(self) -> dict[str, np.ndarray]:
        """The numbers of each condition, by name, (C,)."""
        return {name: self._distinct[0][:, i] for i, name in enumerate(self.conditions)}

    @property
    def row_condition(self) -> np.ndarray:
        """The condition of each row, (N,)."""
        return self._distinct[1]

    @property
    def row_time(self) -> np.ndarray:
        """The position of each row's time in `save_times`, (N,)."""
        return np.searchsorted(self.save_times, self.times)

    def levels(self, labels: Sequence[str]) -> np.ndarray:
        """The text of each row that a group of labels makes, such as "plate 1, Treg", (N,)."""
        for name in labels:
            if name not in self.labels:
                raise InvalidInput(f"'{name}' is not a label of the data{hint(name, self.labels)}")
        columns = (self.labels[name].tolist() for name in labels)
        return np.array([", ".join(row) for row in zip(*columns, strict=True)], dtype=object)


def per_group(
    name: str,
    data: Measurements,
    labels: Sequence[str],
    lower: float,
    upper: float,
    transform: Transform = LINEAR,
    prior: Prior | None = None,
) -> list[Bounded]:
    """A parameter of its own for each group of rows, named `name[level]`.

    Args:
        name: what the objective's formulas call it.
        data: the measurements.
        labels: names of labels; their combinations that occur are the groups.
        lower: smallest value.
        upper: largest value.
        transform: scale of the search.
        prior: of each.

    Returns:
        The parameters, in the order of the levels.

    Example:
        >>> data = Measurements([0.0, 0.0], [1.0, 2.0], labels={"cell": ["NK", "Treg"]})
        >>> [p.name for p in per_group("gain", data, ["cell"], 0.1, 10.0)]
        ['gain[NK]', 'gain[Treg]']
    """
    levels = sorted(set(data.levels(labels)))
    return [Bounded(grouped(name, level), lower, upper, transform, prior) for level in levels]


def grouped(name: str, level: str) -> str:
    """What the parameter of one group is called."""
    return f"{name}[{level}]"


def _check(name: str, column: np.ndarray, count: int) -> None:
    if column.shape != (count,) or not count:
        raise InvalidInput(f"'{name}' has shape {column.shape}; give a number a row, ({count},)")
    if not np.all(np.isfinite(column)):
        row = int(np.argmin(np.isfinite(column)))
        raise InvalidInput(f"'{name}' is {column[row]} in row {row}; leave the row out")
