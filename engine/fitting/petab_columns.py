"""Columns of a PEtab problem's tables (version 1) whose names look misspelt.

PEtab allows columns of one's own beside its own, so an unknown name is no error, and what it holds
is not read. Where PEtab's column of nearly that name is absent, a prior or a noise parameter would
be lost without a word.
"""

import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import pandas as pd
from petab.v1 import C

# Columns of the condition table are names of the model; unknown ones are refused.
_KNOWN: dict[str, list[str]] = {
    "parameter": C.PARAMETER_DF_COLS,
    "observable": C.OBSERVABLE_DF_COLS,
    "measurement": C.MEASUREMENT_DF_COLS,
}
# 'objectivePrior' is 0.88 of 'objectivePriorType', an own 'parameterUnit' 0.75 of 'parameterId'.
_LIKENESS = 0.8


def warn_of_misspelt_columns(files: Mapping[str, list[str]], folder: Path) -> None:
    """Warn of each unknown column that nearly names one of PEtab's that its table lacks.

    Args:
        files: file names of each kind of table.
        folder: where they lie.
    """
    for kind, known in _KNOWN.items():
        for name in files[kind]:
            given = list(pd.read_csv(folder / name, sep="\t", nrows=0).columns)
            absent = [column for column in known if column not in given]
            for column in sorted(set(given) - set(known)):
                if close := get_close_matches(column, absent, n=1, cutoff=_LIKENESS):
                    warnings.warn(
                        f"{name}: the column '{column}' is not PEtab's and is not read; "
                        f"did you mean '{close[0]}'?",
                        stacklevel=4,  # who called `read_petab`
                    )
