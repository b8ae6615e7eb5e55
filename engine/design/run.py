"""A design's folder: the file as run, and the result, each written whole.

DIR/design.toml   the design as run; its first line says that the folder is ours
DIR/design.json   the result
DIR/finished_stages.json  what is done of a design that was stopped; gone at the end
DIR/design.png    the path, the frontier and the referee's grid
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.design.fractions import optimise_fractions, with_fractions
from engine.design.grid import search_grid
from engine.design.journal import Journal, Memory, Progress
from engine.design.optimiser import optimise
from engine.design.personal import one_size, optimise_policy
from engine.design.problem import TherapyProblem
from engine.design.result import Design
from engine.design.spec import DesignSpec
from engine.errors import InvalidInput
from engine.trial.store import write_whole
from engine.trial.tables import to_toml

# A grid's first look has one in so many of the patients, if they are at least these.
SCREENED, FEWEST = 10, 500
STAGES = "finished_stages.json"
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
    memory = Journal(folder / STAGES)
    design = _designed(spec, problem, memory, progress)
    contents = design.contents() | {"spec": spec.contents(), "bound": spec.bound}
    contents["grid"] = _refereed(spec, problem, memory) if spec.grid else []
    write_whole(result, json.dumps(contents, indent=1).encode())
    memory.path.unlink(missing_ok=True)
    return contents


def num_finished(folder: Path) -> int:
    """How many stages of a design that was stopped are done; 0 where none was."""
    path = folder / STAGES
    return len(Journal(path).kept) if path.exists() else 0


def _designed(
    spec: DesignSpec, problem: TherapyProblem, memory: Memory, progress: Progress | None
) -> Design:
    given: dict[str, Any] = {
        "seed": spec.seed,
        "frontier": tuple(spec.frontier),
        "progress": progress,
        "memory": memory,
    }
    options = spec.optimiser.options()
    if spec.fractions is not None:
        return optimise_fractions(problem, spec.fractions.fractions(), options, **given)
    if problem.terms:
        groups = spec.subgroups.subgroups() if spec.subgroups is not None else None
        return optimise_policy(problem, options, subgroups=groups, **given)
    return optimise(problem, options, **given)


def _refereed(spec: DesignSpec, problem: TherapyProblem, memory: Memory) -> list[dict[str, Any]]:
    """The grid: of every number of doses, or of one size for all."""
    number = spec.optimiser.num_verified
    points = []
    for name, one in referees(spec, problem).items():
        numbers = {n: spec.grid[n] for n in one.names if n in spec.grid}

        def done(one: TherapyProblem = one, numbers: dict[str, list[float]] = numbers) -> Any:
            found = search_grid(one, numbers, number, spec.seed, _screened(number))
            return [
                {
                    "values": dict(zip(one.names, point.values, strict=True)),
                    "verification": asdict(point.verification),
                }
                for point in found
            ]

        points += memory(f"grid: {name}", done)
    return sorted(points, key=_merit)


def _screened(number: int) -> int | None:
    """Patients of a first look at a grid; none where that would be too few."""
    return number // SCREENED if number >= SCREENED * FEWEST else None


def referees(spec: DesignSpec, problem: TherapyProblem) -> dict[str, TherapyProblem]:
    """The problems whose grids together are the referee."""
    if spec.fractions is not None:
        into = spec.fractions.into
        return {f"{n}": with_fractions(problem, into, n) for n in spec.fractions.counts}
    return {"all": one_size(problem) if problem.terms else problem}


def _merit(point: Mapping[str, Any]) -> tuple[bool, float]:
    found = point["verification"]
    return found["risk"]["value"] > found["bound"], -found["benefit"]["value"]


def _check_folder(folder: Path, text: str) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is a file; give a folder as --out")
    if not any(folder.iterdir()):
        return
    there = folder / "design.toml"
    if there.exists() and there.read_text() == text:
        return
    if there.exists():
        raise InvalidInput(
            f"{folder} holds another design; give another --out, nothing was changed"
        )
    raise InvalidInput(f"{folder} is not empty; give another --out, nothing was changed")
