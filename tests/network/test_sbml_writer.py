"""Writing SBML: what is written reads back as the same network."""

from pathlib import Path

import libsbml
import numpy as np
import pytest

from engine.errors import InvalidInput
from engine.network.events import AssignmentRule, Event, RateRule
from engine.network.expressions import Expression, evaluate
from engine.network.network import ReactionNetwork
from engine.network.quantities import Compartment, Parameter, Species, Variable
from engine.network.rate_laws import Formula, HillInhibition, MassAction
from engine.network.reactions import Reaction
from engine.network.sbml_reader import read_sbml
from engine.network.sbml_writer import write_sbml

EVERYTHING = ReactionNetwork(
    species=[
        Species("A", 100, "cell", description="a receptor"),
        Species("B", "2 * n", "cell"),  # type: ignore[arg-type]
        Species("S", 3, is_boundary=True),  # type: ignore[arg-type]
        Species("C", 4, is_constant=True),  # type: ignore[arg-type]
        Species("D", 2.5, is_continuous=True, is_boundary=True),  # type: ignore[arg-type]
    ],
    compartments=[Compartment("cell", 2.0), Compartment("one", 1.0)],
    parameters=[Parameter("k", 0.01), Parameter("n", 7.0), Parameter("q", "k * cell + 1e-9")],  # type: ignore[arg-type]
    variables=[Variable("level", 1.5), Variable("w", "n / 2")],  # type: ignore[arg-type]
    assignment_rules=[AssignmentRule("total", "A + 2 * B")],  # type: ignore[arg-type]
    rate_rules=[RateRule("D", "-k * D + level"), RateRule("w", "1")],  # type: ignore[arg-type]
    reactions=[
        Reaction("2 A -> B", MassAction("k")),
        Reaction("B -> 2 A", MassAction("q"), name="un/bind"),
        Reaction("S + C -> A", HillInhibition("n", 3, 2, "B"), name="A"),
        Reaction("0 -> A", Formula("piecewise(log10(total + 10), A < 50 and not B > 3, sqrt(D))")),
        Reaction(
            "A -> 0", Formula("logistic(A) * log2(A + 1) * max(k, q, 0.5) + rem(B, 4) * exp(-time)")
        ),
        Reaction("A -> B", Formula("abs(A - B) * min(1, level) * tanh(w) + floor(A / 3)^1.5")),
    ],
    events=[
        Event("late", "A > 120", {"level": "level + 1", "B": "0"}, delay="2 * k", priority="n"),  # type: ignore[arg-type, dict-item]
        Event(
            "early",
            "time >= 24",  # type: ignore[arg-type]
            {"A": "A / 2"},  # type: ignore[dict-item]
            is_persistent=False,
            is_initially_true=False,
            uses_trigger_time_values=False,
        ),
    ],
    name="everything",
    time_unit="hour",
)


def assert_same(first: ReactionNetwork, second: ReactionNetwork) -> None:
    """Same names, values at time 0, propensities in random states, rules and events."""
    assert second.species_names == first.species_names
    flags = [
        [(s.is_boundary or s.is_constant, s.is_constant, s.is_continuous) for s in n.species]
        for n in (first, second)
    ]
    assert flags[0] == flags[1]
    assert first.initial_values == pytest.approx(second.initial_values)
    assert first.parameter_values == pytest.approx(second.parameter_values)
    rng = np.random.default_rng(5)
    for _ in range(3):
        state = {s: float(rng.integers(0, 150)) for s in first.species_names}
        shared = {"time": 2.5, **first.parameter_values, **first.initial_values, **state}
        both = []
        for network in (first, second):
            values = dict(shared)
            for target, rule in network.rules.items():
                values[target] = evaluate(rule, values)
            found = [_value(r.propensity, values) for r in network.reactions]
            found += [_value(r.expression, values) for r in network.rate_rules]
            found += [values[r.target] for r in network.assignment_rules]
            found += [_value(e, values) for event in network.events for e in _parts(event)]
            both.append(found)
        assert both[0] == pytest.approx(both[1], rel=1e-12, nan_ok=True)
    for one, other in zip(first.reactions, second.reactions, strict=True):
        assert (one.reactants, one.products) == (other.reactants, other.products)
    for before, after in zip(first.events, second.events, strict=True):
        for attribute in ("is_persistent", "is_initially_true", "uses_trigger_time_values"):
            assert getattr(before, attribute) == getattr(after, attribute)


def _value(expression: Expression, values: dict[str, float]) -> float:
    try:
        return evaluate(expression, values)
    except InvalidInput:
        return float("nan")


def _parts(event: Event) -> list[Expression]:
    optional = [e for e in (event.delay, event.priority) if e is not None]
    return [event.trigger, *event.assignments.values(), *optional]


def test_everything_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    write_sbml(EVERYTHING, path)
    back = read_sbml(path)
    assert_same(EVERYTHING, back)
    assert (back.name, back.time_unit) == ("everything", "hour")
    assert back.species[0].compartment == "cell" and back.species[0].description == "a receptor"
    assert str(back.parameters[2].value) == "1e-09 + k * cell"  # still follows k


def test_the_file_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    write_sbml(EVERYTHING, path)
    document = libsbml.readSBMLFromFile(str(path))
    assert (document.getLevel(), document.getVersion()) == (3, 2)
    document.setConsistencyChecks(libsbml.LIBSBML_CAT_UNITS_CONSISTENCY, False)
    document.checkConsistency()
    log = document.getErrorLog()
    assert log.getNumFailsWithSeverity(libsbml.LIBSBML_SEV_ERROR) == 0, (
        document.getErrorLog().toString()
    )


def test_published_models_come_back(shared: Path, tmp_path: Path) -> None:
    files = [p for p in sorted((shared / "dsmts").glob("*/*.xml")) if "sbml" in p.name]
    published = ("MODEL2210070001", "BIOMD0000000101", "BIOMD0000000620", "BIOMD0000000536")
    files += [shared / "science" / "sbml" / f"{name}.xml" for name in published]
    path = tmp_path / "model.xml"
    for file in files:
        first = read_sbml(file, copies_per_unit=None if "sbml" in file.name else 1000.0)
        write_sbml(first, path)
        second = read_sbml(path)
        assert_same(first, second)


@pytest.mark.parametrize(
    ("label", "back"),
    [("min", "minute"), ("days", "day"), ("0.06 second", "0.06 second"), ("", ""), ("sprint", "")],
)
def test_labels_of_time(tmp_path: Path, label: str, back: str) -> None:
    network = ReactionNetwork({"X": 1}, [Reaction("X -> 0", MassAction(1))], time_unit=label)  # type: ignore[arg-type]
    write_sbml(network, tmp_path / "model.xml")
    assert read_sbml(tmp_path / "model.xml").time_unit == back


def test_refusals(tmp_path: Path) -> None:
    decay = Reaction("X -> 0", MassAction(1))
    dose = Event("rescue", "X < 1", doses={"X": 5})  # type: ignore[arg-type, dict-item]
    for parts, said in (
        ({"inputs": ["drug"]}, "input 'drug'"),
        ({"events": [dose]}, "the dose into 'X' of event 'rescue'"),
        ({"parameters": {"κ": 1}}, "'κ' is no SBML identifier"),
    ):
        network = ReactionNetwork({"X": 1}, [decay], **parts)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match=said):
            write_sbml(network, tmp_path / "model.xml")
    network = ReactionNetwork({"X": 1}, [decay])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="cannot write"):
        write_sbml(network, tmp_path / "no" / "folder.xml")
