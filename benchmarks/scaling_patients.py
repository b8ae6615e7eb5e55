"""How does the time grow with the number of patients, from a hundred to a million?"""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.comparing import (
    ENGINE,
    chosen_rivals,
    curves,
    grid,
    of,
    rival_record,
    time_limit,
)
from benchmarks.jobs import Job, run_job
from benchmarks.question import Options, Question, Record

# The engine's number of patients on every network, and from where rivals start.
FULL = {
    "birth_death": (100, 1_000, 10_000, 100_000, 1_000_000),
    "vilar": (100, 1_000, 10_000, 100_000),
}
QUICK = {"birth_death": (100, 1_000, 10_000)}


def run(options: Options) -> list[Record]:
    """The engine on all cores, every rival on one, until a rival takes too long."""
    records = []
    for network, sizes in (QUICK if options.is_quick else FULL).items():
        mean_events = None
        for size in sizes:
            job = Job(network, size, num_points=11, num_repeats=1)
            found = run_job(job, options.cores)
            if found is not None:
                mean_events = found["mean_events"]
                records.append(found)
        for rival in chosen_rivals(options):
            expected = 0.0
            for size in sizes:
                if expected > time_limit(options):
                    break
                found = rival_record(
                    rival,
                    options.models / network,
                    size,
                    options.one_core,
                    mean_events=mean_events,
                    num_intervals=10,
                )
                if found is None:
                    break
                records.append(found)
                # Ten times the patients, called twice.
                expected = 20 * found["seconds"]
    return records


def _networks(result: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(r["network"] for r in result["records"]))


def plot(result: dict[str, Any]) -> Figure:
    """Seconds by patients."""
    labels = ("patients", "seconds")
    return curves(result["records"], _networks(result), "num_patients", "seconds", labels)


def table(result: dict[str, Any]) -> str:
    """Seconds by patients, a table per network."""
    parts = []
    for network in _networks(result):
        records = of(result["records"], network=network)
        cores = of(records, simulator=ENGINE)[0]["num_cores"]
        parts.append(
            f"{network}, 11 save points; seconds, compilation not counted; cores used by "
            f"{ENGINE}: {cores}, by the others: 1.\n\n"
            f"{grid(records, 'num_patients', 'seconds', 'patients')}\n"
        )
    return "\n".join(parts)


QUESTION = Question(
    "scaling_patients", "seconds for 1e2 to 1e6 patients, engine and rivals", run, plot, table
)
