"""SBML in: Levels 2 and 3, as a network of molecule counts.

Whatever cannot be simulated exactly is refused by name. Reference: SBML Level 3 Version 2 Core
(doi:10.1515/jib-2017-0081).
"""

import math
from collections.abc import Iterable
from pathlib import Path

import libsbml

from engine.errors import InvalidInput
from engine.network.events import AssignmentRule, Event, RateRule
from engine.network.expressions import Expression, Number, call, evaluate, symbols
from engine.network.network import ReactionNetwork
from engine.network.quantities import Compartment, Parameter, Species, Variable
from engine.network.sbml_algebra import ZERO, tidy
from engine.network.sbml_reactions import read_reaction
from engine.network.sbml_source import Source, given_amount, local_key, make_source, value_of
from engine.network.sbml_units import substance_unit, time_label, unit_label

# libSBML numbers its own reports; these are XML that cannot be read, and a package that must be
# understood and is not. Other reports (units, schema details) do not change a trajectory.
_LAST_XML_ERROR = 9999
_HARMLESS_XML = (libsbml.MissingXMLDecl, libsbml.MissingXMLEncoding)
_PACKAGE_UNKNOWN = 99107
# libSBML adds these to documents by itself; they hold drawings, or functions that are read.
_HARMLESS_PACKAGES = ("l3v2extendedmath", "layout", "render")
_TINY = 1e-9


def read_sbml(path: str | Path, *, copies_per_unit: float | None = None) -> ReactionNetwork:
    """Read an SBML file (Level 2 or 3) into a network of molecule counts.

    A species' symbol is rewritten in counts n: n / copies where the file means an amount
    (hasOnlySubstanceUnits), n / (copies V) where it means a concentration, V its compartment's
    volume; a kinetic law (extent per time) times copies is the propensity. `copies` is 1 for
    `item` and Avogadro's number times the unit's factor for `mole`.

    - A law X^s times something free of X, X a reactant of stoichiometry s >= 2, is mass action
      in concentrations and X^s becomes X (X-1) ... (X-s+1), once. It is taken as written in
      items with hasOnlySubstanceUnits, and in any other form (such as X (X - 1)). Deterministic
      methods read X^s back from `Reaction.macroscopic_rate`.
    - A law that is a difference f - r of a reversible reaction becomes two channels, `name` and
      `name_reverse`.
    - Initial counts that come from a unit conversion are rounded to the nearest integer; in
      items they must be integers. With `copies_per_unit=1` they stay as the file has them, for
      deterministic methods; a stochastic one demands integers of them later.
    - Local parameters become `reaction__parameter`; identifiers that an expression cannot hold
      (`lambda`, `time`) get an underscore. Constant volumes of 1 drop out of every expression.
    - A species set by an assignment rule keeps the file's own unit, amount or concentration.
    - The unit of time is a label; numbers are never rescaled by it.

    Args:
        path: the file.
        copies_per_unit: molecules in one substance unit, overriding the file's units; needed
            where these are undeclared or dimensionless.

    Returns:
        The network.

    Raises:
        InvalidInput: an unreadable file, units that say nothing about numbers of molecules, or
            a construct that cannot be simulated exactly (delays, algebraic rules, fast
            reactions, fractional stoichiometry, required packages, ...), by name.

    Example:
        >>> network = read_sbml("model.xml", copies_per_unit=602.2)  # nM in 1 pL  # doctest: +SKIP
    """
    if copies_per_unit is not None and not 0 < copies_per_unit < math.inf:
        raise InvalidInput(f"copies_per_unit is {copies_per_unit!r}; give a positive number")
    model = open_model(Path(path))
    try:
        return _network(make_source(model, copies_per_unit), Path(path).stem)
    except InvalidInput as error:
        raise InvalidInput(f"{Path(path).name}: {error}") from None


def open_model(path: Path) -> libsbml.Model:
    """The model of a file; every failure is one line."""
    if not path.is_file():
        raise InvalidInput(f"there is no file '{path}'")
    document = libsbml.readSBMLFromFile(str(path))
    for i in range(document.getNumErrors()):
        error = document.getError(i)
        if error.getSeverity() < libsbml.LIBSBML_SEV_ERROR:
            continue
        if error.getErrorId() in _HARMLESS_XML:
            continue
        if error.getErrorId() <= _LAST_XML_ERROR:
            reason = " ".join(error.getMessage().split()).rstrip(".")
            raise InvalidInput(f"{path.name}, line {error.getLine()}: {reason}")
        if error.getErrorId() == _PACKAGE_UNKNOWN:
            raise InvalidInput(f"{path.name} requires an SBML package that is not read")
    # Libsbml drops the document, and the model with it, unless the model is a copy.
    model = document.getModel()
    if model is None:
        raise InvalidInput(f"{path.name} holds no SBML model")
    if document.getLevel() not in (2, 3):
        level = document.getLevel()
        raise InvalidInput(f"{path.name} is SBML Level {level}; convert it to Level 3")
    for i in range(document.getNumPlugins() if document.getLevel() == 3 else 0):
        package = document.getPlugin(i).getPackageName()
        if package not in _HARMLESS_PACKAGES and document.getPackageRequired(package):
            raise InvalidInput(
                f"{path.name} requires the SBML package '{package}', which is not read"
            )
    return model.clone()


def _network(source: Source, stem: str) -> ReactionNetwork:
    model = source.model
    species, fixed = _read_species(source)
    compartments, parameters, variables, valueless = _read_quantities(source)
    parameters += fixed.values()
    constants = frozenset(p.name for p in parameters) | {c.name for c in compartments}
    reactions = [
        channel
        for element in model.getListOfReactions()
        for channel in read_reaction(source, element, constants, frozenset(fixed))
    ]
    assignment_rules = [
        AssignmentRule(
            source.names[target],
            source.expression(rule.getMath(), f"assignment rule of '{target}'"),
            unit=_unit_of(source, target),
        )
        for target, rule in source.assigned.items()
    ]
    rate_rules = [_read_rate_rule(source, target) for target in source.rated]
    events = [
        event
        for position, element in enumerate(model.getListOfEvents())
        for event in _read_event(source, element, position)
    ]
    _refuse_valueless(
        valueless,
        [
            *(s.initial for s in species),
            *(v.initial for v in variables),
            *(p.value for p in parameters),
            *(r.propensity for r in reactions),
            *(r.expression for r in assignment_rules),
            *(r.expression for r in rate_rules),
            *(x for e in events for x in _event_expressions(e)),
        ],
    )
    return ReactionNetwork(
        species=species,
        reactions=reactions,
        parameters=parameters,
        compartments=compartments,
        variables=variables,
        assignment_rules=assignment_rules,
        rate_rules=rate_rules,
        events=events,
        name=model.getId() or stem,
        time_unit=time_label(model),
    )


def _refuse_valueless(valueless: dict[str, str], expressions: Iterable[Expression]) -> None:
    used = frozenset().union(*map(symbols, expressions))
    for name, message in valueless.items():
        if name in used:
            raise InvalidInput(message)


# Species.


def _read_species(source: Source) -> tuple[list[Species], dict[str, Parameter]]:
    """The counted species, and constant ones whose amount is no whole number as parameters."""
    species: list[Species] = []
    fixed: dict[str, Parameter] = {}
    for element in source.model.getListOfSpecies():
        identifier = element.getId()
        if identifier in source.assigned:
            continue
        name, is_continuous = source.names[identifier], identifier in source.rated
        count = _initial_count(source, element)
        if element.getConstant() and isinstance(count, Number) and not _is_whole(count.value):
            fixed[identifier] = Parameter(name, count, "molecules", description=element.getName())
            continue
        if isinstance(count, Number) and not is_continuous:
            count = Number(_whole(source, element, count.value))
        species.append(
            Species(
                name,
                count,
                compartment=source.names[element.getCompartment()],
                is_boundary=element.getBoundaryCondition() or is_continuous,
                is_constant=element.getConstant(),
                is_continuous=is_continuous,
                description=element.getName(),
            )
        )
    return species, fixed


def _initial_count(source: Source, element: libsbml.Species) -> Expression:
    """Molecules at time 0: a number, or an expression where parameters of the file decide."""
    identifier = element.getId()
    amount = given_amount(element)
    if amount is not None and identifier not in source.initial_math:
        return Number(amount * source.copies(element))
    per_unit = source.at_start(source.per_unit(element))
    count = tidy(call("mul", source.initial(identifier), per_unit))
    volumes = {
        source.names[c.getId()]: value_of(c)
        for c in source.model.getListOfCompartments()
        if source.is_fixed(c.getId()) and c.getId() not in source.initial_math
    }
    known = {name: value for name, value in volumes.items() if value is not None}
    unknown = symbols(count) & volumes.keys() - known.keys()
    if unknown:
        raise InvalidInput(f"compartment '{min(unknown)}' has no size, and '{identifier}' needs it")
    return Number(evaluate(count, known)) if symbols(count) <= known.keys() else count


def _is_whole(value: float) -> bool:
    return value == round(value)


def _whole(source: Source, element: libsbml.Species, value: float) -> float:
    """An initial count as whole molecules; see `read_sbml` for when it is rounded."""
    what = f"the initial amount of species '{element.getId()}'"
    if not math.isfinite(value):
        raise InvalidInput(f"{what} is {value}; give a finite number")
    nearest = float(round(value))
    if value < -0.5 or (value < -_TINY and source.copies_per_unit == 1.0):
        raise InvalidInput(f"{what} is {value:g} molecules; it cannot be negative")
    if source.copies_per_unit == 1.0:
        is_noise = abs(value - nearest) <= _TINY * max(1.0, abs(value)) and nearest != 0.0
        return nearest if is_noise else max(value, 0.0)
    if source.copies(element) == 1.0 and abs(value - nearest) > _TINY * max(1.0, abs(value)):
        raise InvalidInput(
            f"{what} is {value:.10g} items, not a whole number; correct it, or say what one unit "
            "is with read_sbml(..., copies_per_unit=...)"
        )
    return max(nearest, 0.0)


# Compartments, parameters, variables.


def _read_quantities(
    source: Source,
) -> tuple[list[Compartment], list[Parameter], list[Variable], dict[str, str]]:
    """Compartments, parameters and variables, and a message for each that has no value."""
    model = source.model
    compartments: list[Compartment] = []
    parameters: list[Parameter] = []
    variables: list[Variable] = []
    valueless: dict[str, str] = {}
    for element in (*model.getListOfCompartments(), *model.getListOfParameters()):
        identifier = element.getId()
        name, unit = source.names[identifier], _unit_of(source, identifier)
        is_compartment = isinstance(element, libsbml.Compartment)
        if identifier in source.assigned:
            continue
        if is_compartment and element.getSpatialDimensionsAsDouble() == 0:
            continue
        has_initial = identifier in source.initial_math
        if value_of(element) is None and not has_initial:
            kind = "compartment" if is_compartment else "parameter"
            size = "size" if is_compartment else "value"
            valueless[name] = f"{kind} '{identifier}' has no {size} and is used; give it one"
            if is_compartment and source.is_fixed(identifier):
                # Its size is never read; the compartment is still there to live in.
                compartments.append(Compartment(name, 1.0, unit or "litre"))
            continue
        if not source.is_fixed(identifier):
            variables.append(Variable(name, source.initial(identifier), unit))
        elif is_compartment and not has_initial:
            compartments.append(Compartment(name, element.getSize(), unit or "litre"))
        else:
            value = source.initial(identifier)
            parameters.append(Parameter(name, value, unit, description=element.getName()))
    parameters += _local_parameters(source)
    return compartments, parameters, variables, valueless


def _local_parameters(source: Source) -> list[Parameter]:
    found: list[Parameter] = []
    for reaction in source.model.getListOfReactions():
        law = reaction.getKineticLaw()
        for i in range(law.getNumParameters() if law is not None else 0):
            element = law.getParameter(i)
            value = value_of(element)
            if value is None:
                raise InvalidInput(
                    f"parameter '{element.getId()}' of reaction '{reaction.getId()}' has no value"
                )
            name = source.names[local_key(reaction.getId(), element.getId())]
            unit = unit_label(source.model, element.getUnits())
            found.append(Parameter(name, Number(value), unit, description=element.getName()))
    return found


def _unit_of(source: Source, identifier: str) -> str:
    model = source.model
    species = model.getSpecies(identifier)
    if species is not None:
        return unit_label(model, substance_unit(model, species))
    element = model.getParameter(identifier) or model.getCompartment(identifier)
    return unit_label(model, element.getUnits()) if element is not None else ""


# Rules and events.


def _per_unit_of_target(source: Source, target: str) -> Expression:
    """What turns the natural value of a target into the network's: 1 but for species."""
    species = source.model.getSpecies(target)
    return Number(1.0) if species is None else source.per_unit(species)


def _read_rate_rule(source: Source, target: str) -> RateRule:
    where = f"rate rule of '{target}'"
    _check_target(source, target, where)
    species = source.model.getSpecies(target)
    if species is not None and source.has_volume(species):
        compartment = species.getCompartment()
        if not source.is_fixed(compartment):
            raise InvalidInput(
                f"{where} sets a concentration in compartment '{compartment}', whose volume "
                'changes; give the species hasOnlySubstanceUnits="true"'
            )
    rate = source.expression(source.rated[target].getMath(), where)
    per_unit = _per_unit_of_target(source, target)
    return RateRule(source.names[target], tidy(call("mul", per_unit, rate)))


def _check_target(source: Source, target: str, where: str) -> None:
    model = source.model
    if not (model.getSpecies(target) or model.getParameter(target) or model.getCompartment(target)):
        raise InvalidInput(f"{where}: '{target}' is not a species, parameter or compartment")


def _read_event(source: Source, element: libsbml.Event, position: int) -> list[Event]:
    """The event; none where it never fires or changes nothing."""
    name = element.getId() or f"event_{position}"
    where = f"event '{name}'"
    trigger = element.getTrigger()
    own = element.getTimeUnits()
    if own and unit_label(source.model, own) != unit_label(source.model, "time"):
        raise InvalidInput(f"{where} has its own timeUnits '{own}'; use the model's units")
    assignments: dict[str, Expression] = {}
    for assignment in element.getListOfEventAssignments():
        target = assignment.getVariable()
        _check_target(source, target, where)
        if assignment.getMath() is not None:
            value = source.expression(assignment.getMath(), where)
            scaled = tidy(call("mul", _per_unit_of_target(source, target), value))
            assignments[source.names[target]] = scaled
    if trigger is None or trigger.getMath() is None or not assignments:
        return []
    level, version = source.model.getLevel(), source.model.getVersion()
    optional: dict[str, Expression] = {}
    for key, part in (("delay", element.getDelay()), ("priority", element.getPriority())):
        if part is not None and part.getMath() is not None:
            optional[key] = source.expression(part.getMath(), f"{where}, {key}")
    if optional.get("delay") == ZERO:
        del optional["delay"]
    return [
        Event(
            name,
            source.expression(trigger.getMath(), where),
            assignments,
            delay=optional.get("delay"),
            priority=optional.get("priority"),
            is_persistent=level < 3 or trigger.getPersistent(),
            is_initially_true=level < 3 or trigger.getInitialValue(),
            uses_trigger_time_values=(level, version) < (2, 4)
            or element.getUseValuesFromTriggerTime(),
        )
    ]


def _event_expressions(event: Event) -> list[Expression]:
    optional = [e for e in (event.delay, event.priority) if e is not None]
    return [event.trigger, *event.assignments.values(), *optional]
