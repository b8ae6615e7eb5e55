"""The example that fits muteins, on data made from the model, and on the measured ones."""

import importlib.util
import os
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import engine
from engine.fitting.fisher import fisher_information
from engine.fitting.predictions import predict_rows
from engine.models.il2 import il2_receptor

SCRIPT = Path(__file__).parent.parent / "examples" / "mutein_fit.py"
SHARED = Path(os.environ.get("ENGINE_SHARED", Path(__file__).parents[2] / "shared"))
DATA = SHARED / "science" / "data"
TRUTH = {
    "k_bind": 0.3,
    "k_dimer": 0.005,
    "k_endo_active": 1.5,
    "alpha_scale": 0.6,
    "beta_gamma_scale": 1.7,
}
GAIN, HALF, BACKGROUND, NOISE = {"1": 40.0, "2": 55.0, "3": 30.0, "4": 48.0}, 400.0, 900.0, 0.04
AFFINITIES = {  # nM, gcSolver.jl data/WTmutAffData.csv
    "WT N-term": (0.19, 5.296),
    "WT C-term": (0.54, 3.043),
    "V91K C-term": (0.69, 7.5586),
    "R38Q N-term": (0.71, 3.9949),
    "F42Q N-Term": (9.48, 2.815),
    "N88D C-term": (1.01, 24.0166),
}
COUNTS = {"T-reg": (3476.0, 657.0, 14017.0), "NK": (22.0, 8503.0, 7643.0)}
TIMES, DOSES = (30.0, 240.0), (0.0005, 0.03, 0.5, 5.0, 50.0)


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("mutein_fit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def simulated(folder, example):
    """Files of the form of the real ones, by `engine.simulate` and its own scale and noise."""
    keys = [(cell, code, dose) for cell in COUNTS for code in example.MOLECULES for dose in DOSES]
    cells, codes, doses = (np.array(column) for column in zip(*keys, strict=True))
    affinities = np.array([AFFINITIES[example.MOLECULES[code][0]] for code in codes])
    params = {name: TRUTH[name] for name in example.KINETIC}
    params["kd_alpha"] = TRUTH["alpha_scale"] * affinities[:, 0]
    params["kd_beta_gamma"] = TRUTH["beta_gamma_scale"] * affinities[:, 1]
    for i, chain in enumerate(example.CHAINS.values()):
        params[chain] = np.array([COUNTS[cell][i] for cell in cells])
    active = engine.simulate(
        il2_receptor(),
        engine.ODE(rtol=1e-6, atol=1e-4),
        np.array(TIMES),
        num_patients=len(keys),
        params=params,
        inputs={"IL2": engine.ConstantLevel(doses)},
        key=jax.random.key(0),
    )["active"]
    gain = np.array([GAIN[example.MOLECULES[code][1]] for code in codes])[:, None]
    noise = np.exp(NOISE * np.random.default_rng(5).standard_normal(active.shape))
    measured = (BACKGROUND + gain * active / (1.0 + active / HALF)) * noise
    pd.DataFrame(
        {
            "Cells": np.repeat(cells, len(TIMES)),
            "Ligand": np.repeat(codes, len(TIMES)),
            "Time": np.tile(TIMES, len(keys)),
            "Concentration": np.repeat(doses, len(TIMES)),
            "RFU": measured.ravel(),
        }
    ).to_csv(folder / example.RESPONSES, index=False)
    pd.DataFrame(
        [(name, *kds) for name, kds in AFFINITIES.items()],
        columns=["Mutein", "IL2RaKD", "IL2RBGKD"],
    ).to_csv(folder / example.AFFINITIES, index=False)
    pd.DataFrame(
        [(c, chain, COUNTS[c][i]) for c in COUNTS for i, chain in enumerate(example.CHAINS)],
        columns=["Cell Type", "Receptor", "Count"],
    ).to_csv(folder / example.RECEPTORS, index=False)


@pytest.mark.full
def test_known_constants_and_held_out_muteins_of_simulated_data(example, tmp_path, capsys):
    """The twin predicts the held-out muteins with their affinities swapped, and must fail."""
    simulated(tmp_path, example)
    wells = example.read(tmp_path)
    fit, fits = example.fitted(wells, num_starts=1, seed=0)
    information = fisher_information(fit, fits.points[0])
    positions = [fit.space.names.index(name) for name in TRUTH]
    errors = information.standard_errors[positions]
    z = (information.point[positions] - np.log10(list(TRUTH.values()))) / errors
    assert np.all(np.abs(z) < stats.norm.isf(1e-5 / len(z))), dict(zip(TRUTH, z, strict=True))

    is_held = ~example.is_fitted(wells)
    swapped, other = (
        wells[is_held].copy(),
        dict(zip(example.HELD_OUT, example.HELD_OUT[::-1], strict=True)),
    )
    for column, i in (("measured_alpha", 0), ("measured_beta_gamma", 1)):
        swapped[column] = [AFFINITIES[other[name]][i] for name in swapped["molecule"]]
    everything = predict_rows(fit.on(example.table(pd.concat([wells, swapped]))), information)
    law, measured = stats.chi2(is_held.sum()), wells["fluorescence"].to_numpy()[is_held]
    nothing = np.zeros(len(swapped), bool)
    for rows, is_right in (
        (np.append(is_held, nothing), True),
        (np.append(np.zeros(len(wells), bool), ~nothing), False),
    ):
        part = everything.where(rows)
        away = np.log(measured / part.values)
        distance = away @ np.linalg.solve(part.covariance, away)
        assert (law.ppf(1e-5) < distance < law.isf(1e-5)) == is_right, distance

    prediction = everything.where(np.append(np.ones(len(wells), bool), nothing))
    example.report(wells, fit, information, prediction)
    assert "Held-out wells" in capsys.readouterr().out
    example.save(wells, prediction, tmp_path / "out")
    assert (tmp_path / "out" / "mutein_fit.png").stat().st_size > 20_000


def test_a_folder_without_the_data_is_refused(example, tmp_path):
    with pytest.raises(SystemExit, match=r"has no Monomeric_mutein_pSTAT_data.csv, .*; give|docs"):
        example.main([str(tmp_path)])


@pytest.mark.full
@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/science/data (ENGINE_SHARED)")
def test_measured_muteins(example, tmp_path):
    """What docs/fitting.md claims of the measured data, and exact simulation at that fit."""
    out = tmp_path / "out"
    arguments = [str(DATA), "--out", str(out), "--starts", "1", "--cells", "0"]
    fit, information = example.main(arguments)
    wells = pd.read_csv(out / "wells.csv")
    measured = np.log(wells["fluorescence"])
    away = measured - np.log(wells["predicted"])
    known = wells["is_fitted"].to_numpy()
    assert np.mean(away[known] ** 2) < 0.1 * np.var(measured[known])
    held = wells[~known].reset_index(drop=True)
    guesses = example.baselines(wells.drop(columns=["predicted", "lower", "upper", "is_fitted"]))

    def rms(predicted, rows):
        return float(np.sqrt(np.mean(np.log(held["fluorescence"] / predicted)[rows] ** 2)))

    everything = np.ones(len(held), bool)
    assert rms(held["predicted"], everything) < rms(guesses["wild type (C-term)"], everything)
    for cell in ("NK", "CD8+"):
        rows = ((held["cell"] == cell) & (held["molecule"] == "V91K C-term")).to_numpy()
        for guess in guesses:
            assert rms(held["predicted"], rows) < 0.5 * rms(guesses[guess], rows)

    # The mean of exact cells and the rate equations; the twin binds three times as fast.
    values, num_cells = fit.space.to_mapping(information.point), 32
    cells = example.single_cells(values, wells, num_cells, seed=1)
    twin = example.single_cells({**values, "k_bind": 3.0 * values["k_bind"]}, wells, 2, seed=1)
    bound = stats.norm.isf(1e-5 / len(cells))
    error = cells["sd"] / np.sqrt(num_cells)
    assert np.all(np.abs(cells["mean"] - cells["rate equations"]) < bound * error)
    assert np.any(np.abs(cells["mean"] - twin["rate equations"]) > bound * error)
