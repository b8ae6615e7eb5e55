"""SBML files written in a few lines, for tests."""

from collections.abc import Mapping
from pathlib import Path

import libsbml

from engine.network.expressions import evaluate
from engine.network.network import ReactionNetwork
from engine.network.sbml_reader import read_sbml

NAMESPACES = {
    (2, 1): "http://www.sbml.org/sbml/level2",
    (2, 4): "http://www.sbml.org/sbml/level2/version4",
    (3, 1): "http://www.sbml.org/sbml/level3/version1/core",
    (3, 2): "http://www.sbml.org/sbml/level3/version2/core",
}


def math(formula: str) -> str:
    """MathML of an infix formula."""
    node = libsbml.parseL3Formula(formula)
    assert node is not None, formula
    return libsbml.writeMathMLToString(node).split("?>\n", 1)[1]


def elements(kind: str, items: str) -> str:
    return f"<listOf{kind}>{items}</listOf{kind}>" if items else ""


def compartment(name: str, size: float | None = 1.0, constant: bool = True, **more: object) -> str:
    given = "" if size is None else f'size="{size}"'
    return f'<compartment id="{name}" {given} constant="{str(constant).lower()}" {_rest(more)}/>'


def species(name: str, where: str = "cell", *, amounts: bool = False, **more: object) -> str:
    """A species; `amounts` is hasOnlySubstanceUnits; initialAmount 0 unless given."""
    if not {"initialAmount", "initialConcentration"} & more.keys():
        more["initialAmount"] = 0
    more = {"boundaryCondition": "false", "constant": "false", **more}
    only = str(amounts).lower()
    return (
        f'<species id="{name}" compartment="{where}" hasOnlySubstanceUnits="{only}" {_rest(more)}/>'
    )


def parameter(name: str, value: object = None, constant: bool = True, **more: object) -> str:
    given = "" if value is None else f'value="{value}"'
    return f'<parameter id="{name}" {given} constant="{str(constant).lower()}" {_rest(more)}/>'


def _rest(more: Mapping[str, object]) -> str:
    return " ".join(f'{key}="{value}"' for key, value in more.items())


def reaction(
    name: str,
    reactants: str,
    products: str,
    law: str,
    *,
    reversible: bool = False,
    local: Mapping[str, float] | None = None,
    level: int = 3,
    more: str = "",
) -> str:
    """A reaction; a side is text such as "2 A, B"."""
    element = "localParameter" if level == 3 else "parameter"
    kind = "LocalParameters" if level == 3 else "Parameters"
    given = (local or {}).items()
    values = elements(kind, "".join(f'<{element} id="{k}" value="{v}"/>' for k, v in given))
    kinetic = f"<kineticLaw>{math(law)}{values}</kineticLaw>" if law else ""
    sides = elements("Reactants", _side(reactants, level))
    sides += elements("Products", _side(products, level))
    both = str(reversible).lower()
    fast = 'fast="false"' if "fast" not in more else ""
    return f'<reaction id="{name}" reversible="{both}" {fast} {more}>{sides}{kinetic}</reaction>'


def _side(text: str, level: int) -> str:
    out = ""
    constant = 'constant="true"' if level == 3 else ""
    for term in filter(None, (t.strip() for t in text.split(","))):
        number, _, name = term.rpartition(" ")
        out += f'<speciesReference species="{name}" stoichiometry="{number or 1}" {constant}/>'
    return out


def rule(kind: str, target: str, formula: str) -> str:
    return f'<{kind}Rule variable="{target}">{math(formula)}</{kind}Rule>'


def initial(target: str, formula: str) -> str:
    return f'<initialAssignment symbol="{target}">{math(formula)}</initialAssignment>'


def function(name: str, arguments: str, body: str) -> str:
    definition = math(f"lambda({arguments}, {body})")
    return f'<functionDefinition id="{name}">{definition}</functionDefinition>'


def event(
    name: str,
    trigger: str,
    assignments: Mapping[str, str],
    *,
    delay: str = "",
    priority: str = "",
    flags: str = 'initialValue="false" persistent="true"',
    at_trigger: bool = True,
) -> str:
    sets = "".join(
        f'<eventAssignment variable="{target}">{math(value)}</eventAssignment>'
        for target, value in assignments.items()
    )
    when = f"<trigger {flags}>{math(trigger)}</trigger>"
    when += f"<priority>{math(priority)}</priority>" if priority else ""
    when += f"<delay>{math(delay)}</delay>" if delay else ""
    use = str(at_trigger).lower()
    sets = elements("EventAssignments", sets)
    return f'<event id="{name}" useValuesFromTriggerTime="{use}">{when}{sets}</event>'


def unit(name: str, kind: str, scale: int = 0, multiplier: float = 1, exponent: int = 1) -> str:
    part = f'<unit kind="{kind}" exponent="{exponent}" scale="{scale}" multiplier="{multiplier}"/>'
    return f'<unitDefinition id="{name}"><listOfUnits>{part}</listOfUnits></unitDefinition>'


def document(
    version: tuple[int, int] = (3, 2), attributes: str = 'substanceUnits="item"', **parts: str
) -> str:
    """A file; parts are the contents of functions, units, compartments, species, ..."""
    order = {
        "functions": "FunctionDefinitions",
        "units": "UnitDefinitions",
        "compartments": "Compartments",
        "species": "Species",
        "parameters": "Parameters",
        "initial": "InitialAssignments",
        "rules": "Rules",
        "constraints": "Constraints",
        "reactions": "Reactions",
        "events": "Events",
    }
    assert parts.keys() <= order.keys(), parts.keys()
    parts.setdefault("compartments", compartment("cell"))
    body = "".join(elements(kind, parts.get(part, "")) for part, kind in order.items())
    level, release = version
    opening = f'<sbml xmlns="{NAMESPACES[version]}" level="{level}" version="{release}">'
    return f'<?xml version="1.0"?>{opening}<model id="m" {attributes}>{body}</model></sbml>'


def read(folder: Path, text: str, copies_per_unit: float | None = None) -> ReactionNetwork:
    """The network of a file's text."""
    path = folder / "model.xml"
    path.write_text(text)
    return read_sbml(path, copies_per_unit=copies_per_unit)


def propensities(network: ReactionNetwork, **state: float) -> dict[str, float]:
    """The propensity of every reaction in a state, rules and initial values filled in."""
    values = {"time": 0.0, **network.parameter_values, **network.initial_values, **state}
    for target, expression in network.rules.items():
        values[target] = evaluate(expression, values)
    return {r.name: evaluate(r.propensity, values) for r in network.reactions}
