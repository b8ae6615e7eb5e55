"""What does a million patients cost in memory when only tallies are asked for?

    python -m benchmarks.memory [--patients 1000000]

Prints the peak resident memory of this process: it may grow only by the tallies themselves.
"""

import argparse
import json
import resource
import time
from typing import Any

from matplotlib.figure import Figure

import engine
from benchmarks.comparing import markdown
from benchmarks.processes import measured
from benchmarks.question import Options, Question, Record
from benchmarks.rivals import default_models_directory

FULL, QUICK = (1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000)


def run(options: Options) -> list[Record]:
    """A process for every number of patients."""
    records = []
    for patients in QUICK if options.is_quick else FULL:
        found = measured(["benchmarks.memory", "--patients", str(patients)], options.cores)
        if found is not None:
            records.append(found)
    return records


def plot(result: dict[str, Any]) -> Figure:
    """Peak memory by patients."""
    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axis, records = figure.subplots(), result["records"]
    memory = [r["peak_memory_mebibytes"] for r in records]
    axis.plot([r["patients"] for r in records], memory, marker="o")
    axis.set(xscale="log", xlabel="patients", ylabel="peak memory, MiB", ylim=(0, None))
    return figure


def table(result: dict[str, Any]) -> str:
    """A row per number of patients."""
    rows = [
        [f"{r['patients']:,}", f"{r['peak_memory_mebibytes']:.0f}", f"{r['seconds']:.1f}"]
        for r in result["records"]
    ]
    return "birth_death, two tallies, nothing saved.\n\n" + (
        markdown(["patients", "peak memory, MiB", "seconds"], rows) + "\n"
    )


QUESTION = Question(
    "memory", "peak memory of up to a million patients, tallies only", run, plot, table
)


def main() -> None:
    """Stream a cohort of birth_death and print memory as JSON."""
    parser = argparse.ArgumentParser(description="peak memory with tallies only")
    parser.add_argument("--patients", type=int, default=1_000_000)
    options = parser.parse_args()
    engine.configure_cpu()
    import jax

    network = engine.read_sbml(default_models_directory() / "birth_death.xml")
    start = time.perf_counter()
    ensemble = engine.simulate(
        network,
        engine.Direct(),
        [100.0],
        num_patients=options.patients,
        tallies={"peak": engine.Maximum("X"), "auc": engine.TimeIntegral("X")},
        record=(),
        key=jax.random.key(0),
    )
    record = {
        "patients": options.patients,
        "seconds": round(time.perf_counter() - start, 1),
        "events": int(ensemble.num_events.sum()),
        "mean_peak": float(ensemble.tallies["peak"].mean()),
        "mean_auc": float(ensemble.tallies["auc"].mean()),
        "peak_memory_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
