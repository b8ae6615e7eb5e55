"""How do speed and compilation change with the number of reactions, from 10 to 1,000?

A method for large networks takes its place in `METHODS`.
"""

import tempfile
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.comparing import (
    ENGINE,
    chosen_rivals,
    grid,
    legend_beside,
    rival_record,
    simulators,
    time_limit,
)
from benchmarks.generated import write
from benchmarks.jobs import Job, run_job
from benchmarks.question import Options, Question, Record

# Name in the table: method and its options.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {"engine": ("Direct", {})}
FULL, QUICK = (10, 30, 100, 300, 1000), (10, 30, 100)
PATIENTS = 1024
# Of a rival that runs one trajectory after another, and of one that runs arrays of them.
RIVAL_PATIENTS = 20


def run(options: Options) -> list[Record]:
    """Networks of growing size on one core, 11 save points."""
    records = []
    patients = 128 if options.is_quick else PATIENTS
    with tempfile.TemporaryDirectory() as folder:
        lasting = {rival.name: 0.0 for rival in chosen_rivals(options)}
        for size in QUICK if options.is_quick else FULL:
            stem = write(size, Path(folder) / f"generated_{size}")
            mean_events = None
            for name, (method, given) in METHODS.items():
                job = Job(str(stem), patients, method, given, num_points=11, num_repeats=1)
                found = run_job(job, options.one_core)
                if found is not None and "refused" not in found:
                    mean_events = found["mean_events"]
                    records.append(found | {"simulator": name} | _named(stem, size))
            for rival in chosen_rivals(options):
                if lasting[rival.name] > time_limit(options):
                    continue
                found = rival_record(
                    rival,
                    stem,
                    RIVAL_PATIENTS,
                    options.one_core,
                    mean_events=mean_events,
                    num_intervals=10,
                )
                if found is not None:
                    records.append(found | _named(stem, size))
                    lasting[rival.name] = 3 * (2 * found["seconds"] + found["compile_seconds"])
    return records


def _named(stem: Path, size: int) -> Record:
    """What a record says of its network, whose folder is gone."""
    return {"network": stem.name, "num_reactions": size}


def plot(result: dict[str, Any]) -> Figure:
    """Events a second, and seconds of compilation, by reactions."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    records, axes = result["records"], figure.subplots(1, 2)
    for axis, y, label in zip(
        axes,
        ("events_per_second", "compile_seconds"),
        ("events a second", "compilation, seconds"),
        strict=True,
    ):
        for k, name in enumerate(simulators(records)):
            inside = [r for r in records if r["simulator"] == name and r.get(y)]
            line = sorted((r["num_reactions"], r[y]) for r in inside)
            weight = 2.2 if name.startswith(ENGINE) else 1.0
            points = tuple(zip(*line, strict=True)) or ((), ())
            axis.plot(*points, marker="o", ms=3, lw=weight, color=f"C{k}", label=name)
        axis.set(xscale="log", yscale="log", xlabel="reactions", ylabel=label)
    legend_beside(figure, axes[0])
    return figure


def table(result: dict[str, Any]) -> str:
    """Million events a second, then seconds of compilation."""
    records = result["records"]
    known = [r for r in records if r["events_per_second"]]
    return (
        "Rings of proteins that convert and bind (`generated.py`), one core. Million events a "
        f"second:\n\n{grid(known, 'num_reactions', 'events_per_second', 'reactions', 1e-6)}\n\n"
        "Seconds of compilation or set-up:\n\n"
        f"{grid(records, 'num_reactions', 'compile_seconds', 'reactions')}\n"
    )


QUESTION = Question(
    "scaling_reactions",
    "events a second and compilation for 10 to 1,000 reactions, engine and rivals",
    run,
    plot,
    table,
)
