"""How many exact events a second on a GPU, and how far that is from the arithmetic limit.

    pip install -e '.[cuda]' && pip install crn-jax stochastix
    python -m benchmarks.gpu --out benchmarks/results/gpu.json

On the GPU that JAX sees: vilar and jakstat on 1e5 to 1e6 lanes with the Pallas kernel, the same
with XLA's own loop, and crn-jax and stochastix on the same device in the same run, each in a
process of its own. Save points, statuses and a tally are on. The arithmetic limit is one operation
per core and clock: operations of a step are counted in its jaxpr, cores and clock are the card's.
On a machine without a GPU it says so and ends.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals import default_models_directory, load_reference_model

MODELS = ("vilar", "jakstat")
RIVALS = ("crn-jax", "stochastix")
SIZES = (2**17, 2**18, 2**20)
# The horizon as a share of the reference model's, so that a call lasts seconds.
SHARE = {"vilar": 0.05, "jakstat": 0.25}
NUM_SAVES = 11
REPEATS = 3
RIVAL_TRAJECTORIES = {"vilar": 2048, "jakstat": 16384}
CORES_PER_MULTIPROCESSOR = 128  # 32-bit units; NVIDIA's data sheets for compute capability 8.6, 9.0


def run_engine(name: str, num: int, driver_name: str, models: Path) -> dict[str, Any]:
    """Time `engine.simulate` with a driver on the default device."""
    import jax

    import engine
    from engine.kernel import driver as drivers

    reference = load_reference_model(models / f"{name}.json")
    network = engine.read_sbml(models / f"{name}.xml")
    ts = np.linspace(0.0, reference.end_time * SHARE[name], NUM_SAVES)
    first_species = network.species_names[0]

    def simulate(seed: int) -> tuple[float, engine.Ensemble]:
        start = time.perf_counter()
        with drivers.using(drivers.DRIVERS[driver_name]):
            ensemble = engine.simulate(
                network,
                engine.Direct(),
                ts,
                num_patients=num,
                record=[first_species],
                tallies={"peak": engine.Maximum(first_species)},
                key=jax.random.key(seed),
            )
        return time.perf_counter() - start, ensemble

    first, _ = simulate(0)
    timed = [simulate(seed) for seed in range(1, REPEATS + 1)]
    rate = max(float(e.num_events.sum()) / seconds for seconds, e in timed)
    operations = operations_per_step(network)
    return {
        "name": f"engine, {driver_name}",
        "model": name,
        "num_trajectories": num,
        "events_per_second": rate,
        "compile_seconds": first - min(seconds for seconds, _ in timed),
        "operations_per_event": operations,
        "operations_per_second": rate * operations,
        "mean_events": whole_mean_events(network, reference.end_time),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }


def whole_mean_events(network: Any, end_time: float) -> float:
    """Events of a trajectory over the reference horizon, which the rivals simulate."""
    import jax

    import engine

    options = {"num_patients": 256, "record": (), "key": jax.random.key(9)}
    ensemble = engine.simulate(network, engine.Direct(), [end_time], **options)
    return float(ensemble.num_events.mean())


def operations_per_step(network: Any) -> int:
    """Elementwise operations of one step of the direct method, from its jaxpr."""
    import jax
    import jax.numpy as jnp

    from engine.inputs.layout import InputLayout
    from engine.kernel.levels import Levels
    from engine.kernel.model import LaneModel
    from engine.kernel.state import Constants, Lanes
    from engine.methods.direct import step

    model = LaneModel(network, {}, InputLayout(), network.species_names)
    lane = jnp.zeros((1,), jnp.float32)
    word, count = jnp.zeros((1,), jnp.uint32), jnp.zeros((1,), jnp.int32)
    coefficients = tuple(jnp.float32(1) for _ in model.program.coefficient_expressions)
    still = Levels((), ())
    constants = Constants(coefficients, (), still, lane, lane, (), (), True)  # type: ignore[arg-type]
    counts = tuple(count for _ in network.species)
    lanes = Lanes(counts, (word,) * 4, lane, lane, lane, count, count, ())
    jaxpr = jax.make_jaxpr(lambda lanes: step(model, None, constants, lanes))(lanes)
    return _num_operations(jaxpr.jaxpr, jax.extend.core)


def _num_operations(jaxpr: Any, core: Any) -> int:
    moved = {"broadcast_in_dim", "reshape", "squeeze", "bitcast_convert_type"}
    total = 0
    for equation in jaxpr.eqns:
        inner = [p for p in equation.params.values() if isinstance(p, core.ClosedJaxpr)]
        total += sum(_num_operations(p.jaxpr, core) for p in inner)
        total += 0 if inner or equation.primitive.name in moved else 1
    return total


def card() -> dict[str, Any] | None:
    """Name, multiprocessors and largest clock of the GPU that JAX sees; None without one."""
    import jax

    device = jax.devices()[0]
    if device.platform not in ("gpu", "cuda"):
        return None
    query = ["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    clock = float(found.stdout.split()[0]) * 1e6 if found.returncode == 0 else float("nan")
    cores = int(device.core_count) * CORES_PER_MULTIPROCESSOR
    return {"name": device.device_kind, "cores": cores, "hertz": clock, "limit": cores * clock}


def _child(*arguments: str) -> dict[str, Any] | None:
    environment = {**os.environ, "BENCHMARK_ON_DEVICE": "1"}
    command = [sys.executable, "-m", *arguments]
    child = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = child.stdout.strip().splitlines()
    if child.returncode or not lines:
        print(f"failed: {' '.join(arguments)}: {child.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    record: dict[str, Any] = json.loads(lines[-1])
    return record


def compare(name: str, sizes: tuple[int, ...], models: Path, limit: float) -> list[dict[str, Any]]:
    """The engine with both drivers at every size, then the rivals."""
    here = ["--models-directory", str(models), "--model", name]
    records = []
    for driver, num in [*(("pallas", n) for n in sizes), ("xla-wide", sizes[0])]:
        options = ["--only-engine", driver, "--lanes", str(num)]
        if record := _child("benchmarks.gpu", *here, *options):
            records.append(record)
            share = record["operations_per_second"] / limit
            rate = record["events_per_second"]
            print(f"{name:10s} {driver:10s} {num:>9,d} lanes {rate / 1e9:8.3f} G events/s", end="")
            print(f"   {record['operations_per_event']} operations each: {share:.0%} of the limit")
    best = max((r["events_per_second"] for r in records), default=float("nan"))
    for rival in RIVALS:
        trajectories = ["--trajectories", str(RIVAL_TRAJECTORIES[name])]
        trajectories += ["--mean-events", str(records[0]["mean_events"])] if records else []
        record = _child("benchmarks.rivals", *here, "--rival", rival, *trajectories)
        if record and record.get("events_per_second"):
            records.append(record)
            rate = record["events_per_second"]
            print(f"{name:10s} {rival:10s} {rate / 1e9:27.4f} G events/s   {best / rate:.0f}x")
    return records


def main() -> None:
    """Run the comparison and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", choices=MODELS, action="append")
    parser.add_argument("--lanes", type=int, action="append", help=f"default {SIZES}")
    parser.add_argument("--models-directory", type=Path, default=default_models_directory())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only-engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes, models = tuple(options.lanes or SIZES), options.models_directory
    if options.only_engine:
        print(json.dumps(run_engine(options.model[0], sizes[0], options.only_engine, models)))
        return
    found = card()
    if found is None:
        raise SystemExit("JAX sees no GPU; install the extra 'cuda' on a machine that has one")
    records = []
    for name in options.model or MODELS:
        records += compare(name, sizes, models, found["limit"])
    if options.out:
        options.out.write_text(json.dumps({"machine": found, "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
