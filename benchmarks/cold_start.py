"""How long does a command take from nothing to its answer: imports, compilation and all?"""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.comparing import ENGINE, chosen_rivals, markdown
from benchmarks.processes import wall_seconds
from benchmarks.question import Options, Question, Record

NETWORK, HORIZON, POINTS = "vilar", 200, 101
FULL_PATIENTS, QUICK_PATIENTS = (1, 1000), (1, 100)
REPEATS = 3
# A rival does so many trajectories in about ten seconds.
SLOWEST = 200


def run(options: Options) -> list[Record]:
    """Wall time of whole processes; rivals by their runner with a single call, on one core."""
    records = []
    stem = options.models / NETWORK
    for patients in QUICK_PATIENTS if options.is_quick else FULL_PATIENTS:
        command = ["engine.cli", "simulate", str(stem.with_suffix(".xml"))]
        command += ["--until", str(HORIZON), "--points", str(POINTS), "--patients", str(patients)]
        for name, cores in ((ENGINE, options.cores), (f"{ENGINE}, 1 core", options.one_core)):
            repeats = 1 if options.is_quick else REPEATS
            times = [wall_seconds(command, cores) for _ in range(repeats)]
            if None not in times:
                records.append(_record(name, patients, min(t for t in times if t is not None)))
        for rival in chosen_rivals(options):
            number = min(patients, SLOWEST)
            arguments = ["benchmarks.rivals", "--models-directory", str(stem.parent)]
            arguments += ["--model", NETWORK, "--rival", rival.name, "--repeats", "0"]
            seconds = wall_seconds([*arguments, "--trajectories", str(number)], options.one_core)
            if seconds is not None:
                records.append(_record(rival.name, number, seconds))
    return records


def _record(name: str, patients: int, seconds: float) -> Record:
    return {"simulator": name, "network": NETWORK, "num_patients": patients, "seconds": seconds}


def _rows(result: dict[str, Any]) -> list[tuple[str, Record]]:
    return [(f"{r['simulator']}, {r['num_patients']:,} patients", r) for r in result["records"]]


def plot(result: dict[str, Any]) -> Figure:
    """Bars."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis, rows = figure.subplots(), _rows(result)
    axis.barh([name for name, _ in rows], [r["seconds"] for _, r in rows])
    axis.tick_params(axis="y", labelsize=7)
    axis.set_xlabel("seconds from the start of the process to its end")
    axis.invert_yaxis()
    return figure


def table(result: dict[str, Any]) -> str:
    """Seconds of the whole process."""
    rows = [[name, f"{r['seconds']:.2f}"] for name, r in _rows(result)]
    shown = markdown(["process", "seconds"], rows)
    return (
        f"`engine simulate vilar.xml --until {HORIZON} --points {POINTS} --patients N`, from the "
        "start of the process to its end; a rival's process imports it, sets the network up and "
        f"simulates at most {SLOWEST} trajectories once.\n\n{shown}\n"
    )


QUESTION = Question(
    "cold_start", "seconds of `engine simulate` from the start of its process", run, plot, table
)
