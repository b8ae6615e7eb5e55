"""A trial's report: one HTML file that needs nothing else."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from engine.report.figures import dose_response
from engine.report.tables import TextTable, incomplete_lines, trial_tables
from engine.trial.store import read_finished, write_whole

FIGURE = "dose_response.png"
REPORT = "report.html"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
img { max-width: 100% }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .9rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
td small { color: #666 }
p.note { color: #555; font-size: .9rem; max-width: 50rem }
pre { background: #f6f6f4; padding: 1rem; overflow-x: auto; font-size: .8rem }
"""


def write_figure(folder: str | Path) -> Path:
    """Draw a finished trial's figure into its folder.

    Returns:
        The PNG.

    Raises:
        InvalidInput: not the folder of a finished trial.
    """
    _, summary = read_finished(folder)
    path = Path(folder) / FIGURE
    dose_response(summary, path)
    return path


def write_report(folder: str | Path) -> Path:
    """Write a finished trial's figure and its self-contained report.

    Returns:
        The HTML file.

    Raises:
        InvalidInput: not the folder of a finished trial.
    """
    _, summary = read_finished(folder)
    figure = base64.b64encode(write_figure(folder).read_bytes()).decode()
    specification = (Path(folder) / "spec.toml").read_text()
    path = Path(folder) / REPORT
    write_whole(path, _page(summary, figure, specification).encode())
    return path


def _page(summary: Mapping[str, Any], figure: str, specification: str) -> str:
    title = escape(str(summary["name"]))
    failures = "".join(f"<li>{escape(line)}</li>" for line in incomplete_lines(summary))
    failed = f"<h2>Incomplete patients</h2><ul>{failures}</ul>" if failures else ""
    tables = "\n".join(_table(table) for table in trial_tables(summary))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>
<body>
<h1>{title}</h1>
<p>{summary["num_patients"]:,} virtual patients, each in every arm; {summary["num_cells"]} cell(s)
of each type, simulated exactly: {summary["num_events"]:,} reactions. Seed {summary["seed"]}.
Research software, not medical advice.</p>
<img alt="Occupancy and selectivity against dose" src="data:image/png;base64,{figure}">
{tables}
{failed}
<h2>The trial as run</h2>
<pre>{escape(specification)}</pre>
</body></html>
"""


def _table(table: TextTable) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return (
        f"<h2>{escape(table.title)}</h2>\n<table><tr>{header}</tr>\n{rows}</table>\n"
        f'<p class="note">{escape(table.note)}</p>'
    )


def _cell(text: str) -> str:
    first, _, second = text.partition("\n")
    return escape(first) + (f"<br><small>{escape(second)}</small>" if second else "")
