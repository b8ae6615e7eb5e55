"""The compiled table: merging, padding, patients, species, refusals."""

import numpy as np
import pytest

from engine.dosing.dose import Dose, Reset
from engine.dosing.pharmacokinetics import ConstantLevel, OneCompartment, TwoCompartment, ZeroOrder
from engine.dosing.regimen import Regimen
from engine.dosing.schedule import DosingSchedule, compile_schedule, concentration
from engine.errors import InvalidInput
from engine.inputs.modes import ModalResponse
from engine.network.network import ReactionNetwork
from engine.network.quantities import Species
from engine.network.rate_laws import Formula
from engine.network.reactions import Reaction
from tests.dosing.compartments import Body, truth

NETWORK = ReactionNetwork(
    species=[Species("X"), Species("Y"), Species("held", 5, is_constant=True)],
    inputs=["IL2", "IL6"],
    reactions=[Reaction("0 -> X", Formula("IL2 + IL6")), Reaction("Y -> 0", Formula("Y"))],
)
IL2 = OneCompartment(1.0, 2.0, baseline=0.25)
IL6 = TwoCompartment(1.3, 4.0, 0.8, 9.0, absorption=0.6, bioavailability=0.5)
INPUTS = {"IL2": IL2, "IL6": IL6}
TS = np.linspace(0.0, 30.0, 121)


def compiled(regimen, inputs=None, num_patients: int = 1) -> DosingSchedule:
    return compile_schedule(NETWORK, inputs or INPUTS, regimen, num_patients)[1]


def walked(schedule: DosingSchedule, patient: int, t: float) -> np.ndarray:
    """The flat state at a time, by walking the table exactly as a lane would."""
    row = schedule.rows([patient])
    owners = [row.layout.owner(entry) for entry in range(row.layout.total)]
    state, now = row.initial[:, 0], 0.0
    for record, due in enumerate(row.times[0]):
        if due > t:
            break
        state = state * np.exp(-row.rates[:, 0] * (due - now))
        state = state * row.keep[0, record, owners] + row.increments[0, record]
        now = due
    return state * np.exp(-row.rates[:, 0] * (t - now))


def test_a_network_without_doses_has_an_empty_table():
    schedule = compiled(None)
    assert schedule.layout.names == ("IL2", "IL6")
    assert schedule.layout.num_modes == (1, 3)
    assert schedule.times.tolist() == [[np.inf]]
    assert schedule.initial[:, 0].tolist() == [0.25, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert schedule.rates[[0, 2], 0].tolist() == [0.0, 0.0]
    assert schedule.species == ()
    assert schedule.species_increments.shape == (1, 1, 0)
    assert schedule.is_bolus_exact == (True, True)
    np.testing.assert_array_equal(concentration(schedule, "IL2", TS), np.full((1, 121), 0.25))


def test_a_network_without_inputs_can_be_dosed():
    network = ReactionNetwork(species={"X": 0}, reactions=[Reaction("X -> 0", Formula("X"))])
    same, schedule = compile_schedule(network, {}, Regimen(Dose(3, 2.0, into="X")), 5)
    assert same is network
    assert schedule.layout.total == 0
    assert schedule.species == ("X",)
    assert schedule.species_increments.tolist() == [[[3], [0]]]
    assert schedule.increments.shape == (1, 2, 0)


def test_what_happens_at_one_time_is_one_record():
    regimen = Regimen(
        [
            Dose(4.0, 5.0, into="IL2"),
            Dose(2.0, 5.0, into="IL2"),
            Dose(1.0, 2.0, into="IL2", duration=3.0),
            Dose(7.0, 5.0, into="IL6"),
            Dose(3.0, 5.0, into="Y"),
        ]
    )
    schedule = compiled(regimen)
    assert schedule.times.tolist() == [[2.0, 5.0, np.inf]]
    alone = compiled(Regimen(Dose(7.0, 5.0, into="IL6")))
    np.testing.assert_array_equal(schedule.increments[0, 1, 2:], alone.increments[0, 0, 2:])
    expected = truth(Body(1.0, 2.0, baseline=0.25), Regimen(regimen.doses[:3]), TS)
    np.testing.assert_allclose(concentration(schedule, "IL2", TS)[0], expected, atol=1e-9)
    assert schedule.species_increments.tolist() == [[[0], [3], [0]]]


def test_the_table_walked_by_a_lane_gives_the_concentration():
    regimen = Regimen.repeated(6.0, into="IL6", every=5.0, num_doses=3, duration=7.0)
    regimen += Regimen(Dose(3.0, 4.0, into="IL2", interval=6.0, is_steady_state=True))
    schedule = compiled(regimen)
    for t in (0.0, 3.9, 4.0, 11.0, 29.0):
        state = walked(schedule, 0, t)
        np.testing.assert_allclose(state[:2].sum(), concentration(schedule, "IL2", [t]), rtol=1e-13)
        np.testing.assert_allclose(
            state[2:].sum(), concentration(schedule, "IL6", [t])[0, 0], rtol=1e-12, atol=1e-15
        )


def test_a_save_time_at_a_dose_is_after_the_dose():
    schedule = compiled(Regimen(Dose(4.0, 5.0, into="IL2")))
    before, at = concentration(schedule, "IL2", [np.nextafter(5.0, 0.0), 5.0])[0]
    assert (before, at) == (0.25, 2.25)


def test_unit_bolus_gains_are_what_a_dose_adds():
    schedule = compiled(Regimen([Dose(1.0, 5.0, into="IL2"), Dose(1.0, 5.0, into="IL6")]))
    np.testing.assert_array_equal(schedule.gains[:, 0], schedule.increments[0, 0])


def test_a_steady_state_forgets_its_own_input_and_stops_its_infusions():
    regimen = Regimen(
        [
            Dose(9.0, 1.0, into="IL2", duration=10.0),
            Dose(9.0, 1.0, into="IL6", duration=10.0),
            Dose(2.0, 6.0, into="IL2", interval=4.0, is_steady_state=True),
        ]
    )
    schedule = compiled(regimen)
    assert schedule.times.tolist() == [[1.0, 6.0, 11.0, np.inf]]
    assert schedule.keep.tolist() == [[[1, 1], [0, 1], [1, 1], [1, 1]]]
    later = TS[TS >= 6.0]
    only = truth(Body(1.0, 2.0, baseline=0.25), Regimen(regimen.doses[2]), later, 60)
    np.testing.assert_allclose(concentration(schedule, "IL2", later)[0], only, atol=1e-9)
    untouched = compiled(Regimen(regimen.doses[1]))
    np.testing.assert_allclose(
        concentration(schedule, "IL6", TS), concentration(untouched, "IL6", TS), atol=1e-14
    )


def test_a_reset_returns_every_input_to_its_baseline_and_keeps_doses_at_its_time():
    regimen = Regimen(
        [
            Dose(9.0, 1.0, into="IL2", duration=10.0),
            Dose(9.0, 1.0, into="IL6"),
            Dose(2.0, 6.0, into="IL2"),
            Reset(6.0),
            Reset(20.0),
        ]
    )
    schedule = compiled(regimen)
    assert schedule.times.tolist() == [[1.0, 6.0, 20.0, np.inf]]
    later = TS[TS >= 6.0]
    expected = 0.25 + np.where(later < 20.0, np.exp(-0.5 * (later - 6.0)), 0.0)
    np.testing.assert_allclose(concentration(schedule, "IL2", later)[0], expected, rtol=1e-14)
    assert concentration(schedule, "IL6", later).tolist() == [[0.0] * later.size]


def test_an_infusion_that_ends_as_a_reset_happens_is_cut_short():
    schedule = compiled(Regimen([Dose(9.0, 1.0, into="IL2", duration=5.0), Reset(6.0)]))
    assert concentration(schedule, "IL2", [6.0, 9.0]).tolist() == [[0.25, 0.25]]


def test_a_shared_regimen_with_individual_pharmacokinetics_keeps_one_table_of_times():
    inputs = {"IL2": OneCompartment(np.array([1.0, 2.0, 4.0]), 2.0), "IL6": IL6}
    schedule = compiled(Regimen.repeated(3.0, into="IL2", every=5.0, num_doses=2), inputs, 3)
    assert schedule.times.shape == (1, 3)
    assert schedule.keep.shape == (1, 3, 2)
    assert schedule.increments.shape == (3, 3, 6)
    assert schedule.rates.shape == schedule.initial.shape == schedule.gains.shape == (6, 3)
    assert schedule.species_increments.shape == (1, 3, 0)


def test_individual_regimens_are_padded_and_equal_each_alone():
    regimens = [
        Regimen(),
        Regimen.repeated(3.0, into="IL2", every=5.0, num_doses=4, duration=6.0),
        Regimen([Dose(2.0, 1.0, into="IL6"), Dose(4, 1.0, into="X"), Reset(9.0)]),
        Regimen(Dose(1.0, 2.0, into="IL2", interval=3.0, additional=2, is_steady_state=True)),
    ]
    clearance = np.array([1.0, 2.0, 0.5, 3.0])
    inputs = {"IL2": OneCompartment(clearance, 2.0, baseline=0.1 * clearance), "IL6": IL6}
    schedule = compiled(regimens, inputs, 4)
    assert schedule.times.shape == (4, 9)
    assert np.isinf(schedule.times[:, -1]).all()
    assert (np.diff(np.where(np.isinf(schedule.times), 1e9, schedule.times), axis=1) >= 0).all()
    for i, regimen in enumerate(regimens):
        pk = OneCompartment(clearance[i], 2.0, baseline=0.1 * clearance[i])
        alone = compiled(regimen, {"IL2": pk, "IL6": IL6})
        num_records = alone.times.shape[1]
        np.testing.assert_array_equal(schedule.times[i, :num_records], alone.times[0])
        np.testing.assert_array_equal(schedule.increments[i, :num_records], alone.increments[0])
        np.testing.assert_array_equal(schedule.keep[i, :num_records], alone.keep[0])
        for name in ("IL2", "IL6"):
            np.testing.assert_array_equal(
                concentration(schedule, name, TS)[i], concentration(alone, name, TS)[0]
            )
    assert schedule.species_increments.sum(axis=(1, 2)).tolist() == [0, 0, 4, 0]


def test_equal_regimens_are_shared_again():
    dose = {"into": "IL2"}
    schedule = compiled([Regimen(Dose(1.0, **dose)), Regimen(Dose(1.0, **dose))], num_patients=2)
    assert schedule.times.shape == (1, 2)


def test_rows_take_patients_and_keep_what_is_shared():
    inputs = {"IL2": OneCompartment(np.array([1.0, 2.0, 4.0]), 2.0), "IL6": IL6}
    schedule = compiled(Regimen.repeated(3.0, into="IL2", every=5.0, num_doses=2), inputs, 3)
    taken = schedule.rows([2, 0, 0])
    assert taken.times is schedule.times
    np.testing.assert_array_equal(taken.increments, schedule.increments[[2, 0, 0]])
    np.testing.assert_array_equal(
        concentration(taken, "IL2", TS), concentration(schedule, "IL2", TS)[[2, 0, 0]]
    )


def test_padding_changes_nothing():
    regimen = Regimen([Dose(3.0, 5.0, into="IL2"), Dose(2, 5.0, into="X")])
    schedule = compiled(regimen)
    longer = schedule.padded(8)
    assert longer.times.shape == (1, 8)
    assert longer.species_increments.shape == (1, 8, 1)
    assert longer.keep.shape == (1, 8, 2)
    np.testing.assert_array_equal(
        concentration(longer, "IL2", TS), concentration(schedule, "IL2", TS)
    )
    with pytest.raises(InvalidInput, match="has 8 records, not 3"):
        longer.padded(3)


def test_a_slab_of_patients_at_a_time_gives_the_same(monkeypatch):
    inputs = {"IL2": OneCompartment(np.linspace(1.0, 2.0, 50), 2.0), "IL6": IL6}
    regimen = Regimen.repeated(3.0, into="IL2", every=5.0, num_doses=9, duration=7.0)
    whole = compiled(regimen, inputs, 50)
    monkeypatch.setattr("engine.dosing.increments._SLAB", 100)
    np.testing.assert_array_equal(compiled(regimen, inputs, 50).increments, whole.increments)


def test_an_infusion_into_a_species_is_an_input_and_a_reaction():
    regimen = Regimen([Dose(30.0, 2.0, into="Y", duration=6.0), Dose(5, 1.0, into="Y")])
    network, schedule = compile_schedule(NETWORK, INPUTS, regimen, 1)
    assert [i.name for i in network.inputs] == ["IL2", "IL6", "infusion_into_Y"]
    assert network.reactions[-1].equation == "0 -> Y"
    assert str(network.reactions[-1].propensity) == "infusion_into_Y"
    assert schedule.layout.num_modes == (1, 3, 0)
    assert schedule.is_bolus_exact == (True, True, False)
    rate = concentration(schedule, "infusion_into_Y", [1.0, 2.0, 7.9, 8.0])
    assert rate.tolist() == [[0.0, 5.0, 5.0, 0.0]]
    assert schedule.species == ("Y",)
    assert schedule.species_increments.tolist() == [[[5], [0], [0], [0]]]
    assert NETWORK.inputs[-1].name == "IL6"


def test_a_modal_response_of_ones_own_can_be_an_input():
    own = ModalResponse(np.array([[0.5]]), np.array([[0.5]]), baseline=np.array([0.25]))
    regimen = Regimen.repeated(3.0, into="IL2", every=5.0, num_doses=4, duration=6.0)
    mine, theirs = compiled(regimen, {**INPUTS, "IL2": own}), compiled(regimen)
    np.testing.assert_allclose(mine.increments, theirs.increments, rtol=1e-15)


def test_a_placebo_changes_nothing():
    regimen = Regimen([Dose(0.0, 1.0, into="IL2"), Dose(0.0, 1.0, into="IL2", rate=3.0)])
    assert not compiled(regimen).increments.any()


def test_many_overlapping_infusions_end_where_they_began():
    regimen = Regimen.repeated(0.1, into="IL6", every=0.1, num_doses=300, duration=1.7)
    schedule = compiled(regimen)
    after = concentration(schedule, "IL6", [1e3])[0, 0]
    assert after <= 1e-13 * concentration(schedule, "IL6", TS).max()


@pytest.mark.parametrize(
    ("regimen", "inputs", "num_patients", "message"),
    [
        (None, {"IL2": IL2}, 1, r"input 'IL6' of network has no pharmacokinetics; give"),
        (None, {**INPUTS, "IL7": IL2}, 1, r"inputs=: 'IL7' is not a input.*did you mean 'IL"),
        (None, {**INPUTS, "IL6": 3.0}, 1, r"input 'IL6' is 3.0; give OneCompartment"),
        (Regimen(Dose(1, into="IL22")), INPUTS, 1, r"dose: 'IL22' is not.*did you mean 'IL2'"),
        ([Regimen()] * 2, INPUTS, 3, r"2 regimens for 3 patients"),
        ([Dose(1.0, into="IL2")], INPUTS, 1, r"regimen 0 is Dose"),
        (Regimen(Dose(1.5, into="X")), INPUTS, 1, r"1.5 into species 'X'.*whole molecules"),
        (Regimen(Dose(1e17, into="X")), INPUTS, 1, r"species 'X'.*cannot be counted"),
        (
            Regimen(Dose(1, into="X", interval=1.0, is_steady_state=True)),
            INPUTS,
            1,
            r"species 'X': a steady state is of a drug",
        ),
        (
            Regimen(Dose(1, into="X", interval=2.0, duration=1.0, is_steady_state=True)),
            INPUTS,
            1,
            r"species 'X': a steady state is of a drug",
        ),
        (Regimen(Dose(1, into="held")), INPUTS, 1, r"species 'held' is constant"),
        (Regimen(Dose(1, into="held", duration=1.0)), INPUTS, 1, r"infusion into species 'held'"),
        (
            Regimen(Dose(1.0, into="IL2", interval=2.0, is_steady_state=True)),
            {**INPUTS, "IL2": OneCompartment(1.0, 1.0, absorption=ZeroOrder(3.0))},
            1,
            r"input 'IL2': a steady-state dose lasts 3, longer than its interval 2",
        ),
        (
            Regimen([Dose(1.0, into="IL2", interval=2.0, is_steady_state=True)] * 2),
            INPUTS,
            1,
            r"two steady-state doses into one input at one time",
        ),
        (Regimen(Dose(1.0, 1e9, into="IL2", duration=1e-9)), INPUTS, 1, r"infusion is too short"),
        (
            Regimen(Dose(1.0, into="IL2")),
            {**INPUTS, "IL2": ConstantLevel(1.0)},
            1,
            r"takes no doses",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(regimen, inputs, num_patients, message):
    with pytest.raises(InvalidInput, match=message):
        compile_schedule(NETWORK, inputs, regimen, num_patients)


def test_unknown_inputs_and_negative_times_have_no_concentration():
    schedule = compiled(None)
    with pytest.raises(InvalidInput, match="'IL22' is not an input of this schedule; did you mean"):
        concentration(schedule, "IL22", TS)
    with pytest.raises(InvalidInput, match="a time before 0"):
        concentration(schedule, "IL2", [-1.0])


def test_inputs_with_the_same_decay_rates_share_them():
    def alike(first, second, num_patients: int = 1) -> tuple[int, ...]:
        inputs = {"IL2": first, "IL6": second}
        return compiled(None, inputs, num_patients).layout.alike

    assert alike(IL2, OneCompartment(2.0, 4.0)) == (0, 0)
    assert alike(IL2, OneCompartment(1.0, 2.0 * (1 + 1e-12))) == (0, 1)
    assert alike(IL2, IL6) == (0, 1)
    volumes = np.array([2.0, 3.0])
    assert alike(OneCompartment(1.0, volumes), OneCompartment(0.5, volumes / 2), 2) == (0, 0)
    assert alike(OneCompartment(1.0, volumes), OneCompartment(1.0, 2.0), 2) == (0, 1)
    assert alike(ConstantLevel(1.0), ConstantLevel(2.0)) == (0, 0)
