"""Doses as a lane gives them: every patient its own, and nothing lost or left by float32."""

import jax
import numpy as np
import pytest

import engine
from engine import Dose, Formula, Regimen
from engine.dosing.absolute import lane_doses
from engine.dosing.schedule import compile_schedule, concentration
from tests.simulation import network, run

MODEL = network({"X": 0}, [("0 -> X", Formula("D"))], inputs=["D"])
CLEARANCE, VOLUME = np.array([1.0, 2.0, 0.5]), np.array([2.0, 4.0, 8.0])
FORMS = {
    "bolus": (Dose(30.0, 0.5, into="D"), {}),
    "absorbed": (Dose(30.0, 0.5, into="D"), {"absorption": [0.7, 1.5, 3.0]}),
    "infusion": (Dose(30.0, 0.5, into="D", duration=1.0), {}),
    "repeated": (Dose(30.0, 0.5, into="D", interval=1.0, additional=3), {}),
    "steady": (Dose(30.0, 0.5, into="D", interval=2.0, is_steady_state=True), {}),
    "available": (Dose(30.0, 0.5, into="D"), {"bioavailability": [0.2, 0.5, 1.0]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_regimen_for_patients_who_differ(form: str) -> None:
    """A dose after time 0: its effect is each patient's own, in every replicate and chunk."""
    dose, more = FORMS[form]
    pk = engine.OneCompartment(clearance=CLEARANCE, volume=VOLUME, **more)
    ts = [0.4, 0.5, 1.0, 3.0, 8.0]
    e = run(MODEL, ts, 3, num_replicates=50, inputs={"D": pk}, regimen=Regimen(dose))
    _, schedule = compile_schedule(MODEL, {"D": pk}, Regimen(dose), 3)
    expected = np.repeat(concentration(schedule, "D", ts), 50, axis=0)
    np.testing.assert_allclose(e["D"], expected, rtol=2e-5, atol=2e-6)


def test_a_baseline_survives_an_infusion() -> None:
    pk = engine.OneCompartment(clearance=0.001, volume=1.0, baseline=0.01)
    e = run(
        MODEL,
        [1.0, 3e4],
        1,
        inputs={"D": pk},
        regimen=Regimen(Dose(10.0, 0.0, into="D", duration=1.0)),
        method=engine.Direct(max_events=10**6),
    )
    assert e["D"][0, 1] == pytest.approx(0.01, rel=1e-5)


def test_infusions_that_ended_leave_nothing() -> None:
    doses = [Dose(1000 + k, 0.3 * k, into="X", duration=1.7) for k in range(30)]
    model = network({"X": 0}, [("X -> 0", 1.0)])
    e = run(model, [20.0, 1e6], 5, regimen=Regimen(doses))
    assert not e["infusion_into_X"][:, 0].any()
    assert not e["X"][:, 1].any()


def test_a_slow_elimination_keeps_its_infusion() -> None:
    """Three weeks of half-life and an hour of infusion, in seconds."""
    rate = np.log(2) / (21 * 86400)
    model = network({"X": 0}, [("0 -> X", Formula("1e-4 * D"))], inputs=["D"])
    pk = engine.OneCompartment(clearance=rate, volume=1.0)
    e = run(
        model,
        [1800.0, 3600.0, 86400.0],
        200,
        inputs={"D": pk},
        regimen=Regimen(Dose(100.0, 0.0, into="D", duration=3600.0)),
    )
    np.testing.assert_allclose(e["D"][0], [50, 100, 100 * np.exp(-rate * 82800)], rtol=1e-3)


def test_what_single_precision_cannot_follow_is_refused() -> None:
    pk = engine.OneCompartment(clearance=1e-7, volume=1.0)
    regimen = Regimen(Dose(100.0, 0.0, into="D", duration=1.0))
    with pytest.raises(engine.InvalidInput, match=r"input 'D': an infusion reaches 100 of its"):
        run(MODEL, [0.5, 10.0], 1, inputs={"D": pk}, regimen=regimen)
    e = engine.simulate(
        MODEL, engine.ODE(), [10.0], key=jax.random.key(0), inputs={"D": pk}, regimen=regimen
    )
    assert e["X"][0, 0] == pytest.approx(950.0, rel=1e-4)


def test_times_that_differ_by_rounding_are_one() -> None:
    """Doses at k * 0.1 and save times that were summed up; 0.3 and 3 * 0.1 at a save time 0.3."""
    model = network({"X": 0}, [("X -> 0", 0.0)])
    ts = np.cumsum(np.full(199, 0.1))
    e = run(model, ts, 1, regimen=Regimen(Dose(1, 0.1, into="X", interval=0.1, additional=198)))
    np.testing.assert_array_equal(e["X"][0], np.arange(1, 200))
    both = Regimen([Dose(1, 0.0, into="X"), Dose(3, 0.3, into="X"), Dose(5, 3 * 0.1, into="X")])
    for t in (0.3, 3 * 0.1):
        assert run(model, [t], 1, regimen=both)["X"][0, 0] == 9
        assert run(model, [t, 1.0], 1, regimen=both, is_trough_saved=True)["X"][0, 0] == 1


def test_rescued_inputs_keep_what_they_were_given() -> None:
    """An input that events dose has increments; one that they do not has absolute states."""
    pk = {"D": engine.OneCompartment(clearance=1.0, volume=1.0)}
    regimen = Regimen.repeated(2.0, into="D", every=1.0, num_doses=3)
    _, schedule = compile_schedule(MODEL, pk, regimen, 1)
    absolute, added = lane_doses(schedule, ()), lane_doses(schedule, {"D"})
    np.testing.assert_array_equal(absolute.keep[0, :3], 0.0)
    np.testing.assert_array_equal(added.keep[0, :3], 1.0)
    expected = 2.0 * np.array([1.0, 1 + np.exp(-1), 1 + np.exp(-1) + np.exp(-2)])
    np.testing.assert_allclose(absolute.increments[0, :3, 1], expected)
    np.testing.assert_allclose(added.increments[0, :3, 1], 2.0)


def test_a_lone_dose_is_told_how_to_become_a_regimen() -> None:
    with pytest.raises(engine.InvalidInput, match=r"is a single dose; give Regimen\("):
        run(network({"X": 0}, [("X -> 0", 1.0)]), [1.0], 1, regimen=Dose(1.0, 0.0, into="X"))
