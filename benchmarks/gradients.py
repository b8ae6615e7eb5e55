"""Is every gradient right, how noisy is it, and what does it cost?

    python -m benchmarks.gradients --out results/gradients.json --markdown docs/gradients.md

Small problems are held against exact gradients, central differences of the master equation's
solution; vilar (16 reactions, 9 species) against coupled differences. The score with a baseline is
the yardstick. Everything runs in this process on one core, each estimator once to compile and once
to be timed by the processor's clock (so that a busy neighbour disturbs little); learning a critic
and a coupled difference's pilot are part of the time. `--quick` takes a tenth of the trajectories.
What stands in `--out` already is not run again, row by row; `--only` takes names of problems, and
"growth", "growth by size", "vilar" and "il2". The estimators of stochastix, the one rival that has
gradients, are run on the problems with a truth where it is installed; else the results say so.
"""

import argparse
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gradient_rivals
from benchmarks.comparing import with_tables

NUM = 100_000
# Pairs of a coupled difference, of which each parameter needs its own.
NUM_PAIRS = 20_000
VILAR_NUM = 1000
VILAR_RATES = ("k_txAp", "k_tlA", "k_bindC", "k_degR")


def problems() -> dict[str, dict[str, Any]]:
    """The problems with a truth: what to give to `estimate`, and the exact gradient."""
    from tests.gradient.biases import cascade, driven
    from tests.gradient.bistable import COMMON, MODEL, OUTCOME, RARE, TARGETS, Truth, dosing
    from tests.gradient.problems import CASES

    found: dict[str, dict[str, Any]] = {}
    for name, (case, outcome, function) in CASES.items():
        found[name] = {
            "network": case.model,
            "outcome": outcome,
            "wrt": list(case.parameters),
            "horizon": case.horizon,
            "truth": list(case.gradient(function).values()),
        }
    for name, constants in (("bistable, common", COMMON), ("bistable, rare", RARE)):
        exact = Truth(constants)
        found[name] = {
            "network": MODEL,
            "outcome": OUTCOME,
            "wrt": list(TARGETS.values()),
            "horizon": 20.0,
            "params": constants,
            **dosing(),
            "truth": [exact.slope(one) for one in TARGETS],
        }
    for name, linear in (("cascade mean", cascade()), ("driven mean", driven())):
        found[name] = {
            "network": linear.model,
            "outcome": linear.outcome,
            "wrt": list(linear.scored.values()),
            "horizon": linear.horizon,
            **linear.shared,
            "truth": [linear.truth()[one] for one in linear.scored],
        }
    return found


def timed(
    function: Callable[[], Any], repeats: int = 1, warm: Callable[[], Any] | None = None
) -> tuple[Any, float]:
    """The last result and the shortest processor time, after one call (`warm`) that compiles."""
    (warm or function)()
    best = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        found = function()
        best = min(best, time.process_time() - begin)
    return found, best


def measured(
    problem: dict[str, Any], estimator: Any, num: int, warm: int | None = None
) -> dict[str, Any]:
    """One estimator on one problem; `warm` patients compile it, by default as many."""
    import jax

    import engine

    given = {k: v for k, v in problem.items() if k not in ("truth", "wrt", "outcome", "horizon")}

    def run(num: int = num) -> Any:
        return engine.gradient.estimate(
            given["network"],
            estimator,
            problem["outcome"],
            problem["wrt"],
            problem["horizon"],
            key=jax.random.key(0),
            num_patients=num,
            **{k: v for k, v in given.items() if k != "network"},
        )

    try:
        found, seconds = timed(run, warm=lambda: run(warm or num))
    except engine.InvalidInput as error:
        return {"refused": str(error)}
    is_paired = "CoupledDifference" in found.estimator
    simulated = found.num_trajectories / (2 * len(found.names)) if is_paired else num
    record = {
        "names": list(found.names),
        "value": found.value,
        "gradient": found.gradient.tolist(),
        "standard_errors": found.standard_errors.tolist(),
        "variance_per_trajectory": (found.standard_errors**2 * simulated).tolist(),
        "residual_variance_ratio": found.residual_variance_ratio,
        "seconds": seconds,
        "num_patients": num,
        "notes": list(found.notes),
    }
    if "truth" in problem:
        z = (found.gradient - np.asarray(problem["truth"])) / found.standard_errors
        record["z"] = z.tolist()
    return record


def estimators(problem: str = "") -> dict[str, tuple[Any, int]]:
    """What is compared on a problem, and how many patients each gets."""
    import engine

    g = engine.gradient
    fitted = {
        "table critic": (g.MartingaleCritic(g.TableCritic()), NUM),
        "network critic": (g.MartingaleCritic(g.NetworkCritic()), NUM),
    }
    is_passage = problem.startswith("bistable")
    return {
        "score + baseline": (g.ScoreFunction(is_regressed=False), NUM),
        "score + regression": (g.ScoreFunction(), NUM),
        "score + squares": (g.ScoreFunction(is_squared=True), NUM),
        "martingale critic": (g.MartingaleCritic(), NUM),
        "coupled difference": (g.CoupledDifference(), NUM_PAIRS),
        **(fitted if is_passage else {}),
    }


Rows = dict[str, Callable[[], dict[str, Any]]]


def vilar(models: Path, scale: float) -> Rows:
    """Four rates of vilar, E[C(4)]; the truth is not known."""
    import engine

    network = engine.read_sbml(models / "vilar.xml")
    problem = {
        "network": network,
        "outcome": engine.gradient.Outcome(engine.FinalValue("C")),
        "wrt": list(VILAR_RATES),
        "horizon": 4.0,
    }
    num = max(int(VILAR_NUM * scale), 64)
    ours: Rows = {
        name: partial(measured, problem, estimator, num if "coupled" not in name else num // 2)
        for name, (estimator, _) in estimators().items()
    }
    theirs = gradient_rivals.rows(problem, scale, True) if gradient_rivals.is_installed() else {}
    return {**ours, **theirs}


# Trajectories of two million events each; up to 256 of them run the same compiled code.
IL2_NUM, IL2_PAIRS, IL2_WARM = 200, 200, 16


def il2(scale: float) -> Rows:
    """Active IL-2 receptors of a Treg cell after an hour: a critic against long coupled runs."""
    import engine
    from engine.models.il2 import il2_receptor

    g = engine.gradient
    problem = {
        "network": il2_receptor("Treg"),
        "outcome": g.Outcome(engine.FinalValue("active")),
        "wrt": ["kd_alpha", g.DoseAmount(0)],
        "horizon": 60.0,
        "inputs": {"IL2": engine.OneCompartment(clearance=0.005, volume=1.0)},
        "regimen": engine.Regimen([engine.Dose(0.1, 0.0, into="IL2")]),
    }
    number, pairs = (max(int(n * scale), 32) for n in (IL2_NUM, IL2_PAIRS))
    kinds = {
        "score + baseline": (g.ScoreFunction(is_regressed=False), number),
        "martingale critic": (g.MartingaleCritic(), number),
        "coupled difference": (g.CoupledDifference(step=0.05), pairs),
    }
    return {
        name: partial(measured, problem, estimator, num, IL2_WARM)
        for name, (estimator, num) in kinds.items()
    }


def growth(horizons: Sequence[float], births: Sequence[float]) -> dict[str, Any]:
    """Variance of a birth-death mean's gradient (log birth rate), by horizon and by size."""
    import engine
    from tests.gradient.problems import BIRTH_DEATH

    result: dict[str, Any] = {}
    for horizon in horizons:
        for birth in births:
            problem = {
                "network": BIRTH_DEATH.model,
                "outcome": engine.gradient.Outcome(engine.FinalValue("X")),
                "wrt": ["k"],
                "horizon": horizon,
                "params": {"k": birth},
            }
            label = f"T = {horizon:g}, {birth:g} molecules"
            for name, (estimator, _) in estimators().items():
                record = measured(problem, estimator, 4000)
                variance = birth**2 * record["variance_per_trajectory"][0]
                result.setdefault(name, {})[label] = variance
    return result


ROUNDS = 5


def overhead(problem: dict[str, Any], num: int) -> dict[str, float]:
    """Times over the forward simulation, with its outcome tallied; a pair over one trajectory.

    Every kind is run in turn, `ROUNDS` times, and its shortest time counts.
    """
    import jax

    import engine
    from engine.gradient.coupling import coupled, pair_tallies
    from engine.gradient.estimate import problem_of
    from engine.gradient.martingale_critic import default_critic
    from engine.gradient.problem import directions_of
    from engine.gradient.stretches import closely_stopped
    from engine.gradient.tallies import LaneSums, score

    given = {k: v for k, v in problem.items() if k != "truth"}
    made = problem_of(
        estimator=engine.gradient.ScoreFunction(),
        key=jax.random.key(0),
        num_patients=num,
        **given,
    )
    found = directions_of(made)
    outcome = {"outcome": made.outcome.tally}
    network = found.arguments.network
    martingales = tuple(score(network, d) for d in found.directions)
    scores = LaneSums(martingales=martingales)
    learned = default_critic(made.outcome).learn(made.arguments, made.outcome)
    scored = closely_stopped(found)
    stops = np.union1d(learned.stops, found.arguments.ts)
    on_stops = closely_stopped(found, stops, learned.changes)
    plain_stops = dataclasses.replace(made.arguments, ts=on_stops.ts)
    sums, cells = learned.sums(on_stops, found.directions)
    target = made.targets[0]
    step = 0.05 * np.asarray(target.value(made.arguments))
    pair = coupled(*(target.moved(made.arguments, sign * step) for sign in (1, -1)))
    kinds: dict[str, Callable[[], Any]] = {
        "forward": lambda: made.arguments.run(outcome),
        "forward, stops": lambda: plain_stops.run(outcome),
        "score": lambda: scored.run({**outcome, "score": scores}),
        "forward, its stops": lambda: dataclasses.replace(made.arguments, ts=scored.ts).run(
            outcome
        ),
        "critic": lambda: on_stops.run({**outcome, "critic": sums}, cells),
        "pair": lambda: pair.run(pair_tallies(made.arguments.network, made.outcome)),
    }
    best = dict.fromkeys(kinds, np.inf)
    for run in kinds.values():
        run()
    for _ in range(ROUNDS):
        for kind, run in kinds.items():
            begin = time.process_time()
            run()
            best[kind] = min(best[kind], time.process_time() - begin)
    return {
        "num_parameters": len(found.directions),
        "num_cells": len(on_stops.ts),
        "score": best["score"] / best["forward, its stops"],
        "critic": best["critic"] / best["forward, stops"],
        "critic, stops included": best["critic"] / best["forward"],
        "pair": best["pair"] / best["forward"],
    }


def geometric(values: Sequence[float]) -> float:
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def cells(record: dict[str, Any], base: dict[str, Any]) -> list[str]:
    """A row's numbers; parameters of other order than the base's are put into it."""
    order = [record["names"].index(name) for name in base["names"] if name in record["names"]]
    if len(order) < len(base["names"]):
        order = list(range(len(base["names"])))
    ratios = np.divide(
        base["variance_per_trajectory"], np.take(record["variance_per_trajectory"], order)
    )
    speed = np.divide(base["standard_errors"], np.take(record["standard_errors"], order)) ** 2
    speed = speed * base["seconds"] / record["seconds"]
    rho = record["residual_variance_ratio"]
    errors = ["", ""]
    if "z" in record:
        off = np.multiply(record["z"], record["standard_errors"])
        relative = np.abs(off / (np.array(record["gradient"]) - off))
        errors = [f"{np.max(np.abs(record['z'])):.1f}", f"{100 * relative.max():.2g} %"]
    return [
        *errors,
        f"{geometric(ratios):.3g}",
        f"{1e3 * record['seconds'] / record['num_patients']:.2g}",
        f"{geometric(speed):.3g}",
        "" if rho == 1 else f"{rho:.2g}",
    ]


def tables(result: dict[str, Any]) -> str:
    """The results as markdown."""
    lines = [
        "| problem | estimator | worst z | worst error | VR | ms each | variance x time | rho |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    known = dict(result["exact"])
    known |= {f"{name} mean": result[name] for name in ("vilar", "il2") if name in result}
    for problem, records in known.items():
        base = records["score + baseline"]
        for name, record in records.items():
            if "refused" in record:
                lines.append(f"| {problem} | {name} | refused | | | | | |")
            else:
                lines.append(f"| {problem} | {name} | {' | '.join(cells(record, base))} |")
    for rows in (result.get("growth"), result.get("growth by size")):
        if not rows:
            continue
        labels = list(next(iter(rows.values())))
        lines += ["", f"| variance, log birth rate | {' | '.join(labels)} |"]
        lines.append("|---" + "|---:" * len(labels) + "|")
        for name, row in rows.items():
            lines.append(f"| {name} | {' | '.join(f'{v:.3g}' for v in row.values())} |")
    lines += [
        "",
        "| time / forward | parameters | cells | score | critic, same stops | stops counted "
        "| a pair (per parameter) |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in result["overhead"].items():
        numbers = [row[n] for n in ("score", "critic", "critic, stops included", "pair")]
        lines.append(
            f"| {name} | {row['num_parameters']} | {row['num_cells']} | "
            f"{' | '.join(f'{v:.2f}' for v in numbers)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=None, help="JSON with every number")
    parser.add_argument("--markdown", type=Path, default=None, help="page whose tables to replace")
    parser.add_argument("--models", type=Path, default=None, help="folder with vilar.xml")
    parser.add_argument("--only", nargs="*", default=None, help="problems, by name")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    import engine

    engine.configure_cpu()
    import jax

    from benchmarks.rivals import default_models_directory

    scale = 0.1 if options.quick else 1.0
    result: dict[str, Any] = {"exact": {}, "overhead": {}}
    if options.out and options.out.exists():
        result |= json.loads(options.out.read_text())
    is_rivalled = gradient_rivals.is_installed()
    result["rivals"] = {"stochastix": version("stochastix") if is_rivalled else "not installed"}
    result["versions"] = {"python": platform.python_version(), "jax": jax.__version__}

    def keep() -> None:
        if options.out:
            options.out.write_text(json.dumps(result, indent=1))

    for name, problem in problems().items():
        if options.only and name not in options.only:
            continue
        records = result["exact"].setdefault(name, {})
        ours = {
            kind: partial(measured, problem, estimator, int(num * scale))
            for kind, (estimator, num) in estimators(name).items()
        }
        theirs = gradient_rivals.rows(problem, scale) if is_rivalled else {}
        for kind, row in {**ours, **theirs}.items():
            if kind in records:
                continue
            records[kind] = row()
            print(name, kind, records[kind].get("z"), file=sys.stderr, flush=True)
            keep()
        if name not in result["overhead"]:
            result["overhead"][name] = overhead(problem, int(NUM * scale))
            keep()
    models = options.models or default_models_directory()
    further: dict[str, Callable[[], Any]] = {
        "growth": lambda: growth((5.0, 20.0, 80.0), (10.0,)),
        "growth by size": lambda: growth((20.0,), (10.0, 40.0, 160.0)),
    }
    for name, rows in (("vilar", lambda: vilar(models, scale)), ("il2", lambda: il2(scale))):
        if options.only and name not in options.only:
            continue
        for kind, row in rows().items():
            if kind in result.setdefault(name, {}):
                continue
            result[name][kind] = row()
            print(name, kind, file=sys.stderr, flush=True)
            keep()
    for name, work in further.items():
        if name not in result and (not options.only or name in options.only):
            result[name] = work()
            print(name, file=sys.stderr, flush=True)
            keep()
    text = tables(result)
    print(text)
    if options.markdown:
        options.markdown.write_text(with_tables(options.markdown.read_text(), text))


if __name__ == "__main__":
    main()
