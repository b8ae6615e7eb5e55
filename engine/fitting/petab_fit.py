"""A multi-start fit of a PEtab problem, kept in a folder."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from engine.errors import InvalidInput
from engine.fitting.fisher import FisherInformation, fisher_information
from engine.fitting.petab_objective import PetabObjective
from engine.fitting.petab_problem import PetabProblem
from engine.optimise.gauss_newton import GaussNewton
from engine.optimise.multi_start import Fits, Optimiser, multi_start
from engine.optimise.starts import screened_starts
from engine.optimise.status import FitStatus

SUMMARY, STARTS, DATA = "summary.json", "starts.parquet", "data_and_fit.parquet"


@dataclass(frozen=True, eq=False)
class PetabFit:
    """What a fit found.

    Attributes:
        problem: the problem.
        fits: all starts.
        best: the best parameters, linear scale, fixed ones among them.
        negative_log_likelihood: at the best parameters, without priors.
        information: Fisher information there.
    """

    problem: PetabProblem
    fits: Fits
    best: dict[str, float]
    negative_log_likelihood: float
    information: FisherInformation


def fit_petab(
    problem: PetabProblem,
    folder: str | Path,
    *,
    num_starts: int = 20,
    seed: int = 0,
    draws: int = 1,
    optimiser: Optimiser | None = None,
    batch: int = 8,
    progress: Callable[[int, int, float], None] | None = None,
) -> PetabFit:
    """Fit a problem from random starts; the same call again continues or adds starts.

    Starts are uniform between the bounds on each parameter's scale. The objective is the negative
    log-posterior where the problem has priors. Written are `starts.parquet` (a row per start),
    `summary.json` and `data_and_fit.parquet` (each measurement and what is predicted for it).

    Args:
        problem: the problem.
        folder: where results and checkpoints are kept.
        num_starts: how many starts.
        seed: of the starts; start i is the same whatever their number.
        draws: each start is the best of so many random points (see `screened_starts`).
        optimiser: the algorithm; `GaussNewton()` by default.
        batch: starts that advance together.
        progress: called with the finished, the total and the best value.

    Returns:
        The fit.

    Raises:
        InvalidInput: no parameter is estimated, a folder of another fit, or every start failed.

    Example:
        >>> fit = fit_petab(read_petab("problem.yaml"), "out", num_starts=50)  # doctest: +SKIP
    """
    if num_starts < 1:
        raise InvalidInput(f"num_starts is {num_starts}; give at least 1")
    folder = Path(folder)
    objective = PetabObjective(problem)
    fits = multi_start(
        objective,
        optimiser or GaussNewton(),
        screened_starts(objective, num_starts, seed, draws=draws, batch=batch),
        batch=batch,
        folder=folder / "checkpoint",
        progress=progress,
    )
    if not np.isfinite(fits.values[fits.best]):
        raise InvalidInput(f"{problem.name}: {fits.diagnosis()}")
    point = fits.points[fits.best]
    best = problem.nominal_parameters | objective.space.to_mapping(point)
    fit = PetabFit(
        problem=problem,
        fits=fits,
        best=best,
        negative_log_likelihood=problem.negative_log_likelihood(best),
        information=fisher_information(objective, point),
    )
    _write(fit, folder, seed)
    return fit


def _write(fit: PetabFit, folder: Path, seed: int) -> None:
    space, fits = fit.problem.space, fit.fits
    rows = []
    for i in fits.order:
        rows.append(
            {
                "start": int(i),
                "objective": float(fits.values[i]),
                "status": FitStatus(int(fits.statuses[i])).name.lower(),
                "num_steps": int(fits.num_steps[i]),
                **space.to_mapping(fits.points[i]),
            }
        )
    pd.DataFrame(rows).to_parquet(folder / STARTS, index=False)
    tables = fit.problem.tables
    data = pd.DataFrame(
        {
            "observable": tables.frame["observableId"].astype(str),
            "condition": [tables.lanes.names[lane] for lane in tables.lanes.of_row],
            "time": pd.to_numeric(tables.frame["time"]),
            "measurement": tables.measurements,
            "fit": fit.problem.simulate(fit.best),
        }
    )
    data.to_parquet(folder / DATA, index=False)
    (folder / SUMMARY).write_text(json.dumps(summary(fit, seed), indent=2) + "\n")


def summary(fit: PetabFit, seed: int) -> dict[str, Any]:
    """What a person and a figure need to know of a fit; numbers that are not finite are null."""
    space, fits = fit.problem.space, fit.fits
    errors = fit.information.standard_errors
    parameters = {
        name: {
            "value": fit.best[name],
            "lower": parameter.lower,
            "upper": parameter.upper,
            "scale": type(parameter.transform).__name__.lower(),
            "standard_error_on_scale": float(error) if np.isfinite(error) else None,
            "is_at_bound": bool(at),
        }
        for name, parameter, error, at in zip(
            space.names, space.parameters, errors, fit.information.is_at_bound, strict=True
        )
    }
    nominal = fit.problem.nominal_parameters
    has_nominal = all(np.isfinite(value) for value in nominal.values())
    return {
        "problem": fit.problem.name,
        "num_starts": len(fits.values),
        "seed": seed,
        "objective": float(fits.values[fits.best]),
        "negative_log_likelihood": fit.negative_log_likelihood,
        "nominal_negative_log_likelihood": (
            fit.problem.negative_log_likelihood(nominal) if has_nominal else None
        ),
        "num_at_best": fits.num_at_best(),
        "diagnosis": fits.diagnosis(),
        "remarks": fit.information.remarks(),
        "parameters": parameters,
    }
