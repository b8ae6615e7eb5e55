"""What the command line shows: a console that does not cut tables, and progress."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_SECONDS = 15.0


def open_console() -> Console:
    """Standard output; without a terminal wider than the 80 columns that would cut tables."""
    return Console(width=None if sys.stdout.isatty() else 110)


@contextmanager
def showing_progress(what: str) -> Iterator[Any]:
    """A progress bar on stderr, so that stdout holds only results."""
    columns = (
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + what),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    began = time.perf_counter()
    if not sys.stderr.isatty():
        yield _lines(what)
        return
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1, note="")

        def report(done: int, total: int, events: int = 0, note: str = "") -> None:
            rate = events / max(time.perf_counter() - began, 1e-9) / 1e6
            shown = f"{rate:.1f} M reactions/s" if events else note
            bar.update(task, completed=done, total=total, note=shown)

        yield report


def _lines(what: str) -> Any:
    """Progress for a log file: a line now and then."""
    last = time.perf_counter()

    def report(done: int, total: int, events: int = 0, note: str = "") -> None:
        nonlocal last
        if time.perf_counter() - last > _LINE_SECONDS and done < total:
            last = time.perf_counter()
            shown = f"; {note}" if note else ""
            print(f"{done:,} of {total:,} {what}{shown}", file=sys.stderr, flush=True)

    return report
