"""The table of patients: a row per patient and arm, every column with a unit and a meaning."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.trial.biology import biology_of
from engine.trial.reference import Reference
from engine.trial.spec import TrialSpec
from engine.trial.store import Store
from engine.trial.work import plan, status_text

_MOLECULES = "molecules per cell"


@dataclass(frozen=True, eq=False)
class Column:
    """Values of one column, (arms, patients), with unit and meaning."""

    values: np.ndarray
    unit: str
    description: str


Columns = dict[str, Column]


def gather(spec: TrialSpec, store: Store) -> dict[str, np.ndarray]:
    """The endpoints of all finished units: (arms, types, patients, cells), `drug` (arms, patients).

    Also `seconds` in all and `failures`, the text of every unit that has one.
    """
    num_arms, num_types = len(spec.arms), len(spec.cells.types)
    patients, cells = spec.population.num_patients, spec.cells.per_patient
    shape = (num_arms, num_types, patients, cells)
    found: dict[str, Any] = {name: np.full(shape, np.nan) for name in ("end", "mean", "peak")}
    found |= {name: np.zeros(shape, np.int64) for name in ("status", "num_events")}
    found["drug"] = np.zeros((num_arms, patients))
    seconds, failures = 0.0, []
    for unit in plan(spec):
        stored, rows = store.load(unit), slice(unit.first, unit.last)
        for name in ("end", "mean", "peak", "status", "num_events"):
            found[name][unit.arm, unit.cell_type, rows] = stored[name]
        if unit.cell_type == 0:
            found["drug"][unit.arm, rows] = stored["drug"]
        seconds += float(stored["seconds"])
        failures += [str(text) for text in stored["failures"]]
    return found | {"seconds": np.float64(seconds), "failures": np.array(failures, dtype=str)}


def patient_columns(
    spec: TrialSpec,
    found: Mapping[str, np.ndarray],
    covariates: Mapping[str, np.ndarray],
    reference: Reference,
) -> Columns:
    """Every column of the table.

    An endpoint of a patient is the mean over the patient's cells of a type. Where one of these
    cells failed it is missing (NaN) and `status` says why: the mean of the others could be biased.
    """
    columns = _who(spec, covariates) | _given(spec, found, covariates)
    for position, name in enumerate(spec.cells.types):
        columns |= _cell_columns(spec, found, position, name, reference.maximum[name])
    columns["selectivity"] = _selectivity(spec, columns)
    return columns | _status(spec, found)


def _per_arm(spec: TrialSpec, values: Any) -> np.ndarray:
    return np.broadcast_to(np.asarray(values), (len(spec.arms), spec.population.num_patients))


def _who(spec: TrialSpec, covariates: Mapping[str, np.ndarray]) -> Columns:
    units = {name: unit for name, (unit, _) in biology_of(spec).covariates.items()}
    meaning = {"body_surface": "body surface area"}
    ids = _per_arm(spec, np.arange(spec.population.num_patients))
    columns = {"patient": Column(ids, "", "identity; the same person in every arm")}
    for name, values in covariates.items():
        described = meaning.get(name, "factor on the typical patient's number")
        columns[f"covariate_{name}"] = Column(_per_arm(spec, values), units[name], described)
    return columns


def _given(
    spec: TrialSpec, found: Mapping[str, np.ndarray], covariates: Mapping[str, np.ndarray]
) -> Columns:
    biology, molecule = biology_of(spec), spec.molecule.molecule()
    surface = covariates["body_surface"]
    amounts = np.stack([biology.amounts(arm, molecule, surface) for arm in spec.arms])
    pk = [biology.pharmacokinetics(arm.route, molecule, covariates) for arm in spec.arms]
    names = np.array([arm.name for arm in spec.arms], dtype=object)[:, np.newaxis]
    doses = np.array([arm.dose for arm in spec.arms])[:, np.newaxis]
    units = sorted({arm.unit for arm in spec.arms})
    drug = f"mean concentration of {biology.drug} in the window"
    return {
        "arm": Column(_per_arm(spec, names), "", "arm of the trial"),
        "dose": Column(_per_arm(spec, doses), " or ".join(units), "each dose"),
        "dose_amount": Column(amounts, "nmol", "each dose of this patient"),
        "clearance": Column(np.stack([one.clearance for one in pk]), "L/min", "of the drug"),
        "volume": Column(np.stack([one.volume for one in pk]), "L", "central, of the drug"),
        "concentration": Column(found["drug"], biology.drug_unit, drug),
    } | _receptors(spec, covariates)


def _receptors(spec: TrialSpec, covariates: Mapping[str, np.ndarray]) -> Columns:
    return {
        f"{cell}_{name}": Column(_per_arm(spec, values), _MOLECULES, "surface, without drug")
        for cell in spec.cells.types
        for name, values in biology_of(spec).parameters(cell, covariates).items()
    }


def _cell_columns(
    spec: TrialSpec, found: Mapping[str, np.ndarray], position: int, name: str, maximum: float
) -> Columns:
    end, mean, peak = (found[key][:, position] for key in ("end", "mean", "peak"))
    is_known = np.isfinite(end)
    responds = np.where(is_known, end / maximum >= spec.endpoints.responder_occupancy, np.nan)
    threshold = f"cells with an occupancy of at least {spec.endpoints.responder_occupancy:g}"
    fraction = f"of the wild type's maximum of {maximum:.4g} {_MOLECULES} after 60 min"
    at_end, over, at_peak = "active at the window's end", "mean active in the window", "peak active"
    return {
        f"{name}_active": Column(end.mean(-1), _MOLECULES, at_end),
        f"{name}_active_mean": Column(mean.mean(-1), _MOLECULES, over),
        f"{name}_active_peak": Column(peak.mean(-1), _MOLECULES, at_peak),
        f"{name}_occupancy": Column(end.mean(-1) / maximum, "1", f"{at_end}, {fraction}"),
        f"{name}_occupancy_mean": Column(mean.mean(-1) / maximum, "1", f"{over}, {fraction}"),
        f"{name}_responders": Column(responds.mean(-1), "1", f"share of {threshold}"),
        f"{name}_events": Column(
            found["num_events"][:, position].sum(-1), "1", "reactions fired in complete cells"
        ),
    }


def _selectivity(spec: TrialSpec, columns: Columns) -> Column:
    chosen, others = selective_and_others(spec)
    occupancy = {name: columns[f"{name}_occupancy"].values for name in spec.cells.types}
    of_others = np.mean([occupancy[name] for name in others], axis=0) if others else np.nan
    values = np.full_like(occupancy[chosen], np.nan)
    np.divide(occupancy[chosen], of_others, out=values, where=np.asarray(of_others) > 0)
    described = f"occupancy of {chosen} over the mean of {', '.join(others)}"
    return Column(values, "1", described)


def selective_and_others(spec: TrialSpec) -> tuple[str, list[str]]:
    """The cell type that the drug is meant for, and the others."""
    chosen = spec.endpoints.selective_for
    return chosen, [name for name in spec.cells.types if name != chosen]


def _status(spec: TrialSpec, found: Mapping[str, np.ndarray]) -> Columns:
    statuses = found["status"]
    texts = np.full(statuses.shape[:1] + statuses.shape[2:3], "complete", dtype=object)
    for arm, patient in np.argwhere((statuses != 0).any(axis=(1, 3))):
        parts = (
            status_text(name, statuses[arm, i, patient]) for i, name in enumerate(spec.cells.types)
        )
        texts[arm, patient] = "; ".join(filter(None, parts))
    return {"status": Column(texts, "", "complete, or which cells failed and why")}


def write_parquet(columns: Columns, path: Path) -> None:
    """Write the table, arm after arm; units and meanings stand in the fields' metadata."""
    import pyarrow
    from pyarrow import parquet

    arrays, fields = [], []
    for name, column in columns.items():
        array = pyarrow.array(
            column.values.ravel().tolist()
            if column.values.dtype == object
            else np.ascontiguousarray(column.values.ravel())
        )
        described = {"unit": column.unit, "description": column.description}
        arrays.append(array)
        fields.append(pyarrow.field(name, array.type, metadata=described))
    parquet.write_table(pyarrow.table(arrays, schema=pyarrow.schema(fields)), path)
