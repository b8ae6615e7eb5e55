"""Features of PEtab, each against a closed form, in two small problems compiled once each."""

import math

import diffrax
import jax
import numpy as np
import pytest

import engine
from tests.fitting.petab_files import measured, write_problem
from tests.network import sbml_text as sbml

# Decay in one volume, transport into another: A (cell, 2) -> B (bath, 5), concentrations;
# half a C appears for each A that leaves; D is an amount that only its start decides.
DECAY = sbml.document(
    compartments=sbml.compartment("cell", 2.0) + sbml.compartment("bath", 1.0),
    species=sbml.species("A", initialConcentration=3.0)
    + sbml.species("B", "bath", initialConcentration=0.5)
    + sbml.species("C", amounts=True)
    + sbml.species("D", amounts=True, initialAmount=0.0),
    parameters=sbml.parameter("k", 0.3) + sbml.parameter("a0", 7.0) + sbml.parameter("lambda", 2.0),
    initial=sbml.initial("D", "2 * a0 + A"),
    rules=sbml.rule("assignment", "total", "A * cell + B * bath")
    + sbml.rule("assignment", "twice", "2 * total"),
    reactions=sbml.reaction("move", "A", "B, 0.5 C", "k * A * cell"),
)
DECAY = DECAY.replace(
    "</listOfParameters>",
    sbml.parameter("total", 0.0, False)
    + sbml.parameter("twice", 0.0, False)
    + "</listOfParameters>",
)
DATA = [
    ("b", "low", 1.5, 0.9, None, "sd_b"),
    ("b", "low", 0.0, 0.6, None, "0.2"),
    ("b", "high", 2.5, 4.0, None, "sd_b"),
    ("b", "wide", 2.5, 1.1, None, "0.3"),
    ("c", "high", 1.0, 1.2, "scale;0.1", None),
    ("c", "wide", 4.0, 0.4, "2.0;0.1", None),
    ("d", "low again", 2.0, 11.0, None, None),
    ("d", "high", 2.0, 20.0, None, None),
    ("t", "wide", 1.0, 15.0, None, None),
]


def a_path(k, a0, volume_ratio, b0, t):
    """Concentrations of A and B, and the amount of C, for cell 2."""
    left = a0 * math.exp(-k * t)
    return left, b0 + (a0 - left) * volume_ratio, 0.5 * 2.0 * (a0 - left)


def decay_truth(k, sd_b, scale, lambda_):
    """The negative log-likelihood of DATA, written out."""
    start = {"low": 3.0, "high": 9.0, "wide": k * 10.0}
    bath = {"low": 1.0, "high": 1.0, "wide": 5.0}
    b0 = {"low": 0.5, "high": 0.25, "wide": 0.5}
    total = 0.0
    for observable, name, t, m, given, noise in DATA:
        where = name.removesuffix(" again")
        a, b, c = a_path(k, start[where], 2.0 / bath[where], b0[where], t)
        sd = sd_b if noise == "sd_b" else float(noise or 0)
        if observable == "b":  # Laplace, log10
            total += math.log(2 * sd) + abs(math.log10(m / b)) / sd + math.log(m * math.log(10))
        elif observable == "c":  # normal, noise depends on the state
            factor = scale if given.startswith("scale") else 2.0
            y = factor * c + 0.1
            sd = 0.1 + 0.2 * c
            total += 0.5 * math.log(2 * math.pi * sd**2) + 0.5 * ((m - y) / sd) ** 2
        elif observable == "d":  # log-normal
            y = 2 * 7.0 + start[where] + lambda_
            total += 0.5 * math.log(2 * math.pi * 0.25) + 2 * math.log(m / y) ** 2 + math.log(m)
        else:
            y = 2 * (a * 2.0 + b * bath[where]) + t
            total += 0.5 * math.log(2 * math.pi * 4.0) + (m - y) ** 2 / 8
    return total


@pytest.fixture(scope="module")
def decay(tmp_path_factory):
    rows = [
        measured(o, c, t, m, observableParameters=given or "", noiseParameters=noise or "")
        for o, c, t, m, given, noise in DATA
    ]
    path = write_problem(
        tmp_path_factory.mktemp("decay"),
        DECAY,
        {
            "k": {
                "parameterScale": "log10",
                "objectivePriorType": "parameterScaleNormal",
                "objectivePriorParameters": "-1;0.5",
            },
            "sd_b": {"nominalValue": 0.4, "parameterScale": "log"},
            "scale": {
                "nominalValue": 1.5,
                "objectivePriorType": "laplace",
                "objectivePriorParameters": "1;2",
            },
            "lambda": {"nominalValue": 2.5},
            "ten": {"nominalValue": 10.0, "estimate": 0},
        },
        {
            "low": {"A": "", "B": "", "bath": ""},
            "low again": {"A": "", "B": "", "bath": ""},
            "high": {"A": 9.0, "B": 0.25, "bath": ""},
            "wide": {"A": "start", "B": "", "bath": 5.0},
        },
        {
            "b": {
                "observableFormula": "B",
                "noiseFormula": "noiseParameter1_b",
                "observableTransformation": "log10",
                "noiseDistribution": "laplace",
            },
            "c": {
                "observableFormula": "observableParameter1_c * C + observableParameter2_c",
                "noiseFormula": "0.1 + 0.2 * C",
            },
            "d": {
                "observableFormula": "D + lambda",
                "noiseFormula": "0.5",
                "observableTransformation": "log",
            },
            "t": {"observableFormula": "twice + time", "noiseFormula": "2"},
        },
        rows,
    )
    # The start of one condition is a parameter of the table: ten times k at its value here.
    table = path.parent / "parameters.tsv"
    table.write_text(table.read_text() + "start\tlin\t0.001\t1000.0\t10.0\t1\t\t\n")
    return engine.read_petab(path)


def test_likelihood_is_the_closed_form(decay):
    for k, sd_b, scale, lambda_ in ((1.0, 0.4, 1.5, 2.5), (0.2, 1.1, 0.7, 1.0)):
        values = {"k": k, "sd_b": sd_b, "scale": scale, "lambda": lambda_, "start": 10.0 * k}
        found = decay.negative_log_likelihood(values)
        assert found == pytest.approx(decay_truth(k, sd_b, scale, lambda_), rel=1e-7)
        wrong = decay_truth(1.02 * k, sd_b, scale, lambda_)
        assert found != pytest.approx(wrong, rel=1e-5)


def test_equal_conditions_are_simulated_once(decay):
    assert decay.tables.lanes.names == ("low", "high", "wide")


def test_gradient_is_the_closed_forms(decay):
    values = {"k": 0.4, "sd_b": 0.5, "scale": 1.2, "lambda": 2.0, "start": 4.0}
    value, gradient = decay.value_and_gradient(values)
    assert value == pytest.approx(decay_truth(0.4, 0.5, 1.2, 2.0), rel=1e-7)
    assert tuple(gradient) == decay.estimated == ("k", "sd_b", "scale", "lambda", "start")
    # In the closed form k also moves the start of 'wide': its slope is the sum of two here.
    names = ("k", "sd_b", "scale", "lambda")
    at = np.array([values[n] for n in names])
    for i, name in enumerate(names):
        h = 1e-5 * np.eye(4)[i]
        slope = (decay_truth(*(at + h)) - decay_truth(*(at - h))) / 2e-5
        found = gradient[name] + (10.0 * gradient["start"] if name == "k" else 0.0)
        assert found == pytest.approx(slope, rel=1e-5), name


def test_priors_are_apart_from_the_likelihood(decay):
    values = {"k": 0.2, "scale": 3.0, "start": 2.0}
    normal = 0.5 * ((math.log10(0.2) + 1.0) / 0.5) ** 2 + math.log(0.5 * math.sqrt(2 * math.pi))
    laplace = abs(3.0 - 1.0) / 2.0 + math.log(4.0)
    assert decay.negative_log_prior(values) == pytest.approx(normal + laplace)
    both = decay.negative_log_likelihood(values) + normal + laplace
    assert decay.negative_log_posterior(values) == pytest.approx(both)


def test_new_values_do_not_compile_again(decay):
    decay.value_and_gradient(decay.nominal_parameters)
    decay.negative_log_likelihood(decay.nominal_parameters)
    before = decay.num_traces
    for k in (0.5, 0.7):
        decay.value_and_gradient({"k": k})
        decay.negative_log_likelihood({"k": k})
    assert decay.num_traces == before == 2


def test_bad_values_are_named(decay):
    with pytest.raises(engine.InvalidInput, match="did you mean 'scale'"):
        decay.negative_log_likelihood({"scael": 1.0})
    with pytest.raises(engine.InvalidInput, match="'k' is nan"):
        decay.negative_log_likelihood({"k": math.nan})
    # A prediction that its logarithm excludes has no likelihood; it is not NaN.
    with pytest.warns(UserWarning, match="measurements in .* no density"):
        assert decay.negative_log_likelihood({"start": 10.0, "lambda": -1e3}) == math.inf


# Pre-equilibration with a conserved total, an input that is switched on and off at estimated
# times, and a dose by an event: X <-> Y (total 4), dZ/dt = supply(t) - w Z.
SWITCHED = sbml.document(
    species=sbml.species("X", initialConcentration=3.0)
    + sbml.species("Y", initialConcentration=1.0)
    + sbml.species("Z", initialConcentration=2.0),
    parameters=sbml.parameter("f", 1.0)
    + sbml.parameter("r", 0.5)
    + sbml.parameter("w", 0.7)
    + sbml.parameter("level", 0.0)
    + sbml.parameter("on", 1.0)
    + sbml.parameter("off", 3.0)
    + sbml.parameter("dose", 0.0)
    + sbml.parameter("supply", 0.0, False)
    + sbml.parameter("since", 0.0, False),
    rules=sbml.rule("assignment", "since", "time - on")
    + sbml.rule("assignment", "supply", "0.2 + piecewise(level, (since >= 0) && (time < off), 0)"),
    reactions=sbml.reaction("xy", "X", "Y", "f * X - r * Y", reversible=True)
    + sbml.reaction("make", "", "Z", "supply")
    + sbml.reaction("lose", "Z", "", "w * Z"),
    events=sbml.event("give", "time > 2.5", {"Z": "Z + dose"}),
)


def z_path(t, z0, w, level, on, off, dose):
    """Z by superposition of its inputs."""
    z = z0 * math.exp(-w * t) + 0.2 * (1 - math.exp(-w * t)) / w
    for time, sign in ((on, 1.0), (off, -1.0)):
        if t > time:
            z += sign * level * (1 - math.exp(-w * (t - time))) / w
    return z + (dose * math.exp(-w * (t - 2.5)) if t >= 2.5 else 0.0)


SWITCH_TIMES = (0.0, 0.5, 1.0, 1.7, 2.5, 3.1, 6.0)


def switched_predictions(f, r, w, level, on, off):
    """Z in the stimulated lane, Z in the reset lane, X, then the steady state of Y and Z."""
    rested = 0.2 / w
    out = [z_path(t, rested, w, level, on, off, 1.5) for t in SWITCH_TIMES]
    out += [z_path(t, 5.0, w, level, on, off, 0.0) for t in SWITCH_TIMES]
    x_rest = 4.0 * r / (1.3 + r)  # pre-equilibrated with f = 1.3
    x_end = 4.0 * r / (f + r)
    out += [x_end + (x_rest - x_end) * math.exp(-(f + r) * t) for t in SWITCH_TIMES]
    return np.array([*out, 4.0 * f / (f + r), 0.2 / w])


@pytest.fixture(scope="module")
def switched(tmp_path_factory):
    rows = []
    cases = (("z", "stimulated"), ("z", "reset"), ("x", "stimulated"))
    for observable, condition in cases:
        rows += [
            measured(observable, condition, t, 0.0, preequilibrationConditionId="rest")
            for t in SWITCH_TIMES
        ]
    rows += [measured(o, "alone", math.inf, 0.0) for o in ("y", "z")]
    path = write_problem(
        tmp_path_factory.mktemp("switched"),
        SWITCHED,
        {
            "f": {"nominalValue": 0.8},
            "r": {"nominalValue": 0.5},
            "w": {"nominalValue": 0.7},
            "strength": {"nominalValue": 2.0},
            "on": {"nominalValue": 1.0},
            "off": {"nominalValue": 3.0},
        },
        {
            "rest": {"f": 1.3, "level": 0.0, "Z": "", "dose": 0.0},
            "stimulated": {"f": "f", "level": "strength", "Z": "", "dose": 1.5},
            "reset": {"f": "f", "level": "strength", "Z": 5.0, "dose": 0.0},
            "alone": {"f": "f", "level": 0.0, "Z": "", "dose": 0.0},
        },
        {name.lower(): {"observableFormula": name} for name in "XYZ"},
        rows,
    )
    return engine.read_petab(path)


SWITCHED_VALUES = (
    (0.8, 0.5, 0.7, 2.0, 1.0, 3.0),
    (0.3, 1.5, 1.1, 0.6, 0.4, 2.2),
    (2.0, 0.2, 0.1, 3.0, 1.9, 4.0),
)


@pytest.mark.parametrize("values", SWITCHED_VALUES)
def test_switches_doses_and_rest_are_the_closed_form(switched, values):
    names = ("f", "r", "w", "strength", "on", "off")
    found = switched.simulate(dict(zip(names, values, strict=True)))
    np.testing.assert_allclose(found, switched_predictions(*values), rtol=1e-6)


def test_derivatives_by_switching_times_and_rest(switched):
    names = ("f", "r", "w", "strength", "on", "off")
    at = np.array([0.8, 0.5, 0.7, 2.0, 0.8, 3.3])
    value, gradient = switched.value_and_gradient(dict(zip(names, at, strict=True)))

    def truth(x):
        return 0.5 * np.sum(switched_predictions(*x) ** 2 + math.log(2 * math.pi))

    assert value == pytest.approx(truth(at), rel=1e-7)
    for i, name in enumerate(names):
        h = 1e-5 * np.eye(6)[i]
        slope = (truth(at + h) - truth(at - h)) / 2e-5
        assert gradient[name] == pytest.approx(slope, rel=1e-5), name


def test_a_continuation_finds_the_states_at_rest(switched):
    from engine.fitting.simulation import Simulation
    from engine.fitting.steady import continued

    quick = Simulation(switched.tables, switched.solver, relaxation=continued)
    theta = np.array([0.8, 0.5, 0.7, 2.0, 0.8, 3.3])
    with jax.enable_x64(True):
        rest, is_found = jax.jit(
            lambda theta: quick._rested(quick.pool(theta), diffrax.ForwardMode())
        )(theta)
    assert np.all(is_found)
    # X <-> Y of total 4 with f = 1.3, and Z = 0.2 / w.
    np.testing.assert_allclose(rest[0], (4 * 0.5 / 1.8, 4 * 1.3 / 1.8, 0.2 / 0.7), rtol=1e-9)


@pytest.mark.full
def test_rest_that_remembers_its_start_is_differentiated_along_the_path(tmp_path):
    # X is lost to an enzyme that vanishes: every X is at rest without it, and Newton's matrix is
    # singular. X ends at x0 exp(-k e0 / g).
    model = sbml.document(
        species=sbml.species("X", initialConcentration=2.0)
        + sbml.species("E", initialConcentration=1.0),
        parameters=sbml.parameter("k", 0.6) + sbml.parameter("g", 0.8),
        reactions=sbml.reaction("lose", "X", "", "k * E * X")
        + sbml.reaction("vanish", "E", "", "g * E"),
    )
    problem = engine.read_petab(
        write_problem(
            tmp_path,
            model,
            {"k": {"nominalValue": 0.6}, "g": {"nominalValue": 0.8}},
            {"only": {}},
            {"x": {"observableFormula": "X"}},
            [measured("x", "only", math.inf, 0.0)],
        )
    )
    assert not problem.simulation.is_implicit
    end = 2.0 * math.exp(-0.6 / 0.8)
    value, gradient = problem.value_and_gradient({})
    assert value == pytest.approx(0.5 * end**2 + 0.5 * math.log(2 * math.pi), rel=1e-6)
    assert gradient["k"] == pytest.approx(-(end**2) / 0.8, rel=1e-4)
    assert gradient["g"] == pytest.approx(end**2 * 0.6 / 0.8**2, rel=1e-4)


# X <-> Y and P <-> Q, whose second pair a parameter keeps apart: Q stays as it is. Another that
# is 0 in the table stops nothing.
APART = sbml.document(
    species=sbml.species("X", initialConcentration=3.0)
    + sbml.species("Y", initialConcentration=1.0)
    + sbml.species("P", initialConcentration=2.0)
    + sbml.species("Q", initialConcentration=0.5),
    parameters=sbml.parameter("f", 1.0)
    + sbml.parameter("more", 0.0)
    + sbml.parameter("r", 0.5)
    + sbml.parameter("none", 0.0),
    reactions=sbml.reaction("xy", "X", "Y", "(f + more) * X - r * Y", reversible=True)
    + sbml.reaction("pq", "P", "Q", "none * P * (1 + X) - 2 * none * Q", reversible=True),
)


@pytest.mark.full
@pytest.mark.parametrize("share, is_apart", [(0.0, True), (0.3, False)])
def test_a_reaction_that_never_runs_conserves_what_it_would_change(tmp_path, share, is_apart):
    problem = engine.read_petab(
        write_problem(
            tmp_path,
            APART,
            {
                "f": {"nominalValue": 0.8},
                "r": {"nominalValue": 0.5},
                "none": {"nominalValue": share, "estimate": 0},
                "more": {"nominalValue": 0.0, "estimate": 0},
            },
            {"rest": {"f": 1.3}, "then": {"f": "f"}},
            {name.lower(): {"observableFormula": name} for name in "YQ"},
            [measured(o, "then", 0.0, 0.0, preequilibrationConditionId="rest") for o in ("y", "q")],
        )
    )
    zeros = {"none", "more"} if is_apart else {"more"}
    assert problem.tables.always_zero == {name: {name} for name in zeros}
    assert problem.simulation.is_implicit
    y, x = 4 * 1.3 / 1.8, 4 * 0.5 / 1.8
    q = 0.5 if is_apart else 2.5 * (1 + x) / (3 + x)
    np.testing.assert_allclose(problem.simulate({}), (y, q), rtol=1e-8)
    _, gradient = problem.value_and_gradient({})
    at_r = (-4 * 1.3 / 1.8**2, 0.0 if is_apart else 5.0 / (3 + x) ** 2 * 4 * 1.3 / 1.8**2)
    assert gradient["r"] == pytest.approx(y * at_r[0] + q * at_r[1], rel=1e-6)
    if is_apart:
        with pytest.raises(engine.InvalidInput, match=r"'none' is 0.3, but .* fixes it at 0"):
            problem.negative_log_likelihood({"none": 0.3})
        assert problem.simulate({"more": 0.1})[0] == pytest.approx(4 * 1.4 / 1.9, rel=1e-8)


@pytest.mark.full
def test_an_integrated_rest_agrees_with_the_implicit_one(switched):
    from engine.fitting.simulation import Simulation

    theta = np.array([0.8, 0.5, 0.7, 2.0, 0.8, 3.3])
    with jax.enable_x64(True):
        slopes = [
            jax.jit(Simulation(switched.tables, switched.solver, how).sensitivities)(theta)[1]
            for how in (True, False)
        ]
    assert np.all(np.isfinite(slopes[0]))
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-4, atol=1e-5)


@pytest.mark.full
def test_an_explosion_and_a_law_without_a_value_are_infinite_not_wrong(tmp_path):
    # dA/dt = k A^2 from 1 explodes at 1 / k; dB/dt = -(p - time)^0.5 / 10 has no value after p; and
    # the slope of C^h by h at C = 0 is 0, not 0 times log 0.
    text = sbml.document(
        species=sbml.species("A", initialConcentration=1.0)
        + sbml.species("B", initialConcentration=5.0)
        + sbml.species("C", initialConcentration=0.0),
        parameters=sbml.parameter("k", 1.0) + sbml.parameter("h", 2.0) + sbml.parameter("p", 0.0),
        reactions=sbml.reaction("grow", "A", "2 A", "k * A^2")
        + sbml.reaction("root", "B", "", "0.1 * (p - time)^0.5")
        + sbml.reaction("hill", "", "C", "C^h"),
    )
    path = write_problem(
        tmp_path,
        text,
        {"k": {"lowerBound": 0.0}, "h": {}, "p": {}},
        {"c": {}},
        {name.lower(): {"observableFormula": name} for name in "ABC"},
        [measured(o, "c", 3.0, 1.0) for o in "abc"],
    )
    problem = engine.read_petab(path)
    value, gradient = problem.value_and_gradient({"k": 0.2, "p": 4.0})
    a, b = 1.0 / (1.0 - 0.6), 5.0 - 0.1 * 2.0 / 3.0 * (8.0 - 1.0) - 1.0
    truth = 0.5 * ((a - 1.0) ** 2 + b**2 + 1.0 + 3.0 * math.log(2 * math.pi))
    assert value == pytest.approx(truth, rel=1e-7)
    assert gradient["h"] == 0.0 and gradient["k"] == pytest.approx((a - 1.0) * 3.0 * a**2, rel=1e-6)
    assert problem.value_and_gradient({"k": 0.4, "p": 4.0})[0] == math.inf
    with pytest.warns(UserWarning, match="equations of 'c' could not be solved .*max_steps=4000"):
        assert problem.negative_log_likelihood({"k": 0.4, "p": 4.0}) == math.inf
    assert problem.value_and_gradient({"k": 0.1, "p": 2.5})[0] == math.inf


@pytest.mark.full
def test_large_rates_that_cancel_are_solved(tmp_path):
    # Two halves are made at 1e8 each and meet at k P Q; what they make, C, catches R. After a
    # moment dP/dt is the difference of terms of 1e8, known to 1e-8: far above the absolute
    # tolerance. P = sqrt(s / k) tanh(sqrt(s k) t), C + RC = s t - P and R + RC = r t.
    text = sbml.document(
        species="".join(sbml.species(n, initialConcentration=0.0) for n in ("P", "Q", "C", "R"))
        + sbml.species("RC", initialConcentration=0.0),
        parameters=sbml.parameter("s", 1e8) + sbml.parameter("k", 1.0) + sbml.parameter("r", 1e7),
        reactions=sbml.reaction("make", "", "P, Q", "s")
        + sbml.reaction("meet", "P, Q", "C", "k * P * Q")
        + sbml.reaction("feed", "", "R", "r")
        + sbml.reaction("catch", "R, C", "RC", "R * C"),
    )
    shown = {"p": "P / 1e4", "c": "(C + RC) / 1e8", "r": "(R + RC) / 1e7"}
    path = write_problem(
        tmp_path,
        text,
        {n: {"upperBound": 1e12} for n in "skr"},
        {"c": {}},
        {name + "_": {"observableFormula": formula} for name, formula in shown.items()},
        [measured(name + "_", "c", 2.0, 1.0) for name in shown],
    )
    problem = engine.read_petab(path)
    value, gradient = problem.value_and_gradient({"s": 1e8, "k": 1.0, "r": 1e7})
    away = np.array([0.0, 2.0 - 1e-4 - 1.0, 2.0 - 1.0])  # tanh(2e4) is 1
    assert value == pytest.approx(0.5 * away @ away + 1.5 * math.log(2 * math.pi), rel=1e-8)
    assert gradient["s"] * 1e8 == pytest.approx(away[1] * (2.0 - 0.5e-4), rel=1e-6)
    assert gradient["k"] == pytest.approx(away[1] * 0.5e-4, rel=1e-4)
    assert gradient["r"] * 1e7 == pytest.approx(away[2] * 2.0, rel=1e-6)
