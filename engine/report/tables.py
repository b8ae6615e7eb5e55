"""A trial's summary as tables: the same rows on the terminal and in the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table as RichTable

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class TextTable:
    """A table of text; a cell may have two lines.

    Attributes:
        title: above it.
        header: of each column.
        rows: the cells.
        note: below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def trial_tables(summary: Summary) -> list[TextTable]:
    """Everything a reader of a trial needs, most important first."""
    tables = [_occupancies(summary), _patients(summary)]
    if _has_control_signal(summary):
        tables.append(_differences(summary))
    if summary["num_cells"] > 1:
        tables.append(_responders(summary))
    return [*tables, _expectations(summary)]


def to_rich(table: TextTable) -> RichTable:
    """For the terminal."""
    shown = RichTable(
        title=table.title,
        caption=table.note,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        row_styles=["", "dim"] if len(table.rows) > 12 else None,
    )
    for i, name in enumerate(table.header):
        shown.add_column(name, justify="left" if i == 0 else "right", no_wrap=i > 0)
    for row in table.rows:
        shown.add_row(*row)
    return shown


def incomplete_lines(summary: Summary) -> list[str]:
    """A line for each of the first patients whose cells failed."""
    return [
        f"{arm}, {line}" for arm, found in summary["arms"].items() for line in found["incomplete"]
    ]


def _cell_types(summary: Summary) -> list[str]:
    return list(summary["reference"]["maximum"])


def percent(value: float | None) -> str:
    """A share as text."""
    return "-" if value is None else f"{100 * value:.1f}%"


def _interval(found: Mapping[str, Any], show: Callable[[float | None], str]) -> str:
    low, high = show(found["low"]), show(found["high"])
    return f"{show(found['estimate'])}\n{low.rstrip('%')}–{high}"


def _table(
    summary: Summary,
    title: str,
    note: str,
    cell: Callable[[Mapping[str, Any]], str],
    more: Sequence[tuple[str, Callable[[Mapping[str, Any]], str]]] = (),
) -> TextTable:
    """A row per arm, a column per cell type, and further columns."""
    types = _cell_types(summary)
    rows = [
        (
            name,
            f"{1000 * arm['concentration']:.1f}" if arm["concentration"] is not None else "-",
            *(cell(arm["cells"][one]) for one in types),
            *(show(arm) for _, show in more),
        )
        for name, arm in summary["arms"].items()
    ]
    header = ("arm", "drug, pM", *types, *(name for name, _ in more))
    return TextTable(title, header, tuple(rows), note)


def _occupancies(summary: Summary) -> TextTable:
    maxima = ", ".join(f"{n} {v:.0f}" for n, v in summary["reference"]["maximum"].items())
    note = (
        "Mean over patients and its 95% interval (percentile bootstrap over patients). Occupancy: "
        "active complexes per cell at the window's end over the wild type's maximum after 60 min "
        f"in a typical cell ({maxima}), so a patient with more receptors can exceed 100%. "
        "Selectivity: ratio of mean occupancies, the selective cell type's over the others'."
    )

    def selectivity(arm: Mapping[str, Any]) -> str:
        found = arm["selectivity"]
        return _interval(found, lambda v: "-" if v is None else f"{v:.1f}") if found else "-"

    title = f"Occupancy: {summary['name']}, {summary['num_patients']} patients in every arm"
    more = [("selectivity", selectivity)]
    return _table(summary, title, note, lambda c: _interval(c["occupancy"], percent), more)


def _patients(summary: Summary) -> TextTable:
    def spread(cell: Mapping[str, Any]) -> str:
        low, high = (percent(v) for v in cell["percentiles_5_95"])
        return f"{percent(cell['median'])}\n{low.rstrip('%')}–{high}"

    cells = summary["num_cells"]
    each = "their one cell" if cells == 1 else f"the mean of their {cells} cells"
    note = f"Median, and 5th to 95th percentile, of patients: {each}, so cells' noise is in it."
    return _table(summary, "How patients differ in occupancy", note, spread)


def _has_control_signal(summary: Summary) -> bool:
    """Whether the control arm has any occupancy; without it differences repeat the first table."""
    control = summary["arms"].get(summary["control"])
    if control is None:
        return False
    return any(cell["occupancy"]["estimate"] != 0 for cell in control["cells"].values())


def _differences(summary: Summary) -> TextTable:
    def difference(cell: Mapping[str, Any]) -> str:
        found = cell["difference_to_control"]
        return _interval(found, percent) if found else "-"

    title = f"Difference in occupancy to {summary['control']}"
    return _table(summary, title, "Paired: the same patients in both arms.", difference)


def _responders(summary: Summary) -> TextTable:
    note = f"Mean share over patients, {summary['num_cells']} cells of each type a patient."
    title = "Share of cells that respond"
    return _table(summary, title, note, lambda c: _interval(c["responders"], percent))


def _expectations(summary: Summary) -> TextTable:
    def expected(cell: Mapping[str, Any]) -> str:
        return f"{percent(cell['mean_field'])}\n{percent(cell['hyperbola'])}"

    note = (
        "First line: rate equations of the typical patient at the window's mean concentration. "
        "Second line: C / (C + EC50) with the model's own EC50 "
        + ", ".join(f"{n} {1000 * v:.0f} pM" for n, v in summary["reference"]["ec50"].items())
        + ". The simulation's means exceed these because patients differ: occupancy grows faster "
        "than in proportion with receptors and falls less with them, so the few above the typical "
        "patient weigh more. Its medians are nearer; a cell's noise hardly shifts a mean."
    )
    return _table(summary, "What theory expects of the typical patient", note, expected)
