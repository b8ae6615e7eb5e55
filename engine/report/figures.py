"""The figures of a trial."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, distinguishable with any colour vision; shapes repeat the distinction.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LOW_DOSE = (0.1, 0.5)  # MIU/m2, the published window of low-dose interleukin-2
STYLE: Any = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "text.color": "#222222",
    "axes.labelcolor": "#222222",
    "savefig.dpi": 180,
}


def dose_response(summary: Mapping[str, Any], path: str | Path) -> None:
    """Occupancy and selectivity against dose, as a PNG.

    Points are means over patients with 95% intervals; lines are C / (C + EC50) with the model's own
    EC50s; the shaded band is the published low-dose window.

    Args:
        summary: of a trial, as in its `summary.json`.
        path: the file to write.
    """
    with matplotlib.rc_context(STYLE):
        # Without pyplot: no window, no global state.
        figure = Figure(figsize=(10.5, 5.0), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2.3, 1.0))
        _occupancy_panel(left, summary)
        _selectivity_panel(right, summary)
        _title(figure, summary)
        figure.savefig(path)


def _title(figure: Figure, summary: Mapping[str, Any]) -> None:
    cells = summary["num_cells"]
    each = "one cell" if cells == 1 else f"{cells} cells"
    figure.suptitle(
        f"{summary['name'][0].upper()}{summary['name'][1:]}: exact simulation of "
        f"{summary['num_patients']:,} patients, {each} of each type",
        x=0.01,
        ha="left",
        fontsize=12.5,
        fontweight="bold",
    )


def _arms(summary: Mapping[str, Any]) -> list[tuple[float, Mapping[str, Any]]]:
    """Arms with their doses, ascending."""
    return sorted(((arm["dose"], arm) for arm in summary["arms"].values()), key=lambda one: one[0])


def _positions(doses: list[float]) -> tuple[dict[float, float], float]:
    """Where doses stand on a logarithmic axis; no drug half a decade below the lowest dose."""
    positive = [dose for dose in doses if dose > 0] or [1.0]
    zero = min(positive) / 10**0.5
    return {dose: dose if dose > 0 else zero for dose in doses}, zero


def _occupancy_panel(axes: Axes, summary: Mapping[str, Any]) -> None:
    arms = _arms(summary)
    where, zero = _positions([dose for dose, _ in arms])
    types = list(summary["reference"]["maximum"])
    _shade(axes, summary, is_labelled=True)
    for i, name in enumerate(types):
        colour = COLOURS[i % len(COLOURS)]
        _theory(axes, summary, name, colour)
        # The first type stands apart by itself; the others side by side, so that their
        # intervals can be told apart.
        shift = 10 ** (0.025 * (i - len(types) // 2)) if i else 1.0
        found = [arm["cells"][name]["occupancy"] for _, arm in arms]
        known = [k for k, one in enumerate(found) if one["estimate"] is not None]
        x = np.array([where[arms[k][0]] * shift for k in known])
        y = np.array([found[k]["estimate"] for k in known])
        low, high = (
            np.array([found[k][end] if found[k][end] is not None else np.nan for k in known])
            for end in ("low", "high")
        )
        axes.errorbar(
            x,
            100 * y,
            yerr=100 * np.array([y - low, high - y]).clip(0),
            fmt=MARKERS[i % len(MARKERS)],
            color=colour,
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            elinewidth=1.6,
            capsize=3,
            label=name,
            zorder=3,
        )
    axes.plot([], [], "--", color="#777777", linewidth=1.2, label="mean field: C / (C + EC50)")
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i].startswith("mean field"))
    axes.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        frameon=False,
        loc="upper left",
        title="mean, 95% interval",
        alignment="left",
        fontsize=9.5,
    )
    axes.set_ylabel("occupancy: active complexes, % of maximum")
    axes.set_ylim(bottom=-2)
    _dose_axis(axes, arms, where, zero)


def _theory(axes: Axes, summary: Mapping[str, Any], name: str, colour: str) -> None:
    """C / (C + EC50) along the dose; concentrations are proportional to it in a linear body."""
    levels = summary["reference"]["concentration"]
    dosed = [(arm["dose"], levels[n]) for n, arm in summary["arms"].items() if arm["dose"] > 0]
    ratios = [level / dose for dose, level in dosed]
    if not dosed or max(ratios) > 1.01 * min(ratios):
        return  # other routes or schedules: no single curve
    dose = np.geomspace(min(d for d, _ in dosed) / 1.6, max(d for d, _ in dosed) * 1.6, 200)
    level = dose * ratios[0]
    occupancy = 100 * level / (level + summary["reference"]["ec50"][name])
    axes.plot(dose, occupancy, "--", color=colour, linewidth=1.2, alpha=0.75, zorder=2)


def _selectivity_panel(axes: Axes, summary: Mapping[str, Any]) -> None:
    arms = [(dose, arm) for dose, arm in _arms(summary) if arm["selectivity"] is not None]
    where, zero = _positions([dose for dose, _ in _arms(summary)])
    _shade(axes, summary, is_labelled=False)
    if arms:
        found = [arm["selectivity"] for _, arm in arms]
        y = np.array([one["estimate"] for one in found])
        ends = [
            [one[end] if one[end] is not None else one["estimate"] for one in found]
            for end in ("low", "high")
        ]
        bars = np.array([y - np.array(ends[0]), np.array(ends[1]) - y]).clip(0)
        x = [where[dose] for dose, _ in arms]
        axes.errorbar(x, y, yerr=bars, fmt="o-", color="#333333", linewidth=1.2, capsize=3)
        axes.set_ylim(0, 1.15 * float(np.max(ends[1])))
    axes.axhline(1.0, color="#999999", linewidth=0.9, linestyle=":")
    axes.annotate(
        "not selective", (1.0, 1.0), xycoords=("axes fraction", "data"), ha="right", va="bottom",
        fontsize=8.5, color="#777777",
    )  # fmt: skip
    axes.set_ylabel("selectivity: occupancy over the other cells'")
    _dose_axis(axes, arms or _arms(summary), where, zero)


def _shade(axes: Axes, summary: Mapping[str, Any], *, is_labelled: bool) -> None:
    """The published window, where doses are in its unit."""
    if any(arm["unit"] != "MIU/m2" for arm in summary["arms"].values()):
        return
    axes.axvspan(*LOW_DOSE, color="#F0E9D2", zorder=0, linewidth=0)
    if is_labelled:
        axes.annotate(
            "published low-dose window", (np.sqrt(LOW_DOSE[0] * LOW_DOSE[1]), 1.0),
            xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=9,
            color="#7A6A3A",
        )  # fmt: skip


def _dose_axis(
    axes: Axes,
    arms: list[tuple[float, Mapping[str, Any]]],
    where: Mapping[float, float],
    zero: float,
) -> None:
    axes.set_xscale("log")
    doses = sorted({dose for dose, _ in arms})
    axes.set_xticks([where[d] for d in doses], [f"{d:g}" if d > 0 else "none" for d in doses])
    axes.set_xticks([], minor=True)
    axes.set_xlim(zero / 1.4 if 0.0 in doses else min(doses) / 1.6, max(where.values()) * 1.7)
    axes.set_xlabel(f"dose, {arms[0][1]['unit'].replace('m2', 'm²')} (logarithmic)")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
