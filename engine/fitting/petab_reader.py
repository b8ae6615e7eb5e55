"""Reads a PEtab problem's files (version 1); the library `petab` knows tables and formulas.

Reference: Schmiester et al. 2021, doi:10.1371/journal.pcbi.1008646.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import petab.v1 as petab
import yaml
from petab.v1.measurements import split_parameter_replacement_list

from engine.errors import InvalidInput
from engine.fitting.formulas import read_formula
from engine.fitting.petab_columns import warn_of_misspelt_columns
from engine.fitting.tables import (
    NOISES,
    SCALES,
    Conditions,
    Observable,
    ParameterTable,
    Prior,
    Tables,
)
from engine.network.expressions import TIME, Expression, symbols
from engine.network.network import hint
from engine.network.sbml_rates import RateModel, read_rate_model


class _Pool:
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


def read_tables(path: str | Path) -> Tables:
    """Read the files of a PEtab problem (version 1); warns of columns that look misspelt.

    Raises:
        InvalidInput: a missing or malformed file, or a feature that is not read, by name.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInput(f"there is no file '{path}'")
    files, folder = _files(path)
    try:
        warn_of_misspelt_columns(files, folder)
        with warnings.catch_warnings():
            # petab calls pandas in ways that pandas warns of; a user can do nothing about it.
            warnings.simplefilter("ignore")
            return _read(path, files, folder)
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInput(f"{path.name}: {reason}") from None


def _read(path: Path, files: Mapping[str, list[str]], folder: Path) -> Tables:
    parameters = _parameters(petab.get_parameter_df([folder / f for f in files["parameter"]]))
    model = read_rate_model(folder / files["sbml"][0])
    conditions = pd.concat([petab.get_condition_df(folder / f) for f in files["condition"]])
    observables = petab.concat_tables(
        [folder / f for f in files["observable"]], petab.get_observable_df
    )
    frame = petab.concat_tables(
        [folder / f for f in files["measurement"]], petab.get_measurement_df
    ).reset_index(drop=True)
    return _tables(path.stem, model, parameters, conditions, observables, frame)


def _files(path: Path) -> tuple[dict[str, list[str]], Path]:
    """File names of each kind, relative to the folder returned."""
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or "problems" not in content:
        raise InvalidInput(f"{path.name} is not a PEtab problem; it has no 'problems'")
    version = str(content.get("format_version", "1"))
    if version.split(".")[0] != "1":
        raise InvalidInput(f"{path.name} is PEtab {version}; only version 1 is read")
    if content.get("extensions"):
        names = ", ".join(map(str, content["extensions"]))
        raise InvalidInput(f"{path.name} needs the PEtab extensions {names}, which are not read")
    problems = content["problems"]
    if not isinstance(problems, list) or len(problems) != 1:
        raise InvalidInput(f"{path.name} holds {len(problems or [])} problems; give it one")
    files: dict[str, list[str]] = {}
    for kind in ("sbml", "condition", "observable", "measurement"):
        found = problems[0].get(f"{kind}_files")
        if not found:
            raise InvalidInput(f"{path.name} names no {kind}_files")
        files[kind] = list(found)
    if len(files["sbml"]) != 1:
        raise InvalidInput(f"{path.name} names {len(files['sbml'])} models; give it one")
    parameter_file = content.get("parameter_file")
    if not parameter_file:
        raise InvalidInput(f"{path.name} names no parameter_file")
    files["parameter"] = parameter_file if isinstance(parameter_file, list) else [parameter_file]
    for name in (name for group in files.values() for name in group):
        if not (path.parent / name).is_file():
            raise InvalidInput(f"{path.name} names '{name}', which is not beside it")
    return files, path.parent


# Parameters.


def _parameters(frame: pd.DataFrame) -> ParameterTable:
    names = tuple(map(str, frame.index))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"the parameter table has '{twice}' twice")
    is_estimated = frame["estimate"].to_numpy(float) != 0
    nominal = _column(frame, "nominalValue", math.nan)
    lower, upper = _column(frame, "lowerBound", -math.inf), _column(frame, "upperBound", math.inf)
    scales = tuple(str(s) for s in frame.get("parameterScale", pd.Series("lin", frame.index)))
    for i, name in enumerate(names):
        if scales[i] not in SCALES:
            raise InvalidInput(
                f"parameter '{name}' has parameterScale '{scales[i]}'; give lin, log or log10"
            )
        if not is_estimated[i] and math.isnan(nominal[i]):
            raise InvalidInput(f"parameter '{name}' is not estimated and has no nominalValue")
        if is_estimated[i] and not lower[i] < upper[i]:
            raise InvalidInput(
                f"parameter '{name}' has bounds {lower[i]:g}, {upper[i]:g}; the "
                "lower must be the smaller"
            )
        if is_estimated[i] and scales[i] != "lin" and not lower[i] > 0:
            raise InvalidInput(
                f"parameter '{name}' has scale {scales[i]} and lowerBound "
                f"{lower[i]:g}; give a positive one"
            )
    return ParameterTable(
        names, nominal, lower, upper, scales, is_estimated, _priors(frame, lower, upper), frame
    )


def _column(frame: pd.DataFrame, name: str, default: float) -> np.ndarray:
    if name not in frame:
        return np.full(len(frame), default)
    return pd.to_numeric(frame[name]).to_numpy(float, na_value=default)


def _priors(frame: pd.DataFrame, lower: np.ndarray, upper: np.ndarray) -> dict[str, Prior]:
    found: dict[str, Prior] = {}
    if "objectivePriorType" not in frame:
        return found
    for i, (name, row) in enumerate(frame.iterrows()):
        kind, text = row["objectivePriorType"], row.get("objectivePriorParameters")
        if not isinstance(kind, str) or not kind or not row["estimate"]:
            continue
        if isinstance(text, str) and text:
            values = tuple(float(part) for part in text.split(";"))
        elif kind == "uniform":
            values = (float(lower[i]), float(upper[i]))
        else:
            continue
        if len(values) != 2:
            raise InvalidInput(f"the prior of '{name}' has parameters '{text}'; give two numbers")
        found[str(name)] = Prior(kind, (values[0], values[1]))
    return found


# Conditions.


def _tables(
    name: str,
    model: RateModel,
    parameters: ParameterTable,
    conditions: pd.DataFrame,
    observables: pd.DataFrame,
    frame: pd.DataFrame,
) -> Tables:
    twice = conditions.index[conditions.index.duplicated()]
    if len(twice):
        raise InvalidInput(f"the condition table has '{twice[0]}' twice")
    pool = _Pool(parameters.names)
    targets = {
        column: _target(model, str(column))
        for column in conditions.columns
        if column != "conditionName"
    }
    by_name = {model.names.get(n, n): n for n in parameters.names}
    identical = [n for n in (*model.states, *model.constants) if n in by_name]
    open_names = tuple(dict.fromkeys((*targets.values(), *identical)))
    overrides = _Overrides(conditions, targets, open_names, by_name, pool)
    before, pairs, lane_of = _lanes(frame, overrides)
    measurements = pd.to_numeric(frame["measurement"]).to_numpy(float)
    if not np.all(is_number := np.isfinite(measurements)):
        row = np.argmin(is_number) + 1
        raise InvalidInput(f"row {row} of the measurement table has no number; leave the row out")
    times, row_time = _times(pd.to_numeric(frame["time"]).to_numpy(float), lane_of, len(pairs))
    found = _observables(model, parameters, observables, frame, pool)
    return Tables(
        model=model,
        parameters=parameters,
        open=open_names,
        before=overrides.rows(before),
        lanes=overrides.rows([pair[1] for pair in pairs]),
        before_of=np.array([before.index(b) if b else -1 for b, _ in pairs], int),
        lane_names=tuple(f"{b} then {s}" if b else s for b, s in pairs),
        times=times,
        row_lane=lane_of,
        row_time=row_time,
        measurements=measurements,
        observables=found,
        numbers=np.array(list(pool.numbers), float),
        frame=frame,
        name=name,
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
    pool: _Pool

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


def _lanes(
    frame: pd.DataFrame, overrides: _Overrides
) -> tuple[list[str], list[tuple[str, str]], np.ndarray]:
    """Conditions of pre-equilibration, the distinct lanes, and the lane of each measurement."""
    column = "preequilibrationConditionId"
    first = frame[column] if column in frame else pd.Series(math.nan, frame.index)
    first = ["" if pd.isna(value) else str(value) for value in first]
    second = [*map(str, frame["simulationConditionId"])]
    alike = overrides.alike([*dict.fromkeys([*filter(None, first), *second])])
    every = [(alike.get(b, b), alike[s]) for b, s in zip(first, second, strict=True)]
    pairs = list(dict.fromkeys(every))
    before = list(dict.fromkeys(b for b, _ in pairs if b))
    return before, pairs, np.array([pairs.index(pair) for pair in every], int)


def _times(times: np.ndarray, lane_of: np.ndarray, num_lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Save times of each lane, padded with the last, and the position of each measurement's."""
    if np.any(np.isnan(times)) or np.any(times < 0):
        raise InvalidInput("the measurement table has a time that is negative or no number")
    own = [
        np.unique(np.append(times[(lane_of == lane) & np.isfinite(times)], 0.0))
        for lane in range(num_lanes)
    ]
    width = max(map(len, own))
    padded = np.stack([np.append(t, np.full(width - len(t), t[-1])) for t in own])
    position = np.array(
        [
            np.searchsorted(own[lane], t) if np.isfinite(t) else -1
            for t, lane in zip(times, lane_of, strict=True)
        ],
        int,
    )
    return padded, position


# Observables.


def _observables(
    model: RateModel,
    parameters: ParameterTable,
    table: pd.DataFrame,
    frame: pd.DataFrame,
    pool: _Pool,
) -> tuple[Observable, ...]:
    named = frame["observableId"].astype(str)
    for name in named.unique():
        if name not in table.index:
            raise InvalidInput(
                f"the measurement table names observable '{name}', which is not in "
                f"the observable table{hint(name, map(str, table.index))}"
            )
    known = {TIME, *model.states, *model.constants, *model.rules, *parameters.names}
    found = []
    for name, row in table.iterrows():
        rows = np.flatnonzero(named == name)
        if not len(rows):
            continue
        where = f"observable '{name}'"
        formula = read_formula(row["observableFormula"], model.names, where)
        noise = read_formula(row["noiseFormula"], model.names, f"{where}, noise")
        placeholders = _placeholders(str(name), formula, noise, frame.iloc[rows], pool)
        for symbol in sorted((symbols(formula) | symbols(noise)) - known - {str(name)}):
            if symbol not in placeholders:
                raise InvalidInput(
                    f"{where} mentions '{symbol}', which is in neither the model "
                    f"nor the parameter table{hint(symbol, known)}"
                )
        transformation = _word(row, "observableTransformation", "lin", SCALES, where)
        distribution = _word(row, "noiseDistribution", "normal", NOISES, where)
        if transformation != "lin" and np.any(frame["measurement"].iloc[rows] <= 0):
            raise InvalidInput(
                f"{where} is on scale {transformation} and has a measurement that is not positive"
            )
        found.append(
            Observable(str(name), formula, noise, transformation, distribution, rows, placeholders)
        )
    return tuple(found)


def _word(row: pd.Series, column: str, default: str, allowed: tuple[str, ...], where: str) -> str:
    value = row.get(column)
    word = default if value is None or pd.isna(value) or value == "" else str(value)
    if word not in allowed:
        raise InvalidInput(f"{where} has {column} '{word}'; {' and '.join(allowed)} are read")
    return word


def _placeholders(
    name: str, formula: Expression, noise: Expression, frame: pd.DataFrame, pool: _Pool
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for kind, expression in (("observable", formula), ("noise", noise)):
        column = f"{kind}Parameters"
        prefix = f"{kind}Parameter"
        wanted = sorted(
            s
            for s in symbols(formula) | symbols(expression)
            if s.startswith(prefix) and s.endswith(f"_{name}")
        )
        if not wanted:
            continue
        given = frame[column] if column in frame else pd.Series(math.nan, frame.index)
        lists = [split_parameter_replacement_list(value) for value in given]
        for symbol in wanted:
            number = symbol.removeprefix(prefix).removesuffix(f"_{name}")
            if not number.isdigit():
                continue
            place = int(number) - 1
            where = f"{column} of observable '{name}'"
            if any(len(values) <= place for values in lists):
                raise InvalidInput(f"{where} must give '{symbol}' in every row")
            found[symbol] = np.array([pool.index(values[place], where) for values in lists], int)
    return found
