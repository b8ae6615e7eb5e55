"""The condition table of a PEtab problem, and the lanes that its measurements ask for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from engine.errors import InvalidInput
from engine.fitting.petab_values import Pool
from engine.fitting.tables import Conditions, Lanes
from engine.network.network import hint
from engine.network.sbml_rates import RateModel


def read_lanes(
    model: RateModel,
    parameters: tuple[str, ...],
    table: pd.DataFrame,
    measurements: pd.DataFrame,
    pool: Pool,
) -> Lanes:
    """The lanes that the measurements ask for; equal ones are one."""
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise InvalidInput(f"the condition table has '{twice[0]}' twice")
    targets = {
        column: _target(model, str(column)) for column in table.columns if column != "conditionName"
    }
    by_name = {model.names.get(name, name): name for name in parameters}
    identical = [name for name in (*model.states, *model.constants) if name in by_name]
    names = tuple(dict.fromkeys((*targets.values(), *identical)))
    overrides = _Overrides(table, targets, names, by_name, pool)
    before, pairs, of_row = _pairs(measurements, overrides)
    time = pd.to_numeric(measurements["time"]).to_numpy(float)
    times, time_of_row = _times(time, of_row, len(pairs))
    return Lanes(
        open=names,
        before=overrides.rows(before),
        after=overrides.rows([second for _, second in pairs]),
        before_of=np.array([before.index(first) if first else -1 for first, _ in pairs], int),
        names=tuple(f"{first} then {second}" if first else second for first, second in pairs),
        times=times,
        of_row=of_row,
        time_of_row=time_of_row,
    )


def _target(model: RateModel, column: str) -> str:
    name = model.names.get(column, column)
    if name in model.rules:
        raise InvalidInput(f"the condition table sets '{column}', which an assignment rule sets")
    if name not in (*model.states, *model.constants):
        known = [*model.states, *model.constants]
        raise InvalidInput(
            f"the condition table sets '{column}', which is not in the model{hint(column, known)}"
        )
    return name


@dataclass(frozen=True)
class _Overrides:
    """Who overrides what in which condition."""

    frame: pd.DataFrame
    targets: Mapping[str, str]
    names: tuple[str, ...]
    by_name: Mapping[str, str]
    pool: Pool

    def rows(self, conditions: list[str]) -> Conditions:
        """The overrides of each of these conditions."""
        shape = len(conditions), len(self.names)
        index = np.zeros(shape, int)
        is_given, is_reset = np.zeros(shape, bool), np.zeros(shape, bool)
        for k, name in enumerate(self.names):
            if name in self.by_name:
                index[:, k] = self.pool.index(self.by_name[name], name)
                is_given[:, k] = True
        for lane, condition in enumerate(conditions):
            if condition not in self.frame.index:
                raise InvalidInput(
                    f"the measurement table names condition '{condition}', which is not in the "
                    f"condition table{hint(condition, map(str, self.frame.index))}"
                )
            for column, name in self.targets.items():
                value = self.frame.loc[condition, column]
                if pd.isna(value) or (isinstance(value, str) and value.lower() in ("", "nan")):
                    continue
                k = self.names.index(name)
                where = f"condition '{condition}', column '{column}',"
                index[lane, k] = self.pool.index(value, where)
                is_given[lane, k] = is_reset[lane, k] = True
        return Conditions(index, is_given, is_reset)

    def alike(self, conditions: list[str]) -> dict[str, str]:
        """For each condition the first that overrides the same by the same, perhaps itself."""
        found = self.rows(conditions)
        table = np.concatenate([found.index, found.is_given, found.is_reset], axis=1)
        first: dict[bytes, str] = {}
        pairs = zip(conditions, table, strict=True)
        return {name: first.setdefault(row.tobytes(), name) for name, row in pairs}


def _pairs(
    frame: pd.DataFrame, overrides: _Overrides
) -> tuple[list[str], list[tuple[str, str]], np.ndarray]:
    """Conditions of pre-equilibration, the distinct pairs, and the pair of each measurement."""
    column = "preequilibrationConditionId"
    first = frame[column] if column in frame else pd.Series(math.nan, frame.index)
    first = ["" if pd.isna(value) else str(value) for value in first]
    second = [*map(str, frame["simulationConditionId"])]
    alike = overrides.alike([*dict.fromkeys([*filter(None, first), *second])])
    every = [(alike.get(b, b), alike[s]) for b, s in zip(first, second, strict=True)]
    pairs = list(dict.fromkeys(every))
    before = list(dict.fromkeys(b for b, _ in pairs if b))
    return before, pairs, np.array([pairs.index(pair) for pair in every], int)


def _times(times: np.ndarray, of_row: np.ndarray, num_lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Save times of each lane, padded with the last, and the position of each measurement's."""
    if np.any(np.isnan(times)) or np.any(times < 0):
        raise InvalidInput("the measurement table has a time that is negative or no number")
    own = [
        np.unique(np.append(times[(of_row == lane) & np.isfinite(times)], 0.0))
        for lane in range(num_lanes)
    ]
    width = max(map(len, own))
    padded = np.stack([np.append(t, np.full(width - len(t), t[-1])) for t in own])
    position = np.array(
        [
            np.searchsorted(own[lane], t) if np.isfinite(t) else -1
            for t, lane in zip(times, of_row, strict=True)
        ],
        int,
    )
    return padded, position
