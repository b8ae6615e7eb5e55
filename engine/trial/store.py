"""A trial's folder: what is finished, written so that a kill at any moment loses nothing of it.

    DIR/spec.toml           the trial as run; its first line says that the folder is ours
    DIR/reference.json      the mean field of the typical patient
    DIR/units/*.npz         endpoints of finished units, until the trial is finished
    DIR/trajectories.zarr   (arm, patient, cell_type, cell, time), chunked by patient
    DIR/patients.parquet    a row per patient and arm
    DIR/summary.json        the table; it is written last

Every file appears whole: it is written under another name and then renamed.
"""

import io
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from engine.ensemble import write_zarr
from engine.errors import InvalidInput
from engine.trial.biology import biology_of
from engine.trial.spec import TrialSpec
from engine.trial.tables import to_toml
from engine.trial.work import Unit, UnitResult, patients_per_unit

MARK = "# A trial of cytokine-engine, as run (format 1)."
_ENDPOINTS = ("end", "mean", "peak", "status", "num_events", "drug")


class Store:
    """The folder of one trial.

    Args:
        folder: the folder; created where it does not exist.
        spec: the trial.

    Raises:
        InvalidInput: the folder holds another trial, or something else. Nothing is changed then.
    """

    def __init__(self, folder: str | Path, spec: TrialSpec) -> None:
        self.folder, self.spec = Path(folder), spec
        _check_folder(self.folder, spec)
        self._units = self.folder / "units"
        if self.is_finished:
            return
        self._units.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "spec.toml").exists():
            text = f"{MARK}\n\n{to_toml(spec.contents())}"
            write_whole(self.folder / "spec.toml", text.encode())
        if not (self.folder / "trajectories.zarr").exists():
            _create_trajectories(self.folder / "trajectories.zarr", spec)

    @property
    def is_finished(self) -> bool:
        """Whether everything has been written."""
        return (self.folder / "summary.json").exists()

    def is_done(self, unit: Unit) -> bool:
        """Whether a unit is finished."""
        return (self._units / f"{unit.name}.npz").exists()

    def save(self, unit: Unit, result: UnitResult) -> None:
        """Write a unit: its trajectories, then its endpoints, whose file says that it is done."""
        import zarr  # half a second, and only trials need it

        group: Any = zarr.open_group(self.folder / "trajectories.zarr", mode="r+")
        rows = slice(unit.first, unit.last)
        observable = biology_of(self.spec).observable
        group[observable][unit.arm, rows, unit.cell_type] = result.observable
        if unit.cell_type == 0:
            group["concentration"][unit.arm, rows] = result.concentration
        content = io.BytesIO()
        arrays = {name: getattr(result, name) for name in _ENDPOINTS}
        failures = np.array(result.failures, dtype=str)
        np.savez(content, **arrays, seconds=result.seconds, failures=failures)
        write_whole(self._units / f"{unit.name}.npz", content.getvalue())

    def load(self, unit: Unit) -> dict[str, np.ndarray]:
        """The endpoints of a finished unit, as `UnitResult` names them."""
        with np.load(self._units / f"{unit.name}.npz") as stored:
            return dict(stored)

    def reference(self) -> dict[str, Any] | None:
        """The stored mean field, or None."""
        file = self.folder / "reference.json"
        return json.loads(file.read_text()) if file.exists() else None

    def save_reference(self, contents: Mapping[str, Any]) -> None:
        """Store the mean field."""
        write_whole(self.folder / "reference.json", _json(contents))

    def finish(self, patients: Callable[[Path], None], summary: Mapping[str, Any]) -> None:
        """Write the patients' table (by the function given) and the summary, and tidy up."""
        table = self.folder / "patients.parquet"
        patients(_beside(table))
        _beside(table).replace(table)
        write_whole(self.folder / "summary.json", _json(summary))
        shutil.rmtree(self._units, ignore_errors=True)


def read_finished(folder: str | Path) -> tuple[TrialSpec, dict[str, Any]]:
    """The trial of a folder and its summary.

    Raises:
        InvalidInput: not a trial's folder, or the trial is not finished.
    """
    path = Path(folder)
    contents = _stored_contents(path)
    if contents is None:
        raise InvalidInput(f"{path} is not the folder of a trial; give the --out of engine trial")
    if not (path / "summary.json").exists():
        raise InvalidInput(
            f"the trial in {path} is not finished; run engine trial again with the same --out"
        )
    spec = TrialSpec.parsed(contents, str(path / "spec.toml"))
    return spec, json.loads((path / "summary.json").read_text())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is either there whole or not at all."""
    with _beside(path).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _beside(path).replace(path)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _json(contents: Mapping[str, Any]) -> bytes:
    return (json.dumps(contents, indent=1, allow_nan=False) + "\n").encode()


def _check_folder(folder: Path, spec: TrialSpec) -> None:
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file; give a folder that is new or holds this trial")
    stored = _stored_contents(folder)
    if stored is not None:
        difference = _difference(stored, spec.contents(), "")
        if difference:
            raise InvalidInput(
                f"{folder} holds another trial ({difference}); give another --out, nothing was "
                "changed"
            )
        return
    others = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    # A kill between making the folder and writing the spec leaves only these.
    others = [name for name in others if name != "units" and not name.startswith(".spec.toml.")]
    if others:
        raise InvalidInput(
            f"{folder} exists and is not a trial's folder (it has {others[0]}); give another --out"
        )


def _stored_contents(folder: Path) -> dict[str, Any] | None:
    file = folder / "spec.toml"
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8", errors="replace")
    return tomllib.loads(text) if text.startswith(MARK) else None


def _difference(stored: Any, given: Any, path: str) -> str:
    """Where two specs differ first; empty where they are equal."""
    if isinstance(stored, dict) and isinstance(given, dict):
        for key in sorted(stored.keys() | given.keys()):
            inner = f"{path}.{key}" if path else str(key)
            found = _difference(stored.get(key), given.get(key), inner)
            if found:
                return found
        return ""
    if isinstance(stored, list) and isinstance(given, list) and len(stored) == len(given):
        pairs = enumerate(zip(stored, given, strict=True))
        return next(filter(None, (_difference(a, b, f"{path}[{i}]") for i, (a, b) in pairs)), "")
    return "" if stored == given else f"{path} = {_short(stored)} there, {_short(given)} here"


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _create_trajectories(path: Path, spec: TrialSpec) -> None:
    """An empty labelled store that xarray opens; filled unit by unit."""
    biology, patients = biology_of(spec), spec.population.num_patients
    coordinates: dict[str, Any] = {
        "arm": [arm.name for arm in spec.arms],
        "patient": np.arange(patients),
        "cell_type": list(spec.cells.types),
        "cell": np.arange(spec.cells.per_patient),
        "time": (
            "time",
            spec.window.times(),
            {"units": "min", "long_name": "time after the first dose"},
        ),
    }
    attributes = {"trial": spec.name, "model": spec.model, "seed": spec.seed}
    labels = xarray.Dataset(coords=coordinates, attrs=attributes)
    sizes = {name: labels.sizes[name] for name in labels.sizes}
    chunks = sizes | {"arm": 1, "cell_type": 1, "patient": patients_per_unit(spec)}
    arrays = (
        (
            biology.observable,
            ("arm", "patient", "cell_type", "cell", "time"),
            {"units": "molecules per cell", "long_name": "active signalling complexes"},
        ),
        (
            "concentration",
            ("arm", "patient", "time"),
            {"units": biology.drug_unit, "long_name": f"concentration of {biology.drug}"},
        ),
    )

    def add_arrays(group: Any) -> None:
        for name, dimensions, described in arrays:
            group.create_array(
                name,
                shape=tuple(sizes[d] for d in dimensions),
                chunks=tuple(min(chunks[d], sizes[d]) for d in dimensions),
                dtype="float32",
                fill_value=float("nan"),
                dimension_names=dimensions,
                attributes=dict(described),
            )

    write_zarr(labels, path, add_arrays)
