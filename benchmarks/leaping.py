"""Are tau-leaping and the hybrid method worth it: steps, seconds and bias against Direct?

The claims: tau-leaping takes at most a 20th of the steps and a fifth of the time, the hybrid method
a tenth of the time, at a bias below 1% of the means and 3% of the variances.
"""

from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from benchmarks.comparing import markdown
from benchmarks.deviations import compared, percent, without_moments
from benchmarks.jobs import Job, run_job
from benchmarks.question import Options, Question, Record

MEAN_PERCENT, VARIANCE_PERCENT = 1.0, 3.0


@dataclass(frozen=True)
class Claim:
    """A method, a network and what is claimed of it.

    Attributes:
        network: a name of `networks.CASES`.
        method, options: the method.
        fewer: how many times fewer steps.
        faster: how many times faster.
        full, quick: trajectories of the direct method and of this one.
    """

    network: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    fewer: float = 20.0
    faster: float = 5.0
    full: tuple[int, int] = (2_000, 4_000)
    quick: tuple[int, int] | None = None


CLAIMS = (
    Claim("dimer_decay", "TauLeaping", full=(100_000, 200_000), quick=(2_000, 4_000)),
    Claim("dimer_decay_published", "TauLeaping", quick=(200, 2_000), full=(10_000, 20_000)),
    Claim("jakstat_many", "TauLeaping", full=(5_000, 16_000)),
    Claim("nfkb", "TauLeaping", full=(5_000, 16_000)),
    Claim("il2_consumed", "Hybrid", {"plenty": 10}, 1.0, 10.0, full=(5_000, 16_000)),
)


def run(options: Options) -> list[Record]:
    """Direct and the other method on all cores."""
    records = []
    for claim in CLAIMS:
        sizes = claim.quick if options.is_quick else claim.full
        if sizes is None:
            continue
        direct = run_job(_job(claim.network, sizes[0], "Direct", {}), options.cores)
        found = run_job(_job(claim.network, sizes[1], claim.method, claim.options), options.cores)
        if direct is None or found is None or "refused" in found:
            continue
        record = without_moments(found) | compared(found, direct, found["continuous"])
        record["direct_steps"] = direct["mean_steps"]
        record["direct_seconds_per_trajectory"] = direct["seconds_per_trajectory"]
        record["direct_patients"] = direct["num_patients"]
        record["fewer_steps"] = direct["mean_steps"] / found["mean_steps"]
        record["faster"] = direct["seconds_per_trajectory"] / found["seconds_per_trajectory"]
        record["claim"] = {"fewer": claim.fewer, "faster": claim.faster}
        records.append(record)
    return records


def _job(network: str, patients: int, method: str, options: dict[str, Any]) -> Job:
    return Job(network, patients, method, options, 11, 1, is_moments=True)


def verdict(record: Record) -> str:
    """What of the claim holds, in words; what noise hides is called not seen."""
    missed = [
        f"{name} {record[key]:.1f}x of {record['claim'][short]:.0f}x"
        for name, key, short in (("steps", "fewer_steps", "fewer"), ("speed", "faster", "faster"))
        if record[key] < record["claim"][short]
    ]
    for what, limit in (("mean", MEAN_PERCENT), ("variance", VARIANCE_PERCENT)):
        if record.get(f"{what}_percent") is None:
            missed.append(f"{what} not seen")
        elif record[f"{what}_beyond_noise_percent"] > limit:
            missed.append(f"{what} {record[f'{what}_percent']:.1f}% of {limit:.0f}%")
    return "; ".join(missed) or "holds"


def _label(record: Record) -> str:
    return f"{record['network']}, {record['method']}"


def plot(result: dict[str, Any]) -> Figure:
    """How many times fewer steps, and how many times faster."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis, records = figure.subplots(), result["records"]
    places = range(len(records))
    axis.barh([p - 0.2 for p in places], [r["fewer_steps"] for r in records], 0.4, label="steps")
    axis.barh([p + 0.2 for p in places], [r["faster"] for r in records], 0.4, label="time")
    axis.set_yticks(list(places), [_label(r) for r in records], fontsize=7)
    # Bars on a logarithmic scale begin at 1: no fewer, no faster.
    axis.set(xscale="log", xlim=(1, None), xlabel="the direct method's over this method's")
    axis.legend(fontsize=7, frameon=False)
    return figure


def table(result: dict[str, Any]) -> str:
    """A row per claim, and which species the hybrid method integrated."""
    rows = [
        [
            _label(r),
            f"{r['direct_steps']:,.0f}",
            f"{r['mean_steps']:,.0f}",
            f"{r['fewer_steps']:.1f}x",
            f"{r['faster']:.1f}x",
            percent(r, "mean"),
            percent(r, "variance"),
            verdict(r),
        ]
        for r in result["records"]
    ]
    head = ["network, method", "Direct's steps", "steps", "fewer", "faster"]
    parts = [
        "Claimed of tau-leaping: 20 times fewer steps and 5 times faster than Direct; of the "
        "hybrid method: 10 times faster; both within 1% of means and 3% of variances. Deviations "
        "are the worst of all species and ten save times that sampling resolves, with their "
        "standard error (`deviations.py`): the worst of a hundred is some three of these from "
        "noise alone. Species that the hybrid method integrates keep no noise of their own, and "
        "their variances are not judged.\n",
        markdown([*head, "mean, %", "variance, %", "claim"], rows),
        "",
    ]
    for r in result["records"]:
        if r["continuous"]:
            parts.append(f"{r['network']}: integrated are {', '.join(r['continuous'])}.\n")
    return "\n".join(parts)


QUESTION = Question(
    "leaping",
    "tau-leaping's and the hybrid method's steps, speed and bias against Direct's claims",
    run,
    plot,
    table,
)
