"""Steps and events of a trajectory, by method and network: the stored numbers of a regression gate.

    python -m benchmarks.counts        # measures them anew and writes results/counts.json

`tests/test_counts.py` compares every change of the engine with them. Run it only when a change is
meant to take more or fewer steps, and say so in the commit.
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import engine
from benchmarks.networks import REFERENCE, case_of

STORED = Path(__file__).parent / "results" / "counts.json"
POINTS = 10
# Trajectories behind the stored numbers, and their key; the tests take others.
NUM_STORED, SEED_STORED = 1024, 1

METHODS = ("Direct", "TauLeaping", "Hybrid", "Langevin")
# The Langevin step, in the network's time unit; vilar would need 0.00029, and is left out.
STEPS = {"birth_death": 0.05, "dimer_decay": 0.01, "jakstat": 0.1}
CASES = [
    (network, method)
    for network in REFERENCE
    for method in METHODS
    if method != "Langevin" or network in STEPS
]


def method_of(name: str, network: str) -> Any:
    """A method as the gate runs it."""
    options = {"dt": STEPS[network]} if name == "Langevin" else {}
    return getattr(engine, name)(**options)


def simulated(network: str, method: str, num: int, seed: int, **options: Any) -> engine.Ensemble:
    """Ten save times, without time 0, so that every trajectory has ten stops."""
    case = case_of(network)
    return engine.simulate(
        case.network,
        method_of(method, network),
        np.linspace(0.0, case.horizon, POINTS + 1)[1:],
        num_patients=num,
        key=jax.random.key(seed),
        record=(),
        **options,
    )


def summary(ensemble: engine.Ensemble) -> dict[str, float]:
    """Mean and standard deviation of steps and of events."""
    result: dict[str, float] = {"num": len(ensemble)}
    for what, values in (("steps", ensemble.num_steps), ("events", ensemble.num_events)):
        result[f"mean_{what}"] = float(values.mean())
        result[f"sd_{what}"] = float(values.std(ddof=1))
    return result


def main() -> None:
    """Measure everything and store it."""
    engine.configure_cpu()
    stored: dict[str, dict[str, dict[str, float]]] = {}
    for network, method in CASES:
        found = summary(simulated(network, method, NUM_STORED, SEED_STORED))
        stored.setdefault(network, {})[method] = found
        print(network, method, found, flush=True)
    STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
