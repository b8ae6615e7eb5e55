"""The observable table of a PEtab problem, with the placeholders that its measurements fill."""

import math

import numpy as np
import pandas as pd
from petab.v1.measurements import split_parameter_replacement_list

from engine.errors import InvalidInput
from engine.fitting.formulas import read_formula
from engine.fitting.petab_values import Pool
from engine.fitting.tables import NOISES, SCALES, Observable, ParameterTable
from engine.network.expressions import TIME, Expression, symbols
from engine.network.network import hint
from engine.network.sbml_rates import RateModel


def read_observables(
    model: RateModel,
    parameters: ParameterTable,
    table: pd.DataFrame,
    frame: pd.DataFrame,
    pool: Pool,
) -> tuple[Observable, ...]:
    """The observables that have measurements; refuses by name what cannot be."""
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
    name: str, formula: Expression, noise: Expression, frame: pd.DataFrame, pool: Pool
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
