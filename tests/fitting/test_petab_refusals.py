"""What is not read is refused by name, in one line."""

import math

import pytest

import engine
from tests.fitting.petab_files import measured, write_problem
from tests.network import sbml_text as sbml


def model(**more):
    parts = {
        "species": sbml.species("A", initialConcentration=1.0),
        "parameters": sbml.parameter("k", 1.0) + sbml.parameter("free", 1.0, False),
        "reactions": sbml.reaction("lose", "A", "", "k * A"),
    }
    return sbml.document(**{**parts, **more})


def written(folder, text=None, **more):
    tables = {
        "parameters": {"k": {}},
        "conditions": {"c": {}},
        "observables": {"a": {"observableFormula": "A"}},
        "measurements": [measured("a", "c", 1.0, 0.5)],
    }
    return write_problem(folder, text or model(), **{**tables, **more})


EVENTS = {
    "state": (sbml.event("e", "A < 0.5", {"A": "1"}), "condition on the state"),
    "delay": (sbml.event("e", "time > 1", {"A": "1"}, delay="2"), "event 'e' has a delay"),
    "priority": (sbml.event("e", "time > 1", {"A": "1"}, priority="2"), "'e' has a priority"),
}
RULES = {
    "algebraic": ("<algebraicRule>" + sbml.math("free - A") + "</algebraicRule>", "algebraic"),
    "not linear": (sbml.rule("assignment", "free", "piecewise(1, time^2 > 2, 0)"), "not linear"),
    "floor": (sbml.rule("assignment", "free", "floor(time)"), "jumps in time"),
    "delay": (sbml.rule("assignment", "free", "delay(A, 1)"), "'delay'"),
    "circle": (sbml.rule("assignment", "free", "2 * free"), "depends on itself"),
}
TABLES = {
    "observable": ({"observables": {"a": {"observableFormula": "B"}}}, "mentions 'B'"),
    "formula": ({"observables": {"a": {"observableFormula": "A +* 2"}}}, "cannot read the formula"),
    "noise": (
        {"observables": {"a": {"observableFormula": "A", "noiseDistribution": "cauchy"}}},
        "noiseDistribution 'cauchy'",
    ),
    "placeholder": (
        {"observables": {"a": {"observableFormula": "A", "noiseFormula": "noiseParameter1_a"}}},
        "noiseParameters of observable 'a' must give 'noiseParameter1_a'",
    ),
    "condition": ({"measurements": [measured("a", "d", 1.0, 0.5)]}, "condition 'd'"),
    "no observable": ({"measurements": [measured("b", "c", 1.0, 0.5)]}, "observable 'b'"),
    "column": ({"conditions": {"c": {"B": 1.0}}}, "sets 'B', which is not in the model"),
    "cell": ({"conditions": {"c": {"A": "kk"}}}, "mentions 'kk', .* did you mean 'k'"),
    "no number": (
        {"measurements": [measured("a", "c", 1.0, 0.5), measured("a", "c", 2.0, math.nan)]},
        "row 2 of the measurement table has no number; leave the row out",
    ),
    "time": ({"measurements": [measured("a", "c", -1.0, 0.5)]}, "time that is negative"),
    "not positive": (
        {
            "observables": {"a": {"observableFormula": "A", "observableTransformation": "log"}},
            "measurements": [measured("a", "c", 1.0, 0.0)],
        },
        "not positive",
    ),
    "bounds": ({"parameters": {"k": {"lowerBound": 3, "upperBound": 2}}}, "bounds 3, 2"),
    "scale": ({"parameters": {"k": {"parameterScale": "ln"}}}, "parameterScale 'ln'"),
    "log bound": (
        {"parameters": {"k": {"parameterScale": "log", "lowerBound": 0.0}}},
        "give a positive one",
    ),
}


def refused(path, message):
    with pytest.raises(engine.InvalidInput, match=message) as error:
        engine.read_petab(path).negative_log_likelihood({})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("case", EVENTS)
def test_events(case, tmp_path):
    text, message = EVENTS[case]
    refused(written(tmp_path, model(events=text)), message)


@pytest.mark.parametrize("case", RULES)
def test_rules(case, tmp_path):
    text, message = RULES[case]
    refused(written(tmp_path, model(rules=text)), message)


@pytest.mark.parametrize("case", TABLES)
def test_tables(case, tmp_path):
    more, message = TABLES[case]
    refused(written(tmp_path, **more), message)


def test_files(tmp_path):
    refused(tmp_path / "absent.yaml", "there is no file")
    path = tmp_path / "problem.yaml"
    path.write_text("problems: [")
    refused(path, "is not YAML")
    path.write_text("{a: 1}")
    refused(path, "is not a PEtab problem")
    path.write_text("format_version: 2.0.0\nproblems: []")
    refused(path, "only version 1")
    whole = written(tmp_path)
    (tmp_path / "conditions.tsv").unlink()
    refused(whole, "names 'conditions.tsv', which is not beside it")


def test_a_volume_that_changes_and_a_value_that_is_missing(tmp_path):
    growing = model(
        compartments=sbml.compartment("cell", 1.0, False), rules=sbml.rule("rate", "cell", "1")
    )
    refused(written(tmp_path, growing), "volume of compartment 'cell' changes")
    text = model(parameters=sbml.parameter("k", 1.0) + sbml.parameter("free")).replace(
        sbml.math("k * A"), sbml.math("k * A * free")
    )
    refused(written(tmp_path, text), "'free' has no value")
