"""Fits of published problems from random starts: success rate and time.

    python -m benchmarks.fitting FOLDER --out benchmarks/results/fitting.json

FOLDER holds a folder for each PEtab problem of the public benchmark collection
(doi:10.5281/zenodo.8155057), such as FOLDER/Boehm_JProteomeRes2014/Boehm_JProteomeRes2014.yaml.
A start is a success where its objective is at most the target of its problem: the nominal
objective rounded up, for Raia the best known plus 0.5. Times are processor seconds of one process;
compilation is apart. Rows of an existing file that are not measured again are kept.

`--optimisers ours fides` also runs fides (doi:10.1371/journal.pcbi.1010322), the optimiser that
pyPESTO's authors recommend for Fisher information, on our objective and derivatives from the same
starts, where `pip install fides` has been done. AMICI itself comes as source only and needs SWIG, a
BLAS and a C++ compiler, so its simulations are not compared here.
"""

import argparse
import json
import logging
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from engine.configure import configure_cpu

TARGETS = {
    "Boehm_JProteomeRes2014": 138.222,
    "Crauste_CellSystems2017": 190.9641,
    "Perelson_Science1996": 432.0386,
    "Raia_CancerResearch2011": 346.5898,
    "Schwen_PONE2014": 943.9994,
}
OPTIMISERS = ("ours", "fides")
MAX_STEPS = 500


def prepared(path: Path, num_starts: int, seed: int, draws: int, batch: int) -> tuple[Any, ...]:
    """The objective (likelihood only), the starts, and the processor seconds they took."""
    import engine
    from engine.fitting.petab_objective import PetabObjective
    from engine.optimise.starts import screened_starts

    began = time.process_time()
    objective = PetabObjective(engine.read_petab(path), has_priors=False)
    starts = screened_starts(objective, num_starts, seed, draws=draws, batch=batch)
    return objective, starts, time.process_time() - began


def ours(objective: Any, starts: np.ndarray, batch: int) -> dict:
    """Our multi-start."""
    from engine.optimise.gauss_newton import GaussNewton
    from engine.optimise.multi_start import multi_start

    began = time.process_time()
    multi_start(objective, GaussNewton(max_steps=1), starts[:batch], batch=batch)
    compiled = time.process_time() - began
    shown = [0.0]

    def progress(done: int, total: int, best: float) -> None:
        if time.perf_counter() - shown[0] > 30:
            shown[0] = time.perf_counter()
            print(f"  {done} of {total} starts, best {best:.4f}", file=sys.stderr, flush=True)

    began = time.process_time()
    optimiser = GaussNewton(max_steps=MAX_STEPS)
    fits = multi_start(objective, optimiser, starts, batch=batch, progress=progress)
    seconds = time.process_time() - began
    return {
        "values": fits.values,
        # What one step compiles is compiled again for another number of steps, to a second or so.
        "seconds": max(seconds - compiled, 0.0),
        "compile_seconds": compiled,
        "evaluations": int(fits.num_steps.sum()),
    }


def fides(objective: Any, starts: np.ndarray, batch: int) -> dict:
    """Fides with our value, gradient and Fisher information, one start after the other."""
    import jax
    import jax.numpy as jnp
    from fides import Optimizer, Options

    del batch
    lower, upper = objective.space.bounds
    num, values = 0, []
    with jax.enable_x64(True):
        began = time.process_time()
        local = jax.jit(objective.local).lower(jnp.asarray(starts[0])).compile()
        compiled = time.process_time() - began

        def evaluated(point: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            nonlocal num
            num += 1
            value, gradient, curvature = local(jnp.asarray(point))
            return float(value), np.array(gradient), np.array(curvature)

        began = time.process_time()
        for start in starts:
            search = Optimizer(
                evaluated,
                upper,
                lower,
                verbose=logging.CRITICAL,
                options={Options.MAXITER: MAX_STEPS},
            )
            try:
                values.append(float(search.minimize(np.clip(start, lower, upper))[0]))
            except Exception:  # fides raises where the first value is not finite
                values.append(np.inf)
        seconds = time.process_time() - began
    return {
        "values": np.array(values),
        "seconds": seconds,
        "compile_seconds": compiled,
        "evaluations": num,
    }


def line(found: dict, row: dict) -> dict:
    """One line of the table."""
    values, target = found["values"], TARGETS[row["problem"]]
    row |= {
        "best": float(values.min()),
        "target": target,
        "successes": int(np.sum(values <= target)),
        "starts": len(values),
        "seconds": round(found["seconds"], 1),
        "compile_seconds": round(found["compile_seconds"], 1),
        "evaluations": found["evaluations"],
        "values": [round(float(v), 5) if np.isfinite(v) else None for v in np.sort(values)],
    }
    print(
        f"{row['problem']:24s} {row['optimiser']:6s} best {row['best']:.5f}  target {target}  "
        f"{row['successes']} of {len(values)} starts  {row['seconds']} s + "
        f"{row['compile_seconds']} s to compile + {row['start_seconds']} s for starts  "
        f"{row['evaluations']} evaluations",
        flush=True,
    )
    return row


def merged(path: Path, rows: list[dict]) -> list[dict]:
    """The rows of a file and new ones, which replace those of the same settings."""

    def settings(row: dict) -> tuple:
        return row["problem"], row["optimiser"], row["seed"], row["draws"]

    kept = json.loads(path.read_text()) if path.exists() else []
    new = set(map(settings, rows))
    return sorted([r for r in kept if settings(r) not in new] + rows, key=settings)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--problems", nargs="+", default=list(TARGETS)[:4], choices=list(TARGETS))
    parser.add_argument("--optimisers", nargs="+", default=["ours"], choices=OPTIMISERS)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--draws", type=int, default=5, help="points that each start is best of")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, help="JSON file of the table")
    given = parser.parse_args()
    for name in given.problems:
        path = given.folder / name / f"{name}.yaml"
        objective, starts, seconds = prepared(
            path, given.starts, given.seed, given.draws, given.batch
        )
        for optimiser in given.optimisers:
            if optimiser != "ours" and find_spec(optimiser) is None:
                print(f"{optimiser} is absent; pip install {optimiser}", file=sys.stderr)
                continue
            run = ours if optimiser == "ours" else fides
            row = {"problem": name, "optimiser": optimiser, "seed": given.seed}
            row |= {"draws": given.draws, "start_seconds": round(seconds, 1)}
            row = line(run(objective, starts, given.batch), row)
            if given.out is not None:
                given.out.write_text(json.dumps(merged(given.out, [row]), indent=2) + "\n")


if __name__ == "__main__":
    configure_cpu()
    main()
