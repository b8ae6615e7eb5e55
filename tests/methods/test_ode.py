"""The deterministic method against closed forms, scipy and its own contract."""

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from engine.dosing.dose import Dose
from engine.dosing.pharmacokinetics import ConstantLevel, OneCompartment
from engine.dosing.regimen import Regimen
from engine.dosing.schedule import compile_schedule
from engine.errors import InvalidInput
from engine.kinetics.drift import drift, resolve_parameters, state_names
from engine.methods import rate_equations
from engine.methods.ode import ODE, integrate
from engine.network.events import RateRule
from engine.network.network import ReactionNetwork
from engine.network.quantities import Parameter, Species, Variable
from engine.network.rate_laws import Formula, MassAction, MichaelisMenten
from engine.network.reactions import Reaction

BIRTH_DEATH = ReactionNetwork(
    species={"X": 0},
    parameters={"birth": 10.0, "death": 0.1},
    reactions=[
        Reaction("0 -> X", MassAction("birth")),
        Reaction("X -> 0", MassAction("death")),
    ],
)
DRIVEN = ReactionNetwork(
    species={"X": 0},
    parameters={"k": 10.0, "g": 0.1},
    inputs=["drug"],
    reactions=[Reaction("0 -> X", Formula("k * drug")), Reaction("X -> 0", MassAction("g"))],
)
TS = np.linspace(0.0, 50.0, 26)


def birth_death_mean(birth, death, x0, t):
    return birth / death + (x0 - birth / death) * np.exp(-death * t)


def infusion_response(t, rate, duration, clearance, volume, k, g):
    """X' = k c(t) - g X, X(0) = 0, with c the level under an infusion of `duration`."""
    ke, plateau = clearance / volume, rate / clearance
    during = np.minimum(t, duration)
    x = (
        k
        * plateau
        * ((1 - np.exp(-g * during)) / g - (np.exp(-ke * during) - np.exp(-g * during)) / (g - ke))
    )
    after = np.maximum(t - duration, 0.0)
    c_end = plateau * (1 - np.exp(-ke * duration))
    return x * np.exp(-g * after) + k * c_end * (np.exp(-ke * after) - np.exp(-g * after)) / (
        g - ke
    )


# Closed forms.


def test_birth_death_mean_patient_by_patient():
    death, x0 = np.array([0.1, 0.2, 1.0]), np.array([0.0, 100.0, 7.0])
    values, is_ok = integrate(ODE(), BIRTH_DEATH, TS, {"death": death}, x0[:, None])
    assert values.shape == (3, 26, 1) and values.dtype == np.float64 and is_ok.all()
    truth = birth_death_mean(10.0, death[:, None], x0[:, None], TS)
    np.testing.assert_allclose(values[:, :, 0], truth, rtol=1e-7, atol=1e-7)
    twin = birth_death_mean(10.2, death[:, None], x0[:, None], TS)
    assert not np.allclose(values[:, :, 0], twin, rtol=1e-4, atol=1e-4)


def test_infusion_that_ends_between_save_times():
    regimen = Regimen(Dose(12.0, time=0.0, into="drug", duration=3.3))
    drug = OneCompartment(clearance=2.0, volume=8.0)
    _, schedule = compile_schedule(DRIVEN, {"drug": drug}, regimen, 1)
    values, is_ok = integrate(ODE(), DRIVEN, TS, {}, np.zeros((1, 1)), schedule)
    truth = infusion_response(TS, 12.0 / 3.3, 3.3, 2.0, 8.0, 10.0, 0.1)
    assert is_ok.all()
    np.testing.assert_allclose(values[0, :, 0], truth, rtol=1e-7, atol=1e-7)
    twin = infusion_response(TS, 12.0 / 3.3, 3.3 * 1.02, 2.0, 8.0, 10.0, 0.1)
    assert not np.allclose(values[0, :, 0], twin, rtol=1e-4, atol=1e-4)


def test_individual_regimens_and_pharmacokinetics():
    """Bolus responses superpose: each patient's is the sum of the shifted single ones."""
    doses = [[(0.0, 5.0)], [(3.0, 2.0), (3.7, 4.0), (20.0, 1.0)], []]
    regimens = [Regimen([Dose(a, time=t, into="drug") for t, a in one]) for one in doses]
    clearance, volume = np.array([1.0, 2.0, 3.0]), 4.0
    drug = OneCompartment(clearance=clearance, volume=volume)
    _, schedule = compile_schedule(DRIVEN, {"drug": drug}, regimens, 3)
    values, is_ok = integrate(ODE(), DRIVEN, TS, {}, np.zeros((3, 1)), schedule)
    assert is_ok.all()
    for patient, one in enumerate(doses):
        ke, truth = clearance[patient] / volume, np.zeros_like(TS)
        for time, amount in one:
            s = np.maximum(TS - time, 0.0)
            truth += 10.0 * amount / volume * (np.exp(-ke * s) - np.exp(-0.1 * s)) / (0.1 - ke)
        np.testing.assert_allclose(values[patient, :, 0], truth, rtol=1e-7, atol=1e-7)


def test_boluses_into_a_species_are_saved_after_the_dose():
    decay = ReactionNetwork({"X": 0}, [Reaction("X -> 0", MassAction("k"))], {"k": 0.3})
    given = [(0.0, 50), (4.0, 7), (5.5, 9), (10.0, 3)]  # at the start, a save time, off it, the end
    regimen = Regimen([Dose(a, time=t, into="X") for t, a in given])
    ts = np.array([0.0, 2.0, 4.0, 6.0, 10.0])
    _, schedule = compile_schedule(decay, {}, regimen, 2)
    values, is_ok = integrate(ODE(), decay, ts, {}, np.full((2, 1), 100.0), schedule)
    truth = 100.0 * np.exp(-0.3 * ts)
    for time, amount in given:
        truth += np.where(ts >= time, amount * np.exp(-0.3 * (ts - time)), 0.0)
    assert is_ok.all()
    np.testing.assert_allclose(values, np.stack([truth, truth])[:, :, None], rtol=1e-7)


def test_later_doses_than_the_horizon_do_nothing():
    _, schedule = compile_schedule(
        DRIVEN, {"drug": ConstantLevel(1.0)}, Regimen(Dose(5, time=99.0, into="X")), 1
    )
    values, _ = integrate(ODE(), DRIVEN, TS, {}, np.zeros((1, 1)), schedule)
    np.testing.assert_allclose(values[0, :, 0], 100.0 * (1 - np.exp(-0.1 * TS)), rtol=1e-7)


def test_only_time_zero():
    values, is_ok = integrate(ODE(), BIRTH_DEATH, np.array([0.0]), {}, np.array([[3.0]]))
    assert values.tolist() == [[[3.0]]] and is_ok.tolist() == [True]


# Against scipy.


def test_stiff_nonlinear_network_against_scipy():
    network = ReactionNetwork(
        species={"P": 301, "P2": 0, "S": 1000, "Q": 0},
        parameters={"k1": 166e-3, "k2": 0.2, "v": 500.0, "km": 30.0, "fast": 1e4},
        reactions=[
            Reaction("2 P -> P2", MassAction("k1")),
            Reaction("P2 -> 2 P", MassAction("k2")),
            Reaction("S -> Q", MichaelisMenten("v", "km")),
            Reaction("Q -> 0", MassAction("fast")),
        ],
        assignment_rules={"total": "P + 2 * P2"},
    )

    def field(t, x):
        p, p2, s, q = x
        dimers = 166e-3 * p * p / 2 - 0.2 * p2
        use = 500.0 * s / (30.0 + s)
        return [-2 * dimers, dimers, -use, use - 1e4 * q]

    ts = np.array([0.01, 0.5, 1.9, 3.0, 10.0])
    x0 = np.array([[301.0, 0.0, 1000.0, 0.0]])
    truth = solve_ivp(field, (0, 10), x0[0], "Radau", ts, rtol=1e-10, atol=1e-10).y.T
    values, is_ok = integrate(ODE(), network, ts, {}, x0)
    assert is_ok.all()
    np.testing.assert_allclose(values[0], truth, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(values[0, :, 0] + 2 * values[0, :, 1], 301.0, rtol=1e-9)


def test_rate_rules_boundary_species_rules_and_time():
    """V' = -a V drives X through a rule of V, the boundary B and the time."""
    network = ReactionNetwork(
        species=[Species("X", 0.0), Species("B", 2.0, is_boundary=True)],
        parameters=[Parameter("a", 0.5), Parameter("half", "a / 2"), Parameter("start", 8.0)],
        variables=[Variable("V", "start"), Variable("W", "12 * half")],
        rate_rules=[RateRule("V", "-a * V")],
        assignment_rules={"drive": "V * B * W + time"},
        reactions=[Reaction("B -> X", Formula("half * drive"))],
    )
    assert state_names(network) == ("X", "B", "V")
    ts, a, start = np.array([0.0, 1.0, 4.0]), np.array([0.5, 1.5]), np.array([8.0, 4.0])
    params = {"a": a, "start": start}
    values, is_ok = integrate(ODE(), network, ts, params, np.array([[0.0, 2.0]] * 2))
    a, start = a[:, None], start[:, None]
    assert is_ok.all()
    np.testing.assert_allclose(values[:, :, 1], 2.0)
    np.testing.assert_allclose(values[:, :, 2], start * np.exp(-a * ts), rtol=1e-7, atol=1e-7)
    truth = a / 2 * (start * 12.0 * (1 - np.exp(-a * ts)) + ts**2 / 2)
    np.testing.assert_allclose(values[:, :, 0], truth, rtol=1e-7, atol=1e-7)


# Contract.


def test_chunks_of_any_size_give_the_same(monkeypatch):
    death = np.linspace(0.05, 0.5, 11)
    whole, _ = integrate(ODE(), BIRTH_DEATH, TS, {"death": death}, np.zeros((11, 1)))
    monkeypatch.setattr(rate_equations, "MAX_CHUNK", 4)
    chunked, is_ok = integrate(ODE(), BIRTH_DEATH, TS, {"death": death}, np.zeros((11, 1)))
    assert chunked.shape == whole.shape and is_ok.shape == (11,)
    np.testing.assert_allclose(chunked, whole, rtol=1e-9, atol=1e-9)


def test_new_values_do_not_recompile():
    ts = np.array([0.0, 1.0])
    integrate(ODE(), BIRTH_DEATH, ts, {}, np.zeros((3, 1)))
    before = rate_equations._solve_chunk._cache_size()
    integrate(ODE(), BIRTH_DEATH, ts + 1.0, {"birth": np.arange(4.0)}, np.ones((4, 1)))
    assert rate_equations._solve_chunk._cache_size() == before


def test_the_users_precision_is_left_alone():
    before = jax.config.jax_enable_x64
    values, _ = integrate(ODE(), BIRTH_DEATH, TS, {}, np.zeros((1, 1)))
    assert jax.config.jax_enable_x64 == before and values.dtype == np.float64


def test_too_few_steps_are_reported():
    _, is_ok = integrate(ODE(max_steps=2), BIRTH_DEATH, TS, {}, np.zeros((2, 1)))
    assert is_ok.tolist() == [False, False]


def test_bad_arguments_are_refused():
    x0 = np.zeros((2, 1))
    with pytest.raises(InvalidInput, match="'drug'"):
        integrate(ODE(), DRIVEN, TS, {}, x0)
    with pytest.raises(InvalidInput, match=r"deaht.*death"):
        integrate(ODE(), BIRTH_DEATH, TS, {"deaht": 1.0}, x0)
    with pytest.raises(InvalidInput, match="parameter 'death' has shape"):
        integrate(ODE(), BIRTH_DEATH, TS, {"death": np.ones(3)}, x0)
    with pytest.raises(InvalidInput, match="x0 has shape"):
        integrate(ODE(), BIRTH_DEATH, TS, {}, np.zeros((2, 2)))
    with pytest.raises(InvalidInput, match="increasing"):
        integrate(ODE(), BIRTH_DEATH, TS[::-1], {}, x0)
    with pytest.raises(InvalidInput, match="rtol"):
        ODE(rtol=0.0)
    _, schedule = compile_schedule(DRIVEN, {"drug": ConstantLevel(np.ones(3))}, None, 3)
    with pytest.raises(InvalidInput, match="3 patients"):
        integrate(ODE(), DRIVEN, TS, {}, x0, schedule)


def test_drift_has_the_type_of_its_state_and_follows_derived_parameters():
    network = ReactionNetwork(
        species={"X": 4},
        parameters={"kd": 2.0, "on": 3.0, "off": "kd * on"},
        reactions=[Reaction("2 X -> X", MassAction("on")), Reaction("0 -> X", MassAction("off"))],
    )
    params = resolve_parameters(network, {"kd": np.array([2.0, 5.0])})
    np.testing.assert_array_equal(params["off"], [6.0, 15.0])
    assert resolve_parameters(network, {"off": 1.0})["off"] == 1.0
    x = jax.numpy.asarray([4.0], "float32")
    found = drift(network)(0.0, x, {"on": 3.0, "off": 6.0}, {})
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, [6.0 - 3.0 * 4 * 4 / 2])  # the macroscopic n^2 / 2
