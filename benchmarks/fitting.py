"""Fits of published problems from random starts: success rate and time.

    python -m benchmarks.fitting FOLDER --out benchmarks/results/fitting.json

FOLDER holds a folder for each PEtab problem of the public benchmark collection
(doi:10.5281/zenodo.8155057), such as FOLDER/Boehm_JProteomeRes2014/Boehm_JProteomeRes2014.yaml.
A start is a success where its objective is at most the target of its problem: the nominal
objective rounded up, for Raia the best known plus 0.5. Times are of one process; compilation is
apart. The reference tools are not run beside it: AMICI comes as source only and needs SWIG, a BLAS
and a C++ compiler, so it does not install with pip alone.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from engine.configure import configure_cpu

TARGETS = {
    "Boehm_JProteomeRes2014": 138.222,
    "Crauste_CellSystems2017": 190.9641,
    "Perelson_Science1996": 432.0386,
    "Raia_CancerResearch2011": 346.5898,
    "Schwen_PONE2014": 943.9994,
}


def ours(path: Path, num_starts: int, seed: int, batch: int, draws: int) -> dict:
    """Our multi-start, likelihood only."""
    import engine
    from engine.fitting.petab_objective import PetabObjective
    from engine.optimise.gauss_newton import GaussNewton
    from engine.optimise.multi_start import multi_start
    from engine.optimise.starts import screened_starts

    began = time.perf_counter()
    problem = engine.read_petab(path)
    objective = PetabObjective(problem, has_priors=False)
    optimiser = GaussNewton()
    warm = objective.space.sample(batch, seed + 1)
    multi_start(objective, GaussNewton(max_steps=1), warm, batch=batch)
    compiled = time.perf_counter() - began
    shown = [0.0]

    def progress(done: int, total: int, best: float) -> None:
        if time.perf_counter() - shown[0] > 30:
            shown[0] = time.perf_counter()
            print(f"  {done} of {total} starts, best {best:.4f}", file=sys.stderr, flush=True)

    began = time.perf_counter()
    fits = multi_start(
        objective,
        optimiser,
        screened_starts(objective, num_starts, seed, draws=draws, batch=batch),
        batch=batch,
        progress=progress,
    )
    return {
        "values": fits.values,
        "seconds": time.perf_counter() - began,
        "compile_seconds": compiled,
        "evaluations": int(fits.num_steps.sum()),
    }


def line(name: str, found: dict) -> dict:
    """One line of the table."""
    values = found["values"]
    successes = int(np.sum(values <= TARGETS[name]))
    row = {
        "problem": name,
        "best": float(values.min()),
        "target": TARGETS[name],
        "successes": successes,
        "starts": len(values),
        "seconds": round(found["seconds"], 1),
        "compile_seconds": round(found["compile_seconds"], 1),
        "evaluations": found["evaluations"],
    }
    print(
        f"{name:26s} best {row['best']:.5f}  target {row['target']}  "
        f"{successes} of {len(values)} starts  {row['seconds']} s + {row['compile_seconds']} s "
        f"to compile  {row['evaluations']} evaluations",
        flush=True,
    )
    return row


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--problems", nargs="+", default=list(TARGETS)[:4], choices=list(TARGETS))
    parser.add_argument("--starts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=1, help="points that each start is best of")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, help="JSON file of the table")
    given = parser.parse_args()
    rows = []
    for name in given.problems:
        path = given.folder / name / f"{name}.yaml"
        found = ours(path, given.starts, given.seed, given.batch, given.draws)
        rows.append(line(name, found))
    if given.out is not None:
        given.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    configure_cpu()
    main()
