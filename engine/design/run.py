"""A design's folder: the file as run, and the result, each written whole.

DIR/design.toml   the design as run; its first line says that the folder is ours
DIR/design.json   the result
DIR/design.png    the path, the frontier and the referee's grid
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.design.grid import search_grid
from engine.design.optimiser import Progress, optimise
from engine.design.problem import TherapyProblem
from engine.design.spec import DesignSpec
from engine.errors import InvalidInput
from engine.trial.store import write_whole
from engine.trial.tables import to_toml

MARK = "# A therapy design of cytokine-engine, as run (format 1)."


def run_design(
    spec: DesignSpec, problem: TherapyProblem, folder: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Run a design, or read it where it has been run already.

    Returns:
        The result as plain dictionaries: of `Design.contents`, and `spec`, `grid`.

    Raises:
        InvalidInput: the folder holds another design, or something else; nothing is changed then.
    """
    text = f"{MARK}\n\n{to_toml(spec.contents())}"
    _check_folder(folder, text)
    result = folder / "design.json"
    if result.exists():
        found: dict[str, Any] = json.loads(result.read_text())
        return found
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "design.toml", text.encode())
    options = spec.optimiser.options()
    design = optimise(
        problem, options, seed=spec.seed, frontier=tuple(spec.frontier), progress=progress
    )
    contents = design.contents() | {"spec": spec.contents(), "bound": spec.bound, "grid": []}
    if spec.grid:
        points = search_grid(problem, spec.grid, options.num_verified, spec.seed)
        contents["grid"] = [
            {"values": p.values, "verification": asdict(p.verification)} for p in points
        ]
    write_whole(result, json.dumps(contents, indent=1).encode())
    return contents


def _check_folder(folder: Path, text: str) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is a file; give a folder as --out")
    there = folder / "design.toml"
    if there.exists() and there.read_text() == text:
        return
    if there.exists():
        raise InvalidInput(
            f"{folder} holds another design; give another --out, nothing was changed"
        )
    if any(folder.iterdir()):
        raise InvalidInput(f"{folder} is not empty; give another --out, nothing was changed")
