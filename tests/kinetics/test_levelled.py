"""Many expressions as operations on vectors give what each gives alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.kinetics.evaluate import evaluate
from engine.kinetics.levelled import Levelled
from engine.network.expressions import TIME, Number, Symbol, call, parse

TEXTS = [
    "k * a",
    "k * b",
    "k * a / (b + c)",
    "a ** 2 + b ** 3 - c ** k",
    "a ** 2.5",
    "exp(-k * time) + rule",
    "rule * c",
    "-a",
    "7",
    "b",
    "sqrt(b) * log(c)",
]
NAMES = ("k", "a", "b", "c", TIME)
RULES = {"rule": parse("other + a"), "other": parse("k * c")}
VALUES = np.array([0.7, 1.3, 2.1, 0.4, 3.0])
WHERE = [
    call("piecewise", Symbol("a"), call("lt", Symbol("time"), Symbol("k")), Symbol("b")),
    call("piecewise", Number(1.0), call("lt", Number(1.0), Symbol("a"), Symbol("b")), Number(2.0)),
    call("and", call("lt", Symbol("a"), Symbol("b")), call("gt", Symbol("a"), Symbol("c"))),
]


def _alone(outputs, values):
    given = dict(zip(NAMES, values, strict=True))
    given["other"] = evaluate(RULES["other"], given, jnp, jnp.float64)
    given["rule"] = evaluate(RULES["rule"], given, jnp, jnp.float64)
    found = [evaluate(one, given, jnp, jnp.float64) for one in outputs]
    return jnp.stack([jnp.asarray(one, jnp.float64) for one in found])


@pytest.mark.parametrize("outputs", [[parse(t) for t in TEXTS], WHERE], ids=["plain", "conditions"])
def test_values_and_slopes_are_those_of_each_alone(outputs):
    with jax.enable_x64(True):
        values = jnp.asarray(VALUES)
        program = Levelled(outputs, NAMES, RULES)
        alone = _alone(outputs, values)
        assert np.allclose(program(values), alone, rtol=1e-14)
        slopes = jax.jacfwd(lambda v: _alone(outputs, v))(values)
        assert np.allclose(jax.jacfwd(program)(values), slopes, rtol=1e-13, atol=1e-14)


def test_equal_operations_are_one_whatever_their_number():
    def operations(num):
        laws = [parse(f"k{i} * x{i} / (x{i} + 1)") for i in range(num)]
        names = [f"{kind}{i}" for i in range(num) for kind in "kx"]
        program = Levelled(laws, names)
        return len(jax.make_jaxpr(program)(jnp.zeros(len(names))).eqns)

    assert operations(50) == operations(3)
