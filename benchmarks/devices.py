"""What do the devices that JAX finds here yield, each as the default one?"""

import json
import sys
from typing import Any

from matplotlib.figure import Figure

from benchmarks.comparing import markdown
from benchmarks.jobs import Job, run_job
from benchmarks.processes import measured
from benchmarks.question import Options, Question, Record

FULL_PATIENTS = {"vilar": 8192, "jakstat": 8192}
QUICK_PATIENTS = {"vilar": 256, "jakstat": 256}
# Platforms that JAX may have besides the processor.
ACCELERATORS = ("cuda", "rocm", "tpu")


def platforms() -> list[dict[str, Any]]:
    """Every platform that JAX finds, with its devices; in this process."""
    import jax

    found = []
    for platform in (*ACCELERATORS, "cpu"):
        try:
            devices = jax.devices(platform)
        except RuntimeError:
            continue
        found.append({"platform": platform, "devices": [d.device_kind for d in devices]})
    return found


def run(options: Options) -> list[Record]:
    """The engine on the default device of every platform."""
    listed = measured(["benchmarks.devices"], options.cores)
    records = []
    for one in listed["platforms"] if listed else []:
        sizes = QUICK_PATIENTS if options.is_quick else FULL_PATIENTS
        for network, patients in sizes.items():
            environment = {"JAX_PLATFORMS": f"{one['platform']},cpu".replace("cpu,cpu", "cpu")}
            found = run_job(Job(network, patients), options.cores, environment)
            if found is not None:
                records.append(found | {"num_devices": len(one["devices"])})
    return records


def plot(result: dict[str, Any]) -> Figure:
    """Bars."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axis, records = figure.subplots(), result["records"]
    names = [f"{r['network']}, {r['platform']}" for r in records]
    axis.barh(names, [r["events_per_second"] / 1e6 for r in records])
    axis.set_xlabel("million events a second")
    return figure


def table(result: dict[str, Any]) -> str:
    """Million events a second by device."""
    rows = [
        [
            f"{r['platform']}: {r['device']}",
            r["network"],
            f"{r['num_patients']:,}",
            f"{r['events_per_second'] / 1e6:.0f}",
            f"{r['compile_seconds']:.1f}",
        ]
        for r in result["records"]
    ]
    head = ["device", "network", "patients", "M events/s", "compilation, s"]
    return markdown(head, rows) + "\n"


QUESTION = Question("devices", "events a second on every device that JAX finds", run, plot, table)


if __name__ == "__main__":
    print(json.dumps({"platforms": platforms()}))
    sys.exit(0)
