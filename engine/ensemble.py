"""The result of a simulation: labelled arrays, one status per trajectory."""

import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from engine.errors import InvalidInput
from engine.kernel.status import Status
from engine.kinetics.evaluate import evaluate
from engine.network.expressions import TIME, symbols
from engine.network.network import ReactionNetwork, hint

# Variables and inputs are saved along with species.
NOTHING_SAVED = "record=() saves nothing: record a species"


@dataclass(frozen=True, eq=False)
class Ensemble:
    """N trajectories (patients x replicates, patient-major) at T save times of S species.

    Attributes:
        counts: molecules, (N, T, S) int32 (float64 `values` of a deterministic method); -1 (NaN)
            at save times that a failed trajectory did not reach.
        species: names along the last axis.
        ts: save times, (T,).
        status: how each trajectory ended, (N,) of `Status` values.
        num_events: reactions fired, (N,); num_steps counts candidates too.
        patient, replicate: coordinates of the rows, (N,).
        tallies: name -> (N,) array.
        network: what was simulated.
        params: the parameters of every row, () or (N,).
        levels: variables and inputs, name -> (N, T); none where no species is recorded.
        continuous: species that the method took for real numbers (all, for Langevin).
        failures: what went wrong in the first failed trajectories, in words.
        covariances: molecules^2, (N, T, S, S), by `LinearNoise`; None by other methods.
    """

    counts: np.ndarray
    species: tuple[str, ...]
    ts: np.ndarray
    status: np.ndarray
    num_events: np.ndarray
    num_steps: np.ndarray
    patient: np.ndarray
    replicate: np.ndarray
    tallies: Mapping[str, np.ndarray]
    network: ReactionNetwork
    params: Mapping[str, np.ndarray] = field(repr=False)
    levels: Mapping[str, np.ndarray] = field(repr=False)
    failures: tuple[str, ...] = ()
    covariances: np.ndarray | None = None
    continuous: tuple[str, ...] = ()

    @property
    def values(self) -> np.ndarray:
        """The counts, or the real values of a deterministic method, (N, T, S)."""
        return self.counts

    @property
    def is_complete(self) -> np.ndarray:
        """Whether each trajectory reached its last save time, (N,) bool."""
        return self.status == Status.COMPLETE

    def __len__(self) -> int:
        return len(self.patient)

    def __getitem__(self, name: str) -> np.ndarray:
        """(N, T): a species, a variable, an input, or a quantity set by an assignment rule.

        Raises:
            InvalidInput: an unknown name, or a rule on species that were not recorded.
        """
        if name in self.species:
            return self.counts[:, :, self.species.index(name)]
        if name in self.levels:
            return self.levels[name]
        if name in self.network.rules:
            return self._rule(name)
        if self.network.kind_of(name) in ("variable", "input"):
            raise InvalidInput(f"'{name}' was not recorded; {NOTHING_SAVED}")
        known = [*self.species, *self.levels, *self.network.rules]
        raise InvalidInput(f"'{name}' was not recorded{hint(name, known)}")

    def _rule(self, name: str) -> np.ndarray:
        values: dict[str, Any] = {TIME: self.ts[None, :]}
        values |= {n: p[:, None] if np.ndim(p) else p for n, p in self.params.items()}
        values |= {n: self.counts[:, :, i].astype(np.float64) for i, n in enumerate(self.species)}
        values |= self.levels
        for target, expression in self.network.rules.items():
            missing = sorted(symbols(expression) - values.keys())
            if not missing:
                values[target] = evaluate(expression, values, np, np.float64)
            elif target == name:
                is_species = missing[0] in self.network.species_names
                remedy = "add it to record=" if is_species else NOTHING_SAVED
                raise InvalidInput(
                    f"'{name}' depends on '{missing[0]}', which was not recorded; {remedy}"
                )
        return np.broadcast_to(values[name], self.counts.shape[:2])

    def to_xarray(self) -> xarray.Dataset:
        """A labelled Dataset (patient, replicate, time, species) with units.

        Returns:
            `counts`, `status`, `num_events`, every tally, variable and input, and `covariances`
            (.., species, species_2) where there are any; the assignment rules' values are left to
            `ensemble[name]`.
        """
        patients, replicates = _unique(self.patient), _unique(self.replicate)
        shape = (len(patients), len(replicates))
        if shape[0] * shape[1] != len(self):
            raise InvalidInput("to_xarray needs every patient with every replicate")
        rows = ("patient", "replicate")
        data: dict[str, Any] = {
            "counts": (
                (*rows, "time", "species"),
                self.counts.reshape(*shape, *self.counts.shape[1:]),
                {"units": "molecules"},
            ),
            "status": (rows, self.status.reshape(shape), {"meanings": _meanings()}),
            "num_events": (rows, self.num_events.reshape(shape)),
        }
        units = {v.name: v.unit for v in self.network.variables}
        units |= {i.name: i.unit for i in self.network.inputs}
        for name, level in self.levels.items():
            attributes = {"units": units.get(name, "")}
            data[name] = ((*rows, "time"), level.reshape(*shape, -1), attributes)
        for name, tally in self.tallies.items():
            data[f"tally_{name}"] = (rows, tally.reshape(shape))
        if self.covariances is not None:
            dims = (*rows, "time", "species", "species_2")
            squares = self.covariances.reshape(*shape, *self.covariances.shape[1:])
            data["covariances"] = (dims, squares, {"units": "molecules^2"})
        coordinates = {
            "patient": patients,
            "replicate": replicates,
            "time": ("time", self.ts, {"units": self.network.time_unit}),
            "species": list(self.species),
        }
        if self.covariances is not None:
            coordinates["species_2"] = list(self.species)
        return xarray.Dataset(data, coordinates, {"network": self.network.name})


def _unique(values: np.ndarray) -> np.ndarray:
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)]


def _meanings() -> str:
    return " ".join(f"{int(status)}:{status.name}" for status in Status)


def write_zarr(
    dataset: xarray.Dataset, path: Path, extend: Callable[[Any], None] | None = None
) -> None:
    """Write a labelled dataset so that the store is there whole or not at all.

    Args:
        dataset: what to write, for example `ensemble.to_xarray()`.
        path: the store, a folder that must not exist; read it with `xarray.open_zarr(path)`.
        extend: called with the open zarr group before the store takes its name.
    """
    import zarr  # half a second, and only files need it

    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    names = {n: c.astype(object) for n, c in dataset.coords.items() if c.dtype.kind == "U"}
    with warnings.catch_warnings():
        # Without consolidated metadata xarray.open_zarr warns every reader; with it zarr warns the
        # writer that only Python knows it.
        warnings.simplefilter("ignore")
        try:
            dataset.assign_coords(names).to_zarr(
                temporary, mode="w", consolidated=False, zarr_format=3
            )
            if extend is not None:
                extend(zarr.open_group(temporary, mode="r+"))
            zarr.consolidate_metadata(temporary)
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


class SimulationFailed(RuntimeError):
    """Some trajectories did not reach their last save time; the others are in `ensemble`."""

    def __init__(self, message: str, ensemble: Ensemble) -> None:
        super().__init__(message)
        self.ensemble = ensemble


def concatenate(pieces: Sequence[Ensemble]) -> Ensemble:
    """One ensemble of the rows of several, in order."""
    if len(pieces) == 1:
        return pieces[0]
    first = pieces[0]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(piece, name) for piece in pieces])

    def joined_map(name: str) -> dict[str, np.ndarray]:
        keys = getattr(first, name)
        return {k: np.concatenate([getattr(piece, name)[k] for piece in pieces]) for k in keys}

    params = {
        name: np.concatenate([piece.params[name] for piece in pieces]) if np.ndim(value) else value
        for name, value in first.params.items()
    }
    return Ensemble(
        joined("counts"),
        first.species,
        first.ts,
        joined("status"),
        joined("num_events"),
        joined("num_steps"),
        joined("patient"),
        joined("replicate"),
        joined_map("tallies"),
        first.network,
        params,
        joined_map("levels"),
        tuple(failure for piece in pieces for failure in piece.failures),
        None if first.covariances is None else joined("covariances"),
        first.continuous,
    )


def raise_failures(ensemble: Ensemble) -> None:
    """Raise `SimulationFailed`, naming the patients, where a trajectory is not complete."""
    failed = np.flatnonzero(~ensemble.is_complete)
    if not len(failed):
        return
    reasons = []
    for status in np.unique(ensemble.status[failed]):
        rows = np.flatnonzero(ensemble.status == status)
        named = ", ".join(str(p) for p in ensemble.patient[rows[:5]])
        more = ", ..." if len(rows) > 5 else ""
        reasons.append(f"patient {named}{more} {Status(status).message}")
    detail = f" ({ensemble.failures[0]})" if ensemble.failures else ""
    raise SimulationFailed(
        f"{len(failed)} of {len(ensemble)} trajectories failed: {'; '.join(reasons)}{detail}",
        ensemble,
    )
