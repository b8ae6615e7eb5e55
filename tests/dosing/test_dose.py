"""Doses and regimens as they are written."""

import pytest

from engine.dosing.dose import Dose, Reset
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput


def test_additional_doses_follow_at_the_interval():
    dose = Dose(5.0, 1.0, into="drug", rate=2.5, interval=8.0, additional=2)
    assert [(d.time, d.amount, d.infusion_duration) for d in dose.expanded()] == [
        (1.0, 5.0, 2.0),
        (9.0, 5.0, 2.0),
        (17.0, 5.0, 2.0),
    ]
    assert all(d.additional == 0 and d.interval is None for d in dose.expanded())


def test_only_the_first_of_repeated_doses_is_at_steady_state():
    dose = Dose(5.0, into="drug", interval=8.0, additional=2, is_steady_state=True)
    assert [d.is_steady_state for d in dose.expanded()] == [True, False, False]
    assert [d.interval for d in dose.expanded()] == [8.0, None, None]


def test_doses_compare_and_hash_by_value():
    assert Dose(5, into="drug") == Dose(5.0, 0.0, into="drug")
    assert len({Regimen(Dose(5, into="drug")), Regimen([Dose(5.0, into="drug")])}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"amount": -1.0}, "amount of the dose into 'drug' is -1; it cannot be negative"),
        ({"amount": float("nan")}, "amount of the dose into 'drug' is nan"),
        ({"time": -0.5}, "time of the dose into 'drug' is -0.5"),
        ({"rate": 0.0}, "rate of the dose into 'drug' is 0; give a positive rate"),
        ({"rate": -2.0}, "rate of the dose into 'drug' is -2"),
        ({"duration": 0.0}, "duration of the dose into 'drug' is 0"),
        ({"rate": 1.0, "duration": 1.0}, "has a rate and a duration; give one"),
        ({"interval": 0.0, "additional": 1}, "interval of the dose into 'drug' is 0"),
        ({"additional": 3}, "additional=3 without an interval"),
        ({"additional": 1.5, "interval": 1.0}, "additional of the dose into 'drug' is 1.5"),
        ({"is_steady_state": True}, "steady state without an interval"),
        ({"is_steady_state": True, "interval": 2.0, "duration": 3.0}, "longer than its interval 2"),
        ({"into": "not a name"}, "dose target name 'not a name'"),
    ],
)
def test_impossible_doses_are_refused_by_name(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        Dose(**{"amount": 1.0, "into": "drug", **arguments})


def test_regimens_add_up_and_expand_in_time():
    first = Regimen.repeated(1.0, into="a", every=10.0, num_doses=2, start=5.0, duration=1.0)
    both = first + Regimen.infusion(2.0, into="b", duration=3.0, time=7.0) + Regimen(Reset(5.0))
    expanded = both.expanded()
    assert [d.time for d in expanded] == [5.0, 5.0, 7.0, 15.0]
    assert isinstance(expanded[0], Reset)
    assert [d.infusion_duration for d in expanded[1:]] == [1.0, 3.0, 1.0]


def test_what_is_no_dose_is_refused():
    with pytest.raises(InvalidInput, match="3 is not a Dose"):
        Regimen([3])
    with pytest.raises(InvalidInput, match="3 is not a Dose"):
        Regimen(3)
    with pytest.raises(InvalidInput, match="num_doses is 0"):
        Regimen.repeated(1.0, into="a", every=1.0, num_doses=0)
    with pytest.raises(TypeError):
        Regimen() + Dose(1.0, into="a")
    with pytest.raises(InvalidInput, match="time of a reset is -1"):
        Reset(-1.0)
