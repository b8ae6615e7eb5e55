"""The command line: results a person can read, and bad input in one clear line."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray

import engine
from engine import cli, terminal
from engine.trial import trial
from engine.trial.tables import to_toml
from tests.trial.specs import contents, stand_in


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Immigration and death, as a file."""
    network = engine.ReactionNetwork(
        species={"X": 5},
        parameters={"birth": 10.0, "death": 0.5},
        reactions=[
            engine.Reaction("0 -> X", engine.MassAction("birth")),
            engine.Reaction("X -> 0", engine.MassAction("death")),
        ],
        name="immigration",
    )
    path = tmp_path_factory.mktemp("models") / "immigration.xml"
    engine.write_sbml(network, path)
    return str(path)


@pytest.fixture(scope="module")
def exploding(tmp_path_factory):
    """X -> 1000 X, whose counts leave what a lane can hold."""
    network = engine.ReactionNetwork(
        species={"X": 1},
        parameters={"k": 1.0},
        reactions=[engine.Reaction("X -> 1000 X", engine.MassAction("k"))],
    )
    path = tmp_path_factory.mktemp("models") / "exploding.xml"
    engine.write_sbml(network, path)
    return str(path)


@pytest.fixture
def spec_file(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "compute_reference", stand_in)
    data = contents()
    data["arms"] = data["arms"][:2]
    data["population"]["num_patients"] = 2
    path = tmp_path / "spec.toml"
    path.write_text(to_toml(data))
    return str(path)


def test_simulate(model, tmp_path, capsys):
    out = tmp_path / "new" / "run.zarr"
    arguments = ["simulate", model, "--until", "8", "--points", "9", "--patients", "300"]
    assert cli.run([*arguments, "--seed", "4", "--out", str(out), "--set", "birth=20"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "300 trajectories" in shown.out and "reactions in" in shown.out
    with xarray.open_zarr(out) as data:
        assert data["counts"].dims == ("patient", "replicate", "time", "species")
        assert data["counts"].shape == (300, 1, 9, 1)
        assert data["species"].values.tolist() == ["X"]
        assert data["time"].values.tolist() == list(range(9))
        mean = float(data["counts"].isel(time=-1).mean())
    assert mean == pytest.approx(40.0, abs=5 * (40.0 / 300) ** 0.5)
    assert f"{mean:.6g}" in shown.out


def test_simulate_by_rate_equations(model, capsys):
    assert cli.run(["simulate", model, "--until", "100", "--method", "ode", "--patients", "1"]) == 0
    assert "20" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["tau-leaping", "hybrid", "langevin", "linear-noise"])
def test_simulate_by_every_method(method, model, tmp_path, capsys):
    out = tmp_path / "run.zarr"
    more = ["--dt", "0.05"] if method == "langevin" else []
    arguments = ["simulate", model, "--until", "20", "--method", method, "--patients", "50"]
    assert cli.run([*arguments, *more, "--set", "birth=2000", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert ("integrated: X" in shown) == (method in ("hybrid", "langevin"))
    with xarray.open_zarr(out) as data:
        mean = float(data["counts"].isel(time=-1).mean())
    assert mean == pytest.approx(4000.0, abs=5 * (4000.0 / 50) ** 0.5 + 40)


def test_models(capsys):
    assert cli.run(["models"]) == 0
    assert "il2_receptor" in capsys.readouterr().out
    assert cli.run(["models", "il2_receptor"]) == 0
    shown = capsys.readouterr().out
    assert "kd_alpha" in shown and "nM" in shown and "IL2 (nM)" in shown


def test_help(capsys):
    assert cli.run(["--help"]) == 0
    for command in ("simulate", "trial", "report", "models"):
        assert cli.run([command, "--help"]) == 0
    assert "--patients" in capsys.readouterr().out


def test_trial_and_report(spec_file, tmp_path, capsys, monkeypatch):
    # On a busy machine it takes long enough for lines of progress.
    monkeypatch.setattr(terminal, "_LINE_SECONDS", math.inf)
    out = tmp_path / "out"
    assert cli.run(["trial", spec_file, "--out", str(out), "--seed", "9"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "Occupancy: tiny, 2 patients" in shown.out and "placebo" in shown.out
    assert "reactions in" in shown.out and "not medical advice" in shown.out
    assert {p.name for p in out.iterdir()} >= {"dose_response.png", "patients.parquet"}
    assert cli.run(["trial", spec_file, "--out", str(out), "--seed", "9"]) == 0
    assert "finished already" in capsys.readouterr().out
    assert cli.run(["report", str(out)]) == 0
    assert (out / "report.html").exists()
    capsys.readouterr()
    assert_one_line(["trial", spec_file, "--out", str(out)], "holds another trial", capsys)
    failing = ["trial", spec_file, "--out", str(out), "--patients", "0"]
    assert_one_line(failing, "population.num_patients = 0", capsys)


def assert_one_line(arguments, message, capsys):
    """A non-zero exit and one line on stderr that says what is wrong."""
    assert cli.run(arguments) != 0
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1 and shown.err.startswith("engine: ")
    assert "Traceback" not in shown.err + shown.out
    return shown


BAD = {
    "no such file": (["simulate", "absent.xml"], "absent.xml"),
    "no such model": (["simulate", "il2_recepter"], "did you mean 'il2_receptor'"),
    "unknown parameter": (["simulate", "MODEL", "--set", "brith=1"], "did you mean 'birth'"),
    "no number": (["simulate", "MODEL", "--set", "birth=fast"], "--set birth=fast: give NAME"),
    "no value": (["simulate", "MODEL", "--set", "birth"], "--set birth: give NAME=NUMBER"),
    "negative rate": (["simulate", "MODEL", "--set", "birth=-1"], "birth"),
    "negative count": (["simulate", "MODEL", "--set", "X=-1"], "'X' is -1"),
    "half a molecule": (["simulate", "MODEL", "--set", "X=0.5"], "'X' is 0.5"),
    "no input": (["simulate", "il2_receptor"], "give --set IL2=VALUE"),
    "one point": (["simulate", "MODEL", "--points", "1"], "--points 1"),
    "no patients": (["simulate", "MODEL", "--patients", "0"], "num_patients=0"),
    "no horizon": (["simulate", "MODEL", "--until", "nan"], "--until nan"),
    "negative horizon": (["simulate", "MODEL", "--until", "-5"], "--until -5"),
    "seed": (["simulate", "MODEL", "--seed", "-5"], "--seed -5"),
    "method": (["simulate", "MODEL", "--method", "exact"], "'exact'"),
    "no step": (["simulate", "MODEL", "--method", "langevin"], "give its time step, --dt"),
    "a step": (["simulate", "MODEL", "--dt", "0.1"], "only --method langevin has a time step"),
    "option": (["simulate", "MODEL", "--pateints", "3"], "--pateints"),
    "copies": (["simulate", "il2_receptor", "--copies-per-unit", "3"], "--copies-per-unit"),
    "command": (["simulte"], "simulte"),
    "missing": (["trial", "spec.toml"], "--out"),
    "no spec": (["trial", "absent.toml", "--out", "x"], "absent.toml: no such file"),
    "no trial": (["report", "absent"], "is not the folder of a trial"),
    "models": (["models", "il2"], "neither a file nor a model"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[case]
    arguments = [model if one == "MODEL" else one for one in arguments]
    if arguments[0] == "simulate" and "--until" not in arguments:
        arguments += ["--until", "1"]
    assert_one_line(arguments, message, capsys)
    assert list(tmp_path.iterdir()) == []  # nothing was written


def test_malformed_sbml(tmp_path, capsys):
    path = tmp_path / "broken.xml"
    path.write_text("<sbml><model>")
    assert_one_line(["simulate", str(path), "--until", "1"], "broken.xml", capsys)


def test_an_existing_store_is_not_touched(model, tmp_path, capsys):
    out = tmp_path / "run.zarr"
    out.mkdir()
    (out / "mine").write_text("x")
    assert_one_line(["simulate", model, "--until", "1", "--out", str(out)], "exists", capsys)
    assert [p.name for p in out.iterdir()] == ["mine"]


def test_an_explosion_is_named_and_the_result_kept(exploding, tmp_path, capsys):
    out = tmp_path / "run.zarr"
    arguments = ["simulate", exploding, "--until", "100", "--patients", "2", "--points", "3"]
    shown = assert_one_line(
        [*arguments, "--out", str(out)], "trajectories failed: patient 0", capsys
    )
    assert "0 trajectories" in shown.out
    with xarray.open_zarr(out) as data:
        assert (data["status"] != 0).all() and (data["counts"].isel(time=0) == 1).all()


def test_misspelt_spec(spec_file, tmp_path, capsys):
    path = Path(spec_file)
    path.write_text(path.read_text() + "\n[windoww]\nstart = 1.0\n")
    arguments = ["trial", spec_file, "--out", str(tmp_path / "out")]
    assert_one_line(arguments, "unknown key 'windoww'; did you mean 'window'", capsys)
    assert not (tmp_path / "out").exists()


def test_a_process_ends_with_one_line():
    found = subprocess.run(
        [sys.executable, "-m", "engine.cli", "simulate", "absent.xml", "--until", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "40"},
        check=False,
    )
    assert found.returncode == 1 and found.stdout == ""
    assert found.stderr.startswith("engine: ") and found.stderr.count("\n") == 1
