"""SBML out: a network as Level 3 Version 2 Core, in items."""

import re
from collections.abc import Callable
from pathlib import Path

import libsbml

from engine.errors import InvalidInput
from engine.network.events import Event
from engine.network.expressions import Expression, Number, symbols
from engine.network.network import ReactionNetwork
from engine.network.quantities import Species, Variable
from engine.network.reactions import Reaction
from engine.network.sbml_math import to_math

_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0}
_SECONDS |= {"sec": 1.0, "min": 60.0, "h": 3600.0, "hr": 3600.0, "d": 86400.0}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def write_sbml(network: ReactionNetwork, path: str | Path) -> None:
    """Write a network as SBML Level 3 Version 2, in items with amounts.

    `read_sbml` gives the same propensities, rules and events back. Not kept: units of
    parameters and variables (SBML has no free text for them), sources, and the rate law's class
    (a law becomes its formula). Reaction names that are no SBML identifiers are replaced.

    Args:
        network: the network.
        path: the file to write; an existing one is replaced.

    Raises:
        InvalidInput: inputs or doses, which SBML cannot express, or a path that cannot be
            written.

    Example:
        >>> write_sbml(network, "model.xml")  # doctest: +SKIP
    """
    _refuse(network)
    document = libsbml.SBMLDocument(3, 2)
    model = document.createModel()
    model.setId(network.name if _IDENTIFIER.fullmatch(network.name) else "network")
    model.setName(network.name)
    _write_units(network, model)
    point = _write_compartments(network, model)
    for species in network.species:
        _write_species(model, species, point)
    for parameter in network.parameters:
        element = _parameter(model, parameter.name, parameter.description, is_constant=True)
        _write_initial(model, parameter.name, parameter.value, element.setValue)
    for variable in network.variables:
        _write_variable(model, variable)
    for rule in network.assignment_rules:
        _parameter(model, rule.target, "", is_constant=False)
        assignment = model.createAssignmentRule()
        assignment.setVariable(rule.target)
        assignment.setMath(to_math(rule.expression))
    for rate in network.rate_rules:
        element = model.createRateRule()
        element.setVariable(rate.target)
        element.setMath(to_math(rate.expression))
    taken = {*network._kinds}
    for reaction in network.reactions:
        _write_reaction(model, reaction, _free_name(reaction.name, taken))
    for event in network.events:
        _write_event(model, event, _free_name(event.name, taken))
    _save(document, Path(path))


def _refuse(network: ReactionNetwork) -> None:
    for name in network._kinds:
        if not _IDENTIFIER.fullmatch(name):
            raise InvalidInput(f"'{name}' is no SBML identifier; use ASCII letters, digits and _")
    for given in network.inputs:
        raise InvalidInput(f"input '{given.name}' cannot be written: SBML has no inputs")
    for event in network.events:
        for target in event.doses:
            raise InvalidInput(
                f"the dose into '{target}' of event '{event.name}' cannot be written: "
                "SBML has no doses"
            )


def _save(document: libsbml.SBMLDocument, path: Path) -> None:
    text = libsbml.writeSBMLToString(document)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write '{path}': {error.strerror}") from None


def _free_name(name: str, taken: set[str]) -> str:
    """An SBML identifier near `name` that nothing else in the file has."""
    free = name if _IDENTIFIER.fullmatch(name) else "_" + re.sub(r"\W", "_", name, flags=re.ASCII)
    while free in taken:
        free += "_"
    taken.add(free)
    return free


def _write_units(network: ReactionNetwork, model: libsbml.Model) -> None:
    model.setSubstanceUnits("item")
    model.setExtentUnits("item")
    model.setVolumeUnits("litre")
    match = re.fullmatch(r"(?:(\S+) )?([a-z]+?)s?", network.time_unit)
    if match is None or match[2] not in _SECONDS:
        return  # a label that no SBML unit stands for, or none at all
    try:
        factor = float(match[1] or 1.0) * _SECONDS[match[2]]
    except ValueError:
        return
    definition = model.createUnitDefinition()
    definition.setId("time_unit")
    unit = definition.createUnit()
    unit.setKind(libsbml.UNIT_KIND_SECOND)
    unit.setExponent(1)
    unit.setScale(0)
    unit.setMultiplier(factor)
    model.setTimeUnits("time_unit")


def _write_compartments(network: ReactionNetwork, model: libsbml.Model) -> str:
    """Write the compartments; the name of one without size, for species that have none."""
    for compartment in network.compartments:
        element = model.createCompartment()
        element.setId(compartment.name)
        element.setConstant(True)
        element.setSpatialDimensions(3)
        element.setSize(compartment.volume)
    own = {c.name for c in network.compartments}
    if all(s.compartment in own for s in network.species):
        return ""
    point = _free_name("no_compartment", {*network._kinds})
    element = model.createCompartment()
    element.setId(point)
    element.setConstant(True)
    element.setSpatialDimensions(0)
    return point


def _write_species(model: libsbml.Model, species: Species, point: str) -> None:
    element = model.createSpecies()
    element.setId(species.name)
    if species.description:
        element.setName(species.description)
    is_known = model.getCompartment(species.compartment or "") is not None
    element.setCompartment(species.compartment if is_known else point)
    element.setSubstanceUnits("item")
    element.setHasOnlySubstanceUnits(True)
    element.setBoundaryCondition(species.is_boundary or species.is_constant)
    element.setConstant(species.is_constant)
    _write_initial(model, species.name, species.initial, element.setInitialAmount)


def _parameter(
    model: libsbml.Model, name: str, description: str, *, is_constant: bool
) -> libsbml.Parameter:
    element = model.createParameter()
    element.setId(name)
    if description:
        element.setName(description)
    element.setConstant(is_constant)
    return element


def _write_variable(model: libsbml.Model, variable: Variable) -> None:
    element = _parameter(model, variable.name, "", is_constant=False)
    _write_initial(model, variable.name, variable.initial, element.setValue)


def _write_initial(
    model: libsbml.Model, name: str, value: Expression, set_number: Callable[[float], int]
) -> None:
    """A number as the element's attribute, an expression as an initial assignment."""
    if isinstance(value, Number):
        set_number(value.value)
        return
    assignment = model.createInitialAssignment()
    assignment.setSymbol(name)
    assignment.setMath(to_math(value))


def _write_reaction(model: libsbml.Model, reaction: Reaction, name: str) -> None:
    element = model.createReaction()
    element.setId(name)
    element.setName(reaction.description or reaction.name)
    element.setReversible(False)
    for side, create in (
        (reaction.reactants, element.createReactant),
        (reaction.products, element.createProduct),
    ):
        for species, stoichiometry in side.items():
            reference = create()
            reference.setSpecies(species)
            reference.setStoichiometry(stoichiometry)
            reference.setConstant(True)
    law = reaction.propensity
    element.createKineticLaw().setMath(to_math(law))
    for species in sorted(_species_in(model, law) - reaction.reactants.keys()):
        element.createModifier().setSpecies(species)


def _species_in(model: libsbml.Model, law: Expression) -> set[str]:
    return {name for name in symbols(law) if model.getSpecies(name) is not None}


def _write_event(model: libsbml.Model, event: Event, name: str) -> None:
    element = model.createEvent()
    element.setId(name)
    element.setUseValuesFromTriggerTime(event.uses_trigger_time_values)
    trigger = element.createTrigger()
    trigger.setPersistent(event.is_persistent)
    trigger.setInitialValue(event.is_initially_true)
    trigger.setMath(to_math(event.trigger))
    if event.delay is not None:
        element.createDelay().setMath(to_math(event.delay))
    if event.priority is not None:
        element.createPriority().setMath(to_math(event.priority))
    for target, value in event.assignments.items():
        assignment = element.createEventAssignment()
        assignment.setVariable(target)
        assignment.setMath(to_math(value))
