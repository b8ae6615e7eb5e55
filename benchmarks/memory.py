"""Peak memory of a million patients of whom only tallies are asked for.

    python -m benchmarks.memory [--patients 1000000]

Prints the peak resident memory of this process: it may grow only by the tallies themselves.
"""

import argparse
import json
import resource
import time

import engine
from benchmarks.rivals import default_models_directory


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
