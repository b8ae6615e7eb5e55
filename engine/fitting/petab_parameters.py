"""The parameter table of a PEtab problem: scales, bounds, nominal values, priors."""

import math

import numpy as np
import pandas as pd

from engine.errors import InvalidInput
from engine.fitting.tables import SCALES, ParameterTable, Prior


def read_parameters(frame: pd.DataFrame) -> ParameterTable:
    """The table of parameters; refuses by name what cannot be."""
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
