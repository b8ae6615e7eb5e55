"""Tangents of inputs against central differences of their closed forms, and in a lane."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import engine
from engine import Dose, Regimen
from engine.dosing.dose import Reset
from engine.dosing.schedule import compile_schedule, concentration
from engine.dosing.starting import starting_at
from engine.errors import InvalidInput
from engine.gradient import PharmacokineticParameter
from engine.gradient.arguments import Arguments, stops_of
from engine.gradient.shadows import pharmacokinetic
from engine.inputs.modes import ModalResponse
from engine.inputs.tangent import ModalTangent
from engine.kernel import levels
from engine.kernel.levels import Levels
from tests.simulation import network, run

MODEL = network({"X": 0}, [("0 -> X", engine.Formula("drug"))], inputs=["drug"])
TS = np.linspace(0.1, 9.0, 90)
BODY = engine.TwoCompartment(
    2.0,
    np.array([2.0, 3.0]),
    intercompartmental_clearance=0.6,
    peripheral_volume=1.5,
    absorption=2.5,
    bioavailability=0.7,
    baseline=0.3,
)
SLOW = engine.OneCompartment(1.0, np.array([2.0, 5.0]), absorption=engine.ZeroOrder(0.7))
DOSE = {"into": "drug"}
REGIMENS = {
    "boluses": [Dose(3.0, 0.0, **DOSE), Dose(2.0, 2.5, **DOSE, interval=1.0, additional=2)],
    "infusion": [Dose(3.0, 0.5, **DOSE, duration=2.0), Dose(1.0, 4.0, **DOSE)],
    "steady": [Dose(3.0, 0.5, **DOSE, interval=2.0, is_steady_state=True)],
    "steady infusion": [Dose(3.0, 0.5, **DOSE, interval=2.0, duration=1.0, is_steady_state=True)],
    "reset": [Dose(3.0, 0.0, **DOSE), Reset(1.5), Dose(2.0, 2.5, **DOSE)],
}
NUMBERS = ("clearance", "volume", "peripheral_volume", "absorption", "bioavailability", "baseline")


def arguments_of(pk: Any, regimen: Any) -> Arguments:
    key = np.array([0, 1], np.uint32)
    return Arguments(MODEL, stops_of(TS), key, 2, inputs={"drug": pk}, regimen=Regimen(regimen))


def with_tangent(arguments: Arguments, name: str) -> Arguments:
    return pharmacokinetic(arguments, PharmacokineticParameter("drug", name), "_shadow")[0]


def course(arguments: Arguments, name: str, start: float = 0.0) -> np.ndarray:
    """An input's values, a row for every patient."""
    given = (arguments.network, arguments.inputs, arguments.regimen, 2)
    schedule = starting_at(compile_schedule(*given)[1], start)
    return concentration(schedule, name, TS[start <= TS] - start)


def differences(arguments: Arguments, name: str) -> np.ndarray:
    target = PharmacokineticParameter("drug", name)
    step = 1e-4 * target.value(arguments)
    ends = [course(target.moved(arguments, sign * step), "drug") for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * np.atleast_1d(step)[:, np.newaxis])


def cases() -> list[Any]:
    found = [(BODY, regimen, name) for regimen in REGIMENS for name in NUMBERS]
    found += [(SLOW, "boluses", name) for name in ("clearance", "volume")]
    return [
        pytest.param(*case, id=f"{case[1]}, {case[2]}, {len(case[0].volume)}") for case in found
    ]


@pytest.mark.parametrize(("pk", "regimen", "name"), cases())
def test_the_tangent_of_a_level(pk: Any, regimen: str, name: str) -> None:
    arguments = with_tangent(arguments_of(pk, REGIMENS[regimen]), name)
    expected = differences(arguments_of(pk, REGIMENS[regimen]), name)
    size = np.abs(expected).max()
    np.testing.assert_allclose(course(arguments, "_shadow"), expected, atol=1e-6 * size)
    if regimen != "reset":
        later = course(arguments, "_shadow", 3.05)
        np.testing.assert_allclose(later, expected[:, TS >= 3.05], atol=1e-6 * size)


EQUAL = engine.OneCompartment(1.0, 2.0, absorption=0.5)
# The slower of its own two rates.
MEETING = replace(BODY, volume=2.0, absorption=float(BODY.response(2).rates[1, 0]))


@pytest.mark.parametrize("pk", [EQUAL, MEETING], ids=["one compartment", "two compartments"])
@pytest.mark.parametrize("name", ["clearance", "volume", "absorption"])
def test_where_absorption_meets_elimination(pk: Any, name: str) -> None:
    """Rates that meet are moved 1% apart, and so is what is differentiated."""
    arguments = with_tangent(arguments_of(pk, REGIMENS["boluses"]), name)
    target = PharmacokineticParameter("drug", name)
    # Differences far wider than the distance that they are moved to.
    step = 0.1 * target.value(arguments)
    plain = arguments_of(pk, REGIMENS["boluses"])
    ends = [course(target.moved(plain, sign * step), "drug") for sign in (2, 1, -1, -2)]
    expected = (-ends[0] + 8 * ends[1] - 8 * ends[2] + ends[3]) / (12 * step)
    size = np.abs(expected).max()
    np.testing.assert_allclose(course(arguments, "_shadow"), expected, atol=0.02 * size)


def test_what_is_no_tangent_is_refused() -> None:
    pk = ModalResponse(np.array([[0.5]]), np.array([[1.0]]), duration=np.array([0.7]))
    with pytest.raises(InvalidInput, match="end of the absorption"):
        with_tangent(arguments_of(pk, REGIMENS["boluses"]), "duration")
    signed = replace(pk, duration=None, is_signed=True)
    with pytest.raises(InvalidInput, match="'drug', which can be below 0"):
        run(MODEL, TS, 2, inputs={"drug": signed})
    alone = {"drug": ModalTangent(pk, pk, np.ones(1), "other")}
    with pytest.raises(InvalidInput, match="tangent of 'other'"):
        run(MODEL, TS, 2, inputs=alone)


@pytest.mark.parametrize("name", ["clearance", "absorption"])
def test_without_the_change_of_the_rates_it_is_another(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = with_tangent(arguments_of(BODY, REGIMENS["boluses"]), name)
    expected = differences(arguments_of(BODY, REGIMENS["boluses"]), name)
    still = property(lambda self: np.zeros_like(self.higher.rates))
    monkeypatch.setattr(ModalTangent, "slopes", still)
    off = course(arguments, "_shadow") - expected
    assert np.abs(off).max() > 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("regimen", ["boluses", "infusion"])
@pytest.mark.parametrize("name", ["clearance", "absorption"])
def test_a_lane_follows_it(regimen: str, name: str) -> None:
    """At save times that split the stretches between doses, and integrated over all of them."""
    arguments = with_tangent(arguments_of(BODY, REGIMENS[regimen]), name)
    ts = np.sort(np.concatenate([TS, [1.23, 4.56]]))
    found = run(
        arguments.network,
        ts,
        2,
        inputs=arguments.inputs,
        regimen=arguments.regimen,
        tallies={
            "affine": engine.TimeIntegral("_shadow"),
            "square": engine.TimeIntegral("_shadow * _shadow"),
        },
    )
    expected = course(arguments, "_shadow")
    size = np.abs(expected).max()
    places = np.searchsorted(ts, TS)
    np.testing.assert_allclose(found["_shadow"][:, places], expected, atol=1e-5 * size)

    target = PharmacokineticParameter("drug", name)
    step = 1e-4 * target.value(arguments)

    def areas(sign: float) -> np.ndarray:
        moved = target.moved(arguments_of(BODY, REGIMENS[regimen]), sign * step)
        given = (moved.network, moved.inputs, moved.regimen, 2)
        schedule = compile_schedule(*given)[1]
        edges = np.unique([0.0, TS[-1], *schedule.times[0][np.isfinite(schedule.times[0])]])
        nodes, weights = np.polynomial.legendre.leggauss(40)
        total = np.zeros(2)
        for a, b in pairwise(edges):
            t = (a + b) / 2 + (b - a) / 2 * nodes
            total += (b - a) / 2 * concentration(schedule, "drug", t) @ weights
        return total

    area = (areas(1) - areas(-1)) / (2 * np.atleast_1d(step))
    np.testing.assert_allclose(found.tallies["affine"], area, atol=2e-6 * size * TS[-1])
    square = np.trapezoid(np.c_[[0.0, 0.0], expected] ** 2, np.r_[0.0, TS], axis=1)
    np.testing.assert_allclose(found.tallies["square"], square, rtol=2e-2)


def test_bounds_and_means_over_a_stretch() -> None:
    arguments = with_tangent(arguments_of(BODY, REGIMENS["boluses"]), "absorption")
    given = (arguments.network, arguments.inputs, arguments.regimen, 2)
    schedule = compile_schedule(*given)[1]
    first = schedule.increments[0, 0, :]
    state = Levels(
        tuple(jnp.float32(a) for a in schedule.initial[:, 0] + first),
        tuple(jnp.float32(r) for r in schedule.rates[:, 0]),
    )
    layout, size = schedule.layout, float(max(map(abs, state.amplitudes)))
    for since, length in [(0.0, 1e-3), (0.0, 0.1), (0.3, 0.4), (0.0, 3.0), (1.0, 8.0)]:
        since, length = jnp.float32(since), jnp.float32(length)
        points = np.linspace(0.0, 1.0, 2001)
        followed = [levels.values_at(layout, state, since + length * p) for p in points]
        bounds = levels.bounds_over(layout, state, since, since + length)
        means = levels.averages_over(layout, state, since, length)
        for name in ("drug", "_shadow"):
            values, (low, high) = np.array([one[name] for one in followed]), bounds[name]
            assert low <= values.min() and values.max() <= high
            assert means[name] == pytest.approx(np.trapezoid(values, points), abs=2e-6 * size)


def test_rate_equations_have_no_tangents() -> None:
    arguments = with_tangent(arguments_of(BODY, REGIMENS["boluses"]), "clearance")
    with pytest.raises(InvalidInput, match="'_shadow'"):
        run(
            arguments.network,
            TS,
            2,
            inputs=arguments.inputs,
            regimen=arguments.regimen,
            method=engine.ODE(),
        )
