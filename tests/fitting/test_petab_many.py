"""Many save times, and conditions with parameters of their own."""

import math

import numpy as np
import pytest

import engine
from tests.fitting.petab_files import measured, write_problem
from tests.network import sbml_text as sbml

# Logistic growth after a lag that is estimated, and something slow that follows it.
GROWTH = sbml.document(
    compartments=sbml.compartment("cell", 1.0),
    species=sbml.species("A", initialConcentration=0.0147)
    + sbml.species("C", initialConcentration=10.0),
    parameters=sbml.parameter("beta", 0.02) + sbml.parameter("tau", 50.0),
    reactions=sbml.reaction("grow", "", "A", "piecewise(0, time - tau < 0, 1) * beta * A * (1 - A)")
    + sbml.reaction("eat", "C", "", "0.1 * A * C ^ 2"),
)
TIMES = np.linspace(0.0, 1500.0, 400)
BETA, TAU = {"one": 0.018, "two": 0.024}, {"one": 45.0, "two": 57.0}


def grown(beta, tau, t):
    """Closed form: logistic after the lag; 1 / C grows with the integral of A."""
    start, after = 0.0147, np.maximum(t - tau, 0.0)
    bent = np.log1p(start * np.expm1(beta * after)) / beta
    a = 1.0 / (1.0 + (1.0 / start - 1.0) * np.exp(-beta * after))
    return a, 1.0 / (0.1 + 0.1 * (start * np.minimum(t, tau) + bent))


def truth(values):
    """The negative log-likelihood of data that are all 0.5 and 1."""
    total = 0.0
    for name in BETA:
        a, c = grown(values[f"beta_{name}"], values[f"tau_{name}"], TIMES)
        total += np.sum((a - 0.5) ** 2 + (c - 1.0) ** 2) / (2 * 0.04)
    return total + 4 * len(TIMES) * math.log(0.2 * math.sqrt(2 * math.pi))


def test_a_time_of_change_has_its_derivative_after_hundreds_of_save_times(tmp_path):
    nominal = {f"beta_{n}": v for n, v in BETA.items()} | {f"tau_{n}": v for n, v in TAU.items()}
    path = write_problem(
        tmp_path,
        GROWTH,
        {name: {"nominalValue": value} for name, value in nominal.items()},
        {name: {"beta": f"beta_{name}", "tau": f"tau_{name}"} for name in BETA},
        {n: {"observableFormula": n.upper(), "noiseFormula": "0.2"} for n in "ac"},
        [
            measured(observable, name, float(t), value)
            for name in BETA
            for observable, value in (("a", 0.5), ("c", 1.0))
            for t in TIMES
        ],
    )
    problem = engine.read_petab(path)
    # A condition is differentiated by its own two parameters, not by all four.
    assert problem.simulation.local.shape == (2, 2)
    value, gradient = problem.value_and_gradient(nominal)
    assert value == pytest.approx(truth(nominal), rel=1e-7)
    for name, slope in gradient.items():
        step = 1e-5 * nominal[name]
        sides = [truth(nominal | {name: nominal[name] + sign * step}) for sign in (1, -1)]
        assert slope == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5)
