"""Every form of pharmacokinetics and of dose against the ODEs of its compartments."""

import numpy as np
import pytest

from engine.dosing.dose import Dose
from engine.dosing.pharmacokinetics import (
    SPREAD,
    ConstantLevel,
    FirstOrder,
    OneCompartment,
    TwoCompartment,
    ZeroOrder,
)
from engine.dosing.regimen import Regimen
from engine.dosing.schedule import compile_schedule, concentration
from engine.errors import InvalidInput
from engine.network.network import ReactionNetwork
from engine.network.rate_laws import Formula
from engine.network.reactions import Reaction
from tests.dosing.compartments import Body, truth
from tests.inputs.closed_forms import integral, value

NETWORK = ReactionNetwork(
    species={"X": 0}, inputs=["drug"], reactions=[Reaction("0 -> X", Formula("drug"))]
)
TS = np.sort(np.concatenate([np.linspace(0.0, 60.0, 61), [3.0, 7.5, 8.0, 1e-3, 20.25]]))

BODIES = {
    "one compartment": Body(),
    "one compartment, first order": Body(ka=0.9, bioavailability=0.6, baseline=0.3),
    "one compartment, flip-flop": Body(ka=0.05),
    "one compartment, zero order": Body(absorbed_over=5.0, bioavailability=0.7, baseline=0.1),
    "two compartments": Body(exchange=0.8, peripheral=9.0),
    "two compartments, first order": Body(exchange=0.8, peripheral=9.0, ka=0.6, baseline=2.0),
    "two compartments, zero order": Body(exchange=0.8, peripheral=9.0, absorbed_over=2.5),
}
BOLUSES = {
    "bolus": Regimen(Dose(10.0, 2.0, into="drug")),
    "repeated bolus": Regimen.repeated(3.0, into="drug", every=8.0, num_doses=5),
    "steady-state bolus": Regimen(
        [
            Dose(50.0, 1.0, into="drug"),
            Dose(4.0, 3.0, into="drug", interval=6.0, additional=2, is_steady_state=True),
        ]
    ),
}
INFUSIONS = {
    "infusion": Regimen.infusion(12.0, into="drug", duration=5.5, time=2.0),
    "rate": Regimen(Dose(12.0, into="drug", rate=4.0)),
    "overlapping infusions": Regimen.repeated(
        5.0, into="drug", every=4.0, num_doses=4, duration=10.0
    )
    + Regimen.infusion(1.0, into="drug", duration=30.0, time=7.5),
    "steady-state infusion": Regimen(
        Dose(6.0, 3.0, into="drug", duration=2.0, interval=6.0, additional=1, is_steady_state=True)
    ),
    "back-to-back steady-state infusion": Regimen(
        Dose(6.0, 3.0, into="drug", duration=6.0, interval=6.0, is_steady_state=True)
    ),
}


def model(body: Body) -> OneCompartment | TwoCompartment:
    absorption = body.ka if body.absorbed_over is None else ZeroOrder(body.absorbed_over)
    more = {
        "absorption": absorption,
        "bioavailability": body.bioavailability,
        "baseline": body.baseline,
    }
    if body.exchange:
        return TwoCompartment(body.clearance, body.volume, body.exchange, body.peripheral, **more)
    return OneCompartment(body.clearance, body.volume, **more)


def compiled(pharmacokinetics, regimen: Regimen, num_patients: int = 1):
    return compile_schedule(NETWORK, {"drug": pharmacokinetics}, regimen, num_patients)[1]


def check(body: Body, regimen: Regimen, tolerance: float = 1e-9) -> None:
    actual = concentration(compiled(model(body), regimen), "drug", TS)[0]
    num_past = 150 if body.ka == 0.05 or body.exchange else 60
    expected = truth(body, regimen, TS, num_past)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * expected.max())


@pytest.mark.parametrize("regimen", BOLUSES.values(), ids=BOLUSES.keys())
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_boluses_equal_the_ode(body, regimen):
    check(body, regimen)


@pytest.mark.parametrize("regimen", INFUSIONS.values(), ids=INFUSIONS.keys())
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_infusions_equal_the_ode(body, regimen):
    if body.absorbed_over is None:
        check(body, regimen)
        return
    with pytest.raises(InvalidInput, match=r"input 'drug' has zero-order absorption"):
        compiled(model(body), regimen)


def test_a_wrong_rate_is_noticed():
    wrong = Body(clearance=1.3 * 1.0001)
    regimen = BOLUSES["repeated bolus"]
    actual = concentration(compiled(model(Body()), regimen), "drug", TS)[0]
    expected = truth(wrong, regimen, TS)
    assert np.abs(actual - expected).max() > 1e-5 * expected.max()


@pytest.mark.parametrize("ratio", [1.0, 1 + 1e-12, 1 - 1e-4, 1.004, 0.991, 1.011])
def test_equal_rates_stay_within_the_stated_error(ratio):
    bodies = [Body(clearance=2.0, volume=4.0, ka=0.5 * ratio)]
    two = Body(exchange=0.8, peripheral=9.0)
    bodies += [
        Body(exchange=0.8, peripheral=9.0, ka=float(rate) * ratio)
        for rate in model(two).response(1).rates[:, 0]
    ]
    # Hardly any exchange and k10 = k21: all three rates nearly meet.
    bodies.append(Body(clearance=2.0, volume=4.0, exchange=1e-8, peripheral=2e-8, ka=0.5 * ratio))
    for body in bodies:
        check(body, BOLUSES["bolus"], tolerance=4e-5 if body is bodies[-1] else 1e-5)
        response = model(body).response(1)
        largest = np.abs(response.gains).max()
        peak = value(response.bolus(1.0)[..., None], response.rates[..., None], TS).max()
        assert largest / peak < 3.0 / SPREAD  # what float32 lanes lose to cancellation
        area = integral(response.bolus(1.0), response.rates, 1e6)[0]
        assert area == pytest.approx(1.0 / body.clearance, rel=1e-9)


def test_rates_apart_are_left_exact():
    response = OneCompartment(1.0, 2.0, absorption=0.506).response(1)
    assert sorted(response.rates[:, 0]) == [0.5, 0.506]


def test_each_patient_has_their_own_numbers():
    clearance, ka = np.array([0.5, 1.3, 2.6]), np.array([0.4, 0.325, 3.0])
    many = TwoCompartment(clearance, 4.0, 0.8, np.array([9.0, 2.0, 5.0]), absorption=ka)
    regimen = INFUSIONS["overlapping infusions"] + BOLUSES["steady-state bolus"]
    actual = concentration(compiled(many, regimen, 3), "drug", TS)
    for i, peripheral in enumerate([9.0, 2.0, 5.0]):
        alone = TwoCompartment(clearance[i], 4.0, 0.8, peripheral, absorption=float(ka[i]))
        expected = concentration(compiled(alone, regimen), "drug", TS)[0]
        np.testing.assert_allclose(actual[i], expected, rtol=1e-12, atol=1e-14)


def test_absorption_durations_may_differ_between_patients():
    durations = np.array([1.0, 5.0, 5.0])
    regimen = BOLUSES["steady-state bolus"]
    schedule = compiled(OneCompartment(1.3, 4.0, absorption=ZeroOrder(durations)), regimen, 3)
    actual = concentration(schedule, "drug", TS)
    for i, duration in enumerate(durations):
        expected = truth(Body(absorbed_over=float(duration)), regimen, TS, 60)
        np.testing.assert_allclose(actual[i], expected, rtol=0, atol=1e-9 * expected.max())
    assert schedule.is_bolus_exact == (False,)


def test_micro_constants_are_the_same_model():
    one = OneCompartment.from_micro_constants(4.0, 0.325, absorption=0.9)
    assert one.clearance == pytest.approx([1.3])
    k12, k21 = 0.8 / 4.0, 0.8 / 9.0
    two = TwoCompartment.from_micro_constants(4.0, 0.325, k12, k21).response(1)
    expected = TwoCompartment(1.3, 4.0, 0.8, 9.0).response(1)
    np.testing.assert_allclose(two.rates, expected.rates, rtol=1e-14)
    np.testing.assert_allclose(two.gains, expected.gains, rtol=1e-13)
    many = TwoCompartment.from_micro_constants(np.array([4.0, 8.0]), 0.325, k12, k21)
    assert many.peripheral_volume == pytest.approx([9.0, 18.0])
    with pytest.raises(InvalidInput, match="k10"):
        OneCompartment.from_micro_constants(np.ones(2), np.ones(3))


def test_first_order_absorption_has_two_spellings():
    written = OneCompartment(1.0, 2.0, absorption=FirstOrder(0.9)).response(1)
    short = OneCompartment(1.0, 2.0, absorption=0.9).response(1)
    np.testing.assert_array_equal(written.gains, short.gains)


def test_a_bolus_into_a_depot_starts_at_exactly_nothing():
    for pharmacokinetics in (
        OneCompartment(1.3, 4.0, absorption=0.9),
        TwoCompartment(1.3, 4.0, 0.8, 9.0, absorption=0.9),
    ):
        response = pharmacokinetics.response(1)
        gains = response.gains[:, 0]
        assert abs(gains.sum()) <= 4e-16 * np.abs(gains).max()


def test_drug_that_is_never_cleared_can_be_given_as_a_bolus_only():
    for stuck in (OneCompartment(0.0, 4.0), TwoCompartment(0.0, 4.0, 0.8, 9.0, absorption=0.5)):
        body = (
            Body(clearance=0.0)
            if isinstance(stuck, OneCompartment)
            else Body(clearance=0.0, exchange=0.8, peripheral=9.0, ka=0.5)
        )
        actual = concentration(compiled(stuck, BOLUSES["bolus"]), "drug", TS)[0]
        expected = truth(body, BOLUSES["bolus"], TS)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9 * expected.max())
        for regimen in (INFUSIONS["infusion"], BOLUSES["steady-state bolus"]):
            with pytest.raises(InvalidInput, match=r"input 'drug': the clearance is 0.*ramp"):
                compiled(stuck, regimen)


def test_a_constant_level_stays_and_takes_no_doses():
    schedule = compiled(ConstantLevel(np.array([2.0, 3.0])), None, 2)
    assert concentration(schedule, "drug", [0.0, 9.0]).tolist() == [[2.0, 2.0], [3.0, 3.0]]
    with pytest.raises(InvalidInput, match="'drug' is a constant level"):
        compiled(ConstantLevel(2.0), BOLUSES["bolus"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneCompartment(-1.0, 2.0), "clearance is -1; it must be finite and not negative"),
        (lambda: OneCompartment(1.0, 0.0), "volume is 0; it must be finite and positive"),
        (lambda: OneCompartment(np.array([1, np.nan]), 2.0), "clearance is nan for patient 1"),
        (lambda: OneCompartment(1.0, 2.0, absorption=0.0), "absorption rate is 0"),
        (lambda: OneCompartment(1.0, 2.0, absorption="fast"), "absorption rate is 'fast'"),
        (lambda: OneCompartment(1.0, 2.0, bioavailability=1.2), "bioavailability is 1.2"),
        (lambda: OneCompartment(np.ones((2, 2)), 2.0), r"clearance has shape \(2, 2\)"),
        (lambda: ZeroOrder(-1.0), "absorption duration is -1"),
        (lambda: TwoCompartment(1.0, 2.0, 0.0, 3.0), "intercompartmental clearance is 0"),
        (lambda: TwoCompartment(1.0, 2.0, 1.0, 0.0), "peripheral volume is 0"),
        (lambda: ConstantLevel(-1.0), "level is -1"),
    ],
)
def test_impossible_numbers_are_refused_by_name(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda n: OneCompartment(1.0, n), "volume of OneCompartment"),
        (lambda n: OneCompartment(1.0, 1.0, absorption=n), "absorption of OneCompartment"),
        (lambda n: OneCompartment(1.0, 1.0, absorption=ZeroOrder(n)), "absorption of OneC"),
        (lambda n: TwoCompartment(1.0, 1.0, n, 1.0), "intercompartmental_clearance of TwoC"),
        (lambda n: ConstantLevel(n), "value of ConstantLevel"),
    ],
)
def test_another_number_of_patients_is_refused_by_name(make, name):
    with pytest.raises(InvalidInput, match=f"input 'drug': {name}.* has 3 numbers for 4 patients"):
        compiled(make(np.ones(3)), None, 4)
