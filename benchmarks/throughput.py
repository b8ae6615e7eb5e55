"""How many exact events a second, against every rival in the same run.

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
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals import RIVALS, default_models_directory, load_reference_model

MODELS = ("birth_death", "dimer_decay", "vilar", "jakstat")
# Trajectories of a timed call: about a second or more of work for each.
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


def _measured(arguments: list[str], cores: set[int]) -> dict[str, Any] | None:
    """The last line that a child process prints, as JSON; it may use the given cores only."""
    child = subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    lines = child.stdout.strip().splitlines()
    if child.returncode or not lines:
        print(f"failed: {' '.join(arguments)}: {child.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    record: dict[str, Any] = json.loads(lines[-1])
    return record


def compare(model: str, rivals: list[str], models: Path, cores: list[int]) -> list[dict[str, Any]]:
    """The engine on one core and on all given cores, then every rival on one core."""
    here = ["--models-directory", str(models), "--model", model]
    records = []
    for used in [cores[-1:], cores] if len(cores) > 1 else [cores]:
        arguments = ["benchmarks.throughput", "--only-engine", *here]
        record = _measured(arguments, set(used))
        if record:
            records.append(record)
            _show(record, records[0])
    if not records:
        raise SystemExit(f"the engine did not run on {model}; see above")
    mean_events = str(records[0]["mean_events"])
    for rival in rivals:
        table = WIDE_TRAJECTORIES if rival in WIDE_RIVALS else RIVAL_TRAJECTORIES
        arguments = ["benchmarks.rivals", *here, "--rival", rival, "--mean-events", mean_events]
        record = _measured([*arguments, "--trajectories", str(table[model])], set(cores[-1:]))
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
        machine = {"processor": _processor(), "python": platform.python_version()}
        text = json.dumps({"machine": machine, "records": records}, indent=1)
        options.out.write_text(text + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")


if __name__ == "__main__":
    main()
