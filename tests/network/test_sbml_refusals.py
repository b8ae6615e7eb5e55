"""What the reader refuses, each by name and in one line."""

from pathlib import Path

import pytest

from engine.errors import InvalidInput
from engine.network.sbml_reader import read_sbml
from tests.network import sbml_text as sbml

X = sbml.species("X", initialAmount=5)
DECAY = sbml.reaction("decay", "X", "", "X")


def refused(folder: Path, text: str, *, copies: float | None = None) -> str:
    with pytest.raises(InvalidInput) as caught:
        sbml.read(folder, text, copies)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("model.xml"), message
    return message


LAWS = {
    "delay(X, 1)": "reaction 'r' uses 'delay'",
    "rateOf(X)": "reaction 'r' uses 'rateOf'",
    "normal(X, 1)": "reaction 'r' calls 'normal'",
    "factorial(X)": "factorial(X)",
    "unknown * X": "reaction 'r' mentions 'unknown'",
    "f(X)": "reaction 'r' calls 'f'",
    "f() * X": "reaction 'r' mentions 'f'",
    "nan * X": "notanumber",
    "": "reaction 'r' has no kinetic law",
}


@pytest.mark.parametrize("law", LAWS)
def test_laws(tmp_path: Path, law: str) -> None:
    text = sbml.document(species=X, reactions=sbml.reaction("r", "X", "", law))
    assert LAWS[law] in refused(tmp_path, text)


@pytest.mark.parametrize(
    "law",
    ["ln(X / Y)", "(X - Y)^3", "max(X - Y, Y - 5)", "(5 - X) * (9 - X)", "X - 3"],
)
def test_reversible_laws_that_cannot_be_separated(tmp_path: Path, law: str) -> None:
    text = sbml.document(
        species=X + sbml.species("Y"), reactions=sbml.reaction("r", "X", "Y", law, reversible=True)
    )
    message = refused(tmp_path, text)
    assert "reaction 'r' is reversible" in message and "write two reactions" in message


@pytest.mark.parametrize("sides", [("0.5 X", ""), ("X", "1.5 X"), ("-1 X", "")])
def test_stoichiometry_that_is_no_whole_number(tmp_path: Path, sides: tuple[str, str]) -> None:
    text = sbml.document(species=X, reactions=sbml.reaction("r", *sides, "X"))
    message = refused(tmp_path, text)
    assert "reaction 'r'" in message and "'X'" in message and "double the counts" in message


def test_stoichiometry_that_varies(tmp_path: Path) -> None:
    text = sbml.document(
        species=X,
        rules=sbml.rule("assignment", "s", "2 * X"),
        reactions=DECAY.replace('species="X"', 'species="X" id="s"'),
    )
    assert "the stoichiometry of 'X' is computed" in refused(tmp_path, text)


def test_stoichiometry_math(tmp_path: Path) -> None:
    text = sbml.document(
        (2, 4),
        "",
        species=X,
        units=sbml.unit("substance", "item"),
        reactions=sbml.reaction("r", "X", "", "X", level=2).replace(
            'stoichiometry="1" />',
            f"><stoichiometryMath>{sbml.math('X + 1')}</stoichiometryMath></speciesReference>",
        ),
    )
    assert "the stoichiometry of 'X' is computed" in refused(tmp_path, text)


def test_fast_reactions(tmp_path: Path) -> None:
    text = sbml.document(
        (3, 1), species=X, reactions=sbml.reaction("r", "X", "", "X", more='fast="true"')
    )
    assert "reaction 'r' is marked fast" in refused(tmp_path, text)


def test_conversion_factors(tmp_path: Path) -> None:
    text = sbml.document(
        species=sbml.species("X", conversionFactor="c"),
        parameters=sbml.parameter("c", 2),
        reactions=DECAY,
    )
    assert "reaction 'decay' uses a conversionFactor" in refused(tmp_path, text)


def test_algebraic_rules(tmp_path: Path) -> None:
    text = sbml.document(
        species=X, reactions=DECAY, rules=f"<algebraicRule>{sbml.math('X - 1')}</algebraicRule>"
    )
    assert "algebraic rule" in refused(tmp_path, text)


def test_constraints_change_nothing(tmp_path: Path) -> None:
    constraint = f"<constraint>{sbml.math('X > 1')}</constraint>"
    sbml.read(tmp_path, sbml.document(species=X, reactions=DECAY, constraints=constraint))


@pytest.mark.parametrize("package", ["comp", "fbc", "distrib", "arrays", "nothing"])
def test_required_packages(tmp_path: Path, package: str) -> None:
    uri = f"http://www.sbml.org/sbml/level3/version1/{package}/version1"
    text = sbml.document((3, 1), species=X, reactions=DECAY).replace(
        "<sbml ", f'<sbml xmlns:{package}="{uri}" {package}:required="true" '
    )
    message = refused(tmp_path, text)
    assert "package" in message
    optional = text.replace(f'{package}:required="true"', f'{package}:required="false"')
    sbml.read(tmp_path, optional)


@pytest.mark.parametrize(
    ("amount", "copies", "said"),
    [
        (0.5, None, "species 'X' is 0.5 items"),
        (-2, None, "it cannot be negative"),
        (-1, 10.0, "it cannot be negative"),
        (-0.1, 1.0, "it cannot be negative"),
        ("INF", None, "give a finite number"),
        ("NaN", None, "species 'X' has no initial amount"),
    ],
)
def test_initial_amounts(tmp_path: Path, amount: object, copies: float | None, said: str) -> None:
    text = sbml.document(species=sbml.species("X", initialAmount=amount), reactions=DECAY)
    assert said in refused(tmp_path, text, copies=copies)


def test_values_that_are_missing_and_used(tmp_path: Path) -> None:
    unused = sbml.document(species=X, reactions=DECAY, parameters=sbml.parameter("k"))
    sbml.read(tmp_path, unused)
    law = sbml.reaction("r", "X", "", "k * X")
    used = sbml.document(species=X, reactions=law, parameters=sbml.parameter("k"))
    assert "parameter 'k' has no value and is used" in refused(tmp_path, used)


def test_a_compartment_without_size_may_only_hold_amounts(tmp_path: Path) -> None:
    where = sbml.compartment("cell", None)
    amounts = sbml.species("X", amounts=True, initialAmount=5)
    sbml.read(tmp_path, sbml.document(compartments=where, species=amounts, reactions=DECAY))
    squared = sbml.reaction("r", "X", "", "X^3")
    text = sbml.document(compartments=where, species=X, reactions=squared)
    assert "compartment 'cell' has no size" in refused(tmp_path, text)
    concentration = sbml.species("X", initialConcentration=5)
    text = sbml.document(compartments=where, species=concentration, reactions=DECAY)
    assert "compartment 'cell' has no size" in refused(tmp_path, text)


def test_species_with_different_units_in_one_reaction(tmp_path: Path) -> None:
    text = sbml.document(
        species=sbml.species("A", substanceUnits="item") + sbml.species("B", substanceUnits="mole"),
        reactions=sbml.reaction("r", "A", "B", "A"),
    )
    message = refused(tmp_path, text)
    assert "'A' and 'B'" in message and "copies_per_unit" in message
    sbml.read(tmp_path, text, 1.0)


def test_a_rule_and_a_reaction_for_one_species(tmp_path: Path) -> None:
    text = sbml.document(species=X, reactions=DECAY, rules=sbml.rule("rate", "X", "1"))
    assert "reaction 'decay' changes 'X', which a rule sets" in refused(tmp_path, text)


def test_a_concentration_with_a_rate_rule_in_a_growing_volume(tmp_path: Path) -> None:
    text = sbml.document(
        compartments=sbml.compartment("cell", 1, constant=False),
        species=X,
        rules=sbml.rule("rate", "X", "1") + sbml.rule("rate", "cell", "0.1"),
    )
    assert "rate rule of 'X' sets a concentration" in refused(tmp_path, text)


def test_circular_initial_values(tmp_path: Path) -> None:
    text = sbml.document(
        species=X + sbml.species("Y"),
        initial=sbml.initial("X", "Y") + sbml.initial("Y", "X"),
        reactions=DECAY,
    )
    assert "depends on itself" in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not well-formed"),
        ("<sbml", "Unclosed"),
        ("hello", "not well-formed"),
        ("<html></html>", "no SBML model"),
        ('<?xml version="1.0" encoding="UTF-8"?>\n<a><b></a>', "line 2"),
    ],
)
def test_files_that_are_no_sbml(tmp_path: Path, content: str, said: str) -> None:
    assert said in refused(tmp_path, content)


def test_level_1(tmp_path: Path) -> None:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<sbml xmlns="http://www.sbml.org/sbml/level1" level="1" version="2"><model name="m">'
        '<listOfCompartments><compartment name="c"/></listOfCompartments></model></sbml>'
    )
    assert "Level 1" in refused(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no file"):
        read_sbml(tmp_path / "absent.xml")
    with pytest.raises(InvalidInput, match="there is no file"):
        read_sbml(str(tmp_path))


@pytest.mark.parametrize("copies", [0.0, -1.0, float("inf"), float("nan")])
def test_copies_that_are_no_number_of_molecules(tmp_path: Path, copies: float) -> None:
    with pytest.raises(InvalidInput, match="copies_per_unit is"):
        sbml.read(tmp_path, sbml.document(species=X, reactions=DECAY), copies)
