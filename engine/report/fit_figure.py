"""The figure of a fit: the waterfall of its starts, and data against fit."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.fitting.petab_fit import DATA, STARTS, SUMMARY
from engine.report.figures import COLOURS

FIGURE = "fit.png"
_MAX_PANELS = 11
_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def write_fit_figure(folder: str | Path) -> Path:
    """Draw a finished fit from the files in its folder.

    Args:
        folder: the folder of `fit_petab`.

    Returns:
        The PNG written.
    """
    folder = Path(folder)
    starts, data = pd.read_parquet(folder / STARTS), pd.read_parquet(folder / DATA)
    summary = json.loads((folder / SUMMARY).read_text())
    names = list(dict.fromkeys(data["observable"]))
    shown = names[:_MAX_PANELS]
    columns = min(4, len(shown) + 1)
    rows = -(-(len(shown) + 1) // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.4 * columns, 2.7 * rows), layout="constrained")
        panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        _waterfall(panels[0], starts["objective"].to_numpy())
        for axes, name in zip(panels[1:], shown, strict=False):
            _observable(axes, name, data[data["observable"] == name])
        for axes in panels[len(shown) + 1 :]:
            axes.set_visible(False)
        left_out = len(names) - len(shown)
        more = f"; {left_out} more observables are in {DATA}" if left_out else ""
        figure.suptitle(
            f"{summary['problem']}: objective {summary['objective']:.6g}, "
            f"{summary['num_at_best']} of {summary['num_starts']} starts within 0.1{more}",
            x=0.01,
            ha="left",
        )
        figure.savefig(folder / FIGURE, dpi=130)
    return folder / FIGURE


def _waterfall(axes: Axes, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    above = finite - finite.min() + 1e-6
    axes.semilogy(np.arange(1, len(finite) + 1), above, "o-", color=COLOURS[1], markersize=3.5)
    axes.set_xlabel("start, best first")
    axes.set_ylabel("objective above the best + 1e-6")
    axes.set_title("waterfall", fontsize=9)


def _observable(axes: Axes, name: str, data: pd.DataFrame) -> None:
    for i, (_, group) in enumerate(data.groupby("condition", sort=False)):
        colour = COLOURS[i % len(COLOURS)]
        ordered = group.sort_values("time")
        axes.plot(
            ordered["time"], ordered["measurement"], "o", color=colour, markersize=3, alpha=0.7
        )
        axes.plot(ordered["time"], ordered["fit"], "-", color=colour, linewidth=1.2)
    positive = data["measurement"] > 0
    if positive.all() and data["measurement"].max() > 100 * data["measurement"].min():
        axes.set_yscale("log")
    axes.set_title(f"{name} (points: data, lines: fit)", fontsize=8)
    axes.set_xlabel("time")
