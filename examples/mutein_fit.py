"""pSTAT5 of interleukin-2 muteins in four cell types: fit some, predict the others.

    python examples/mutein_fit.py DATA_FOLDER --out mutein_fit

Measured receptor counts and affinities are fixed inputs of the receptor model; a few constants
that all molecules and cells share are fitted, with a scale between active receptors and
fluorescence for each plate and cell type. docs/fitting.md says where the data can be had.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import engine

engine.configure_cpu()

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import LogLocator, NullFormatter  # noqa: E402

from engine.fitting.condition_objective import ConditionObjective  # noqa: E402
from engine.fitting.fisher import FisherInformation, fisher_information  # noqa: E402
from engine.fitting.measurements import Measurements, per_group  # noqa: E402
from engine.fitting.predictions import Prediction, predict_rows, residual_table  # noqa: E402
from engine.models.il2 import il2_receptor  # noqa: E402
from engine.optimise.gauss_newton import GaussNewton  # noqa: E402
from engine.optimise.likelihoods import LogNormal  # noqa: E402
from engine.optimise.multi_start import Fits, multi_start  # noqa: E402
from engine.optimise.priors import Normal  # noqa: E402
from engine.optimise.space import Bounded, Space  # noqa: E402
from engine.optimise.transforms import Log10  # noqa: E402

# Median pSTAT5 fluorescence (nothing subtracted) by minutes and nM, MIT-licensed:
# github.com/meyer-lab/gc-cytokines ckine/data and github.com/meyer-lab/gcSolver.jl data.
RESPONSES = "Monomeric_mutein_pSTAT_data.csv"
RECEPTORS = "final_receptor_levels.csv"
AFFINITIES = "WTmutAffData.csv"
# The names that gc-cytokines gives to the coded molecules, and the plates, read off the folders
# of its raw data (2019-11-08, 2019-11-27, and two of 2019-12-05).
MOLECULES = {
    "IL2-060 monomeric": ("WT N-term", "1"),
    "Cterm IL-2 monomeric WT": ("WT C-term", "2"),
    "Cterm IL-2 monomeric V91K": ("V91K C-term", "2"),
    "IL2-109 monomeric": ("R38Q N-term", "3"),
    "IL2-110 monomeric": ("F42Q N-Term", "4"),
    "Cterm N88D monomeric": ("N88D C-term", "4"),
}
HELD_OUT = ("V91K C-term", "N88D C-term")  # each shares its plate with a molecule of the fit
CELLS = ("T-reg", "T-helper", "NK", "CD8+")
CHAINS = {
    "IL-2R$\\alpha$": "IL2Ra_per_cell",
    "IL-2R$\\beta$": "IL2Rb_per_cell",
    "$\\gamma_{c}$": "gc_per_cell",
}
# At these doses (nM) a held-out molecule's wells count as blanks: they set its background.
BLANK = 0.0015
CONDITIONS = ["IL2", "measured_alpha", "measured_beta_gamma", *CHAINS.values()]
KINETIC = {"k_bind": 0.6, "k_dimer": 0.00286, "k_endo_active": 2.54}  # of `il2_receptor`
SCALES = {"alpha_scale": 1.0, "beta_gamma_scale": 1.0}
OBSERVABLE = "background + gain * active / (1 + active / half)"
GROUPS = {"gain": ["plate", "cell"], "background": ["molecule", "cell"], "noise": ["cell"]}
COLOURS = {
    "WT N-term": "#0072B2",
    "WT C-term": "#56B4E9",
    "R38Q N-term": "#009E73",
    "F42Q N-Term": "#7F7F7F",
    "V91K C-term": "#D55E00",
    "N88D C-term": "#CC79A7",
}


def read(folder: Path) -> pd.DataFrame:
    """One line a well: what was measured, and the conditions it was measured under."""
    missing = [n for n in (RESPONSES, RECEPTORS, AFFINITIES) if not (folder / n).is_file()]
    if missing:
        raise SystemExit(
            f"{folder} has no {', '.join(missing)}: give the folder of the pSTAT5 data; "
            "docs/fitting.md says where to get them"
        )
    wells = pd.read_csv(folder / RESPONSES)
    wells = wells[wells["Cells"].isin(CELLS) & wells["Ligand"].isin(MOLECULES)]
    affinities = pd.read_csv(folder / AFFINITIES).set_index("Mutein")
    levels = pd.read_csv(folder / RECEPTORS)
    levels["chain"] = levels["Receptor"].map(CHAINS)
    levels = levels[levels["Cell Type"].isin(CELLS)].dropna(subset="chain")
    counts = np.exp(np.log(levels["Count"]).groupby([levels["Cell Type"], levels["chain"]]).mean())
    found = pd.DataFrame(
        {
            "time": wells["Time"],  # minutes
            "fluorescence": wells["RFU"],
            "IL2": wells["Concentration"].round(7),  # nM of molecules, one IL-2 each
            "cell": wells["Cells"],
            "molecule": wells["Ligand"].map(lambda name: MOLECULES[name][0]),
            "plate": wells["Ligand"].map(lambda name: MOLECULES[name][1]),
        }
    )
    found["measured_alpha"] = found["molecule"].map(affinities["IL2RaKD"])
    found["measured_beta_gamma"] = found["molecule"].map(affinities["IL2RBGKD"])
    for chain in CHAINS.values():
        found[chain] = [counts[cell, chain] for cell in found["cell"]]
    return found.reset_index(drop=True)


def table(wells: pd.DataFrame) -> Measurements:
    labels = ["cell", "molecule", "plate"]
    return Measurements.from_frame(wells, "time", "fluorescence", CONDITIONS, labels)


def is_fitted(wells: pd.DataFrame) -> np.ndarray:
    """All wells of the molecules of the fit, and the blanks of the others."""
    return (~wells["molecule"].isin(HELD_OUT) | (wells["IL2"] < BLANK)).to_numpy()


def objective(wells: pd.DataFrame) -> ConditionObjective:
    """The fit to the wells that `is_fitted` names."""
    data = table(wells[is_fitted(wells)])
    shared = [
        # The published value, give or take half a decade: what data do not say stays there.
        Bounded(name, value / 300, value * 300, Log10(), Normal(np.log10(value), 0.5, True))
        for name, value in {**KINETIC, **SCALES}.items()
    ]
    space = Space(
        [
            *shared,
            Bounded("half", 0.1, 1e5, Log10()),
            *per_group("gain", data, GROUPS["gain"], 1e-2, 1e6, Log10()),
            *per_group("background", data, GROUPS["background"], 100.0, 1e4, Log10()),
            *per_group("noise", data, GROUPS["noise"], 0.01, 3.0, Log10()),
        ]
    )
    return ConditionObjective(
        il2_receptor(),
        space,
        data,
        observable=OBSERVABLE,
        noise="noise",
        groups=GROUPS,
        links={
            "kd_alpha": "alpha_scale * measured_alpha",
            "kd_beta_gamma": "beta_gamma_scale * measured_beta_gamma",
        },
        likelihood=LogNormal(),
        # Predictions to 1e-5 of themselves, a thousandth of the noise.
        method=engine.ODE(rtol=1e-3, atol=0.1),
    )


def starts(fit: ConditionObjective, num: int, seed: int) -> np.ndarray:
    """The published constants, then random ones; the rest from the data's own range."""
    draws, space = np.random.default_rng(seed), fit.space
    points = []
    for k in range(num):
        wide = 0.0 if k == 0 else 0.5
        guess = {n: v * 10 ** (wide * draws.normal()) for n, v in {**KINETIC, **SCALES}.items()}
        guess["half"] = 100.0 * 10 ** (wide * draws.normal())
        for name in space.names:
            kind, _, level = name.partition("[")
            here = fit.data.levels(GROUPS[kind]) == level[:-1] if level else None
            if kind == "background":
                guess[name] = float(np.quantile(fit.data.values[here], 0.1))
            elif kind == "gain":
                guess[name] = float(fit.data.values[here].max()) / 100.0
            elif kind == "noise":
                guess[name] = 0.3
        points.append(np.clip(space.to_point(guess), *space.bounds))
    return np.array(points)


def fitted(wells: pd.DataFrame, num_starts: int, seed: int) -> tuple[ConditionObjective, Fits]:
    """Many starts on every third dose, then the best of them on every dose."""
    doses = np.unique(wells["IL2"])
    few = wells[wells["IL2"].isin(doses[::3]) | (wells["IL2"] < BLANK)]
    coarse, fit = objective(few), objective(wells)
    optimiser, points = GaussNewton(max_steps=40), starts(coarse, num_starts, seed)
    if num_starts > 1:
        rough = multi_start(coarse, optimiser, points)
        print("every third dose:", rough.diagnosis())
        points = rough.points[rough.best][None]
    found = multi_start(fit, optimiser, points)
    print("every dose:", found.diagnosis())
    return fit, found


def baselines(wells: pd.DataFrame) -> pd.DataFrame:
    """What no model says of the held-out wells: their own blank times what others did."""
    keys = ["cell", "time", "IL2"]
    logs = wells.assign(log=np.log(wells["fluorescence"]))
    blanks = logs[logs["IL2"] < BLANK].groupby(["molecule", "cell"])["log"].mean()
    over = [blanks[m, c] for m, c in zip(logs["molecule"], logs["cell"], strict=True)]
    logs["rise"] = logs["log"] - over
    known = logs[~logs["molecule"].isin(HELD_OUT)]
    guesses = {
        "mean of the others": known.groupby(keys)["rise"].mean(),
        "wild type (C-term)": known[known["molecule"] == "WT C-term"].groupby(keys)["rise"].mean(),
    }
    held = logs[~is_fitted(wells)]
    at = pd.MultiIndex.from_frame(held[keys])
    own = (held["log"] - held["rise"]).to_numpy()
    return pd.DataFrame({n: np.exp(own + g.reindex(at).to_numpy()) for n, g in guesses.items()})


def single_cells(
    values: Mapping[str, float], wells: pd.DataFrame, num_cells: int, seed: int
) -> pd.DataFrame:
    """Exact simulation of the fitted model: active receptors of single cells after an hour."""
    lines = []
    cases = (("T-reg", "WT C-term", 1.0), ("NK", "WT C-term", 1.0), ("T-reg", "V91K C-term", 9.0))
    for cell, molecule, dose in cases:
        well = wells[(wells["cell"] == cell) & (wells["molecule"] == molecule)].iloc[0]
        params = {name: values[name] for name in KINETIC} | {n: well[n] for n in CHAINS.values()}
        params["kd_alpha"] = values["alpha_scale"] * well["measured_alpha"]
        params["kd_beta_gamma"] = values["beta_gamma_scale"] * well["measured_beta_gamma"]
        common = {
            "params": params,
            "inputs": {"IL2": engine.ConstantLevel(dose)},
            "key": jax.random.key(seed),
        }
        ts = np.array([0.0, 60.0])
        exact = engine.simulate(
            il2_receptor(), engine.Direct(), ts, num_patients=num_cells, **common
        )["active"][:, -1]
        mean = float(engine.simulate(il2_receptor(), engine.ODE(), ts, **common)["active"][0, -1])
        # Cells that are all alike tell a mean to a molecule among all of them.
        error = max(exact.std(ddof=1) / np.sqrt(num_cells), 1 / num_cells)
        lines.append(
            {
                "cell": cell,
                "molecule": molecule,
                "nM": dose,
                "rate equations": mean,
                "mean": exact.mean(),
                "sd": exact.std(ddof=1),
                "standard errors apart": (exact.mean() - mean) / error,
            }
        )
    return pd.DataFrame(lines)


def report(
    wells: pd.DataFrame,
    fit: ConditionObjective,
    information: FisherInformation,
    prediction: Prediction,
) -> None:
    """Constants, residuals of both sets, and the held-out molecules against no model."""
    print("\nConstants that all molecules and cells share (95% interval):")
    values = fit.space.to_mapping(information.point)
    for name, error in zip(fit.space.names, information.standard_errors, strict=True):
        if "[" not in name:
            reach = 10 ** (1.96 * error)
            print(f"  {name:17s} {values[name]:9.4g}  x or / {reach:.3g}")
    for line in information.remarks():
        print("  " + line)
    rows, is_known = table(wells), is_fitted(wells)
    named = (("fitted", is_known), ("held out", ~is_known))
    for title, here in named:
        part, found = rows.where(here), prediction.values[here]
        inside = np.mean(
            (part.values >= prediction.lower[here]) & (part.values <= prediction.upper[here])
        )
        print(f"\nLog residuals, {title}: {inside:.0%} of wells inside their 95% intervals")
        whole = residual_table(part, found, [])
        groups = residual_table(part, found, ["cell", "molecule"])
        print(pd.concat([whole, groups]).to_string(index=False, float_format="%.2f", na_rep=""))
    held = rows.where(~is_known)
    guesses = {"model": prediction.values[~is_known], **baselines(wells)}
    print("\nHeld-out wells, root mean square of log residuals:")
    columns = {}
    for name, guess in guesses.items():
        cells = residual_table(held, np.asarray(guess), ["cell", "molecule"])
        columns[name] = cells.set_index(["cell", "molecule"])["rms"]
        columns[name].loc[("all", "")] = residual_table(held, np.asarray(guess), [])["rms"][0]
    print(pd.DataFrame(columns).to_string(float_format="%.2f"))


def draw(wells: pd.DataFrame, path: Path) -> None:
    """Data and fit by dose, held-out data and their predictions, time courses, residuals."""
    cells = [cell for cell in CELLS if np.any(wells["cell"] == cell)]
    size = (11.5, 1.0 + 2.05 * len(cells))
    figure, axes = plt.subplots(len(cells), 4, figsize=size, sharex="col", layout="constrained")
    first, last = wells["time"].min(), wells["time"].max()
    high = np.unique(wells["IL2"])[-2]
    for cell, row in zip(cells, axes, strict=True):
        here = wells[wells["cell"] == cell]
        is_held = here["molecule"].isin(HELD_OUT)
        curves(row[0], here[~is_held & (here["time"] == last)], "IL2")
        curves(row[1], here[is_held & (here["time"] == last)], "IL2", is_band=True)
        curves(row[1], here[is_held & (here["time"] == first)], "IL2", "s", ":")
        curves(row[2], here[here["IL2"] == high], "time")
        for molecule, part in here.groupby("molecule", sort=False):
            away = np.log(part["fluorescence"] / part["predicted"])
            row[3].plot(part["IL2"], away, ".", color=COLOURS[molecule], markersize=3)
        row[3].axhline(0.0, color="black", linewidth=0.8)
        row[0].set_ylabel(f"{cell}\nmedian pSTAT5, a.u.")
        for axis in row[:3]:
            axis.set_yscale("log")
            axis.set_ylim(0.8 * here["fluorescence"].min(), 1.3 * here["fluorescence"].max())
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:,.0f}")
            axis.yaxis.set_minor_formatter(NullFormatter())
    titles = (
        f"fitted, {last:.0f} min",
        f"held out: o {last:.0f} min, □ {first:.0f} min",
        f"at {high:g} nM",
        "log(measured / model)",
    )
    for axis, title, end in zip(axes[0], titles, axes[-1], strict=True):
        axis.set_title(title, fontsize=10)
        is_course = axis is axes[0, 2]
        end.set_xlabel("minutes" if is_course else "dose, nM")
        end.set_xscale("log")
        if is_course:
            end.set_xticks(np.unique(wells["time"]), np.unique(wells["time"]).astype(int))
            end.xaxis.set_minor_formatter(NullFormatter())
    marks = [
        Line2D([], [], color=colour, marker="o", markersize=4, label=name)
        for name, colour in COLOURS.items()
    ]
    for mark in marks[-2:]:
        mark.set_label(f"{mark.get_label()} (held out)")
    figure.legend(handles=marks, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def curves(
    axis: Axes, wells: pd.DataFrame, by: str, marker: str = "o", line: str = "-", *, is_band=False
) -> None:
    """Points and model lines of each molecule, and the interval of a new well."""
    for molecule, part in wells.sort_values(by).groupby("molecule", sort=False):
        colour = COLOURS[molecule]
        face = "white" if marker == "s" else colour
        axis.plot(part[by], part["fluorescence"], marker, color=colour, mfc=face, markersize=3.5)
        axis.plot(part[by], part["predicted"], line, color=colour, linewidth=1.2)
        if is_band:
            axis.fill_between(part[by], part["lower"], part["upper"], color=colour, alpha=0.15)


def save(wells: pd.DataFrame, prediction: Prediction, folder: Path) -> None:
    """Every well with its prediction as a table, and the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    bands = {"predicted": prediction.values, "lower": prediction.lower, "upper": prediction.upper}
    wells = wells.assign(**bands, is_fitted=is_fitted(wells))
    wells.to_csv(folder / "wells.csv", index=False)
    draw(wells, folder / "mutein_fit.png")


def main(arguments: list[str] | None = None) -> tuple[ConditionObjective, FisherInformation]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the data files are")
    parser.add_argument("--out", type=Path, default=Path("mutein_fit"), help="folder of results")
    parser.add_argument("--starts", type=int, default=3, help="starts of the fit")
    parser.add_argument("--cells", type=int, default=16, help="cells simulated exactly a case")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    wells = read(given.folder)
    fit, fits = fitted(wells, given.starts, given.seed)
    print(f"{len(fit.data)} of {len(wells)} wells and {fit.data.num_conditions} conditions fitted")
    information = fisher_information(fit, fits.points[0])
    prediction = predict_rows(fit.on(table(wells)), information)
    report(wells, fit, information, prediction)
    if given.cells:
        print("\nActive receptors of single cells after 60 min, exact simulation:")
        values = fit.space.to_mapping(information.point)
        cells = single_cells(values, wells, given.cells, given.seed)
        print(cells.to_string(index=False, float_format="%.2f"))
    save(wells, prediction, given.out)
    print(f"\n{given.out}/mutein_fit.png and wells.csv written")
    return fit, information


if __name__ == "__main__":
    main(sys.argv[1:])
