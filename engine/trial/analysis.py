"""From patients to a table: estimates per arm and cell type, with 95% intervals.

Intervals are percentile bootstrap intervals over patients (2,000 resamples, fixed seed): whole
patients are drawn with all their arms and cells, so a difference to the control arm is paired and
a ratio needs no formula. They say how well this many patients determine an average, not how far
patients differ (the percentiles do), nor how wrong the model may be.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.trial.patients import Column, selective_and_others
from engine.trial.reference import Reference
from engine.trial.spec import TrialSpec

NUM_RESAMPLES = 2000
LEVEL = 0.95
_SEED = 20240501
_BLOCK = 4_000_000  # weights drawn at once


def bootstrap_means(values: np.ndarray) -> np.ndarray:
    """Means over resampled patients.

    Args:
        values: (patients, quantities); NaN where missing.

    Returns:
        (NUM_RESAMPLES, quantities); every quantity of a resample is of the same patients. NaN
        where fewer than two patients are known.
    """
    number = len(values)
    is_known = np.isfinite(values)
    filled, known = np.where(is_known, values, 0.0), is_known.astype(float)
    generator = np.random.default_rng(_SEED)
    means = []
    each = max(_BLOCK // number, 1)
    for first in range(0, NUM_RESAMPLES, each):
        size = min(each, NUM_RESAMPLES - first)
        weights = generator.multinomial(number, np.full(number, 1.0 / number), size).astype(float)
        with np.errstate(invalid="ignore"):
            means.append((weights @ filled) / (weights @ known))
    # One patient says nothing about the next.
    return np.where(is_known.sum(axis=0) > 1, np.concatenate(means), np.nan)


def summarise(
    spec: TrialSpec, columns: Mapping[str, Column], reference: Reference
) -> dict[str, Any]:
    """The trial's table, as plain dictionaries.

    Args:
        spec: the trial.
        columns: of the patients' table, each (arms, patients).
        reference: the mean field.

    Returns:
        `arms`: for each arm its dose, mean concentration, selectivity (ratio of the arm's mean
        occupancies, with interval) and `cells`: cell type -> statistics; `reference`; how the
        intervals were made. Numbers that do not exist are None.
    """
    names, types = [arm.name for arm in spec.arms], spec.cells.types
    kinds = ("occupancy", "occupancy_mean", "responders")
    stacked = np.stack(
        [[columns[f"{cell}_{kind}"].values for kind in kinds] for cell in types]
    )  # (types, kinds, arms, patients)
    flat = stacked.reshape(-1, stacked.shape[-1]).T
    resampled = bootstrap_means(flat).reshape(-1, *stacked.shape[:-1])
    arms = {}
    for i, arm in enumerate(spec.arms):
        cells = {
            cell: _cell_statistics(spec, stacked[c], resampled[:, c], i)
            | _expected(reference, arm.name, cell)
            for c, cell in enumerate(types)
        }
        arms[arm.name] = {
            "dose": arm.dose,
            "unit": arm.unit,
            "concentration": _number(np.nanmean(columns["concentration"].values[i])),
            "selectivity": _selectivity(spec, stacked[:, 0, i], resampled[:, :, 0, i]),
            "num_incomplete": int((columns["status"].values[i] != "complete").sum()),
            "incomplete": _incomplete(columns, i),
            "cells": cells,
        }
    assert list(arms) == names
    return {
        "name": spec.name,
        "num_patients": spec.population.num_patients,
        "num_cells": spec.cells.per_patient,
        "seed": spec.seed,
        "control": spec.control,
        "intervals": f"{LEVEL:.0%} percentile bootstrap over patients, {NUM_RESAMPLES} resamples",
        "reference": reference.contents(),
        "arms": arms,
    }


def _cell_statistics(
    spec: TrialSpec, values: np.ndarray, resampled: np.ndarray, arm: int
) -> dict[str, Any]:
    """One cell type in one arm; values (kinds, arms, patients), resampled (B, kinds, arms)."""
    occupancy = values[0, arm]
    known = occupancy[np.isfinite(occupancy)]
    percentiles = np.percentile(known, [5, 50, 95]) if len(known) else np.full(3, np.nan)
    result = {
        "num_patients": len(known),
        "occupancy": _estimate(values[0, arm], resampled[:, 0, arm]),
        "median": _number(percentiles[1]),
        "percentiles_5_95": [_number(percentiles[0]), _number(percentiles[2])],
        "occupancy_mean_of_window": _estimate(values[1, arm], resampled[:, 1, arm]),
        "responders": _estimate(values[2, arm], resampled[:, 2, arm]),
        "difference_to_control": None,
    }
    if spec.control is not None and spec.arms[arm].name != spec.control:
        control = [one.name for one in spec.arms].index(spec.control)
        result["difference_to_control"] = _estimate(
            values[0, arm] - values[0, control], resampled[:, 0, arm] - resampled[:, 0, control]
        )
    return result


def _expected(reference: Reference, arm: str, cell: str) -> dict[str, Any]:
    return {
        "mean_field": reference.occupancy[arm][cell],
        "hyperbola": reference.hyperbola(arm, cell),
    }


def _selectivity(
    spec: TrialSpec, occupancy: np.ndarray, resampled: np.ndarray
) -> dict[str, Any] | None:
    """Ratio of mean occupancies, (types, patients) and (B, types); None without drug."""
    chosen, others = selective_and_others(spec)
    if not others:
        return None
    i = spec.cells.types.index(chosen)
    rest = [spec.cells.types.index(name) for name in others]
    means = np.array([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in occupancy])
    of_others = means[rest].mean()
    if not of_others > 0:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = resampled[:, i] / resampled[:, rest].mean(axis=1)
    return _with_interval(means[i] / of_others, ratios)


def _estimate(values: np.ndarray, resampled: np.ndarray) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    return _with_interval(known.mean() if len(known) else np.nan, resampled)


def _with_interval(estimate: float, resampled: np.ndarray) -> dict[str, Any]:
    tail = 50.0 * (1.0 - LEVEL)
    known = resampled[np.isfinite(resampled)]
    low, high = np.percentile(known, [tail, 100.0 - tail]) if len(known) else (np.nan, np.nan)
    return {"estimate": _number(estimate), "low": _number(low), "high": _number(high)}


def _incomplete(columns: Mapping[str, Column], arm: int) -> list[str]:
    """The first patients that something happened to."""
    texts = columns["status"].values[arm]
    rows = np.flatnonzero(texts != "complete")[:10]
    return [f"patient {columns['patient'].values[arm, row]}: {texts[row]}" for row in rows]


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
