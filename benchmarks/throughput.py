"""How many exact events a second, against every rival in the same run?

    pip install -e '.[rivals]'
    python -m benchmarks.throughput --out benchmarks/results/throughput.json

Every simulator runs in a process of its own, one after the other, pinned to one core (the engine
to two as well), on the four reference networks with 101 save points. The engine runs as a user
calls it: per-patient parameters, statuses and save points on. Compile time is apart. Give the
machine nothing else to do: a busy neighbour costs a third.
"""

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.comparing import chosen_rivals, markdown
from benchmarks.processes import machine, measured
from benchmarks.question import Options, Question, Record
from benchmarks.rivals import RIVALS, default_models_directory, load_reference_model

QUICK_MODELS = ("birth_death",)
MODELS = ("birth_death", "dimer_decay", "vilar", "jakstat")
# Trajectories of a timed call: 0.3 to 2 seconds of work for each, by the processor.
ENGINE_TRAJECTORIES = {
    "birth_death": 65536,
    "dimer_decay": 8192,
    "vilar": 2048,
    "jakstat": 1024,
}
RIVAL_TRAJECTORIES = {"birth_death": 1000, "dimer_decay": 200, "vilar": 20, "jakstat": 40}
# The array simulators need many trajectories at once to be at their best.
WIDE_RIVALS = {"crn-jax", "jsmfsb", "stochastix"}
WIDE_TRAJECTORIES = {"birth_death": 2000, "dimer_decay": 1000, "vilar": 32, "jakstat": 128}
REPEATS = 3


def run_engine(model_name: str, num_trajectories: int, models: Path) -> dict[str, Any]:
    """Time `engine.simulate` in this process, on the cores it was given."""
    import engine

    configured = engine.configure_cpu()
    import jax

    reference = load_reference_model(models / f"{model_name}.json")
    network = engine.read_sbml(models / f"{model_name}.xml")
    ts = np.linspace(0.0, reference.end_time, 101)
    values = network.parameter_values
    params = {
        parameter.name: np.full(num_trajectories, values[parameter.name])
        for parameter in network.parameters
    }

    def simulate(seed: int) -> tuple[float, "engine.Ensemble"]:
        start = time.perf_counter()
        ensemble = engine.simulate(
            network,
            engine.Direct(),
            ts,
            num_patients=num_trajectories,
            params=params,
            key=jax.random.key(seed),
        )
        return time.perf_counter() - start, ensemble

    first, _ = simulate(0)
    timed = [simulate(seed) for seed in range(1, REPEATS + 1)]
    rates = [float(ensemble.num_events.sum()) / seconds for seconds, ensemble in timed]
    ensemble = timed[0][1]
    return {
        "name": "engine",
        "model": model_name,
        "num_trajectories": num_trajectories,
        "events_per_second": max(rates),
        "mean_events": float(ensemble.num_events.mean()),
        "compile_seconds": first - min(seconds for seconds, _ in timed),
        "final_means": [float(x) for x in ensemble.counts[:, -1].mean(axis=0)],
        "peak_memory_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "num_threads": len(os.sched_getaffinity(0)),
        "configure_cpu": configured,
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
    }


def compare(model: str, rivals: list[str], models: Path, cores: list[int]) -> list[dict[str, Any]]:
    """The engine on one core and on all given cores, then every rival on one core."""
    here = ["--models-directory", str(models), "--model", model]
    records = []
    for used in [cores[-1:], cores] if len(cores) > 1 else [cores]:
        arguments = ["benchmarks.throughput", "--only-engine", *here]
        record = measured(arguments, set(used))
        if record:
            records.append(record)
            _show(record, records[0])
    if not records:
        raise SystemExit(f"the engine did not run on {model}; see above")
    mean_events = str(records[0]["mean_events"])
    for rival in rivals:
        table = WIDE_TRAJECTORIES if rival in WIDE_RIVALS else RIVAL_TRAJECTORIES
        arguments = ["benchmarks.rivals", *here, "--rival", rival, "--mean-events", mean_events]
        record = measured([*arguments, "--trajectories", str(table[model])], set(cores[-1:]))
        if record and record.get("installed", True):
            records.append(record)
            _show(record, records[0])
    return records


def _show(record: dict[str, Any], engine: dict[str, Any]) -> None:
    rate, threads = record["events_per_second"], record.get("num_threads", 1)
    ratio = engine["events_per_second"] / rate
    print(
        f"{record['model']:12s} {record['name']:22s} {threads} core(s) {rate / 1e6:9.2f} M events/s"
        f"   engine on one core is {ratio:7.2f}x   compile {record['compile_seconds']:5.1f} s"
        f"   memory {record['peak_memory_mebibytes']:6.0f} MiB",
        flush=True,
    )


def main() -> None:
    """Run the comparison and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", choices=MODELS, action="append")
    parser.add_argument("--rival", choices=[r.name for r in RIVALS], action="append")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--cores", default="0,1", help="cores to use, the last one for one core")
    parser.add_argument("--models-directory", type=Path, default=default_models_directory())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only-engine", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_engine:
        name = options.model[0]
        print(json.dumps(run_engine(name, ENGINE_TRAJECTORIES[name], options.models_directory)))
        return
    cores = [int(core) for core in options.cores.split(",")]
    rivals = [] if options.no_rivals else (options.rival or [rival.name for rival in RIVALS])
    records = []
    for model in options.model or MODELS:
        records += compare(model, rivals, options.models_directory, cores)
    if options.out:
        text = json.dumps({"machine": machine(), "records": records}, indent=1)
        options.out.write_text(text + "\n")


def run(options: Options) -> list[Record]:
    """Every simulator on every network; a quick run does birth_death."""
    names = [rival.name for rival in chosen_rivals(options)]
    records = []
    for model in QUICK_MODELS if options.is_quick else MODELS:
        records += compare(model, names, options.models, list(options.cores))
    return records


def plot(result: dict[str, Any]) -> Figure:
    """Bars: million events a second by simulator, a panel per network."""
    records = result["records"]
    models = [model for model in MODELS if any(r["model"] == model for r in records)]
    figure = Figure(figsize=(3.2 * len(models), 3.6), layout="constrained")
    for axis, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        found = [r for r in records if r["model"] == model]
        names = [_name(r) for r in found]
        axis.barh(names, [r["events_per_second"] / 1e6 for r in found])
        axis.set(xscale="log", title=model, xlabel="million events a second")
        # Panels of less than a decade would label every tick.
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.tick_params(axis="y", labelsize=7)
        axis.invert_yaxis()
    return figure


def _name(record: Record) -> str:
    threads = record.get("num_threads", 1)
    return record["name"] if threads == 1 else f"{record['name']}, {threads} cores"


def table(result: dict[str, Any]) -> str:
    """Million events a second of every simulator, and how many times slower than the engine."""
    records = result["records"]
    engine = {(r["model"], r["num_threads"]): r for r in records if r["name"] == "engine"}
    models = [model for model in MODELS if (model, 1) in engine]
    most = max(threads for _, threads in engine)
    rows = []
    for threads in dict.fromkeys((1, most)):
        rates = [_millions(engine.get((model, threads))) for model in models]
        cores = "1 core" if threads == 1 else f"{threads} cores"
        rows.append([f"**engine**, {cores}", *(f"**{rate}**" for rate in rates)])
    for name in dict.fromkeys(r["name"] for r in records if r["name"] != "engine"):
        found = {r["model"]: r for r in records if r["name"] == name}
        version = next(iter(found.values())).get("version") or ""
        cells = [f"{name} {version}"]
        for model in models:
            if model not in found:
                cells.append("-")
                continue
            rate = found[model]["events_per_second"]
            ratio = engine[model, 1]["events_per_second"] / rate
            cells.append(f"{rate / 1e6:.3g} ({ratio:.1f}x)")
        rows.append(cells)
    compiles = " / ".join(f"{engine[m, 1]['compile_seconds']:.1f}" for m in models)
    memory = max(engine[m, 1]["peak_memory_mebibytes"] for m in models)
    return (
        "One core, unless a row says otherwise.\n\n"
        + markdown(["M events/s (engine / it)", *models], rows)
        + f"\n\nEngine: compilation {compiles} s, peak memory {memory:.0f} MiB.\n"
    )


def _millions(record: Record | None) -> str:
    return f"{record['events_per_second'] / 1e6:.0f}" if record else "-"


QUESTION = Question(
    "throughput", "exact events a second on four networks, engine and rivals", run, plot, table
)


if __name__ == "__main__":
    main()
