"""Run a trial: every unit on all cores, stored as it is finished, continued where it stopped."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from engine.simulate import num_workers
from engine.trial.analysis import summarise
from engine.trial.patients import gather, patient_columns, write_parquet
from engine.trial.reference import Reference, compute_reference
from engine.trial.spec import TrialSpec
from engine.trial.store import Store, read_finished
from engine.trial.work import UNIT_ROWS, Unit, UnitResult, covariates_of, plan, simulate_unit

Progress = Callable[[int, int, int], None]


def run_trial(
    spec: TrialSpec, folder: str | Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Simulate a trial into a folder, or continue the one that is there.

    A run that was killed and started again gives bit for bit what an uninterrupted one gives; a
    finished trial is only read.

    Args:
        spec: the trial, for example from `read_spec`.
        folder: where its results go; see `engine.trial.store`.
        progress: called with (units done, units in all, reactions fired in this run).

    Returns:
        The summary, as in `summary.json`.

    Raises:
        InvalidInput: the folder holds something else, or the trial has impossible numbers.

    Example:
        >>> from engine.trial.biology import read_spec
        >>> spec = read_spec("examples/low_dose_il2.toml")  # doctest: +SKIP
        >>> summary = run_trial(spec, "out")  # doctest: +SKIP
    """
    patients = covariates_of(spec, np.arange(spec.population.num_patients))
    store = Store(folder, spec)
    if store.is_finished:
        return read_finished(folder)[1]
    began = time.perf_counter()
    _simulate_all(spec, store, patients, progress)
    reference = Reference(**_stored_reference(store))
    found = gather(spec, store)
    columns = patient_columns(spec, found, patients, reference)
    summary = summarise(spec, columns, reference)
    summary["failures"] = sorted(set(found["failures"].tolist()))
    summary["num_events"] = int(found["num_events"].sum())
    summary["run"] = {
        "seconds_of_this_run": time.perf_counter() - began,
        "seconds_of_all_units": float(found["seconds"]),
    }
    store.finish(lambda path: write_parquet(columns, path), summary)
    return summary


def _stored_reference(store: Store) -> dict[str, Any]:
    stored = store.reference()
    assert stored is not None  # _simulate_all stored it
    return stored


def _simulate_all(
    spec: TrialSpec, store: Store, patients: Mapping[str, np.ndarray], progress: Progress | None
) -> None:
    """The mean field and every unit that is not there yet; this thread alone writes."""
    units = plan(spec)
    todo = [unit for unit in units if not store.is_done(unit)]
    # Larger units are split by `simulate` itself, over all cores.
    workers = num_workers() if spec.cells.per_patient <= UNIT_ROWS else 1
    done, events = len(units) - len(todo), 0
    if progress is not None:
        progress(done, len(units), events)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        jobs = _jobs(spec, store, patients, todo, pool)
        running = dict(islice(jobs, 2 * workers))
        try:
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    unit, result = running.pop(future), future.result()
                    if isinstance(result, Reference):
                        store.save_reference(result.contents())
                    else:
                        store.save(unit, result)
                        done, events = done + 1, events + int(result.num_events.sum())
                        if progress is not None:
                            progress(done, len(units), events)
                running |= islice(jobs, 2 * workers - len(running))
        finally:
            for future in running:
                future.cancel()


def _jobs(
    spec: TrialSpec,
    store: Store,
    patients: Mapping[str, np.ndarray],
    todo: list[Unit],
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[Future[UnitResult | Reference], Any]]:
    """Submit the work piece by piece as it is asked for; each future with its unit."""
    if store.reference() is None:
        yield pool.submit(compute_reference, spec), None
    for unit in todo:
        yield pool.submit(simulate_unit, spec, unit, patients), unit
