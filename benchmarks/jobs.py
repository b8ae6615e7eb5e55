"""One simulation by the engine in a process of its own: what to run, and what came of it.

    python -m benchmarks.jobs '{"network": "vilar", "num_patients": 1000}'

Prints one line of JSON. The questions call it through `run_job`, pinned to cores.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from benchmarks.processes import measured

METHODS = ("Direct", "TauLeaping", "Langevin", "Hybrid", "ODE", "LinearNoise")


@dataclass(frozen=True)
class Job:
    """What to simulate.

    Attributes:
        network: a name of `networks.CASES`, or the path of a reference network without its suffix.
        num_patients: trajectories.
        method: name of a method of the engine.
        options: its options.
        num_points: save times from 0 to the horizon, both included.
        num_repeats: timed calls after the first one, which compiles.
        is_moments: report means, variances and fourth moments of every species at every save time.
    """

    network: str
    num_patients: int
    method: str = "Direct"
    options: dict[str, Any] = field(default_factory=dict)
    num_points: int = 101
    num_repeats: int = 2
    is_moments: bool = False


def run_job(
    job: Job, cores: Iterable[int], environment: dict[str, str] | None = None
) -> dict[str, Any] | None:
    """The record of a job, run in a process of its own on the given cores; None if it failed."""
    return measured(["benchmarks.jobs", json.dumps(asdict(job))], cores, environment)


def perform(job: Job) -> dict[str, Any]:
    """Simulate in this process."""
    began = time.perf_counter()
    import engine

    engine.configure_cpu()
    import jax

    from benchmarks.networks import case_of

    case = case_of(job.network)
    method = getattr(engine, job.method)(**job.options)
    ts = np.linspace(0.0, case.horizon, job.num_points)[1 if job.num_points > 1 else 0 :]
    imported = time.perf_counter() - began
    seconds = []
    for seed in (1, *range(2, 2 + job.num_repeats)):
        start = time.perf_counter()
        try:
            ensemble = engine.simulate(
                case.network,
                method,
                ts,
                num_patients=job.num_patients,
                key=jax.random.key(seed),
                x0=case.x0,
                params=case.params,
                inputs=case.inputs,
            )
        except (engine.InvalidInput, engine.SimulationFailed) as error:
            return {**_head(job), "refused": str(error)}
        seconds.append(time.perf_counter() - start)
    best = min(seconds[1:], default=seconds[0])
    record = {
        **_head(job),
        "import_seconds": imported,
        "first_seconds": seconds[0],
        "seconds": best,
        "compile_seconds": max(seconds[0] - best, 0.0),
        "seconds_per_trajectory": best / job.num_patients,
        "mean_steps": float(ensemble.num_steps.mean()),
        "mean_events": float(ensemble.num_events.mean()),
        "events_per_second": float(ensemble.num_events.sum()) / best,
        "continuous": list(ensemble.continuous),
        "peak_memory_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "device": jax.devices()[0].device_kind,
        "platform": jax.devices()[0].platform,
    }
    return record | (moments(ensemble) if job.is_moments else {})


def _head(job: Job) -> dict[str, Any]:
    return {
        "simulator": "engine",
        "network": job.network,
        "method": job.method,
        "options": dict(job.options),
        "num_patients": job.num_patients,
        "num_points": job.num_points,
    }


def moments(ensemble: Any) -> dict[str, Any]:
    """Means, variances and fourth central moments, (T, S), of an ensemble.

    The linear noise approximation has them from its equations and no sampling error: its number of
    samples is 0. A method without noise has a variance of 0 and no sampling error either.
    """
    values = np.asarray(ensemble.values, np.float64)
    mean = values.mean(axis=0)
    size = len(values)
    if ensemble.covariances is not None:
        variance = np.diagonal(ensemble.covariances[0], axis1=1, axis2=2)
        fourth, size = 3 * variance**2, 0
    else:
        centred = values - mean
        variance = np.mean(centred**2, axis=0) * size / max(size - 1, 1)
        fourth = np.mean(centred**4, axis=0)
        size = size if ensemble.num_steps.any() else 0
    return {
        "species": list(ensemble.species),
        "num_samples": size,
        "mean": mean.tolist(),
        "variance": variance.tolist(),
        "fourth": fourth.tolist(),
    }


def main() -> None:
    """Perform the job that the command line describes."""
    known = {one.name for one in fields(Job)}
    given = json.loads(sys.argv[1])
    if unknown := set(given) - known:
        raise SystemExit(f"a job has no '{min(unknown)}'; it has {', '.join(sorted(known))}")
    if given.get("method", "Direct") not in METHODS:
        raise SystemExit(f"'{given['method']}' is not a method; {', '.join(METHODS)} are")
    print(json.dumps(perform(Job(**given))))


if __name__ == "__main__":
    main()
