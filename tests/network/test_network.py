"""The network: construction, names, values, and the message of every refusal."""

from collections.abc import Callable

import pytest

from engine.errors import InvalidInput
from engine.network.events import AssignmentRule, Event, RateRule
from engine.network.expressions import evaluate, parse
from engine.network.network import ReactionNetwork
from engine.network.quantities import Compartment, Input, Parameter, Species, Variable
from engine.network.rate_laws import (
    Formula,
    HillActivation,
    HillInhibition,
    MassAction,
    MichaelisMenten,
    RateLaw,
)
from engine.network.reactions import Reaction, reversible

DECAY = Reaction("X -> 0", MassAction("k"))


def network(**parts: object) -> ReactionNetwork:
    given = {"species": {"X": 5}, "parameters": {"k": 2.0}, "reactions": [DECAY], **parts}
    return ReactionNetwork(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("law", "propensity", "limit"),
    [
        (MassAction("k"), 2 * (5 * 4 / 2) * 3, 2 * (25 / 2) * 3),
        (MichaelisMenten(6, "k", substrate="X"), 6 * 5 / 7, 6 * 5 / 7),
        (HillActivation(6, "k", 2, "X"), 6 * 25 / 29, 6 * 25 / 29),
        (HillInhibition(6, "k", 2, "X"), 6 * 4 / 29, 6 * 4 / 29),
        (Formula("k * X * (X - 1)"), 40, 40),
        (Formula("k * X * (X - 1)", macroscopic="k * X^2"), 40, 50),
    ],
)
def test_rate_laws(law: RateLaw, propensity: float, limit: float) -> None:
    """2 X + Y -> 0 at X = 5, Y = 3, k = 2."""
    reaction = Reaction("2 X + Y -> 0", law)
    values = {"X": 5.0, "Y": 3.0, "k": 2.0}
    assert evaluate(reaction.propensity, values) == pytest.approx(propensity)
    assert evaluate(reaction.macroscopic_rate, values) == pytest.approx(limit)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10])
def test_mass_action_counts_combinations(n: int) -> None:
    """binomial(n, 3): zero for fewer than three molecules."""
    found = evaluate(Reaction("3 X -> 0", MassAction(1)).propensity, {"X": float(n)})
    assert found == pytest.approx(n * (n - 1) * (n - 2) / 6)


@pytest.mark.parametrize(
    ("equation", "reactants", "products"),
    [
        ("0 -> X", {}, {"X": 1}),
        ("2X -> X2", {"X": 2}, {"X2": 1}),
        ("2 X + Y -> X + 3*Y", {"X": 2, "Y": 1}, {"X": 1, "Y": 3}),
        ("X + X -> ∅", {"X": 2}, {}),
        (" -> X", {}, {"X": 1}),
    ],
)
def test_equations(equation: str, reactants: dict[str, int], products: dict[str, int]) -> None:
    reaction = Reaction(equation, MassAction(1))
    assert (reaction.reactants, reaction.products) == (reactants, products)


@pytest.mark.parametrize(
    "equation", ["X", "X <-> Y", "X -> Y -> Z", "0.5 X -> Y", "X Y -> Z", "-> 1"]
)
def test_equations_that_cannot_be_read(equation: str) -> None:
    with pytest.raises(InvalidInput):
        Reaction(equation, MassAction(1))


def test_reversible() -> None:
    forward, backward = reversible("A + B <-> C", "on", "off", name="bind")
    assert (forward.name, backward.name) == ("bind", "bind_reverse")
    assert backward.reactants == {"C": 1}


def test_values_and_names() -> None:
    found = network(
        species=[Species("X", "3 * k"), Species("Y")],
        parameters=[Parameter("k", 2.0), Parameter("k2", "k * cell")],
        compartments={"cell": 4.0},
        variables={"level": "k2 + 1"},
        assignment_rules={"total": "half * 2", "half": "X / 2"},
    )
    assert found.species_names == ("X", "Y") and found.reaction_names == ("r0",)
    assert found.parameter_values == {"cell": 4.0, "k": 2.0, "k2": 8.0}
    assert found.initial_values == {"X": 6.0, "Y": 0.0, "level": 9.0}
    assert list(found.rules) == ["half", "total"]
    assert found.kind_of("level") == "variable" and found.kind_of("nothing") is None


def test_boundary_species_do_not_change() -> None:
    found = network(
        species=[
            Species("X", 5, is_boundary=True),
            Species("C", 5, is_constant=True),
            Species("Y"),
        ],
        reactions=[Reaction("X + C -> Y", MassAction("k"))],
    )
    assert found.changes(found.reactions[0]) == {"Y": 1}


REFUSALS: dict[str, tuple[Callable[[], object], str]] = {
    "name": (lambda: Species("2X"), "species name '2X' is not an identifier"),
    "keyword": (lambda: Species("lambda"), "'lambda' is reserved"),
    "time": (lambda: Parameter("time", 1.0), "'time' is reserved"),
    "negative": (lambda: Species("X", -1), "initial count of species 'X' is -1"),
    "infinite": (lambda: Parameter("k", float("inf")), "parameter 'k' is inf"),
    "volume": (lambda: Compartment("cell", 0.0), "volume of compartment 'cell' is 0"),
    "idle event": (lambda: Event("e", "time > 1"), "event 'e' does nothing"),  # type: ignore[arg-type]
    "empty": (lambda: ReactionNetwork([], [DECAY]), "has no species"),
    "inert": (lambda: ReactionNetwork({"X": 1}), "has no reactions"),  # type: ignore[arg-type]
    "twice": (
        lambda: network(parameters={"k": 1, "X": 2}),
        "'X' is both a species and a parameter",
    ),
    "input twice": (lambda: network(inputs=["k"]), "'k' is both a parameter and a input"),
    "reaction twice": (
        lambda: network(reactions=[Reaction("X -> 0", MassAction("k"), name="r")] * 2),
        "two reactions are named 'r'",
    ),
    "unknown species": (
        lambda: network(species={"IL6R": 1}, reactions=[Reaction("IL6 -> 0", MassAction("k"))]),
        "did you mean 'IL6R'",
    ),
    "unknown name": (
        lambda: network(reactions=[Reaction("X -> 0", MassAction("kk"))]),
        "mentions 'kk'",
    ),
    "unknown parameter": (lambda: network(parameters={"k": "j"}).parameter_values, "'k' = j"),
    "circle": (
        lambda: network(parameters={"k": "j", "j": "k"}).parameter_values,
        "cannot be resolved",
    ),
    "rule circle": (
        lambda: network(assignment_rules={"a": "b", "b": "a"}),
        "depend on each other in a circle: a, b",
    ),
    "rule": (lambda: network(assignment_rules=[AssignmentRule("a", "z")]), "mentions 'z'"),  # type: ignore[arg-type]
    "rate rule": (lambda: network(rate_rules=[RateRule("k", "1")]), "rate rule: 'k'"),  # type: ignore[arg-type]
    "event target": (
        lambda: network(events=[Event("e", "time > 1", {"k": 1})]),  # type: ignore[arg-type, dict-item]
        "event 'e': 'k' is not a species or variable",
    ),
    "constant target": (
        lambda: network(
            species=[Species("X", 1, is_constant=True)],  # type: ignore[arg-type]
            events=[Event("e", "time > 1", {"X": 1})],  # type: ignore[arg-type, dict-item]
        ),
        "assigns to 'X', which is constant",
    ),
    "dose target": (
        lambda: network(events=[Event("e", "time > 1", doses={"k": 1})]),  # type: ignore[arg-type, dict-item]
        "event 'e', dose: 'k'",
    ),
    "event name": (lambda: network(events=[Event("e", "q > 1", {"X": 1})]), "mentions 'q'"),  # type: ignore[arg-type, dict-item]
    "negative start": (lambda: network(species={"X": "k - 3"}), "'X' is -1; it cannot be negative"),
    "tuple": (
        lambda: network(reactions=[("0 -> X", 1.0)]),  # type: ignore[arg-type, list-item]
        "reaction 0 of the network is ('0 -> X', 1.0); give engine.Reaction",
    ),
    "wrong class": (lambda: network(variables=[Input("u")]), "give Variable"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    build, said = REFUSALS[case]
    with pytest.raises(InvalidInput) as caught:
        build()
    assert said in str(caught.value)


def test_inputs_and_variables_may_stand_in_laws() -> None:
    found = network(
        inputs=[Input("drug", "nM")],
        variables=[Variable("level", parse(1.0))],
        reactions=[Reaction("X -> 0", "k * X * drug * level")],  # type: ignore[arg-type]
    )
    assert evaluate(found.reactions[0].propensity, {"k": 2, "X": 3, "drug": 5, "level": 7}) == 210
