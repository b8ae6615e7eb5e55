"""How does the engine use the cores it is given?"""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.comparing import markdown, of
from benchmarks.jobs import Job, run_job
from benchmarks.question import Options, Question, Record

PATIENTS = {"vilar": 2048, "jakstat": 2048}
QUICK_SHARE = 8


def run(options: Options) -> list[Record]:
    """1, 2, 4, ... and all of the given cores."""
    records, most = [], len(options.cores)
    numbers = sorted({*(2**k for k in range(most.bit_length()) if 2**k <= most), most})
    share = QUICK_SHARE if options.is_quick else 1
    for network, patients in PATIENTS.items():
        for number in numbers:
            job = Job(network, patients // share)
            found = run_job(job, options.cores[-number:])
            if found is not None:
                records.append(found)
    return records


def plot(result: dict[str, Any]) -> Figure:
    """Events a second by cores."""
    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axis, records = figure.subplots(), result["records"]
    for network in PATIENTS:
        line = [
            (r["num_cores"], r["events_per_second"] / 1e6) for r in of(records, network=network)
        ]
        if line:
            axis.plot(*zip(*line, strict=True), marker="o", label=network)
    axis.set(xlabel="cores", ylabel="million events a second", xlim=(0, None), ylim=(0, None))
    axis.legend(frameon=False)
    return figure


def table(result: dict[str, Any]) -> str:
    """Million events a second, and over one core."""
    rows = []
    for network in PATIENTS:
        found = of(result["records"], network=network)
        for record in found:
            gain = record["events_per_second"] / found[0]["events_per_second"]
            rate = record["events_per_second"] / 1e6
            rows.append([network, str(record["num_cores"]), f"{rate:.0f}", f"{gain:.2f}"])
    return markdown(["network", "cores", "M events/s", "over one core"], rows) + "\n"


QUESTION = Question("cores", "events a second on 1, 2, 4, ... cores", run, plot, table)
