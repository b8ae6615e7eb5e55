"""What do save points cost, from 2 to 10,000 a trajectory?"""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.comparing import chosen_rivals, curves, grid, rival_record
from benchmarks.jobs import Job, run_job
from benchmarks.question import Options, Question, Record

FULL, QUICK = (2, 11, 101, 1001, 10001), (2, 101, 1001)
NETWORK = "vilar"
PATIENTS, RIVAL_PATIENTS = 512, 16


def run(options: Options) -> list[Record]:
    """vilar on one core."""
    records, mean_events = [], None
    share = 4 if options.is_quick else 1
    for points in QUICK if options.is_quick else FULL:
        job = Job(NETWORK, PATIENTS // share, num_points=points, num_repeats=1)
        found = run_job(job, options.one_core)
        if found is not None:
            mean_events = found["mean_events"]
            records.append(found)
        for rival in chosen_rivals(options):
            found = rival_record(
                rival,
                options.models / NETWORK,
                RIVAL_PATIENTS // share,
                options.one_core,
                mean_events=mean_events,
                num_intervals=points - 1,
            )
            if found is not None:
                records.append(found)
    return records


def plot(result: dict[str, Any]) -> Figure:
    """Events a second by save points."""
    labels = ("save points", "events a second")
    return curves(result["records"], [NETWORK], "num_points", "events_per_second", labels)


def table(result: dict[str, Any]) -> str:
    """Million events a second by save points."""
    known = [r for r in result["records"] if r["events_per_second"]]
    return (
        f"{NETWORK}, one core. Million events a second by save points of a trajectory:\n\n"
        f"{grid(known, 'num_points', 'events_per_second', 'save points', 1e-6)}\n"
    )


QUESTION = Question(
    "save_points",
    "events a second with 2 to 10,001 save points, engine and rivals",
    run,
    plot,
    table,
)
