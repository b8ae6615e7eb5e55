"""What happens on the way of the rate equations: events, troughs and tallies, at exact times."""

import numpy as np
import pytest
from scipy.optimize import brentq

import engine
from engine.errors import InvalidInput
from engine.methods import ode
from tests.simulation import network, run

TIGHT = engine.ODE(rtol=1e-10, atol=1e-10)
TS = np.linspace(0.0, 30.0, 31)


def solve(model, ts=TS, num=1, tallies=None, method=TIGHT, **options):
    return run(model, ts, num, method=method, tallies=tallies, **options)


def growth(*events, **parts):
    """X = 100 (1 - e^{-t / 10}) but for events."""
    return network(
        {"X": 0, "Y": 0}, [("0 -> X", 10.0), ("X -> 0", 0.1)], events=list(events), **parts
    )


def grown(t, start=0.0):
    return 100.0 - (100.0 - start) * np.exp(-0.1 * np.asarray(t))


def until(level, start=0.0):
    """How long growth takes from `start` to `level`."""
    return 10.0 * np.log((100.0 - start) / (100.0 - level))


# Events.


def test_a_condition_of_the_state_fires_every_time_it_becomes_true():
    model = growth(engine.Event("cut", "X > 50", {"X": "10"}))
    found = solve(model)["X"][0]
    first, period = until(50.0), until(50.0, 10.0)
    since = np.mod(TS - first, period)
    truth = np.where(first > TS, grown(TS), grown(since, 10.0))
    np.testing.assert_allclose(found, truth, rtol=1e-8, atol=1e-8)
    assert not np.allclose(found, np.where(first > TS, grown(TS), grown(since, 10.2)), rtol=1e-4)


@pytest.mark.full
def test_time_events_between_and_at_save_times_and_at_the_horizon():
    model = growth(
        engine.Event("between", "time >= 4.25", {"X": "0"}),
        engine.Event("at", "time > 10", {"X": "X + 5"}),
        engine.Event("end", "30 <= time", {"Y": "7"}),
        engine.Event("start", "time >= 0", {"Y": "1"}),
        engine.Event("begin", "time >= 0", {"Y": "Y + 2"}, is_initially_true=False),
    )
    ensemble = solve(model)
    truth = np.where(TS < 4.25, grown(TS), grown(TS - 4.25))
    kick = grown(10 - 4.25) + 5.0
    truth = np.where(TS >= 10, grown(TS - 10, kick), truth)
    np.testing.assert_allclose(ensemble["X"][0], truth, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(ensemble["Y"][0], [2.0] * 30 + [7.0])


@pytest.mark.full
def test_a_variable_that_events_change_drives_a_rate_and_is_recorded():
    model = engine.ReactionNetwork(
        species={"X": 0},
        reactions=[engine.Reaction("0 -> X", engine.Formula("rate * X + 1"))],
        variables=[engine.Variable("rate", 0.0)],
        events=[engine.Event("on", "time >= 2", {"rate": "0.5 + rate"})],
    )
    ensemble = solve(model, [1.0, 2.0, 4.0])
    np.testing.assert_allclose(ensemble["rate"][0], [0.0, 0.5, 0.5])
    truth = [1.0, 2.0, 4.0 * np.exp(1.0) - 2.0]
    np.testing.assert_allclose(ensemble["X"][0], truth, rtol=1e-8)


def test_delays_persistence_and_values_of_the_trigger_time():
    """X passes 30 at `first` and is back below 30 a moment later, by another event."""
    first = until(30.0)
    parts = {"delay": "2", "is_initially_true": True}
    model = growth(
        engine.Event("kept", "X > 30", {"Y": "Y + X"}, **parts),
        engine.Event("late", "X > 30", {"Z": "X"}, uses_trigger_time_values=False, **parts),
        engine.Event("cancelled", "X > 30", {"W": "1"}, is_persistent=False, **parts),
        engine.Event("back", "X > 30", {"X": "0"}, delay="0.5"),
        variables=[engine.Variable("Z", -1.0), engine.Variable("W", -1.0)],
    )
    ts = [first + 1.9, first + 2.1]
    ensemble = solve(model, ts)
    np.testing.assert_allclose(ensemble["Y"][0], [0.0, 30.0], atol=1e-7)
    np.testing.assert_allclose(ensemble["Z"][0], [-1.0, grown(1.5)], rtol=1e-7)
    np.testing.assert_array_equal(ensemble["W"][0], [-1.0, -1.0])


def test_priorities_and_cascades_at_one_time():
    def event(name, trigger, digit, priority, **more):
        changes = {"order": f"10 * order + {digit}", **more}
        return engine.Event(
            name, trigger, changes, priority=priority, uses_trigger_time_values=False
        )

    model = engine.ReactionNetwork(
        species={"A": 0},
        reactions=[engine.Reaction("0 -> A", engine.MassAction(0.0))],
        variables=[engine.Variable("order", 0.0)],
        events=[
            event("low", "time >= 1", 1, "1"),
            event("high", "time >= 1", 2, "5", A="3"),
            event("after", "A > 2", 3, "3"),
        ],
    )
    assert solve(model, [0.5, 2.0])["order"][0].tolist() == [0.0, 231.0]


@pytest.mark.full
def test_two_conditions_in_one_step_are_met_in_their_order_in_time():
    """The second of the list is met first, and only then counts what the first does."""
    model = growth(
        engine.Event("later", "X > 50.001", {"Y": "10 * Y + 1"}),
        engine.Event("sooner", "X > 50", {"Y": "10 * Y + 2"}),
    )
    assert solve(model, [20.0])["Y"][0, 0] == pytest.approx(21.0)


def test_a_rescue_dose_into_an_input_and_into_a_species():
    model = network(
        {"X": 0, "Y": 0},
        [("0 -> X", "10 + drug"), ("X -> 0", engine.MassAction(0.1))],
        inputs=["drug"],
        events=[engine.Event("rescue", "X > 50", doses={"drug": "8", "Y": "3"})],
    )
    drug = engine.OneCompartment(clearance=2.0, volume=4.0)
    ensemble = solve(model, inputs={"drug": drug}, num=2)
    first = until(50.0)
    since = np.maximum(TS - first, 0.0)
    truth = grown(TS) + 2.0 * (np.exp(-0.1 * since) - np.exp(-0.5 * since)) / 0.4
    np.testing.assert_allclose(ensemble["X"][1], truth, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(ensemble["Y"][1], np.where(first < TS, 3.0, 0.0))


def test_patients_meet_a_condition_at_their_own_times():
    rates = np.array([0.0, 10.0, 20.0, 40.0])
    model = network(
        {"X": 0, "Y": 0},
        [("0 -> X", engine.MassAction("k")), ("X -> 0", 0.1)],
        parameters={"k": 10.0},
        events=[engine.Event("mark", "X >= limit", {"Y": "time"})],
        variables=[engine.Variable("limit", 60.0)],
    )
    ensemble = solve(model, [40.0], 4, params={"k": rates})
    with np.errstate(divide="ignore", invalid="ignore"):
        truth = np.nan_to_num(-10.0 * np.log(1 - 60.0 / (10 * rates)), nan=0.0, posinf=0.0)
    truth[rates * 10 <= 60] = 0.0
    np.testing.assert_allclose(ensemble["Y"][:, 0], truth, rtol=1e-9)


@pytest.mark.full
def test_a_threshold_that_is_only_approached_is_not_met():
    model = growth(engine.Event("never", "X >= 100.001", {"Y": "1"}))
    assert solve(model, [500.0])["Y"][0, 0] == 0.0


# Troughs.


@pytest.mark.full
def test_troughs_and_doses_at_save_times():
    decay = network({"X": 100}, [("X -> 0", 0.3)])
    regimen = engine.Regimen([engine.Dose(50, time=t, into="X") for t in (0.0, 4.0)])
    ts = np.array([0.0, 4.0, 6.0])
    before = solve(decay, ts, regimen=regimen, is_trough_saved=True)["X"][0]
    after = solve(decay, ts, regimen=regimen)["X"][0]
    at_four = 150 * np.exp(-1.2)
    np.testing.assert_allclose(before, [100.0, at_four, (at_four + 50) * np.exp(-0.6)], rtol=1e-8)
    np.testing.assert_allclose(after - before, [50.0, 50.0, 0.0], atol=1e-7)


# Tallies.


def test_tallies_of_a_peak_against_closed_forms():
    """A -> B -> 0: B = k a (e^{-k t} - e^{-g t}) / (g - k), at its peak at ln(g / k) / (g - k)."""
    model = network({"A": 100, "B": 0}, [("A -> B", 0.5), ("B -> 0", 0.2)])
    tallies = {
        "peak": engine.Maximum("B"),
        "least": engine.Minimum("B + 2 * A"),
        "auc": engine.TimeIntegral("B + time"),
        "first": engine.FirstPassage("B >= 30"),
        "never": engine.FirstPassage("B > 90"),
        "at once": engine.FirstPassage("A > 99"),
        "above": engine.Occupation("B > 30 and time < 3.5"),
    }
    found = solve(model, [1.0, 20.0], tallies=tallies).tallies
    peak_time = np.log(2.5) / 0.3

    def b(t):
        return 500 / 3 * (np.exp(-0.2 * t) - np.exp(-0.5 * t))

    first = brentq(lambda t: b(t) - 30, 0, peak_time, xtol=1e-13)
    assert brentq(lambda t: b(t) - 30, peak_time, 20) > 3.5
    np.testing.assert_allclose(found["peak"], b(peak_time), rtol=1e-9)
    np.testing.assert_allclose(found["least"], b(20) + 200 * np.exp(-10), rtol=1e-8)
    auc = 500 / 3 * ((1 - np.exp(-4)) / 0.2 - (1 - np.exp(-10)) / 0.5) + 200.0
    np.testing.assert_allclose(found["auc"], auc, rtol=1e-9)
    np.testing.assert_allclose(found["first"], first, rtol=1e-8)
    assert found["never"][0] == np.inf and found["at once"][0] == 0.0
    np.testing.assert_allclose(found["above"], 3.5 - first, rtol=1e-8)
    twin = 500 / 3.04 * (np.exp(-0.2 * peak_time) - np.exp(-0.504 * peak_time))
    assert abs(found["peak"][0] / twin - 1) > 1e-3


def test_tallies_see_both_sides_of_a_dose_and_an_event():
    model = network(
        {"X": 100}, [("X -> 0", 0.3)], events=[engine.Event("cut", "time >= 8", {"X": "1"})]
    )
    regimen = engine.Regimen([engine.Dose(200, time=5.0, into="X")])
    tallies = {
        "max": engine.Maximum("X"),
        "min": engine.Minimum("X"),
        "low": engine.Occupation("X < 50"),
        "first": engine.FirstPassage("X > 150"),
    }
    found = solve(model, [9.0], regimen=regimen, tallies=tallies).tallies
    at_five = 100 * np.exp(-1.5)
    np.testing.assert_allclose(found["max"], at_five + 200, rtol=1e-8)
    np.testing.assert_allclose(found["min"], np.exp(-0.3), rtol=1e-8)
    np.testing.assert_allclose(found["low"], 5 - np.log(2) / 0.3 + 1.0, rtol=1e-8)
    np.testing.assert_allclose(found["first"], 5.0)


@pytest.mark.full
def test_every_turn_of_an_oscillation_is_seen():
    """x'' = -x by rate rules, amplitude growing: the last crest counts, not a saved point."""
    model = engine.ReactionNetwork(
        species=[engine.Species("U", 1.0, is_boundary=True, is_continuous=True)],
        variables=[engine.Variable("V", 0.0)],
        rate_rules=[engine.RateRule("U", "0.01 * U - V"), engine.RateRule("V", "U + 0.01 * V")],
    )
    tallies = {"max": engine.Maximum("U"), "min": engine.Minimum("U")}
    found = solve(model, [20.0], tallies=tallies).tallies
    # U = e^{0.01 t} cos t turns where tan t = 0.01.
    turns = np.arctan(0.01) + np.pi * np.arange(7)
    extrema = np.exp(0.01 * turns) * np.cos(turns)
    np.testing.assert_allclose(found["max"], extrema.max(), rtol=1e-8)
    np.testing.assert_allclose(found["min"], extrema.min(), rtol=1e-8)


@pytest.mark.full
def test_a_rest_is_no_endless_sequence_of_turns():
    tallies = {"max": engine.Maximum("X"), "min": engine.Minimum("X")}
    found = solve(growth(), [2000.0], tallies=tallies, method=engine.ODE()).tallies
    np.testing.assert_allclose([found["max"][0], found["min"][0]], [100.0, 0.0], atol=1e-5)


@pytest.mark.full
def test_times_of_passage_count_from_time_zero_after_a_start():
    tallies = {"first": engine.FirstPassage("X > 50"), "auc": engine.TimeIntegral("X")}
    found = solve(growth(), [15.0], tallies=tallies, start=5.0).tallies
    np.testing.assert_allclose(found["first"], 5.0 + until(50.0), rtol=1e-8)
    np.testing.assert_allclose(found["auc"], 1000 - 1000 * (1 - np.exp(-1)), rtol=1e-8)


# Refusals and failures.


def test_what_cannot_be_followed_is_refused_by_name():
    at_once = growth(engine.Event("pulse", "time == 3", {"Y": "1"}))
    with pytest.raises(InvalidInput, match=r"event 'pulse'.*'time == 3'.*equality"):
        solve(at_once)
    number = growth(engine.Event("count", "X", {"Y": "1"}))
    with pytest.raises(InvalidInput, match=r"event 'count'.*'X' is no comparison.*X > 0"):
        solve(number)
    with pytest.raises(InvalidInput, match=r"tally 'n' is a FiringCount.*TimeIntegral"):
        solve(growth(), tallies={"n": engine.FiringCount("r0")})
    with pytest.raises(InvalidInput, match=r"tally 'a' mentions 'Z'"):
        solve(growth(), tallies={"a": engine.Maximum("Z")})
    with pytest.raises(InvalidInput, match=r"tally FirstPassage: 'X == 3'"):
        solve(growth(), tallies={"a": engine.FirstPassage("X == 3")})


@pytest.mark.full
def test_events_without_end_and_too_many_waiting_are_a_status():
    model = growth(
        engine.Event("up", "Y < 1", {"Y": "1"}, is_initially_true=False),
        engine.Event("down", "Y >= 1", {"Y": "0"}),
    )
    with pytest.raises(engine.SimulationFailed, match="trigger each other"):
        solve(model)
    waiting = growth(
        engine.Event("cut", "X > 1", {"X": "0"}),
        engine.Event("wait", "X > 0.5", {"Y": "1"}, delay="1000"),
    )
    with pytest.raises(engine.SimulationFailed, match="pending"):
        solve(waiting)
    with pytest.raises(engine.SimulationFailed, match="solver"):
        solve(growth(engine.Event("cut", "X > 1", {"X": "0"})), method=engine.ODE(max_steps=2))


@pytest.mark.full
def test_new_values_do_not_recompile():
    model = growth(engine.Event("cut", "X > 50", {"X": "10"}))
    solve(model, [1.0, 2.0])
    before = ode.ode_course.solve_chunk._cache_size()
    solve(model, [2.0, 3.0], x0={"X": 4})
    assert ode.ode_course.solve_chunk._cache_size() == before
