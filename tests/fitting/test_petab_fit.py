"""Fits of a small PEtab problem with a known answer, and the command `engine fit`."""

import contextlib
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import engine
from engine import cli
from engine.fitting import petab_fit
from engine.fitting.petab_objective import PetabObjective
from engine.optimise.starts import screened_starts
from tests.fitting.petab_files import measured, write_problem
from tests.network import sbml_text as sbml

TS = np.linspace(0.25, 5.0, 20)
NOISE = np.random.default_rng(5).normal(0.0, 0.1, len(TS))
DATA = 3.0 * np.exp(-0.6 * TS) + NOISE


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Exponential decay; `lost` appears nowhere, `half` only as a factor of `a0`."""
    text = sbml.document(
        species=sbml.species("A", initialConcentration=1.0),
        parameters=sbml.parameter("k", 1.0)
        + sbml.parameter("a0", 1.0)
        + sbml.parameter("half", 1.0)
        + sbml.parameter("lost", 1.0),
        initial=sbml.initial("A", "a0 * half + 0 * lost"),
        reactions=sbml.reaction("lose", "A", "", "k * A"),
    )
    return write_problem(
        tmp_path_factory.mktemp("small"),
        text,
        {name: {"parameterScale": "log10"} for name in ("k", "a0", "half", "lost", "sd")},
        {"c": {}},
        {"a": {"observableFormula": "A", "noiseFormula": "sd"}},
        [measured("a", "c", t, m) for t, m in zip(TS, DATA, strict=True)],
    )


def profile_of_k(k):
    """The objective at the best amplitude and noise for a rate: regression through the origin."""
    shape = np.exp(-k * TS)
    amplitude = shape @ DATA / (shape @ shape)
    variance = np.mean((DATA - amplitude * shape) ** 2)
    return 0.5 * len(TS) * (np.log(2 * np.pi * variance) + 1.0), amplitude, variance**0.5


def command(path, out, starts):
    return ["fit", str(path), "--starts", starts, "--out", str(out), "--seed", "2"]


@pytest.fixture(scope="module")
def commanded(path, tmp_path_factory):
    """A fit by the command: what `fit_petab` gave it, its folder, and what it showed."""
    folder = tmp_path_factory.mktemp("fit") / "new" / "out"
    fit_petab, fits, shown = petab_fit.fit_petab, [], io.StringIO()

    def keeping(*arguments, **keywords):
        fits.append(fit_petab(*arguments, **keywords))
        return fits[-1]

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown):
        patch.setattr(petab_fit, "fit_petab", keeping)
        assert cli.run([*command(path, folder, "5"), "--batch", "3"]) == 0
    return fits[0], folder, shown.getvalue()


@pytest.fixture(scope="module")
def fit(commanded):
    return commanded[0]


def test_the_fit_is_the_regression(fit):
    grid = np.linspace(0.3, 1.2, 90_001)
    best = min(grid, key=lambda k: profile_of_k(k)[0])
    value, amplitude, sd = profile_of_k(best)
    assert fit.negative_log_likelihood == pytest.approx(value, abs=1e-5)
    assert fit.best["k"] == pytest.approx(best, rel=1e-3)
    assert fit.best["a0"] * fit.best["half"] == pytest.approx(amplitude, rel=1e-3)
    assert fit.best["sd"] == pytest.approx(sd, rel=1e-2)
    assert fit.fits.num_at_best(1e-3) >= 4


@pytest.mark.full
def test_a_start_has_the_best_noise_of_its_path(path):
    """Noise moves no state: its best value is the root mean square of the residuals."""
    objective = PetabObjective(engine.read_petab(path))
    space, draws = objective.space, 6
    drawn = space.sample(2, seed=3)
    starts = screened_starts(objective, 2, seed=3, draws=1)
    for before, after in zip(drawn, starts, strict=True):
        values = space.to_mapping(after)
        course = values["a0"] * values["half"] * np.exp(-values["k"] * TS)
        best = np.mean((DATA - course) ** 2) ** 0.5
        assert values["sd"] == pytest.approx(np.clip(best, 1e-3, 1e3), rel=1e-4)
        moving = [i for i, name in enumerate(space.names) if name != "sd"]
        np.testing.assert_array_equal(after[moving], before[moving])
        assert abs(before[space.names.index("sd")] - np.log10(values["sd"])) > 0.01
    # With the noise at its best, the best of some draws is that of the smallest residuals.
    with jax.enable_x64(True):
        values_of = jax.jit(jax.vmap(objective.value))
        several = screened_starts(objective, 2, seed=3, draws=draws)
        assert np.all(values_of(jnp.asarray(several)) <= values_of(jnp.asarray(starts)))


def test_standard_error_is_the_regressions(fit):
    k = fit.best["k"]
    shape = np.exp(-k * TS)
    amplitude, sd = fit.best["a0"] * fit.best["half"], fit.best["sd"]
    columns = np.stack([-amplitude * TS * shape, shape], axis=1) / sd
    error = np.linalg.inv(columns.T @ columns)[0, 0] ** 0.5 / (k * np.log(10))
    found = fit.information.standard_errors[fit.problem.space.names.index("k")]
    assert found == pytest.approx(error, rel=1e-3)


def test_what_is_not_identifiable_is_named(fit):
    groups = {frozenset(group) for group in fit.information.weak}
    at_bound = set(np.array(fit.problem.space.names)[fit.information.is_at_bound])
    assert frozenset({"lost"}) in groups or "lost" in at_bound
    assert frozenset({"a0", "half"}) in groups or at_bound & {"a0", "half"}
    text = " ".join(fit.information.remarks())
    assert "lost" in text and ("fix" in text)
    assert not any("k" in group or "sd" in group for group in groups)


def test_the_command(commanded):
    _, out, shown = commanded
    assert "negative log-likelihood" in shown and "starts ended within 0.1" in shown
    assert {p.name for p in out.iterdir()} >= {"starts.parquet", "summary.json", "fit.png"}
    starts = pd.read_parquet(out / "starts.parquet")
    assert len(starts) == 5 and starts["objective"].is_monotonic_increasing
    summary = json.loads((out / "summary.json").read_text())
    assert summary["objective"] == pytest.approx(starts["objective"][0])


@pytest.mark.full
def test_more_starts_continue(path, tmp_path):
    """The finished ones are kept as they are."""
    assert cli.run(command(path, tmp_path, "3")) == 0
    starts = pd.read_parquet(tmp_path / "starts.parquet")
    before = (tmp_path / "checkpoint" / "starts.npz").read_bytes()
    assert cli.run(command(path, tmp_path, "4")) == 0
    again = pd.read_parquet(tmp_path / "starts.parquet")
    assert len(again) == 4 and set(starts["objective"]) <= set(again["objective"])
    assert before != (tmp_path / "checkpoint" / "starts.npz").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "absent.yaml", "--out", "x"], "there is no file 'absent.yaml'"),
        (["fit", "PROBLEM", "--out", "x", "--starts", "0"], "--starts 0"),
        (["fit", "PROBLEM"], "--out"),
    ],
)
def test_bad_input_is_one_line(arguments, message, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run([str(path) if a == "PROBLEM" else a for a in arguments]) != 0
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
