"""What is already known of a design that takes long: finished stages are never done twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import InvalidInput
from engine.trial.store import write_whole

# A stage's name and how to do it -> its result: plain numbers, text, lists and dictionaries.
Memory = Callable[[str, Callable[[], Any]], Any]
Progress = Callable[[int, int], None]


def forgetful(_: str, done: Callable[[], Any]) -> Any:
    """Do every stage."""
    return done()


class Journal:
    """Stages kept in a file, which is written whole after each.

    Args:
        path: the file, which need not exist.

    Raises:
        InvalidInput: a file that is none of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: dict[str, Any] = {}
        if path.exists():
            try:
                self.kept = dict(json.loads(path.read_text()))
            except (ValueError, TypeError):
                raise InvalidInput(
                    f"{path} is not a journal of finished stages; remove it to begin again"
                ) from None

    def __call__(self, name: str, done: Callable[[], Any]) -> Any:
        """A stage's result, remembered or made."""
        if name not in self.kept:
            # Through JSON either way, so that a design that was stopped ends as one that was not.
            self.kept[name] = json.loads(json.dumps(done()))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(self.kept).encode())
        return self.kept[name]


class Counter:
    """Steps done, for progress."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def step(self, number: int = 1) -> None:
        """One more, or some."""
        self._done += number
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))
