"""Reads a PEtab problem's files (version 1); the library `petab` knows tables and formulas.

Reference: Schmiester et al. 2021, doi:10.1371/journal.pcbi.1008646.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import petab.v1 as petab
import yaml

from engine.errors import InvalidInput
from engine.fitting.petab_columns import warn_of_misspelt_columns
from engine.fitting.petab_conditions import read_lanes
from engine.fitting.petab_observables import read_observables
from engine.fitting.petab_parameters import read_parameters
from engine.fitting.petab_values import Pool
from engine.fitting.tables import ParameterTable, Tables
from engine.network.sbml_rates import RateModel, read_rate_model


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
    parameters = read_parameters(petab.get_parameter_df([folder / f for f in files["parameter"]]))
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


def _tables(
    name: str,
    model: RateModel,
    parameters: ParameterTable,
    conditions: pd.DataFrame,
    observables: pd.DataFrame,
    frame: pd.DataFrame,
) -> Tables:
    pool = Pool(parameters.names)
    lanes = read_lanes(model, parameters.names, conditions, frame, pool)
    measurements = pd.to_numeric(frame["measurement"]).to_numpy(float)
    if not np.all(is_number := np.isfinite(measurements)):
        row = np.argmin(is_number) + 1
        raise InvalidInput(f"row {row} of the measurement table has no number; leave the row out")
    found = read_observables(model, parameters, observables, frame, pool)
    return Tables(
        model=model,
        parameters=parameters,
        lanes=lanes,
        measurements=measurements,
        observables=found,
        numbers=np.array(list(pool.numbers), float),
        frame=frame,
        name=name,
    )
