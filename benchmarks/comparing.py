"""Pieces that the questions share: rivals in the same run, axes, markdown rows."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.processes import measured
from benchmarks.question import Options, Record
from benchmarks.rivals import RIVALS, Rival, is_installed

ENGINE = "engine"
# A rival that is expected to need longer than this for a measurement is not asked for it.
QUICK_LIMIT, FULL_LIMIT = 4.0, 60.0


def chosen_rivals(options: Options) -> list[Rival]:
    """The installed rivals among those that were asked for."""
    wanted = options.rivals
    return [r for r in RIVALS if is_installed(r) and (wanted is None or r.name in wanted)]


def time_limit(options: Options) -> float:
    """Seconds that a rival may take for one measurement."""
    return QUICK_LIMIT if options.is_quick else FULL_LIMIT


def rival_record(
    rival: Rival,
    stem: Path,
    num_trajectories: int,
    cores: Iterable[int],
    *,
    mean_events: float | None = None,
    num_intervals: int = 100,
    num_repeats: int = 1,
) -> Record | None:
    """A rival on the network that lies at STEM.json and STEM.xml; None if it failed."""
    arguments = ["benchmarks.rivals", "--models-directory", str(stem.parent)]
    arguments += ["--model", stem.name, "--rival", rival.name]
    arguments += ["--trajectories", str(num_trajectories)]
    arguments += ["--intervals", str(num_intervals), "--repeats", str(num_repeats)]
    if mean_events is not None:
        arguments += ["--mean-events", str(mean_events)]
    found = measured(arguments, cores)
    if found is None or not found.get("installed", True):
        return None
    kept = ("seconds", "compile_seconds", "events_per_second", "peak_memory_mebibytes", "version")
    return {
        "simulator": rival.name,
        "network": stem.name,
        "num_patients": num_trajectories,
        "num_points": num_intervals + 1,
        **{name: found.get(name) for name in kept},
    }


def simulators(records: Sequence[Record]) -> list[str]:
    """Their names, the engine first."""
    return sorted({r["simulator"] for r in records}, key=lambda name: (name != ENGINE, name))


def of(records: Iterable[Record], **what: Any) -> list[Record]:
    """The records that have these values."""
    return [r for r in records if all(r.get(name) == value for name, value in what.items())]


def curves(
    records: Sequence[Record], panels: Sequence[str], x: str, y: str, labels: tuple[str, str]
) -> Figure:
    """A panel per network, a line per simulator, both axes logarithmic."""
    figure = Figure(figsize=(4.2 * len(panels) + 1.2, 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, axis in zip(panels, axes, strict=True):
        inside = of(records, network=panel) if len(panels) > 1 else list(records)
        for name in simulators(inside):
            line = sorted((r[x], r[y]) for r in of(inside, simulator=name))
            weight = 2.2 if name.startswith(ENGINE) else 1.0
            axis.plot(*zip(*line, strict=True), marker="o", ms=3, lw=weight, label=name)
        axis.set(xscale="log", yscale="log", xlabel=labels[0], ylabel=labels[1], title=panel)
    legend_beside(figure, axes[0])
    return figure


def legend_beside(figure: Figure, axis: Axes) -> None:
    """The labels of one panel, which stand for all, to the right of them."""
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=7, frameon=False)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def grid(records: Sequence[Record], x: str, y: str, unit: str, scale: float = 1.0) -> str:
    """A row per simulator, a column per value of x."""
    # Numbers by size, names in the order of the records.
    values = list(dict.fromkeys(r[x] for r in records))
    if not isinstance(values[0], str):
        values.sort()
    rows = []
    for name in simulators(records):
        cells = [f"**{name}**" if name.startswith(ENGINE) else name]
        for value in values:
            found = of(records, simulator=name, **{x: value})
            cells.append(f"{found[0][y] * scale:.3g}" if found else "-")
        rows.append(cells)
    shown = [value if isinstance(value, str) else f"{value:,}" for value in values]
    return markdown([unit, *shown], rows)


BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"


def with_tables(page: str, text: str) -> str:
    """A page with what stands between its two marks replaced."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{text}{END}{after}"
