"""A network as array functions: hoisted coefficients change no value; guards find broken laws."""

import jax.numpy as jnp
import numpy as np
import pytest

import engine
from engine import Formula, MassAction
from engine.kinetics.evaluate import evaluate
from engine.kinetics.program import Program
from engine.network.expressions import parse
from tests.simulation import network

PARAMETERS = {"k": 0.3, "h": 2.5, "km": 40.0, "V": 2.0, "s": 3.0}
LAWS = [
    ("A + B -> C", MassAction("k")),
    ("2 A -> C", MassAction("k / V")),
    ("3 A + B -> C", MassAction("k * s")),
    ("A -> B", engine.MichaelisMenten("s * k", "km", "A")),
    ("0 -> A", engine.HillActivation("s", "km", "h", "B")),
    ("0 -> B", engine.HillInhibition("s", "km", "h", "A")),
    ("A -> 0", Formula("k * V * A * (1 + exp(-k) * B / (km + B))")),
    ("B -> 0", Formula("k * s * B * h / V")),
]


def program(laws=LAWS, **observables) -> Program:
    model = network({"A": 20, "B": 7, "C": 0}, laws, parameters=PARAMETERS)
    return Program(model, {name: parse(text) for name, text in observables.items()})


def test_propensities_are_the_laws() -> None:
    """Coefficients in float64 on the host, float32 lanes: the law's own value to 1e-6."""
    made = program()
    rng = np.random.default_rng(2)
    counts = {name: rng.integers(3, 900, 50).astype(float) for name in "ABC"}
    params = {name: value * rng.lognormal(0, 0.3, 50) for name, value in PARAMETERS.items()}
    values = {n: jnp.asarray(c, jnp.float32) for n, c in counts.items()}
    coefficients = made.coefficient_values(params)
    values |= {f"_c{i}": jnp.asarray(c, jnp.float32) for i, c in enumerate(coefficients)}
    found = made.propensities(values, jnp, jnp.float32)
    for reaction, a in zip(made.network.reactions, found, strict=True):
        expected = evaluate(reaction.propensity, {**counts, **params}, np, np.float64)
        np.testing.assert_allclose(a, expected, rtol=2e-6)


def test_parameters_alone_are_hoisted() -> None:
    """No parameter is left in a law: every new value is data, not code."""
    made = program()
    for law in made.laws:
        assert not set(PARAMETERS) & {s for s in map(str, _symbols(law))}
    assert made.net_changes.tolist()[:3] == [[-1, -1, 1], [-2, 0, 1], [-3, -1, 1]]


def _symbols(law):
    from engine.network.expressions import symbols

    return symbols(law)


def test_guards() -> None:
    """Laws that prove their sign and their zeros carry no check."""
    plain, *_ = program(LAWS[:4]).guards
    assert not plain.is_signed and plain.required == ()
    made = program([("A -> B", Formula("k * (B - A)")), ("2 A -> C", Formula("k * A"))])
    signed, short = made.guards
    assert signed.is_signed and short.required == (("A", 2),)
    values = {"A": np.array([9.0, 1.0]), "B": np.array([4.0, 9.0]), "C": np.array([0.0, 0.0])}
    values |= {f"_c{i}": np.asarray(c) for i, c in enumerate(made.coefficient_values(PARAMETERS))}
    first, second = made.propensities(values, np, np.float64)
    assert np.isnan(first[0]) and first[1] == pytest.approx(2.4)
    assert second[0] == pytest.approx(2.7) and np.isnan(second[1])


@pytest.mark.parametrize(
    "params, message",
    [
        ({"k": -1.0}, "is negative"),
        ({"V": 0.0}, "is not finite"),
        ({"s": np.array([1.0, -2.0])}, "for patient row 1"),
        ({"k": 1e-60}, "outside float32; choose another unit"),
    ],
)
def test_bad_coefficients_are_named(params, message) -> None:
    made = program()
    with pytest.raises(engine.InvalidInput, match=message) as raised:
        made.check_coefficients(made.coefficient_values(PARAMETERS | params))
    assert "reaction '" in str(raised.value)
