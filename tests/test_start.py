"""Trajectories that begin after time 0: earlier doses have only shaped the inputs."""

import jax
import numpy as np
import pytest

import engine
from engine.dosing.dose import Reset
from engine.dosing.schedule import compile_schedule, concentration
from engine.dosing.starting import starting_at
from tests import exact
from tests.statistics import assert_holds_and_twin_fails, check_means, check_variances

DRUG = engine.OneCompartment(clearance=[0.5, 1.0, 2.0], volume=4.0, absorption=0.9)
DRUG_ONE = engine.OneCompartment(clearance=0.5, volume=4.0, absorption=0.9)
REGIMENS = [
    engine.Regimen([engine.Dose(8.0, 0.0, into="drug"), engine.Dose(2.0, 3.0, into="drug")]),
    engine.Regimen.repeated(4.0, into="drug", every=2.5, num_doses=4),
    engine.Regimen([engine.Dose(9.0, 1.0, into="drug", duration=7.0)]),
]


def network():
    """Immigration driven by a drug, and death."""
    return engine.ReactionNetwork(
        species={"X": 0},
        parameters={"death": 0.4, "gain": 30.0},
        inputs=["drug"],
        reactions=[
            engine.Reaction("0 -> X", engine.Formula("gain * drug")),
            engine.Reaction("X -> 0", engine.MassAction("death")),
        ],
    )


def run(num_patients=3, method=None, network_=None, **options):
    options = {"inputs": {"drug": DRUG}, "regimen": REGIMENS, "ts": [5.0, 6.0, 9.0]} | options
    ts = options.pop("ts")
    return engine.simulate(
        network_ or network(),
        method or engine.Direct(),
        ts,
        num_patients=num_patients,
        key=jax.random.key(7),
        **options,
    )


@pytest.mark.parametrize("regimen", [REGIMENS, REGIMENS[0], REGIMENS[1], REGIMENS[2]])
@pytest.mark.parametrize("start", [0.0, 2.5, 3.0, 5.0, 50.0])
def test_concentrations_are_those_of_the_whole_schedule(regimen, start):
    _, whole = compile_schedule(network(), {"drug": DRUG}, regimen, 3)
    later = starting_at(whole, start)
    ts = np.array([0.0, 0.7, 2.5, 4.0])
    expected = concentration(whole, "drug", start + ts)
    np.testing.assert_allclose(concentration(later, "drug", ts), expected, rtol=1e-12, atol=1e-14)
    assert np.all(np.isinf(later.times[:, -1]))


def test_resets_and_steady_states_before_the_start():
    regimen = engine.Regimen(
        [
            engine.Dose(3.0, 0.0, into="drug", interval=2.0, is_steady_state=True),
            Reset(1.0),
            engine.Dose(5.0, 2.0, into="drug"),
        ]
    )
    _, whole = compile_schedule(network(), {"drug": DRUG}, regimen, 3)
    ts = np.array([0.0, 1.0])
    np.testing.assert_allclose(
        concentration(starting_at(whole, 4.0), "drug", ts),
        concentration(whole, "drug", 4.0 + ts),
        rtol=1e-12,
    )


def test_ensemble_is_labelled_with_absolute_times():
    ensemble = run()
    assert ensemble.ts.tolist() == [5.0, 6.0, 9.0]
    late = run(start=5.0)
    assert late.ts.tolist() == [5.0, 6.0, 9.0]
    assert np.all(late["X"][:, 0] == 0) and np.any(ensemble["X"][:, 0] > 0)
    np.testing.assert_allclose(late["drug"], ensemble["drug"], rtol=1e-5)


def moments(scale=1.0):
    """Mean and variance of X at times 6 and 9 with X(5) = 0, of patient 0."""
    _, whole = compile_schedule(network(), {"drug": DRUG_ONE}, REGIMENS[0], 1)

    def rate(t):
        return scale * 30.0 * float(concentration(whole, "drug", [5.0 + t])[0, 0])

    found = [exact.inhomogeneous_immigration_death_moments(rate, 0.4, t) for t in (1.0, 4.0)]
    return [m.mean for m in found], [m.variance for m in found]


def test_law_from_the_start():
    one = {"start": 5.0, "inputs": {"drug": DRUG_ONE}, "regimen": REGIMENS[0]}
    found = run(1, num_replicates=60_000, **one)["X"][:, 1:].astype(float)
    (mean, variance), (wrong, _) = moments(), moments(1.02)
    assert_holds_and_twin_fails(lambda expected: check_means(found, expected), mean, wrong)
    assert check_variances(found, variance)


def test_ode_from_the_start():
    found = run(1, engine.ODE(), start=5.0, inputs={"drug": DRUG_ONE}, regimen=REGIMENS[0])["X"]
    np.testing.assert_allclose(found[0, 1:], moments()[0], rtol=1e-6)


def test_a_dose_at_the_start_is_given_and_first_passage_counts_from_time_zero():
    decay = engine.ReactionNetwork(
        species={"X": 1000},
        parameters={"k": 0.3},
        reactions=[engine.Reaction("X -> 0", engine.MassAction("k"))],
    )
    options = {"inputs": None, "ts": [10.0, 12.0], "start": 10.0, "network_": decay}
    found = run(
        regimen=engine.Regimen(engine.Dose(500, 10.0, into="X")),
        tallies={"low": engine.FirstPassage("X < 999"), "area": engine.TimeIntegral("X")},
        **options,
    )
    assert np.all(found["X"][:, 0] == 1500)
    assert np.all((found.tallies["low"] > 11.0) & (found.tallies["low"] < 11.8))
    assert np.all((found.tallies["area"] > 1500) & (found.tallies["area"] < 3000))
    for dose in (
        engine.Dose(5, 9.0, into="X"),
        engine.Dose(50, 9.0, into="X", duration=20.0),
    ):
        with pytest.raises(engine.InvalidInput, match=r"into species 'X' before start=10"):
            run(regimen=engine.Regimen(dose), **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"start": -1.0}, r"start is -1; it cannot be negative"),
        ({"start": float("nan")}, r"start is nan"),
        ({"start": 5.5}, r"ts goes from 5 to 9 with start=5.5"),
        ({"start": 9.0, "ts": [9.0]}, r"ts goes from 9 to 9 with start=9"),
        ({"start": 1.0, "tallies": {"a": engine.TimeIntegral("X * time")}}, r"tally 'a' mentions"),
    ],
)
def test_bad_starts(options, message):
    with pytest.raises(engine.InvalidInput, match=message):
        run(**options)


def test_clocks_are_refused_by_name():
    reactions = [engine.Reaction("X -> 0", engine.MassAction("0.3"), name="loss")]
    births = engine.Reaction("0 -> X", engine.Formula("1 + sin(time)"), name="seasonal")
    event = engine.Event("pulse", "time >= 7", assignments={"X": "0"})
    for options, message in (
        ({"reactions": [births]}, "reaction 'seasonal' mentions 'time'"),
        ({"events": [event], "reactions": reactions}, "event 'pulse' mentions 'time'"),
        (
            {"assignment_rules": {"y": "X * time"}, "reactions": reactions},
            "rule of 'y' mentions 'time'",
        ),
    ):
        clocked = engine.ReactionNetwork(species={"X": 5}, **options)
        with pytest.raises(engine.InvalidInput, match=message):
            run(network_=clocked, inputs=None, regimen=None, start=1.0)
