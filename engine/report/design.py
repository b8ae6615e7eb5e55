"""The table and the figure of a therapy design."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from engine.report.figures import COLOURS, STYLE
from engine.report.tables import TextTable

Result = Mapping[str, Any]


def design_tables(result: Result) -> list[TextTable]:
    """The design, and what it achieves beside the start and the referee's best."""
    spec = result["spec"]
    benefit, risk = spec["benefit"]["name"], spec["risk"]["name"]
    rows = []
    for name, unit, value in zip(result["names"], result["units"], result["values"], strict=True):
        slopes = result["sensitivities"][name]
        rows.append(
            (
                f"{name}, {unit}" if unit else name,
                f"{value:.4g}",
                _slope(slopes["benefit"], slopes["benefit_error"]),
                _slope(slopes["risk"], slopes["risk_error"]),
            )
        )
    header = ("variable", "design", "slope of benefit", "slope of risk")
    slopes_of = f"Slopes at the design, per unit of the variable; benefit: {benefit}; risk: {risk}."
    chosen = TextTable(spec["name"], header, tuple(rows), slopes_of)
    lines = [("start", result["start"]), ("design", result["verification"])]
    safe = [p["verification"] for p in result["grid"] if _keeps(p["verification"])]
    if safe:
        lines.append((f"best of {len(result['grid'])} on a grid", safe[0]))
    achieved = tuple(
        (what, _estimate(found["benefit"]), _estimate(found["risk"])) for what, found in lines
    )
    note = (
        f"On {result['verification']['risk']['num_patients']:,} fresh patients each, with 95% "
        f"intervals; the bound on {risk} is {result['bound']:g}."
    )
    tables = [chosen, TextTable("What it achieves", ("", benefit, risk), achieved, note)]
    return tables + ([_alternatives(result)] if result["alternatives"] else [])


def _alternatives(result: Result) -> TextTable:
    """Other numbers of doses, one size for all, subgroups."""
    spec, rows = result["spec"], []
    for one in result["alternatives"]:
        found, gain = one["verification"], one["gain"]
        if found is None:
            rows.append((one["name"], one["note"], "", "", ""))
            continue
        values = ", ".join(f"{v:.3g}" for v in one["values"])
        achieved = [_estimate(found[which]) for which in ("benefit", "risk")]
        rows.append((one["name"], values, *achieved, _estimate(gain) if gain else ""))
    header = ("", "variables", "benefit", "risk", "gain of the design")
    note = (
        f"Each designed under the same bound; benefit: {spec['benefit']['name']}; risk: "
        f"{spec['risk']['name']}; a gain is of the benefit, on the same patients."
    )
    return TextTable("Beside other designs", header, tuple(rows), note)


def _keeps(verification: Mapping[str, Any]) -> bool:
    return bool(verification["risk"]["value"] <= verification["bound"])


def _slope(value: float, error: float) -> str:
    return f"{value:.2g} ± {error:.1g}"


def _estimate(found: Mapping[str, float]) -> str:
    return f"{found['value']:.4g} ({found['low']:.3g}–{found['high']:.3g})"


def design_figure(result: Result, path: str | Path) -> None:
    """The optimiser's path, and benefit against risk: design, start, frontier and grid, as a PNG.

    A dosing policy has a panel more for each of its covariates: the dose by the covariate.

    Args:
        result: of a design, as in its `design.json`.
        path: the file to write.
    """
    with matplotlib.rc_context(STYLE):
        covariates = list(dict.fromkeys(curve["covariate"] for curve in result.get("policy", ())))
        number = 2 + len(covariates)
        figure = Figure(figsize=(5.5 * number, 4.6), layout="constrained")
        ratios = (1.0, 1.15, *(1.0 for _ in covariates))
        left, middle, *others = figure.subplots(1, number, width_ratios=ratios)
        _path_panel(left, result)
        _plane_panel(middle, result)
        for axes, covariate in zip(others, covariates, strict=True):
            _policy_panel(axes, result, covariate)
        title = str(result["spec"]["name"])
        figure.suptitle(
            title[0].upper() + title[1:], x=0.01, ha="left", fontsize=12.5, fontweight="bold"
        )
        figure.savefig(path)


def _path_panel(axes: Axes, result: Result) -> None:
    values = np.array([step["values"] for step in result["path"]])
    for column, name in enumerate(result["names"]):
        unit = result["units"][column]
        label = f"{name} ({unit})" if unit else name
        axes.plot(values[:, column], color=COLOURS[column % len(COLOURS)], label=label)
        axes.plot(len(values), result["values"][column], "o", color=COLOURS[column % len(COLOURS)])
    if np.all(values > 0):
        _logarithmic(axes)
    axes.set_xlabel("step of the optimiser")
    axes.set_ylabel("design variables")
    axes.legend(frameon=False, fontsize=9)


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis with plain numbers, a part of a decade or some decades long."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _plane_panel(axes: Axes, result: Result) -> None:
    spec = result["spec"]
    for point in result["grid"]:
        found = point["verification"]
        axes.plot(found["risk"]["value"], found["benefit"]["value"], ".", color="#BBBBBB", ms=5)
    if result["grid"]:
        axes.plot([], [], ".", color="#BBBBBB", label="grid")
    if result["frontier"]:
        _frontier(axes, result)
    _errorbars(axes, [result["start"]], COLOURS[6], "start", "D")
    _errorbars(axes, [result["verification"]], COLOURS[0], "design", "o")
    axes.axvline(result["bound"], color="#555555", ls="--", lw=1)
    foot = (result["bound"], axes.get_ylim()[0])
    axes.annotate("bound ", foot, ha="right", va="bottom", rotation=90, color="#555555")
    axes.set_xlabel(f"risk: {spec['risk']['name']}")
    axes.set_ylabel(f"benefit: {spec['benefit']['name']}")
    axes.legend(frameon=False, fontsize=9)


def _frontier(axes: Axes, result: Result) -> None:
    """Designs under other bounds, and a line through them and the design."""
    others = [p["verification"] for p in result["frontier"]]
    through = sorted([*others, result["verification"]], key=lambda p: p["risk"]["value"])
    line = ([p[which]["value"] for p in through] for which in ("risk", "benefit"))
    axes.plot(*line, "-", color=COLOURS[1], lw=1.2)
    _errorbars(axes, others, COLOURS[1], "designs under other bounds", "s")


def _policy_panel(axes: Axes, result: Result, covariate: str) -> None:
    """Doses by a covariate, beside one size for all and the subgroups' doses."""
    curves = [curve for curve in result.get("policy", ()) if curve["covariate"] == covariate]
    for curve, colour in zip(curves, COLOURS, strict=False):
        axes.plot(curve["covariates"], curve["amounts"], color=colour, label=curve["dose"])
        for one in result["alternatives"]:
            if curve["dose"] not in one["names"]:
                continue
            amount = one["values"][one["names"].index(curve["dose"])]
            edges = np.interp(one.get("shares") or (0.0, 1.0), curve["shares"], curve["covariates"])
            axes.plot(
                edges, (amount, amount), "-" if one.get("shares") else "--", color=colour, lw=1
            )
    if any(one.get("shares") for one in result["alternatives"]):
        axes.plot([], [], "-", color="#555555", lw=1, label="a dose for each subgroup")
    axes.plot([], [], "--", color="#555555", lw=1, label="one size for all")
    _logarithmic(axes)
    units = {name: law.get("unit", "") for name, law in result["spec"]["population"].items()}
    unit = units.get(covariate, "")
    axes.set_xlabel(f"{covariate} of the patient" + (f" ({unit})" if unit else ""))
    axes.set_ylabel("dose")
    axes.legend(frameon=False, fontsize=9)


def _errorbars(
    axes: Axes, points: list[Mapping[str, Any]], colour: str, label: str, style: str
) -> None:
    def spread(which: str) -> np.ndarray:
        found = [p[which] for p in points]
        return np.array([[f["value"] - f["low"], f["high"] - f["value"]] for f in found]).T

    x, y = ([p[which]["value"] for p in points] for which in ("risk", "benefit"))
    axes.errorbar(
        x, y, yerr=spread("benefit"), xerr=spread("risk"), fmt=style, color=colour, label=label
    )
