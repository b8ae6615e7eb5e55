"""How long does the first call take before it simulates: compilation, by network and method?"""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.comparing import chosen_rivals, markdown, of, rival_record, simulators
from benchmarks.jobs import Job, run_job
from benchmarks.networks import REFERENCE
from benchmarks.question import Options, Question, Record

FULL_METHODS = {
    "Direct": {},
    "TauLeaping": {},
    "Hybrid": {},
    "Langevin": {"dt": 0.0002},
    "ODE": {},
    "LinearNoise": {},
}
QUICK_METHODS = ("Direct", "TauLeaping")
QUICK_NETWORKS = ("birth_death", "jakstat")


def run(options: Options) -> list[Record]:
    """Every method and every rival in a fresh process on one core, few trajectories."""
    records = []
    methods = QUICK_METHODS if options.is_quick else tuple(FULL_METHODS)
    for network in QUICK_NETWORKS if options.is_quick else REFERENCE:
        for method in methods:
            job = Job(network, 8, method, FULL_METHODS[method], num_points=11, num_repeats=1)
            found = run_job(job, options.one_core)
            if found is not None and "refused" not in found:
                records.append(found | {"simulator": f"engine, {method}"})
        for rival in chosen_rivals(options):
            stem = options.models / network
            found = rival_record(rival, stem, 2, options.one_core, num_intervals=10)
            if found is not None:
                records.append(found)
    return records


def _networks(result: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(r["network"] for r in result["records"]))


def plot(result: dict[str, Any]) -> Figure:
    """Bars by simulator, a colour per network."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis, records = figure.subplots(), result["records"]
    names, networks = simulators(records), _networks(result)
    height = 0.8 / len(networks)
    for k, network in enumerate(networks):
        found = {r["simulator"]: r["compile_seconds"] for r in of(records, network=network)}
        places = [i + k * height for i in range(len(names))]
        axis.barh(places, [found.get(name, 0.0) for name in names], height, label=network)
    axis.set_yticks([i + 0.4 - height / 2 for i in range(len(names))], names, fontsize=7)
    axis.set_xlabel("compilation or set-up, seconds")
    axis.invert_yaxis()
    axis.legend(fontsize=7, frameon=False)
    return figure


def table(result: dict[str, Any]) -> str:
    """Seconds by simulator and network."""
    networks, records = _networks(result), result["records"]
    rows = []
    for name in simulators(records):
        found = {r["network"]: r["compile_seconds"] for r in of(records, simulator=name)}
        rows.append([name, *(f"{found[n]:.2f}" if n in found else "-" for n in networks)])
    return f"Seconds, one core, without imports.\n\n{markdown(['seconds', *networks], rows)}\n"


QUESTION = Question(
    "compile_time", "seconds of compilation, every method and rival", run, plot, table
)
