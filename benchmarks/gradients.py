"""Is every gradient right, how noisy is it, and what does it cost?

    python -m benchmarks.gradients --out results/gradients.json --markdown docs/gradients.md

Small problems are held against exact gradients, central differences of the master equation's
solution; vilar (16 reactions, 9 species) against coupled differences. The score with a baseline is
the yardstick. Everything runs in this process on one core, each estimator once to compile and once
to be timed by the processor's clock (so that a busy neighbour disturbs little); learning a critic
and a coupled difference's pilot are part of the time. `--quick` takes a tenth of the trajectories.
What stands in `--out` already is not run again.
"""

import argparse
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NUM = 100_000
# Pairs of a coupled difference, of which each parameter needs its own.
NUM_PAIRS = 20_000
VILAR_NUM = 1000
VILAR_RATES = ("k_txAp", "k_tlA", "k_bindC", "k_degR")
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"


def problems() -> dict[str, dict[str, Any]]:
    """The problems with a truth: what to give to `estimate`, and the exact gradient."""
    import engine
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
    found["cascade mean"] = _cascade(engine)
    return found


def _cascade(engine: Any) -> dict[str, Any]:
    """0 -> A, A -> A + B, B -> B + C, each lost at a rate of its own: linear, so exact."""
    from scipy.linalg import expm

    rates = {"k": 5.0, "s": 2.0, "t": 1.5, "a": 1.0, "b": 0.7, "c": 0.5}
    laws = {
        "0 -> A": "k",
        "A -> A + B": "s",
        "B -> B + C": "t",
        "A -> 0": "a",
        "B -> 0": "b",
        "C -> 0": "c",
    }
    horizon = 10.0

    def mean(r: dict[str, float]) -> float:
        system = np.zeros((4, 4))
        system[0] = [-r["a"], 0, 0, r["k"]]
        system[1] = [r["s"], -r["b"], 0, 0]
        system[2] = [0, r["t"], -r["c"], 0]
        return float((expm(system * horizon) @ [0, 0, 0, 1])[2])

    step = 1e-5
    truth = [
        (mean({**rates, n: v * (1 + step)}) - mean({**rates, n: v * (1 - step)})) / (2 * step * v)
        for n, v in rates.items()
    ]
    network = engine.ReactionNetwork(
        species={"A": 0, "B": 0, "C": 0},
        parameters=rates,
        reactions=[engine.Reaction(e, engine.MassAction(c)) for e, c in laws.items()],
    )
    outcome = engine.gradient.Outcome(engine.FinalValue("C"))
    return {
        "network": network,
        "outcome": outcome,
        "wrt": list(rates),
        "horizon": horizon,
        "truth": truth,
    }


def timed(function: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    """The last result and the shortest processor time, after one call that compiles."""
    function()
    best = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        found = function()
        best = min(best, time.process_time() - begin)
    return found, best


def measured(problem: dict[str, Any], estimator: Any, num: int) -> dict[str, Any]:
    """One estimator on one problem."""
    import jax

    import engine

    given = {k: v for k, v in problem.items() if k not in ("truth", "wrt", "outcome", "horizon")}

    def run() -> Any:
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
        found, seconds = timed(run)
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


def estimators() -> dict[str, tuple[Any, int]]:
    """What is compared, and how many patients each gets."""
    import engine

    g = engine.gradient
    return {
        "score + baseline": (g.ScoreFunction(is_regressed=False), NUM),
        "score + regression": (g.ScoreFunction(), NUM),
        "martingale critic": (g.MartingaleCritic(), NUM),
        "coupled difference": (g.CoupledDifference(), NUM_PAIRS),
    }


def vilar(models: Path, scale: float) -> dict[str, Any]:
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
    return {
        name: measured(problem, estimator, num if "coupled" not in name else num // 2)
        for name, (estimator, _) in estimators().items()
    }


def growth() -> dict[str, Any]:
    """Variance of a birth-death mean's gradient (log birth rate) with the horizon."""
    import engine
    from tests.gradient.problems import BIRTH_DEATH

    result: dict[str, Any] = {}
    for horizon in (5.0, 20.0, 80.0):
        problem = {
            "network": BIRTH_DEATH.model,
            "outcome": engine.gradient.Outcome(engine.FinalValue("X")),
            "wrt": ["k"],
            "horizon": horizon,
        }
        for name, (estimator, _) in estimators().items():
            record = measured(problem, estimator, 4000)
            variance = 100.0 * record["variance_per_trajectory"][0]
            result.setdefault(name, {})[str(horizon)] = variance
    return result


def overhead(problem: dict[str, Any], num: int) -> dict[str, float]:
    """Times over the forward simulation, with its outcome tallied, on the same stops."""
    import jax

    import engine
    from engine.gradient.estimate import problem_of
    from engine.gradient.martingale_critic import default_critic
    from engine.gradient.problem import directions_of
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
    scores = LaneSums(
        martingales=tuple(score(found.arguments.network, d) for d in found.directions)
    )
    learned = default_critic(made.outcome).learn(made.arguments, made.outcome)
    stops = np.union1d(learned.stops, found.arguments.ts)
    cell_of = np.minimum(np.searchsorted(learned.stops, stops), len(learned.stops) - 1)
    cells = tuple(column[cell_of] for column in learned.cells)
    on_stops = dataclasses.replace(found.arguments, ts=stops)
    plain_stops = dataclasses.replace(made.arguments, ts=stops)
    sums = learned.sums(found.arguments.network, found.directions)

    def cost(run: Callable[[], Any]) -> float:
        return timed(run, repeats=3)[1]

    forward = cost(lambda: made.arguments.run(outcome))
    forward_on_stops = cost(lambda: plain_stops.run(outcome))
    scored = cost(lambda: found.arguments.run({**outcome, "score": scores}))
    criticised = cost(lambda: on_stops.run({**outcome, "critic": sums}, cells))
    return {
        "num_parameters": len(found.directions),
        "num_cells": len(stops),
        "score": scored / forward,
        "critic": criticised / forward_on_stops,
        "critic, stops included": criticised / forward,
    }


def geometric(values: Sequence[float]) -> float:
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def tables(result: dict[str, Any]) -> str:
    """The results as markdown."""
    lines = [
        "| problem | estimator | worst z | VR | variance x time | rho |",
        "|---|---|---:|---:|---:|---:|",
    ]
    known = result["exact"] | ({"vilar mean": result["vilar"]} if "vilar" in result else {})
    for problem, records in known.items():
        base = records["score + baseline"]
        for name, record in records.items():
            if "refused" in record:
                lines.append(f"| {problem} | {name} | refused | | | |")
                continue
            ratios = np.divide(base["variance_per_trajectory"], record["variance_per_trajectory"])
            speed = np.divide(base["standard_errors"], record["standard_errors"]) ** 2
            speed = speed * base["seconds"] / record["seconds"]
            worst = f"{np.max(np.abs(record['z'])):.1f}" if "z" in record else ""
            rho = record["residual_variance_ratio"]
            lines.append(
                f"| {problem} | {name} | {worst} | {geometric(ratios):.3g} "
                f"| {geometric(speed):.3g} | {'' if rho == 1 else f'{rho:.2g}'} |"
            )
    lines += ["", "| variance, log birth rate | T = 5 | 20 | 80 |", "|---|---:|---:|---:|"]
    for name, row in result.get("growth", {}).items():
        lines.append(f"| {name} | {' | '.join(f'{v:.3g}' for v in row.values())} |")
    lines += [
        "",
        "| time / forward | parameters | cells | score | critic, same stops | stops counted |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in result["overhead"].items():
        numbers = [row["score"], row["critic"], row["critic, stops included"]]
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
    result["versions"] = {"python": platform.python_version(), "jax": jax.__version__}

    def keep() -> None:
        if options.out:
            options.out.write_text(json.dumps(result, indent=1))

    for name, problem in problems().items():
        if name in result["overhead"] or (options.only and name not in options.only):
            continue
        records = {}
        for kind, (estimator, num) in estimators().items():
            records[kind] = measured(problem, estimator, int(num * scale))
            print(name, kind, records[kind].get("z"), file=sys.stderr, flush=True)
        result["exact"][name] = records
        result["overhead"][name] = overhead(problem, int(NUM * scale))
        keep()
    if "growth" not in result and not options.only:
        result["growth"] = growth()
        keep()
    if "vilar" not in result and (not options.only or "vilar" in options.only):
        result["vilar"] = vilar(options.models or default_models_directory(), scale)
        keep()
    text = tables(result)
    print(text)
    if options.markdown:
        page = options.markdown.read_text()
        first, rest = page.split(BEGIN)
        options.markdown.write_text(first + BEGIN + text + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
