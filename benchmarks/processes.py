"""Timed work in a process of its own, pinned to cores; and what machine it ran on."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "numpy", "diffrax", "cytokine-engine")


def pinned(cores: Iterable[int]) -> Callable[[], None]:
    """For a child process: run on these cores only."""
    chosen = set(cores)

    def pin() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, chosen)

    return pin


def measured(
    arguments: Sequence[str], cores: Iterable[int], environment: dict[str, str] | None = None
) -> dict[str, Any] | None:
    """The last line that `python -m ARGUMENTS` prints, as JSON; None, and a line, if it fails."""
    child = subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=None if environment is None else os.environ | environment,
        preexec_fn=pinned(cores),
    )
    lines = child.stdout.strip().splitlines()
    if child.returncode or not lines:
        shown = " ".join(arguments)[:200]
        print(f"failed: {shown}: {child.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    record: dict[str, Any] = json.loads(lines[-1])
    return record


def wall_seconds(arguments: Sequence[str], cores: Iterable[int]) -> float | None:
    """How long `python -m ARGUMENTS` takes from its start to its end; None if it fails."""
    begin = time.perf_counter()
    child = subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=pinned(cores),
    )
    seconds = time.perf_counter() - begin
    if child.returncode:
        print(f"failed: {' '.join(arguments)}: {child.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return seconds


def machine() -> dict[str, Any]:
    """Processor, cores and versions, for the head of a result."""
    return {
        "processor": processor(),
        "num_cores": available_cores(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def installed(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def available_cores() -> int:
    """Cores that this process may use."""
    return len(cores_here())


def cores_here() -> tuple[int, ...]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


FACTS = {"cpu family": "family", "model": "model"}


def processor() -> str:
    """The processor's name, with the family and model that a virtual machine's name may hide."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    facts = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    known = [f"{name} {facts[key]}" for key, name in FACTS.items() if key in facts]
    return " ".join([facts.get("model name", ""), f"({', '.join(known)})" if known else ""]).strip()
