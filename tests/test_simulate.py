"""`simulate`: what it refuses and how it says so, how trajectories end, what comes back."""

import jax
import numpy as np
import pytest

import engine
from engine import Formula, Maximum, Status, TimeIntegral
from tests.simulation import network, run

DEATH = network({"X": 100, "Y": 0}, [("X -> Y", 0.5)], parameters={"k": 1.0})
TS = [0.0, 1.0, 2.0]


def attempt(model=DEATH, ts=TS, method=None, **options):
    options = {"num_patients": 2, "key": jax.random.key(0)} | options
    return engine.simulate(model, method or engine.Direct(), ts, **options)


BAD = {
    "no patients": ({"num_patients": 0}, "num_patients=0: give a whole number"),
    "no replicates": ({"num_replicates": 1.5}, "num_replicates=1.5"),
    "parameter": ({"params": {"kk": 1.0}}, "'kk'.*did you mean 'k'"),
    "nan": ({"params": {"k": float("nan")}}, "parameter 'k' is nan"),
    "inf": ({"params": {"k": [1.0, np.inf]}}, "'k' is inf for patient row 1"),
    "text": ({"params": {"k": "fast"}}, "'k' is 'fast'"),
    "shape": ({"params": {"k": np.ones(3)}}, r"shape \(3,\); give a scalar or \(2,\)"),
    "species": ({"x0": {"Z": 1}}, "'Z'"),
    "negative": ({"x0": {"X": -1}}, "'X' is -1; it cannot be negative"),
    "fraction": ({"x0": {"X": [1, 1.5]}}, "'X' is 1.5; exact simulation counts whole"),
    "huge": ({"x0": {"X": 3e9}}, "beyond 2..31"),
    "no times": ({"ts": []}, "ts is empty"),
    "two dimensions": ({"ts": [[0.0, 1.0]]}, "one-dimensional"),
    "times": ({"ts": [0.0, 2.0, 1.0]}, r"ts\[1\]=2 is followed by 1"),
    "equal times": ({"ts": [1.0, 1.0]}, "does not increase"),
    "before zero": ({"ts": [-1.0, 1.0]}, "begins at -1"),
    "nan time": ({"ts": [0.0, np.nan]}, "ts has nan"),
    "only zero": ({"ts": [0.0]}, "ts ends at 0"),
    "words": ({"ts": "now"}, "not a list of numbers"),
    "ids": ({"patient_ids": [1, 1]}, "an identity twice"),
    "too few ids": ({"patient_ids": [1]}, "give 2 whole numbers"),
    "negative ids": ({"patient_ids": [-1, 2]}, "from 0 to 2..32 - 1"),
    "key": ({"key": 3}, "key=3 is not a key"),
    "keys": ({"key": jax.random.split(jax.random.key(0), 3)}, "not one key"),
    "method": ({"method": "direct"}, "'direct' is not a method; give engine.Direct"),
    "tally": ({"tallies": {"a": Maximum("Z")}}, "tally 'a' mentions 'Z'"),
    "firing": ({"tallies": {"a": engine.FiringCount("zap")}}, "no reaction is named 'zap'"),
    "no tally": ({"tallies": {"a": "X"}}, "tally 'a' is 'X'; give a tally object"),
    "record": ({"record": "X"}, r"record=\['X'\]"),
    "unknown record": ({"record": ["Z"]}, "record.*'Z'"),
    "input": ({"inputs": {"D": engine.ConstantLevel(1.0)}}, "'D'"),
    "dose": ({"regimen": engine.Regimen(engine.Dose(1.0, 0.0, into="D"))}, "'D'"),
    "linear noise tally": (
        {"method": engine.LinearNoise(), "tallies": {"a": Maximum("X")}},
        "no tallies",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case) -> None:
    options, message = BAD[case]
    with pytest.raises(engine.InvalidInput, match=message) as raised:
        attempt(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("limit", ["max_events", "queue_size", "lanes", "block"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many", 2**31])
def test_bad_options_of_the_method(limit, value) -> None:
    with pytest.raises(engine.InvalidInput, match=rf"Direct\({limit}="):
        engine.Direct(**{limit: value})


def test_a_missing_input_is_named() -> None:
    model = network({"X": 0}, [("0 -> X", Formula("D"))], inputs=["D"])
    with pytest.raises(engine.InvalidInput, match="'D'"):
        run(model, [1.0])


def test_a_rate_rule_is_refused_by_name() -> None:
    model = network(
        {"X": 0},
        [("0 -> X", Formula("V"))],
        variables=[engine.Variable("V", 1.0)],
        rate_rules=[engine.RateRule("V", "-V")],
    )
    with pytest.raises(engine.InvalidInput, match=r"rate rule of 'V'.*engine\.ODE"):
        run(model, [1.0])


@pytest.mark.parametrize("wrong", ["tan(D)", "tan(time)"])
def test_a_law_without_a_bound_is_refused_by_name(wrong) -> None:
    model = network({"X": 0}, [("0 -> X", Formula(wrong), "odd")], inputs=["D"])
    with pytest.raises(engine.InvalidInput, match=r"reaction 'odd'.*cannot bound"):
        run(model, [1.0], inputs={"D": engine.OneCompartment(clearance=1.0, volume=1.0)})


def test_an_explosion_spends_its_budget_and_the_others_are_kept() -> None:
    model = network({"X": 1}, [("X -> 2 X", engine.MassAction("k"))], parameters={"k": 1.0})
    k = np.array([0.1, 30.0, 0.1, 30.0])
    with pytest.raises(engine.SimulationFailed, match=r"2 of 4 .*patient 1, 3 spent its") as raised:
        run(model, [0.0, 1.0, 2.0], 4, params={"k": k}, method=engine.Direct(max_events=10_000))
    e = raised.value.ensemble
    np.testing.assert_array_equal(e.status, [0, 1, 0, 1])
    assert np.all(e["X"][[0, 2]] > 0) and np.all(e["X"][[1, 3], 2] == -1)
    assert np.all(e["X"][:, 0] == 1)
    assert np.all(e.num_events[[1, 3]] >= 10_000) and np.all(e.num_events[[1, 3]] < 11_000)


def test_the_budget_counts_candidates_under_thinning() -> None:
    """A bound far above the rate proposes without end; that too must stop."""
    model = network({"X": 0}, [("0 -> X", Formula("1e6 * (sin(time * 1e3) > 0.9999999)"))])
    e = run(model, [1.0, 50.0], 1, method=engine.Direct(max_events=2000), is_failure_raised=False)
    assert e.status[0] == Status.EVENT_BUDGET_SPENT and e.num_steps[0] >= 2000


def test_a_population_near_the_limit_overflows_with_a_status() -> None:
    start = 2**31 - 2**22 - 1
    model = network({"X": start}, [("0 -> 1000 X", 1e5)])
    e = run(model, [0.0, 1.0], 1, is_failure_raised=False)
    assert e.status[0] == Status.POPULATION_OVERFLOW and e["X"][0].tolist() == [start, -1]


def test_counts_are_exact_far_beyond_float32() -> None:
    """16777216 + 1 is not a float32: counts are integers."""
    start = 2**30 + 1
    model = network({"X": start, "Y": 0}, [("0 -> X + Y", 500.0)])
    e = run(model, [1.0], 20)
    np.testing.assert_array_equal(e["X"][:, 0] - start, e["Y"][:, 0])


@pytest.mark.parametrize(
    "law, start, detail",
    [
        ("3 - X", 2, r"reaction 'r' has propensity -1 at X=4"),
        ("1 / (X - 4)", 4, r"reaction 'r' has propensity inf at X=4"),
        ("log(4 - X)", 4, r"reaction 'r' has propensity -inf at X=4"),
    ],
)
def test_an_invalid_propensity_is_named(law, start, detail) -> None:
    model = network({"X": start}, [("0 -> X", Formula(law), "r"), ("0 -> X", 3.0)])
    with pytest.raises(engine.SimulationFailed, match=detail) as raised:
        run(model, [0.0, 50.0], 3)
    assert np.all(raised.value.ensemble.status == Status.INVALID_PROPENSITY)


@pytest.mark.parametrize(
    "level", [engine.ConstantLevel(8.0), engine.OneCompartment(1.0, 1.0, baseline=8.0)]
)
def test_an_invalid_propensity_beside_an_input(level) -> None:
    model = network({"A": 5}, [("0 -> A", Formula("5 - D"), "x"), ("0 -> A", 10.0)], inputs=["D"])
    with pytest.raises(engine.SimulationFailed, match="a propensity became negative"):
        run(model, [5.0], 2, inputs={"D": level})
    e = run(model, [5.0], 2, inputs={"D": level}, is_failure_raised=False)
    assert np.all(e.status == Status.INVALID_PROPENSITY)


def test_an_infinite_propensity_changes_no_count() -> None:
    """The law is infinite at time 0: a patient fails there, or goes on from nearby; no Y decays."""
    model = network(
        {"X": 2, "Y": 9},
        [("X -> 0", Formula("piecewise(X / time, X > 0, 0)")), ("Y -> 0", 1e-6)],
    )
    e = run(model, [0.0, 1.0], 300, is_failure_raised=False)
    assert set(e.status) <= {Status.COMPLETE, Status.INVALID_PROPENSITY}
    is_done = e.status == Status.COMPLETE
    assert np.all(e["Y"][is_done] == 9)
    assert np.all(e["X"][is_done, 0] == 2) and np.all((e["X"] >= 0)[is_done])


def test_an_invalid_propensity_leaves_the_counts() -> None:
    """A total that is infinite fires nothing in any of its reactions."""
    model = network({"X": 5, "Y": 3}, [("X -> 0", Formula("X / (Y - 3)")), ("Y -> 0", 1e-9)])
    with pytest.raises(engine.SimulationFailed, match=r"propensity inf at X=5, Y=3"):
        run(model, [1.0], 8)


def test_hill_laws_of_steep_and_large_numbers() -> None:
    """K^n = 1e40 is no float32; (x / K)^n is one."""
    model = network(
        {"X": 100_000, "A": 0, "B": 0},
        [
            ("0 -> A", engine.HillActivation(10.0, 1e5, 8, "X")),
            ("0 -> B", engine.HillInhibition(10.0, 1e5, 8, "X")),
        ],
    )
    e = run(model, [100.0], 400)
    for name in "AB":
        assert abs(e[name].mean() - 500.0) < 4.5 * np.sqrt(500 / 400)


def test_tallies_follow_an_input_without_events() -> None:
    """Nothing reacts: the drug alone, absorbed and eliminated between two far save times."""
    model = network({"X": 0}, [("X -> 0", 1.0)], inputs=["D"])
    pk = engine.OneCompartment(clearance=1.0, volume=1.0, absorption=0.5)
    e = run(
        model,
        [0.0, 40.0],
        1,
        inputs={"D": pk},
        regimen=engine.Regimen(engine.Dose(100.0, 0.0, into="D")),
        tallies={
            "top": Maximum("D"),
            "above": engine.Occupation("D > 10"),
            "when": engine.FirstPassage("D > 10"),
            "effect": TimeIntegral("D / (10 + D)"),
        },
    )
    t = np.linspace(0, 40, 400_001)
    level = 100 * 0.5 / 0.5 * (np.exp(-0.5 * t) - np.exp(-t))
    look = 40 / 64
    assert e.tallies["top"][0] == pytest.approx(level.max(), rel=0.03)
    assert e.tallies["above"][0] == pytest.approx((level > 10).mean() * 40, abs=2 * look)
    assert 0 <= e.tallies["when"][0] - t[np.argmax(level > 10)] <= look
    expected = np.trapezoid(level / (10 + level), t)
    assert e.tallies["effect"][0] == pytest.approx(expected, rel=5e-3)
    assert e.num_events[0] == 0 and e.num_steps[0] >= 64


def test_a_law_that_ignores_its_reactants_is_caught() -> None:
    """X -> Y at a constant rate with X used up would make X negative."""
    model = network({"X": 3, "Y": 0}, [("X -> Y", Formula("2.0"), "leak")])
    with pytest.raises(engine.SimulationFailed, match="reaction 'leak' has propensity 2 at X=0"):
        run(model, [100.0])


def test_troughs() -> None:
    """At a dose time: after the dose by default, before it on request; the path is the same."""
    model = network({"X": 0}, [("X -> 0", 0.0)], inputs=["D"])
    options = {
        "inputs": {"D": engine.OneCompartment(clearance=0.0 + 1e-9, volume=1.0)},
        "regimen": engine.Regimen(
            [
                engine.Dose(5.0, 1.0, into="D"),
                engine.Dose(7, 1.0, into="X"),
                engine.Dose(2, 2.0, into="X"),
            ]
        ),
    }
    after = run(model, [0.5, 1.0, 2.0, 3.0], 3, **options)
    before = run(model, [0.5, 1.0, 2.0, 3.0], 3, is_trough_saved=True, **options)
    np.testing.assert_array_equal(after["X"], [[0, 7, 9, 9]] * 3)
    np.testing.assert_array_equal(before["X"], [[0, 0, 7, 9]] * 3)
    np.testing.assert_allclose(after["D"], [[0, 5, 5, 5]] * 3, rtol=1e-6)
    np.testing.assert_allclose(before["D"], [[0, 0, 5, 5]] * 3, rtol=1e-6)


def test_a_whole_run_is_its_pieces_in_law() -> None:
    """Split at t = 1 and continued from the saved counts: the same distribution."""
    whole = run(DEATH, [1.0, 2.0], 20_000, seed=1)
    first = run(DEATH, [1.0], 20_000, seed=2)
    second = run(DEATH, [1.0], 20_000, seed=3, x0={"X": first["X"][:, 0], "Y": first["Y"][:, 0]})
    p = np.exp(-1.0)
    error = np.sqrt(100 * p * (1 - p) / 20_000)
    for found in (whole["X"][:, 1], second["X"][:, 0]):
        assert abs(found.mean() - 100 * p) < 4.5 * error
        assert abs(found.mean() - 100 * np.exp(-1.02)) > 4.5 * error


def test_s_plus_s_is_two_s() -> None:
    pair = network({"S": 30, "D": 0}, [("S + S -> D", 0.1)])
    twice = network({"S": 30, "D": 0}, [("2 S -> D", 0.1)])
    one, two = run(pair, [0.5, 1.0], 50), run(twice, [0.5, 1.0], 50)
    np.testing.assert_array_equal(one.counts, two.counts)
    np.testing.assert_array_equal(one["S"] + 2 * one["D"], 30)


def test_labels() -> None:
    e = attempt(
        num_replicates=3,
        patient_ids=[9, 4],
        tallies={"top": Maximum("X"), "area": TimeIntegral("X")},
        record=["Y"],
    )
    assert len(e) == 6 and e.counts.shape == (6, 3, 1) and e.species == ("Y",)
    np.testing.assert_array_equal(e.patient, [9, 9, 9, 4, 4, 4])
    np.testing.assert_array_equal(e.replicate, [0, 1, 2] * 2)
    data = e.to_xarray()
    assert data["counts"].dims == ("patient", "replicate", "time", "species")
    assert data["patient"].values.tolist() == [9, 4]
    assert data["tally_top"].sel(patient=4, replicate=1) == e.tallies["top"][4]
    with pytest.raises(engine.InvalidInput, match="'X' was not recorded"):
        e["X"]
    np.testing.assert_array_equal(e["Y"][:, 1:].max(axis=1) + 0, e["Y"][:, 2])


def test_progress_and_streaming() -> None:
    seen = []
    pieces = list(
        engine.simulate_chunks(
            DEATH,
            engine.Direct(),
            TS,
            key=jax.random.key(0),
            num_patients=1000,
            progress=lambda done, total: seen.append((done, total)),
        )
    )
    assert seen[-1] == (1000, 1000) and [done for done, _ in seen] == sorted(d for d, _ in seen)
    whole = attempt(num_patients=1000)
    np.testing.assert_array_equal(np.concatenate([p.counts for p in pieces]), whole.counts)


def test_threads_are_a_number(monkeypatch) -> None:
    monkeypatch.setenv("ENGINE_NUM_THREADS", "two")
    with pytest.raises(engine.InvalidInput, match="ENGINE_NUM_THREADS=two"):
        attempt()


@pytest.mark.parametrize(
    "setting, expected",
    [
        ("", "set"),
        ("--xla_cpu_prefer_vector_width=128", "set"),
        ("--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true", "set"),
    ],
)
def test_configure_cpu_adds_to_what_is_there(monkeypatch, setting, expected) -> None:
    from engine import configure

    monkeypatch.setenv("XLA_FLAGS", setting)
    monkeypatch.setattr(configure, "_is_backend_started", lambda: False)
    assert engine.configure_cpu() == expected
    import os

    flags = os.environ["XLA_FLAGS"]
    assert configure.OPTION in flags and setting in flags
    assert flags.count("prefer_vector_width") <= 1 and flags.count("extra_options=") == 1
    assert engine.configure_cpu() == "already set"
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(configure, "_is_backend_started", lambda: True)
    assert engine.configure_cpu().startswith("too late") and os.environ["XLA_FLAGS"] == ""
    monkeypatch.setattr(configure, "version", lambda _: "0.99.0")
    assert engine.configure_cpu().startswith("not set: not measured on jaxlib 0.99.0")
