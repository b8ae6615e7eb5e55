"""How accurate is every method on every network, and what does it cost?

The reference is the direct method, which is exact; where the moments have a closed form, that.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.comparing import markdown, of
from benchmarks.deviations import compared, percent, without_moments
from benchmarks.jobs import Job, run_job
from benchmarks.networks import case_of
from benchmarks.question import Options, Question, Record

# Trajectories of the direct method, of which the others do as many or, where they are faster,
# FACTOR times as many; and the time step of `Langevin`, None where it would be too short.
FULL: dict[str, tuple[int, float | None]] = {
    "birth_death": (40_000, 0.02),
    "dimer_decay": (20_000, 0.001),
    "vilar": (4_000, None),
    "jakstat": (4_000, 0.02),
    "telegraph": (20_000, 0.002),
    "il2_held": (200, 0.005),
    "nfkb": (200, 0.01),
}
QUICK = {"birth_death": 2_000, "telegraph": 1_000}
POINTS = 11
# What one trajectory tells, all do.
DETERMINISTIC = ("ODE", "LinearNoise")
TOO_SHORT = "needs dt = 0.00029, 700,000 steps"
METHODS = ("TauLeaping", "Hybrid", "Langevin", "LinearNoise", "ODE")


def run(options: Options) -> list[Record]:
    """The direct method, then every other one against it, on all cores."""
    records = []
    for network, (full, dt) in FULL.items():
        if options.is_quick and network not in QUICK:
            continue
        patients = QUICK[network] if options.is_quick else full
        direct = run_job(_job(network, patients, "Direct", {}), options.cores)
        if direct is None:
            continue
        truth = direct
        if network == "birth_death":
            truth = direct | birth_death_moments()
        records.append(without_moments(direct) | compared(direct, truth))
        for method in METHODS:
            if method == "Langevin" and dt is None:
                records.append({"network": network, "method": method, "refused": TOO_SHORT})
                continue
            number = 1 if method in DETERMINISTIC else patients
            given = {"dt": dt} if method == "Langevin" else {}
            found = run_job(_job(network, number, method, given), options.cores)
            if found is None:
                found = {"network": network, "method": method, "refused": "the process failed"}
            if "refused" not in found:
                found = found | compared(found, truth)
            records.append(without_moments(found))
    return records


def _job(network: str, patients: int, method: str, options: dict[str, Any]) -> Job:
    return Job(network, patients, method, options, POINTS, 1, is_moments=True)


def birth_death_moments() -> dict[str, Any]:
    """Closed form: a Poisson number of immigrants and a binomial one of the first."""
    case = case_of("birth_death")
    birth, death = (r.propensity for r in case.network.reactions)
    values = case.network.parameter_values | {"X": 1.0}
    from engine.kinetics.evaluate import evaluate

    b, d = (float(evaluate(law, values, np, np.float64)) for law in (birth, death))
    start = case.network.initial_values["X"]
    left = np.exp(-d * np.linspace(0.0, case.horizon, POINTS)[1:])
    poisson, binomial = b / d * (1 - left), start * left * (1 - left)
    mean, variance = poisson + start * left, poisson + binomial
    return {
        "mean": mean[:, None].tolist(),
        "variance": variance[:, None].tolist(),
        "fourth": (3 * variance**2)[:, None].tolist(),
        "num_samples": 0,
    }


# Deviations below this percentage, which no sampling resolves, are drawn here.
LEAST = 0.01


def plot(result: dict[str, Any]) -> Figure:
    """Worst deviation of a mean against seconds of a trajectory, a panel per network."""
    records = [r for r in result["records"] if r.get("mean_percent") is not None]
    networks = list(dict.fromkeys(r["network"] for r in records))
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    # One panel more, for the legend.
    panels = figure.subplots(2, -(-(len(networks) + 1) // 2), sharey=True, squeeze=False).ravel()
    for axis, network in zip(panels, networks, strict=False):
        here = of(records, network=network)
        for r in of(here, method="Direct"):
            axis.axvline(r["seconds_per_trajectory"], color="grey", linestyle=":", linewidth=1)
        for colour, method in enumerate(METHODS):
            for r in of(here, method=method):
                place = (r["seconds_per_trajectory"], max(r["mean_percent"], LEAST))
                error = r["mean_error_percent"]
                axis.errorbar(*place, error, fmt="o", color=f"C{colour}", markersize=5)
        axis.set_title(network, fontsize=8)
        axis.set(xscale="log", yscale="log", ylim=(LEAST / 1.5, 100))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.tick_params(labelsize=7)
    for axis in panels[len(networks) :]:
        axis.set_axis_off()
    for colour, method in enumerate(METHODS):
        panels[-1].plot([], [], "o", color=f"C{colour}", label=method)
    panels[-1].plot([], [], ":", color="grey", label="Direct's time")
    panels[-1].legend(fontsize=8, frameon=False, loc="center")
    figure.supxlabel("seconds of a trajectory", fontsize=8)
    figure.supylabel("worst deviation of a mean, percent", fontsize=8)
    return figure


def table(result: dict[str, Any]) -> str:
    """A row per network and method."""
    rows = []
    for r in result["records"]:
        if "refused" in r:
            rows.append([r["network"], r["method"], "refused", *["-"] * 6])
            continue
        sigmas = r.get("variance_sigmas")
        rows.append(
            [
                r["network"],
                r["method"],
                percent(r, "mean"),
                f"{r['mean_sigmas']:.1f}",
                percent(r, "variance"),
                "-" if sigmas is None else f"{sigmas:.1f}",
                f"{r['mean_steps']:,.0f}" if r["mean_steps"] else "-",
                f"{r['seconds_per_trajectory']:.2g}",
                f"{r['num_patients']:,}",
            ]
        )
    head = ["network", "method", "mean, %", "mean, s.e.", "variance, %", "variance, s.e."]
    refused = [
        f"- {r['method']} on {r['network']}: {r['refused']}"
        for r in result["records"]
        if "refused" in r
    ]
    return (
        "The largest deviation from the direct method (birth_death: from the closed form) over "
        "species and ten save times: in percent, with its sampling error, among the entries whose "
        "sampling error is below 0.5% (means) or 3% (variances), '-' where there are none; and in "
        "standard errors among all of them (some 4 are expected of an exact method). The direct "
        "method's own rows compare it with itself. ODE has no variance. Seconds are of one "
        "trajectory on all cores, compilation not counted.\n\n"
        + markdown([*head, "steps", "seconds", "trajectories"], rows)
        + "\n\n"
        + ("Refused:\n\n" + "\n".join(refused) + "\n" if refused else "")
    )


QUESTION = Question(
    "accuracy", "bias of means and variances, steps and seconds of every method", run, plot, table
)
