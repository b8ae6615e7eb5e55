"""Kinetic laws of SBML: names, functions, MathML, and the directions of a reaction."""

import math
from pathlib import Path

import pytest

from engine.network.expressions import evaluate, parse
from engine.network.sbml_math import AVOGADRO
from tests.network import sbml_text as sbml
from tests.network.sbml_text import propensities


def test_local_parameters_hide_global_ones(tmp_path: Path) -> None:
    text = sbml.document(
        species=sbml.species("X") + sbml.species("k"),
        parameters=sbml.parameter("c", 100),
        reactions=sbml.reaction("one", "X", "", "k * X", local={"k": 2})
        + sbml.reaction("two", "X", "", "c * X", local={"c": 5})
        + sbml.reaction("three", "X", "", "c * k"),
    )
    network = sbml.read(tmp_path, text)
    found = propensities(network, X=3, k=7)
    assert found == {"one": 6.0, "two": 15.0, "three": 700.0}
    assert {p.name for p in network.parameters} == {"c", "one__k", "two__c"}


def test_names_that_an_expression_cannot_hold(tmp_path: Path) -> None:
    text = sbml.document(
        species=sbml.species("lambda") + sbml.species("is", initialAmount=2),
        parameters=sbml.parameter("lambda_", 3),
        reactions=sbml.reaction("import", "is", "is", "is * lambda_").replace(
            '"is" stoichiometry="1" constant="true"/></listOfP',
            '"lambda" stoichiometry="1" constant="true"/></listOfP',
        ),
    )
    text = text.replace('id="lambda_"', 'id="time"').replace(
        "<ci> lambda_ </ci>", "<ci> time </ci>"
    )
    network = sbml.read(tmp_path, text)
    assert network.species_names == ("lambda_", "is_")
    assert propensities(network, is_=5, time_=3)["import"] == 15.0
    assert network.reactions[0].products == {"lambda_": 1}


def test_nested_functions_are_written_out(tmp_path: Path) -> None:
    text = sbml.document(
        species=sbml.species("S") + sbml.species("X"),
        functions=sbml.function("hill", "x, k", "twice(x) / (k + twice(x))")
        + sbml.function("twice", "k", "k * k"),
        reactions=sbml.reaction("r", "", "X", "10 * hill(S, 9)"),
    )
    assert propensities(sbml.read(tmp_path, text), S=3)["r"] == pytest.approx(5.0)


def test_a_name_applied_to_nothing_is_the_name(tmp_path: Path) -> None:
    # <apply><ci> k </ci></apply>, as the published model of Beer et al. 2014 has it.
    text = sbml.document(
        species=sbml.species("X"),
        parameters=sbml.parameter("k", 2),
        reactions=sbml.reaction("r", "X", "", "k() * X()"),
    )
    assert text.count("<apply>") == 3
    assert propensities(sbml.read(tmp_path, text), X=3)["r"] == 6.0


EVALUATED = {
    "piecewise(1, X < 2, 2, X < 4, 3)": 2.0,
    "piecewise(X, X > 100)": math.nan,
    "log10(X * 1000 / 3)": 3.0,
    "log(2, X + 5)": 3.0,
    "log(3, X)": 1.0,
    "ln(exponentiale)": 1.0,
    "root(3, X * 9)": 3.0,
    "sqrt(X * 3)": 3.0,
    "sec(X)": 1 / math.cos(3),
    "csc(X)": 1 / math.sin(3),
    "cot(X)": 1 / math.tan(3),
    "arcsec(X)": math.acos(1 / 3),
    "arccoth(X)": math.atanh(1 / 3),
    "arccosh(X)": math.acosh(3),
    "arcsinh(X)": math.asinh(3),
    "arctanh(X / 4)": math.atanh(0.75),
    "sech(X)": 1 / math.cosh(3),
    "factorial(4) + X": 27.0,
    "floor(X / 2) + ceil(X / 2)": 3.0,
    "max(X, 1, 7) - min(X, 5)": 4.0,
    "rem(X + 4, 4)": 3.0,
    "quotient(X + 4, 4)": 1.0,
    "piecewise(1, implies(X > 2, X > 5), 0)": 0.0,
    "piecewise(1, and(X > 2, X < 5, true), 0)": 1.0,
    "piecewise(1, xor(true, X > 2), 0)": 0.0,
    "piecewise(1, !(X == 3) || X != 3, 0)": 0.0,
    "piecewise(1, gt(5, X, 2), 0)": 1.0,
    "piecewise(1, time < inf, 0)": 1.0,
    "pi * 1e0 + time": math.pi,
    "avogadro": AVOGADRO,
    "abs(X - 5)": 2.0,
}


@pytest.mark.parametrize("formula", EVALUATED)
def test_every_function_of_mathml(tmp_path: Path, formula: str) -> None:
    text = sbml.document(species=sbml.species("X"), reactions=sbml.reaction("r", "", "X", formula))
    found = propensities(sbml.read(tmp_path, text), X=3)["r"]
    assert found == pytest.approx(EVALUATED[formula], nan_ok=True)


REVERSIBLE = {
    "f * A - r * B": ("f * A", "r * B"),
    "cell * (f * A - r * B)": ("f * A", "r * B"),
    "(f * A - r * B) / (1 + A + B)": ("f * A / (1 + A + B)", "r * B / (1 + A + B)"),
    "-r * B + f * A": ("f * A", "r * B"),
    "piecewise(f * A - r * B, A > 2, 0)": (
        "piecewise(f * A, A > 2, 0)",
        "piecewise(r * B, A > 2, 0)",
    ),
    "f * A * (1 - B / 100)": ("f * A", "f * A * B / 100"),
}


@pytest.mark.parametrize("law", REVERSIBLE)
def test_reversible_laws_become_two_channels(tmp_path: Path, law: str) -> None:
    text = sbml.document(
        species=sbml.species("A") + sbml.species("B"),
        parameters=sbml.parameter("f", 2) + sbml.parameter("r", 3),
        reactions=sbml.reaction("swap", "A", "B", law, reversible=True),
    )
    network = sbml.read(tmp_path, text)
    assert [r.equation for r in network.reactions] == ["A -> B", "B -> A"]
    values = {"A": 5.0, "B": 7.0, "f": 2.0, "r": 3.0}
    expected = [evaluate(parse(part), values) for part in REVERSIBLE[law]]
    found = propensities(network, A=5, B=7)
    assert [found["swap"], found["swap_reverse"]] == pytest.approx(expected)


@pytest.mark.parametrize(
    "law", ["f * A", "f * A * (1 - blocked)", "f * (1 + cos(time))", "f * A * (A - 1) / 2"]
)
def test_a_law_of_one_direction_stays_one_channel(tmp_path: Path, law: str) -> None:
    """Level 2 marks a reaction reversible by default."""
    text = sbml.document(
        species=sbml.species("A", amounts=True) + sbml.species("B", amounts=True),
        parameters=sbml.parameter("f", 2) + sbml.parameter("blocked", 0),
        reactions=sbml.reaction("r", "2 A", "B", law, reversible=True),
    )
    assert sbml.read(tmp_path, text).reaction_names == ("r",)


@pytest.mark.parametrize(
    ("sides", "law", "num_channels"),
    [
        (("A", "B"), "2 * A - 3 * B", 2),
        (("A", "B"), "2 * A * (100 - B)", 1),
        (("", "B"), "2 * (100 - B)", 1),
        (("", "B"), "0.5 * (100 - 2 * B) * (99 - 2 * B)", 1),
    ],
)
def test_a_difference_in_an_irreversible_reaction(
    tmp_path: Path, sides: tuple[str, str], law: str, num_channels: int
) -> None:
    """Only kf A - kr B is split: the others are saturation, which never becomes negative."""
    text = sbml.document(
        species=sbml.species("A", amounts=True) + sbml.species("B", amounts=True),
        reactions=sbml.reaction("r", *sides, law),
    )
    assert len(sbml.read(tmp_path, text).reactions) == num_channels
