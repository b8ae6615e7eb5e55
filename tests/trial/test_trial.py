"""A tiny trial: what it stores, that it continues, and that patients are always the same."""

import signal
import subprocess
import sys
import time

import numpy as np
import pandas
import pytest
import xarray
from pyarrow import parquet

import engine
from engine import execute
from engine.population.variability import LogNormal
from engine.trial import trial, work
from engine.trial.spec import TrialSpec
from engine.trial.store import Store, read_finished
from engine.trial.work import Unit, covariates_of, plan
from tests.trial.specs import contents, stand_in, tiny


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Several units a trial, and no waiting for the compilation of the mean field."""
    monkeypatch.setattr(work, "UNIT_ROWS", 4)
    monkeypatch.setattr(trial, "compute_reference", stand_in)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an uninterrupted run, with what was compiled for it."""
    runners = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "UNIT_ROWS", 4)
        patch.setattr(trial, "compute_reference", stand_in)
        original = execute.runner

        def recording(*arguments):
            runners.append(original(*arguments))
            return runners[-1]

        patch.setattr(execute, "runner", recording)
        folder = tmp_path_factory.mktemp("trials") / "whole"
        trial.run_trial(tiny(), folder)
    return folder, runners


def trajectories(folder):
    with xarray.open_zarr(folder / "trajectories.zarr") as stored:
        return stored.load()


def patients(folder):
    return pandas.read_parquet(folder / "patients.parquet").set_index(["arm", "patient"])


def assert_same(folder, other):
    """Bit for bit, but for the times that the runs took."""
    xarray.testing.assert_identical(trajectories(folder), trajectories(other))
    pandas.testing.assert_frame_equal(patients(folder), patients(other), check_exact=True)
    (_, one), (_, two) = read_finished(folder), read_finished(other)
    assert one | {"run": None} == two | {"run": None}


def test_everything_is_there(whole):
    folder, _ = whole
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "spec.toml",
        "reference.json",
        "summary.json",
        "patients.parquet",
        "trajectories.zarr",
    }
    spec, summary = read_finished(folder)
    assert spec == tiny()
    assert list(summary["arms"]) == ["placebo", "low", "high"]
    assert summary["num_events"] == sum(patients(folder)[["Treg_events", "Th_events"]].sum())


def test_trajectories_are_labelled(whole):
    data = trajectories(whole[0])
    assert data["active"].dims == ("arm", "patient", "cell_type", "cell", "time")
    assert data["active"].sel(arm="high", cell_type="Th", patient=3).shape == (2, 3)
    assert data["active"].attrs["units"] == "molecules per cell"
    assert data["concentration"].attrs["units"] == "nM"
    assert data["time"].values.tolist() == [60.0, 61.0, 62.0]
    assert data["time"].attrs["units"] == "min"
    assert not data["active"].isnull().any() and not data["concentration"].isnull().any()
    assert np.all(data["active"].sel(arm="placebo") == 0)
    assert np.all(data["active"].isel(time=0) == 0)  # the cells meet the drug at the start
    assert np.all(data["concentration"].sel(arm="placebo") == 0)
    # A dose given within the window: 61 minutes after the first.
    level = data["concentration"].sel(arm="high")
    assert np.all(level.sel(time=62.0) > 1.01 * level.sel(time=61.0))


def test_rows_are_patients_in_arms(whole):
    table, data = patients(whole[0]), trajectories(whole[0])
    assert len(table) == 18 and table.index.is_unique
    assert np.all(table["status"] == "complete")
    end = data["active"].isel(time=-1).mean("cell")
    for arm in ("placebo", "high", "low"):
        rows = table.loc[arm]
        for cell in ("Treg", "Th"):
            expected = end.sel(arm=arm, cell_type=cell).values
            np.testing.assert_allclose(rows[f"{cell}_active"], expected, rtol=1e-6)
            np.testing.assert_allclose(rows[f"{cell}_occupancy"], expected / 500.0, rtol=1e-6)
            assert np.all(rows[f"{cell}_active_peak"] >= rows[f"{cell}_active_mean"])
            assert np.all(rows[f"{cell}_active_peak"] >= expected)
        with np.errstate(invalid="ignore"):
            ratio = rows["Treg_occupancy"] / rows["Th_occupancy"]
        np.testing.assert_allclose(rows["selectivity"], ratio)
        level = data["concentration"].sel(arm=arm)
        mean = np.trapezoid(level.values, level["time"].values, axis=1) / 2.0
        np.testing.assert_allclose(rows["concentration"], mean, rtol=1e-6)
    fields = parquet.read_schema(whole[0] / "patients.parquet")
    assert fields.field("clearance").metadata[b"unit"] == b"L/min"
    assert all(field.metadata[b"description"] for field in fields)


def test_patients_are_the_same_in_every_arm(whole):
    table = patients(whole[0])
    columns = [c for c in table if c.startswith("covariate_") or c.endswith("_per_cell")]
    assert "covariate_clearance" in columns and "Treg_IL2Ra_per_cell" in columns
    for arm in ("high", "low"):
        pandas.testing.assert_frame_equal(table.loc[arm][columns], table.loc["placebo"][columns])
    assert table.loc["high"]["covariate_IL2Ra"].nunique() == 6
    assert np.all(table["covariate_body_surface"] == 1.73)
    high = table.loc["high"]
    np.testing.assert_allclose(high["Treg_IL2Ra_per_cell"], 3475.8 * high["covariate_IL2Ra"])
    np.testing.assert_allclose(high["clearance"], 0.12 * high["covariate_clearance"], rtol=1e-3)


def test_one_compilation_serves_all_cells_arms_and_units(whole):
    distinct = {id(one): one for one in whole[1]}
    assert len(whole[1]) == len(plan(tiny())) > 2
    # Two threads that begin together may each build the model.
    assert len(distinct) <= 2 and {one.num_compilations for one in distinct.values()} == {1}


def run_stopping(spec, folder, after):
    """Run a trial that is interrupted after some units."""

    def stop(done, total, events):
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trial.run_trial(spec, folder, stop)


def test_a_stopped_trial_continues_bit_for_bit(whole, tmp_path):
    folder = tmp_path / "stopped"
    run_stopping(tiny(), folder, 3)
    units = sorted(path.name for path in (folder / "units").iterdir())
    assert 3 <= len(units) < len(plan(tiny()))
    with pytest.raises(engine.InvalidInput, match="not finished; run engine trial again"):
        read_finished(folder)
    before = {name: (folder / "units" / name).stat().st_mtime_ns for name in units}
    first = []
    trial.run_trial(tiny(), folder, lambda *seen: first.append(seen[0]))
    assert first[0] == len(units) and before  # only the rest was simulated
    assert_same(folder, whole[0])


_KILLED = """
from engine.trial import trial, work
from tests.trial.specs import stand_in, tiny
work.UNIT_ROWS, trial.compute_reference = 4, stand_in
trial.run_trial(tiny(), {folder!r})
"""


def test_a_killed_trial_continues_bit_for_bit(whole, tmp_path):
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", _KILLED.format(folder=str(folder))])
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob("units/*.npz")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    # What a kill in the middle of a write leaves behind does no harm.
    (folder / "units" / ".arm0-cell0-patient0.npz.1.part").write_bytes(b"half")
    assert not (folder / "summary.json").exists()
    trial.run_trial(tiny(), folder)
    assert_same(folder, whole[0])


def test_a_finished_trial_is_only_read(whole, monkeypatch):
    monkeypatch.setattr(trial, "simulate_unit", None)
    before = {p: p.stat().st_mtime_ns for p in whole[0].rglob("*")}
    summary = trial.run_trial(tiny(), whole[0])
    assert summary == read_finished(whole[0])[1]
    assert before == {p: p.stat().st_mtime_ns for p in whole[0].rglob("*")}


def test_order_of_arms_and_other_patients_change_nothing(whole, tmp_path):
    data = contents()
    data["arms"] = data["arms"][::-1]
    data["cells"]["types"] = ["Th", "Treg"]
    data["population"]["num_patients"] = 3
    trial.run_trial(TrialSpec.parsed(data, "turned"), tmp_path / "turned")
    table, expected = patients(tmp_path / "turned"), patients(whole[0])
    for arm in ("placebo", "high", "low"):
        few = expected.loc[arm].iloc[:3][list(table)]
        pandas.testing.assert_frame_equal(table.loc[arm], few, check_exact=True)
    mine, theirs = trajectories(tmp_path / "turned"), trajectories(whole[0])
    xarray.testing.assert_equal(mine, theirs.sel(mine.coords))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seed": 4}, r"seed = 3 there, 4 here"),
        ({"population": {"num_patients": 7}}, r"holds another trial \(population"),
        ({"arms": [{"name": "placebo", "dose": 0.0}]}, r"holds another trial \(arms"),
        ({"name": "other"}, r"name = 'tiny' there, 'other' here"),
    ],
)
def test_another_trials_folder_is_refused(whole, changes, message):
    before = {p: p.stat().st_mtime_ns for p in whole[0].rglob("*")}
    with pytest.raises(engine.InvalidInput, match=message):
        trial.run_trial(tiny(**changes), whole[0])
    assert before == {p: p.stat().st_mtime_ns for p in whole[0].rglob("*")}


@pytest.mark.parametrize("name", ["notes.txt", "spec.toml"])
def test_other_folders_are_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(engine.InvalidInput, match=f"not a trial's folder .it has {name}"):
        trial.run_trial(tiny(), tmp_path)
    with pytest.raises(engine.InvalidInput, match="is a file"):
        trial.run_trial(tiny(), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(engine.InvalidInput, match="is not the folder of a trial"):
        read_finished(tmp_path)


def test_an_empty_folder_is_used(tmp_path):
    assert not Store(tmp_path, tiny()).is_finished
    assert (tmp_path / "spec.toml").exists()


def test_failures_are_named_and_the_others_kept(tmp_path):
    arms = [one | {"dose": dose} for one, dose in zip(contents()["arms"], (0.0, 1e4), strict=False)]
    arms[1]["name"] = "flood"
    summary = trial.run_trial(tiny(arms=arms), tmp_path / "flood")
    table, data = patients(tmp_path / "flood"), trajectories(tmp_path / "flood")
    assert np.all(table.loc["placebo"]["status"] == "complete")
    flooded = table.loc["flood"]
    assert flooded["status"].str.contains(r"Treg: EVENT_BUDGET_SPENT \(2 of 2 cells\)").all()
    assert flooded["Treg_occupancy"].isna().all() and flooded["selectivity"].isna().all()
    assert data["active"].sel(arm="flood", cell_type="Treg").isnull().all()
    assert not data["active"].sel(arm="placebo").isnull().any()
    found = summary["arms"]["flood"]
    assert found["num_incomplete"] == 6
    assert found["cells"]["Treg"]["occupancy"]["estimate"] is None
    assert found["incomplete"][0].startswith("patient 0: Treg: EVENT_BUDGET_SPENT")


def test_covariates_that_are_not_positive_are_refused(tmp_path):
    normal = {"distribution": "normal", "mean": 0.1, "sd": 1.0, "unit": "1", "source": "assumed"}
    population = {"num_patients": 50, "covariates": {"volume": normal}}
    with pytest.raises(engine.InvalidInput, match=r"covariates.volume: patient \d+ has -"):
        trial.run_trial(tiny(population=population), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_typical_patients_where_nothing_is_said():
    drawn = covariates_of(tiny(population={"num_patients": 2}), np.arange(2))
    assert drawn["body_surface"].tolist() == [1.73, 1.73] and drawn["gc"].tolist() == [1.0, 1.0]


def test_covariates_are_the_populations():
    drawn = covariates_of(tiny(), np.arange(4000))["clearance"]
    sigma = LogNormal(1.0, 0.3).sigma
    assert np.log(drawn).std() == pytest.approx(sigma, rel=4.26 / np.sqrt(2 * 4000))


@pytest.mark.parametrize("number", [1, 4, 127, 128, 129, 1000])
@pytest.mark.parametrize("cells", [1, 3, 500])
def test_units_cover_every_cell_once(monkeypatch, number, cells):
    monkeypatch.setattr(work, "UNIT_ROWS", 128)
    data = contents()
    data["population"]["num_patients"], data["cells"]["per_patient"] = number, cells
    units = plan(TrialSpec.parsed(data, "sized"))
    seen = np.zeros((3, 2, number), int)
    for unit in units:
        seen[unit.arm, unit.cell_type, unit.first : unit.last] += 1
        assert (unit.last - unit.first) * cells <= max(128, cells)
    assert np.all(seen == 1) and len({unit.name for unit in units}) == len(units)
    assert Unit(0, 0, 0, 1).name == "arm0-cell0-patient0"
