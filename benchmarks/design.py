"""Is a design found by gradients as good as a brute-force grid with ten times the simulations?

    python -m benchmarks.design --out benchmarks/results/design.json --markdown docs/design.md

For every example the optimiser runs, its simulated trajectories are counted (steps and checks), and
a grid over the example's own numbers gets ten times as many, spread evenly. The best point of the
grid is chosen as the optimiser chooses: the largest benefit among those whose risk keeps the bound
with its whole interval. Both are then simulated on the same fresh patients, which played no part in
either; by how much the optimiser's benefit is larger has an interval. Times are of this process's
processors. `--quick` divides the optimiser's patients by ten and the grid's work by ten; `--only`
names examples. What stands in `--out` already is not run again.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparing import with_tables

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ("storm", "storm_fractions", "low_dose_il2", "mutein")
# Times the optimiser's simulations, and the fewest patients of a point of the grid.
FACTOR, FEWEST = 10, 100


def measured(name: str, is_quick: bool) -> dict[str, Any]:
    """One example: the optimiser, the grid, both on fresh patients."""
    from engine.design import optimise, optimise_fractions
    from engine.design.run import referees
    from engine.design.spec import read_design
    from engine.design.verification import difference, verify

    spec, problem = read_design(ROOT / "examples" / f"{name}_design.toml")
    options = spec.optimiser.options()
    if is_quick:
        options = replace(options, num_patients=max(options.num_patients // 10, 1))
    begin = time.process_time()
    if spec.fractions is None:
        design = optimise(problem, options, seed=spec.seed)
    else:
        fractions = spec.fractions.fractions()
        design = optimise_fractions(problem, fractions, options, seed=spec.seed)
    seconds = time.process_time() - begin
    problems = referees(spec, problem)
    ours = next(p for p in problems.values() if p.names == design.names)
    check = problem.num_systems * options.num_verified
    budget = max(design.num_trajectories, check) * (1 if is_quick else FACTOR)
    begin = time.process_time()
    grid = searched(spec, problems, budget)
    grid_seconds = time.process_time() - begin
    best = chosen(grid)
    theirs, values = problems[best["problem"]], np.array(best["values"])
    number = options.num_verified
    pair = ((ours, np.array(design.values)), (theirs, values))
    first, second = (verify(p, v, number, spec.seed, "benchmark") for p, v in pair)
    gain = difference(*pair, number, spec.seed, "benchmark")
    return {
        "names": list(design.names),
        "values": list(design.values),
        "benefit": [first.benefit.value, first.benefit.low, first.benefit.high],
        "risk": [first.risk.value, first.risk.low, first.risk.high],
        "bound": problem.bound,
        "trajectories": design.num_trajectories,
        "seconds": seconds,
        "grid_names": list(theirs.names),
        "grid_values": best["values"],
        "grid_benefit": [second.benefit.value, second.benefit.low, second.benefit.high],
        "grid_risk": [second.risk.value, second.risk.low, second.risk.high],
        "grid_trajectories": budget,
        "grid_points": len(grid),
        "grid_seconds": grid_seconds,
        "gain": [gain.value, gain.low, gain.high],
        "verdict": verdict([gain.low, gain.high]),
        "is_quick": is_quick,
    }


def searched(spec: Any, problems: dict[str, Any], budget: int) -> list[dict[str, Any]]:
    """Every point of the grids, with as many patients each as the budget allows."""
    from engine.design import search_grid

    points = {n: {v: spec.grid[v] for v in p.names} for n, p in problems.items()}
    total = sum(int(np.prod([len(one) for one in grid.values()])) for grid in points.values())
    num_systems = next(iter(problems.values())).num_systems
    patients = max(budget // (num_systems * total), FEWEST)
    print(f"  grid of {total} points, {patients} patients each", file=sys.stderr, flush=True)
    return [
        {"problem": name, "values": list(found.values), "verification": found.verification}
        for name, problem in problems.items()
        for found in search_grid(problem, points[name], patients, spec.seed)
    ]


def chosen(grid: list[dict[str, Any]]) -> dict[str, Any]:
    """The largest benefit among the safe ones; the least risk where none is."""
    safe = [one for one in grid if one["verification"].is_safe]
    if not safe:
        return min(grid, key=lambda one: one["verification"].risk.value)
    return max(safe, key=lambda one: one["verification"].benefit.value)


def verdict(interval: list[float]) -> str:
    """What an interval of the gain says."""
    if interval[0] > 0:
        return "better"
    return "worse" if interval[1] < 0 else "matches"


def tables(result: dict[str, Any]) -> str:
    """The results as markdown."""
    lines = [
        "| example | optimiser: benefit | risk (bound) | grid x10: benefit | risk | gain | verdict "
        "| CPU s, grid's |",
        "|---|---|---|---|---|---|---|---:|",
    ]

    def shown(three: list[float]) -> str:
        return f"{three[0]:.4g} ({three[1]:.3g} to {three[2]:.3g})"

    for name, row in result["examples"].items():
        numbers = (
            shown(row["benefit"]),
            f"{shown(row['risk'])} ({row['bound']:g})",
            shown(row["grid_benefit"]),
            shown(row["grid_risk"]),
            shown(row["gain"]),
            row["verdict"] + (" (quick)" if row["is_quick"] else ""),
            f"{row['seconds']:.0f}, {row['grid_seconds']:.0f}",
        )
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=None, help="JSON with every number")
    parser.add_argument("--markdown", type=Path, default=None, help="page whose table to replace")
    parser.add_argument("--only", nargs="*", default=list(EXAMPLES), choices=EXAMPLES)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    import engine

    engine.configure_cpu()
    import jax

    result: dict[str, Any] = {"examples": {}}
    if given.out and given.out.exists():
        result |= json.loads(given.out.read_text())
    result["versions"] = {"python": platform.python_version(), "jax": jax.__version__}
    for name in given.only:
        if name in result["examples"]:
            continue
        print(name, file=sys.stderr, flush=True)
        result["examples"][name] = measured(name, given.quick)
        if given.out:
            given.out.write_text(json.dumps(result, indent=1) + "\n")
    text = tables(result)
    print(text)
    if given.markdown:
        given.markdown.write_text(with_tables(given.markdown.read_text(), text))


if __name__ == "__main__":
    main()
