"""Closed forms of modes against quadrature and against sums written out."""

import numpy as np
import pytest
from scipy.integrate import quad

from engine.errors import InvalidInput
from engine.inputs.modes import ModalResponse
from tests.inputs.closed_forms import advance, integral, value

RATES = np.array([[0.3], [2.0], [0.0]])
STATE = np.array([[1.5], [4.0], [-3.0], [0.7]])


def drug(**more) -> ModalResponse:
    return ModalResponse(np.array([[0.3], [2.0]]), np.array([[1.2], [-0.4]]), **more)


def test_value_is_the_sum_of_its_modes():
    t = 1.7
    expected = 1.5 + 4.0 * np.exp(-0.3 * t) - 3.0 * np.exp(-2.0 * t) + 0.7
    assert value(STATE, RATES, t)[0] == pytest.approx(expected, rel=1e-15)


def test_values_of_patients_at_many_times_broadcast():
    state, rates = np.repeat(STATE, 3, axis=1), np.repeat(RATES, 3, axis=1)
    ts = np.linspace(0.0, 4.0, 5)
    values = value(state[..., np.newaxis], rates[..., np.newaxis], ts)
    assert values.shape == (3, 5)
    np.testing.assert_allclose(values[1, 2], value(STATE, RATES, 2.0)[0], rtol=1e-15)


@pytest.mark.parametrize("window", [0.0, 1e-9, 0.5, 30.0])
def test_integral_equals_quadrature(window):
    expected = quad(lambda t: value(STATE, RATES, t)[0], 0.0, window, epsabs=0, epsrel=1e-12)[0]
    assert integral(STATE, RATES, window)[0] == pytest.approx(expected, rel=1e-10, abs=1e-20)


def test_infusion_tends_to_its_plateau_and_its_end_undoes_its_start():
    response = drug(bioavailability=np.array([0.5]))
    started = response.infusion(3.0)
    assert value(started, response.rates, 0.0)[0] == pytest.approx(0.0, abs=1e-15)
    plateau = 0.5 * 3.0 * (1.2 / 0.3 - 0.4 / 2.0)
    assert value(started, response.rates, 1e3)[0] == pytest.approx(plateau, rel=1e-14)
    ended = advance(started, response.rates, 2.0) - response.infusion(3.0)
    # What is left after 2 h is the bolus response integrated over the infusion.
    t = 5.0
    unit = response.bolus(1.0)
    expected = 3.0 * quad(lambda s: value(unit, response.rates, t - s)[0], 0.0, 2.0)[0]
    assert value(ended, response.rates, t - 2.0)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("interval", [0.01, 1.0, 24.0, 1e4])
def test_steady_bolus_is_the_sum_of_all_past_doses(interval):
    response = drug()
    many = np.arange(200_000) * interval
    past = response.bolus(2.0)[1:] * np.exp(-response.rates * many).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(response.steady_bolus(2.0, interval)[1:], past, rtol=1e-10)


@pytest.mark.parametrize(("duration", "interval"), [(0.5, 2.0), (2.0, 2.0), (1e-6, 0.1), (10, 5e3)])
def test_steady_infusion_is_the_sum_of_all_past_infusions(duration, interval):
    response = drug()
    many = np.arange(1, 100_000) * interval
    finished = 3.0 * response.gains / response.rates * -np.expm1(-response.rates * duration)
    decays = np.exp(-response.rates * (many - duration)).sum(axis=1, keepdims=True)
    expected = response.infusion(3.0)
    expected[1:] += finished * decays
    actual = response.steady_infusion(3.0, duration, interval)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-14)


def test_steady_states_are_periodic():
    response = drug()
    state = response.steady_infusion(3.0, 0.7, 2.0)
    ended = advance(state, response.rates, 0.7) - response.infusion(3.0)
    again = advance(ended, response.rates, 1.3) + response.infusion(3.0)
    np.testing.assert_allclose(again, state, rtol=1e-13, atol=1e-14)


def test_amounts_of_any_shape():
    response = ModalResponse(np.full((2, 5), 0.3), np.ones((2, 5)))
    assert response.bolus(1.0).shape == (3, 5)
    assert response.bolus(np.ones((7, 1))).shape == (3, 7, 5)
    assert response.infusion(np.ones((7, 1))).shape == (3, 7, 5)
    assert response.steady_infusion(np.ones((7, 1)), 1.0, np.full((7, 1), 2.0)).shape == (3, 7, 5)
    assert response.rows([1, 1, 4]).infusion(np.ones(3)).shape == (3, 3)


def test_rows_take_patients_and_keep_what_is_shared():
    response = ModalResponse(
        np.array([[0.1, 0.2, 0.3]]), np.ones((1, 1)), baseline=np.array([1.0, 2.0, 3.0])
    )
    taken = response.rows([2, 0])
    assert taken.rates.tolist() == [[0.3, 0.1]]
    assert taken.baseline.tolist() == [3.0, 1.0]
    assert drug().rows([0, 0, 0]).num_rows == 1


def test_what_is_never_cleared_cannot_be_infused():
    response = ModalResponse(np.array([[0.1, 0.0]]), np.ones((1, 2)))
    assert response.bolus(2.0).tolist() == [[0.0, 0.0], [2.0, 2.0]]
    for act in (
        lambda: response.infusion(1.0),
        lambda: response.steady_bolus(1.0, 2.0),
        lambda: response.steady_infusion(1.0, 1.0, 2.0),
    ):
        with pytest.raises(InvalidInput, match=r"clearance of patient 1 is 0.*ramp"):
            act()


def test_disagreeing_shapes_and_overlapping_steady_infusions_are_refused():
    with pytest.raises(InvalidInput, match="n_modes"):
        ModalResponse(np.ones((2, 1)), np.ones((1, 1)))
    with pytest.raises(InvalidInput, match="different patients"):
        ModalResponse(np.ones((1, 2)), np.ones((1, 3)))
    with pytest.raises(InvalidInput, match="over before the next"):
        drug().steady_infusion(1.0, 3.0, 2.0)
    with pytest.raises(InvalidInput, match="2 patients was given for 3"):
        ModalResponse(np.ones((1, 2)), np.ones((1, 1))).response(3)
