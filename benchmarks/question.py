"""What a benchmark question is: it runs, and shows what it found as a figure and as a table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

Record = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """How to run a question.

    Attributes:
        is_quick: a small version, done in under a minute.
        models: folder of the reference networks.
        cores: cores to use; what runs on one core runs on the last of them.
        rivals: names of the rivals to compare with, those that are installed; None for all.
    """

    is_quick: bool
    models: Path
    cores: tuple[int, ...]
    rivals: tuple[str, ...] | None = None

    @property
    def one_core(self) -> tuple[int, ...]:
        """The core on which single-core measurements run."""
        return self.cores[-1:]


@dataclass(frozen=True)
class Question:
    """One question, one file.

    Attributes:
        name: what `python -m benchmarks NAME` calls it.
        asks: the question, in one line.
        run: measures; returns one record per measurement.
        plot: draws a result, `{"machine": ..., "is_quick": ..., "records": [...]}`.
        table: the same result as markdown.
    """

    name: str
    asks: str
    run: Callable[[Options], list[Record]]
    plot: Callable[[Result], Figure]
    table: Callable[[Result], str]
