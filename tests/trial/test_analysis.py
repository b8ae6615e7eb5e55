"""Estimates and intervals of a trial's table, against closed forms."""

import numpy as np
import pytest
from scipy import stats

from engine.report.figures import dose_response
from engine.report.html import write_report
from engine.report.tables import incomplete_lines, to_rich, trial_tables
from engine.trial.analysis import NUM_RESAMPLES, bootstrap_means, summarise
from engine.trial.patients import Column
from engine.trial.reference import Reference
from tests.trial.specs import contents, stand_in, tiny

ARMS = ("placebo", "low", "high")


def columns(number=400, seed=1, offset=0.0):
    """Made-up patients: occupancies in every arm, correlated between arms."""
    generator = np.random.default_rng(seed)
    person = generator.normal(0.0, 0.02, number)
    level = np.array([0.0, 0.2, 0.5])[:, np.newaxis] + offset
    made = {}
    for cell, factor in (("Treg", 1.0), ("Th", 0.25)):
        occupancy = factor * level + person + generator.normal(0.0, 0.005, (3, number))
        for kind in ("occupancy", "occupancy_mean", "responders"):
            made[f"{cell}_{kind}"] = Column(occupancy, "1", "")
    made["concentration"] = Column(np.broadcast_to(level, (3, number)), "nM", "")
    made["status"] = Column(np.full((3, number), "complete", dtype=object), "", "")
    made["patient"] = Column(np.broadcast_to(np.arange(number), (3, number)), "", "")
    return made


@pytest.fixture(scope="module")
def summary():
    return summarise(tiny(), columns(), stand_in(tiny())) | {"num_events": 5}


def test_estimates(summary):
    made = columns()
    for i, arm in enumerate(ARMS):
        found = summary["arms"][arm]["cells"]["Treg"]
        values = made["Treg_occupancy"].values[i]
        assert found["occupancy"]["estimate"] == pytest.approx(values.mean())
        assert found["median"] == pytest.approx(np.median(values))
        assert found["percentiles_5_95"] == pytest.approx(np.percentile(values, [5, 95]).tolist())


def test_intervals_of_means_are_the_textbooks(summary):
    values = columns()["Treg_occupancy"].values[2]
    found = summary["arms"]["high"]["cells"]["Treg"]["occupancy"]
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    width = expected[1] - expected[0]
    # The percentile of 2,000 resamples has a standard error of some 2% of the width.
    assert found["low"] == pytest.approx(expected[0], abs=0.1 * width)
    assert found["high"] == pytest.approx(expected[1], abs=0.1 * width)


def test_differences_are_paired(summary):
    """Patients differ by 0.02, but a patient's difference between arms only by 0.007."""
    found = summary["arms"]["low"]["cells"]["Treg"]["difference_to_control"]
    assert found["estimate"] == pytest.approx(0.2, abs=0.002)
    assert found["high"] - found["low"] < 2.2 * 1.96 * 0.0071 / np.sqrt(400)
    assert summary["arms"]["placebo"]["cells"]["Treg"]["difference_to_control"] is None


def test_selectivity_is_a_ratio_of_means(summary):
    made = columns()
    found = summary["arms"]["high"]["selectivity"]
    means = [made[f"{cell}_occupancy"].values[2].mean() for cell in ("Treg", "Th")]
    assert found["estimate"] == pytest.approx(means[0] / means[1])
    assert found["low"] < found["estimate"] < found["high"]


def test_coverage():
    """Intervals hold the truth about as often as they say: 200 trials of 60 patients."""
    hits = 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(0.3, 0.1, (60, 1))
        low, high = np.percentile(bootstrap_means(values), [2.5, 97.5])
        hits += low <= 0.3 <= high
    # Binomial(200, 0.95) at 2e-5, and percentile intervals of 60 are slightly short.
    assert stats.binom.isf(1e-5, 200, 0.93) >= hits >= stats.binom.ppf(1e-5, 200, 0.93)


def test_resamples_do_not_depend_on_the_block(monkeypatch):
    values = np.random.default_rng(0).normal(size=(50, 3))
    whole = bootstrap_means(values)
    monkeypatch.setattr("engine.trial.analysis._BLOCK", 170)
    np.testing.assert_allclose(bootstrap_means(values), whole, rtol=1e-12)
    assert whole.shape == (NUM_RESAMPLES, 3)


def test_missing_patients_are_left_out():
    made = columns()
    occupancy = made["Treg_occupancy"].values.copy()
    occupancy[2, :10] = np.nan
    made["Treg_occupancy"] = Column(occupancy, "1", "")
    texts = made["status"].values.copy()
    texts[2, :10] = "Treg: EVENT_BUDGET_SPENT (1 of 2 cells)"
    made["status"] = Column(texts, "", "")
    found = summarise(tiny(), made, stand_in(tiny()))
    cell = found["arms"]["high"]["cells"]["Treg"]
    assert cell["num_patients"] == 390
    assert cell["occupancy"]["estimate"] == pytest.approx(occupancy[2, 10:].mean())
    assert incomplete_lines(found)[0].startswith("high, patient 0: Treg: EVENT_BUDGET_SPENT")


def test_without_control_or_others():
    data = contents()
    arms = [data["arms"][1]]
    spec = tiny(arms=arms, cells={"types": ["Treg"]})
    made = {name: Column(one.values[1:2], one.unit, "") for name, one in columns().items()}
    found = summarise(spec, made, stand_in(spec))
    assert found["control"] is None and found["arms"]["low"]["selectivity"] is None
    assert found["arms"]["low"]["cells"]["Treg"]["difference_to_control"] is None


def test_one_patient_has_no_interval(tmp_path):
    found = summarise(tiny(), columns(1), stand_in(tiny()))
    tables = trial_tables(found)
    assert tables[0].rows[2][2].endswith("%\n-–-")  # an estimate without an interval
    dose_response(found, tmp_path / "figure.png")


# What a reader sees.


def test_tables(summary):
    tables = trial_tables(summary)
    occupancy = tables[0]
    assert occupancy.header == ("arm", "drug, pM", "Treg", "Th", "selectivity")
    assert [row[0] for row in occupancy.rows] == list(ARMS)
    estimate = summary["arms"]["high"]["cells"]["Treg"]["occupancy"]["estimate"]
    assert occupancy.rows[2][2].startswith(f"{100 * estimate:.1f}%\n")
    assert "–" in occupancy.rows[2][2]
    titles = " ".join(table.title for table in tables)
    assert "Difference in occupancy to placebo" in titles and "respond" in titles
    assert to_rich(occupancy).row_count == 3
    theory = tables[-1].rows[1]
    assert theory[2] == "30.0%\n66.7%"  # the mean field, and 0.2 / (0.2 + 0.1)


def test_an_arm_that_failed_altogether_is_shown(summary, tmp_path):
    made = columns(5)
    for name in list(made):
        if name.startswith("T"):
            made[name] = Column(np.full((3, 5), np.nan), "1", "")
    found = summarise(tiny(), made, stand_in(tiny()))
    assert trial_tables(found)[0].rows[1][2] == "-\n-–-"
    dose_response(found, tmp_path / "figure.png")


def test_figure_and_report(summary, tmp_path):
    path = tmp_path / "figure.png"
    dose_response(summary, path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    dose_response(summary | {"name": "x" * 80}, path)


def test_report_of_a_folder(summary, tmp_path):
    import json

    from engine.trial.store import Store

    Store(tmp_path / "trial", tiny(name="a <b> & c"))
    found = summary | {"name": "a <b> & c"}
    (tmp_path / "trial" / "summary.json").write_text(json.dumps(found))
    page = write_report(tmp_path / "trial").read_text()
    assert "a &lt;b&gt; &amp; c" in page and "<b>" not in page.split("<pre>")[0].split("<title>")[1]
    assert "data:image/png;base64," in page and "http" not in page.split("<pre>")[0]
    assert (tmp_path / "trial" / "dose_response.png").exists()


def test_hyperbola():
    reference = Reference({"Treg": 1.0}, {"Treg": 0.025}, {"a": 0.075}, {"a": {"Treg": 0.7}})
    assert reference.hyperbola("a", "Treg") == pytest.approx(0.75)
