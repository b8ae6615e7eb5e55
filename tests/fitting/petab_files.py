"""Small PEtab problems written to a folder, for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import yaml

PARAMETER = {
    "parameterScale": "lin",
    "lowerBound": 1e-3,
    "upperBound": 1e3,
    "nominalValue": 1.0,
    "estimate": 1,
}
OBSERVABLE = {"noiseFormula": "1", "observableTransformation": "lin", "noiseDistribution": "normal"}


def write_problem(
    folder: Path,
    model: str,
    parameters: Mapping[str, Mapping[str, object]],
    conditions: Mapping[str, Mapping[str, object]],
    observables: Mapping[str, Mapping[str, object]],
    measurements: Sequence[Mapping[str, object]],
) -> Path:
    """The YAML file of a problem; left-out columns have common values."""
    tables = {
        "parameters": [{"parameterId": n, **PARAMETER, **more} for n, more in parameters.items()],
        "conditions": [{"conditionId": n, **more} for n, more in conditions.items()],
        "observables": [{"observableId": n, **OBSERVABLE, **m} for n, m in observables.items()],
        "measurements": list(measurements),
    }
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    (folder / "model.xml").write_text(model)
    content = {
        "format_version": 1,
        "parameter_file": "parameters.tsv",
        "problems": [
            {
                "condition_files": ["conditions.tsv"],
                "measurement_files": ["measurements.tsv"],
                "observable_files": ["observables.tsv"],
                "sbml_files": ["model.xml"],
            }
        ],
    }
    path = folder / "problem.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def measured(
    observable: str, condition: str, time: float, value: float, **more: object
) -> dict[str, object]:
    """A row of the measurement table."""
    return {
        "observableId": observable,
        "simulationConditionId": condition,
        "time": time,
        "measurement": value,
        **more,
    }
