"""What an SBML file means in molecule counts: units, volumes, initial values, names, events."""

from pathlib import Path

import pytest

from engine.errors import InvalidInput
from engine.network.expressions import evaluate, symbols
from engine.network.rate_laws import Formula, MassAction
from tests.network import sbml_text as sbml
from tests.network.sbml_text import propensities

AVOGADRO = 6.02214076e23
MOLE = 'substanceUnits="mole"'


@pytest.mark.parametrize(
    ("units", "attributes", "copies"),
    [
        (sbml.unit("u", "mole", scale=-9), 'substanceUnits="u"', AVOGADRO * 1e-9),
        (sbml.unit("u", "mole", multiplier=1e-6), 'substanceUnits="u"', AVOGADRO * 1e-6),
        (sbml.unit("u", "item", multiplier=1000), 'substanceUnits="u"', 1000.0),
        ("", MOLE, AVOGADRO),
        ("", 'substanceUnits="item"', 1.0),
    ],
)
def test_copies_follow_the_substance_unit(
    tmp_path: Path, units: str, attributes: str, copies: float
) -> None:
    """Second order in two volumes: c = k / (copies V); zeroth order: c = k copies V."""
    text = sbml.document(
        attributes=attributes,
        units=units,
        compartments=sbml.compartment("cell", 0.5),
        species=sbml.species("A") + sbml.species("B") + sbml.species("C"),
        parameters=sbml.parameter("k", 3),
        reactions=sbml.reaction("bind", "A, B", "C", "cell * k * A * B")
        + sbml.reaction("make", "", "A", "cell * k")
        + sbml.reaction("decay", "A", "", "cell * k * A"),
    )
    network = sbml.read(tmp_path, text)
    found = propensities(network, A=7, B=11)
    assert found["bind"] == pytest.approx(3 * 7 * 11 / (copies * 0.5), rel=1e-12)
    assert found["make"] == pytest.approx(3 * copies * 0.5, rel=1e-12)
    assert found["decay"] == 3 * 7  # copies and volume drop out without rounding
    assert all(isinstance(r.rate_law, MassAction) for r in network.reactions)


def test_level_2_redefines_substance(tmp_path: Path) -> None:
    text = sbml.document(
        (2, 1),
        "",
        units=sbml.unit("substance", "item") + sbml.unit("time", "second", multiplier=3600),
        species=sbml.species("X", amounts=True, initialAmount=100),
        reactions=sbml.reaction("r", "X", "", "0.5 * X", level=2),
    )
    network = sbml.read(tmp_path, text)
    assert network.initial_values == {"X": 100.0}
    assert network.time_unit == "hour"
    assert propensities(network, X=8) == {"r": 4.0}


@pytest.mark.parametrize(
    ("attributes", "units"),
    [("", ""), ('substanceUnits="dimensionless"', ""), ('substanceUnits="u"', "gram")],
)
def test_units_that_are_no_molecules_need_copies(
    tmp_path: Path, attributes: str, units: str
) -> None:
    text = sbml.document(
        attributes=attributes,
        units=sbml.unit("u", units) if units else "",
        species=sbml.species("X", initialAmount=2),
        reactions=sbml.reaction("r", "X", "", "X"),
    )
    with pytest.raises(InvalidInput, match=r"species 'X'.*copies_per_unit="):
        sbml.read(tmp_path, text)
    assert sbml.read(tmp_path, text, 50.0).initial_values == {"X": 100.0}


def test_undeclared_level_2_substance_is_not_silently_mole(tmp_path: Path) -> None:
    text = sbml.document(
        (2, 4), "", species=sbml.species("X"), reactions=sbml.reaction("r", "", "X", "1", level=2)
    )
    with pytest.raises(InvalidInput, match="undeclared"):
        sbml.read(tmp_path, text)


@pytest.mark.parametrize("law", ["cell * k * A^2", "k * cell * A * A", "cell * (k * A) * A"])
@pytest.mark.parametrize("attributes", ['substanceUnits="item"', MOLE])
def test_a_square_in_concentrations_is_converted_once(
    tmp_path: Path, law: str, attributes: str
) -> None:
    """V k [A]^2 for 2 A -> B is k n (n - 1) / (copies V), and k n^2 / (copies V) for ODEs."""
    text = sbml.document(
        attributes=attributes,
        compartments=sbml.compartment("cell", 2),
        species=sbml.species("A") + sbml.species("B"),
        parameters=sbml.parameter("k", 3),
        reactions=sbml.reaction("pair", "2 A", "B", law),
    )
    network = sbml.read(tmp_path, text)
    copies = AVOGADRO if attributes == MOLE else 1.0
    for n in (0, 1, 2, 9):
        expected = 3 * n * (n - 1) / (copies * 2)
        assert propensities(network, A=n)["pair"] == pytest.approx(expected, rel=1e-12)
    values = {**network.parameter_values, "A": 9.0}
    limit = evaluate(network.reactions[0].macroscopic_rate, values)
    assert limit == pytest.approx(3 * 81 / (copies * 2), rel=1e-12)


def test_a_law_in_counts_is_taken_as_written(tmp_path: Path) -> None:
    text = sbml.document(
        species=sbml.species("P", amounts=True, initialAmount=10) + sbml.species("Q", amounts=True),
        reactions=sbml.reaction("falling", "2 P", "Q", "0.1 * P * (P - 1) / 2")
        + sbml.reaction("square", "2 P", "Q", "0.1 * P^2"),
    )
    found = propensities(sbml.read(tmp_path, text), P=5)
    assert found["falling"] == pytest.approx(0.1 * 5 * 4 / 2)
    assert found["square"] == pytest.approx(0.1 * 25)


def test_a_catalysed_square_keeps_its_limit(tmp_path: Path) -> None:
    """The factor beside A^2 may be any law of other species."""
    text = sbml.document(
        species=sbml.species("A") + sbml.species("E"),
        reactions=sbml.reaction("r", "2 A", "", "A^2 * E / (5 + E)"),
    )
    network = sbml.read(tmp_path, text)
    assert propensities(network, A=4, E=5)["r"] == pytest.approx(4 * 3 / 2)
    assert isinstance(network.reactions[0].rate_law, Formula)
    limit = evaluate(network.reactions[0].macroscopic_rate, {"A": 4.0, "E": 5.0})
    assert limit == pytest.approx(8.0)


@pytest.mark.parametrize("volume", [0.5, 1.0, 2.0])
def test_concentration_symbols_divide_by_the_volume(tmp_path: Path, volume: float) -> None:
    text = sbml.document(
        compartments=sbml.compartment("cell", volume),
        species=sbml.species("X", initialConcentration=100)
        + sbml.species("Y", amounts=True, initialConcentration=100)
        + sbml.species("Z", initialAmount=100)
        + sbml.species("seen", constant="false", boundaryCondition="true"),
        parameters=sbml.parameter("half", constant=False),
        rules=sbml.rule("assignment", "half", "X / 2") + sbml.rule("assignment", "seen", "X + Y"),
        reactions=sbml.reaction("x", "X", "", "X") + sbml.reaction("y", "Y", "", "Y + half"),
        events=sbml.event("reset", "time > 5", {"X": "10 + X", "Y": "10 + Y"}),
    )
    network = sbml.read(tmp_path, text)
    assert network.initial_values == {"X": 100 * volume, "Y": 100 * volume, "Z": 100.0}
    found = propensities(network, X=30, Y=4)
    assert found == pytest.approx({"x": 30 / volume, "y": 4 + 15 / volume})
    values = {**network.parameter_values, "X": 30.0, "Y": 4.0}
    event = network.events[0]
    assert evaluate(event.assignments["X"], values) == pytest.approx(10 * volume + 30)
    assert evaluate(event.assignments["Y"], values) == 14.0
    # A species set by a rule keeps the file's own unit: here a concentration plus an amount.
    assert evaluate(network.rules["seen"], values) == pytest.approx(30 / volume + 4)
    assert "seen" not in network.species_names


def test_volumes_of_one_drop_out(tmp_path: Path) -> None:
    text = sbml.document(
        species=sbml.species("X"), reactions=sbml.reaction("r", "X", "", "cell * 2 * X")
    )
    assert str(sbml.read(tmp_path, text).reactions[0].propensity) == "2 * X"


def test_a_volume_that_changes_stays_in_the_law(tmp_path: Path) -> None:
    text = sbml.document(
        compartments=sbml.compartment("cell", 1, constant=False),
        species=sbml.species("A", initialConcentration=6) + sbml.species("B"),
        reactions=sbml.reaction("r", "A, B", "", "cell * A * B"),
        events=sbml.event("grow", "time > 1", {"cell": "2 * cell", "A": "3"}),
    )
    network = sbml.read(tmp_path, text)
    assert [(v.name, network.initial_values[v.name]) for v in network.variables] == [("cell", 1.0)]
    assert propensities(network, A=6, B=5, cell=2)["r"] == pytest.approx(6 * 5 / 2)
    assert evaluate(network.events[0].assignments["A"], {"cell": 2.0}) == 6.0


def test_initial_assignments(tmp_path: Path) -> None:
    """Expressions of parameters stay expressions; other species are written out."""
    text = sbml.document(
        compartments=sbml.compartment("cell", 2) + sbml.compartment("room"),
        species=sbml.species("A") + sbml.species("B", "room") + sbml.species("C", "room"),
        parameters=sbml.parameter("p", 3)
        + sbml.parameter("q")
        + sbml.parameter("late", constant=False)
        + sbml.parameter("ruled", constant=False),
        initial=sbml.initial("A", "p + 1")
        + sbml.initial("B", "2 * A")
        + sbml.initial("C", "5 + time")
        + sbml.initial("q", "B + p")
        + sbml.initial("late", "ruled * 10")
        + sbml.initial("room", "2 * 2"),
        rules=sbml.rule("assignment", "ruled", "A + 1"),
        reactions=sbml.reaction("r", "A", "", "A * q"),
        events=sbml.event("e", "time > 1", {"late": "0"}),
    )
    network = sbml.read(tmp_path, text)
    assert network.initial_values == {"A": 8.0, "B": 32.0, "C": 20.0, "late": 50.0}
    assert network.parameter_values["q"] == 11.0
    assert network.parameter_values["room"] == 4.0
    assert symbols(network.species[0].initial) >= {"p"}  # it follows the parameter


@pytest.mark.parametrize(
    ("value", "copies", "expected"),
    [(0.3, 10.0, 3.0), (0.34, 10.0, 3.0), (1e-29, 10.0, 0.0), (-1e-29, 10.0, 0.0), (0.3, 1.0, 0.3)],
)
def test_initial_counts_are_rounded_after_a_conversion(
    tmp_path: Path, value: float, copies: float, expected: float
) -> None:
    """Only there: copies_per_unit=1 keeps the file's number."""
    text = sbml.document(
        attributes="",
        species=sbml.species("X", initialAmount=value),
        reactions=sbml.reaction("r", "X", "", "X"),
    )
    assert sbml.read(tmp_path, text, copies).initial_values["X"] == pytest.approx(expected)


def test_a_constant_fraction_of_an_item_becomes_a_parameter(tmp_path: Path) -> None:
    text = sbml.document(
        species=sbml.species("X", initialAmount=4)
        + sbml.species("E", initialAmount=0.25, constant="true", boundaryCondition="true"),
        reactions=sbml.reaction("r", "X, E", "E", "X * E"),
    )
    network = sbml.read(tmp_path, text)
    assert network.species_names == ("X",) and network.parameter_values["E"] == 0.25
    assert propensities(network, X=4)["r"] == 1.0


def test_events(tmp_path: Path) -> None:
    text = sbml.document(
        species=sbml.species("X", amounts=True),
        parameters=sbml.parameter("k", 1, constant=False),
        reactions=sbml.reaction("r", "", "X", "k"),
        events=sbml.event(
            "late", "X >= 3", {"k": "X"}, delay="2 * k", priority="5", at_trigger=False
        )
        + sbml.event(
            "early", "time > 1", {"X": "0"}, flags='initialValue="true" persistent="false"'
        )
        + sbml.event("", "time > 1", {"X": "1"}).replace('id="" ', "")
        + sbml.event("nothing", "time > 1", {}),
    )
    late, early, unnamed = sbml.read(tmp_path, text).events
    assert (str(late.delay), str(late.priority)) == ("2 * k", "5")
    assert late.is_persistent and not late.is_initially_true
    assert not late.uses_trigger_time_values and early.uses_trigger_time_values
    assert not early.is_persistent and early.is_initially_true and early.delay is None
    assert unnamed.name == "event_2"


def test_level_2_events_have_its_defaults(tmp_path: Path) -> None:
    one = sbml.event("e", "time > 1", {"X": "0"}, flags="").replace(
        'useValuesFromTriggerTime="true"', ""
    )
    text = sbml.document(
        (2, 4),
        "",
        units=sbml.unit("substance", "item"),
        species=sbml.species("X", amounts=True),
        reactions=sbml.reaction("r", "", "X", "1", level=2),
        events=one,
    )
    (event,) = sbml.read(tmp_path, text).events
    assert event.is_persistent and event.is_initially_true and event.uses_trigger_time_values


def test_rate_rules_are_in_molecules(tmp_path: Path) -> None:
    text = sbml.document(
        attributes='substanceUnits="u"',
        units=sbml.unit("u", "item", multiplier=10),
        compartments=sbml.compartment("cell", 2),
        species=sbml.species("D", initialConcentration=0.25),
        parameters=sbml.parameter("y", 4, constant=False),
        rules=sbml.rule("rate", "D", "-3 * D") + sbml.rule("rate", "y", "D - y"),
    )
    network = sbml.read(tmp_path, text)
    (drug,) = network.species
    assert drug.is_continuous and network.initial_values == {"D": 5.0, "y": 4.0}
    values = {**network.parameter_values, "D": 40.0, "y": 1.0}
    found = {r.target: evaluate(r.expression, values) for r in network.rate_rules}
    assert found == {"D": pytest.approx(-120.0), "y": pytest.approx(40 / 20 - 1)}


def test_boundary_and_constant_species(tmp_path: Path) -> None:
    text = sbml.document(
        species=sbml.species("S", boundaryCondition="true", initialAmount=3)
        + sbml.species("C", boundaryCondition="true", constant="true", initialAmount=3)
        + sbml.species("X"),
        reactions=sbml.reaction("r", "S, C", "X", "S * C"),
    )
    network = sbml.read(tmp_path, text)
    assert network.changes(network.reactions[0]) == {"X": 1}
    assert [(s.is_boundary, s.is_constant) for s in network.species] == [
        (True, False),
        (True, True),
        (False, False),
    ]


def test_the_unit_of_time_is_only_a_label(tmp_path: Path) -> None:
    """Two published models declare 60 ms where the numbers are minutes."""
    unit = sbml.unit("t", "second", scale=-3, multiplier=60)
    text = sbml.document(
        attributes='substanceUnits="item" timeUnits="t"',
        units=unit,
        species=sbml.species("X"),
        reactions=sbml.reaction("r", "", "X", "7"),
    )
    network = sbml.read(tmp_path, text)
    assert network.time_unit == "0.06 second" and propensities(network)["r"] == 7.0
