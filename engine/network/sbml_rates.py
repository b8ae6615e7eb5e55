"""SBML in as differential equations in the file's own units, for fitting.

`read_sbml` counts molecules and demands what exact simulation demands: whole stoichiometry, one
direction a reaction. Differential equations need neither. Here every symbol keeps the meaning it
has in the file (a concentration, or an amount with hasOnlySubstanceUnits), so formulas of a PEtab
problem refer to the states as they are. Reference: SBML Level 3 Version 2 Core
(doi:10.1515/jib-2017-0081).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import libsbml

from engine.errors import InvalidInput
from engine.network.expressions import TIME, Expression, Number, Symbol, call, symbols
from engine.network.network import hint
from engine.network.sbml_algebra import ONE, ZERO, tidy
from engine.network.sbml_reactions import check_law
from engine.network.sbml_reader import open_model
from engine.network.sbml_source import Source, given_amount, local_key, make_source, value_of


@dataclass(frozen=True)
class TimedEvent:
    """Assignments made when a condition on time and constants becomes true.

    Args:
        name: identifier.
        trigger: the condition.
        assignments: new value of each state.
        is_initially_true: value the trigger is taken to have before time 0.
    """

    name: str
    trigger: Expression
    assignments: Mapping[str, Expression]
    is_initially_true: bool


@dataclass(frozen=True, eq=False)
class RateModel:
    r"""Differential equations dx/dt = f(t, x; constants) of an SBML file.

    .. math:: dx_i/dt = (\sum_j s_{ij} v_j) / V_i

    with v_j the kinetic laws (extent per time), s_ij the stoichiometry, any real number, and V_i
    the compartment's volume where x_i is a concentration and 1 where it is an amount.

    Args:
        states: names of the states, in order: species that change, and whatever a rate rule or an
            event changes.
        constants: names of what stays as it starts: parameters, compartments, constant species.
        start: value at time 0 of states and constants in terms of each other; a name whose value
            the file does not give is left out.
        laws: the kinetic law of each reaction.
        changes: for each state the (law's position, stoichiometry) of what changes it.
        volumes: what each state's sum of laws is divided by.
        rate_rules: derivative of the states that have a rate rule.
        rules: assignment rules, each after the ones it mentions.
        events: assignments at times.
        names: the name used here of each identifier of the file (`lambda` is `lambda_`).
        name: the model's name.
    """

    states: tuple[str, ...]
    constants: tuple[str, ...]
    start: Mapping[str, Expression]
    laws: tuple[Expression, ...]
    changes: Mapping[str, tuple[tuple[int, Expression], ...]]
    volumes: Mapping[str, Expression]
    rate_rules: Mapping[str, Expression]
    rules: Mapping[str, Expression]
    events: tuple[TimedEvent, ...]
    names: Mapping[str, str]
    name: str


def read_rate_model(path: str | Path) -> RateModel:
    """Read an SBML file (Level 2 or 3) as differential equations.

    Args:
        path: the file.

    Returns:
        The equations, nothing rescaled and nothing evaluated.

    Raises:
        InvalidInput: an unreadable file or a construct that is not read (delays, algebraic rules,
            fast reactions, conversion factors, volumes that change in time, events on the state
            or with a delay), by name.

    Example:
        >>> model = read_rate_model("model.xml")  # doctest: +SKIP
    """
    path = Path(path)
    try:
        source = make_source(open_model(path), copies_per_unit=1.0)
        return _read(replace(source, are_volumes_free=True), path.stem)
    except InvalidInput as error:
        message = str(error)
        named = message if path.name in message else f"{path.name}: {message}"
        raise InvalidInput(named) from None


def _read(source: Source, stem: str) -> RateModel:
    model = source.model
    states, constants = _sorted_names(source)
    laws: list[Expression] = []
    changes: dict[str, list[tuple[int, Expression]]] = {name: [] for name in states}
    for element in model.getListOfReactions():
        _read_reaction(source, element, laws, changes)
    math = source.math
    rules = {
        source.names[target]: tidy(math.read(rule.getMath(), f"assignment rule of '{target}'"))
        for target, rule in source.assigned.items()
    }
    rate_rules = {
        source.names[target]: tidy(math.read(rule.getMath(), f"rate rule of '{target}'"))
        for target, rule in source.rated.items()
    }
    found = RateModel(
        states=states,
        constants=constants,
        start=_start(source, (*states, *constants)),
        laws=tuple(laws),
        changes={name: tuple(terms) for name, terms in changes.items()},
        volumes=_volumes(source, states),
        rate_rules=rate_rules,
        rules=in_order(rules),
        events=tuple(_read_events(source)),
        names=dict(source.names),
        name=model.getId() or stem,
    )
    _check_names(found)
    return found


def _sorted_names(source: Source) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """States and constants, in the order of the file."""
    model, names = source.model, source.names
    states: list[str] = []
    constants: list[str] = []
    for species in model.getListOfSpecies():
        identifier = species.getId()
        if identifier in source.assigned:
            continue
        is_held = species.getConstant() or species.getBoundaryCondition()
        moves = not is_held or not source.is_fixed(identifier)
        (states if moves else constants).append(names[identifier])
    for compartment in model.getListOfCompartments():
        if not source.is_fixed(compartment.getId()):
            raise InvalidInput(
                f"the volume of compartment '{compartment.getId()}' changes in time, which is not "
                "read; make it constant"
            )
        constants.append(names[compartment.getId()])
    for parameter in model.getListOfParameters():
        identifier = parameter.getId()
        if identifier not in source.assigned:
            fixed = source.is_fixed(identifier)
            (constants if fixed else states).append(names[identifier])
    local = (name for key, name in names.items() if key.startswith("/"))
    return tuple(states), (*constants, *local)


# Reactions.


def _read_reaction(
    source: Source,
    element: libsbml.Reaction,
    laws: list[Expression],
    changes: dict[str, list[tuple[int, Expression]]],
) -> None:
    where = f"reaction '{element.getId()}'"
    check_law(source, element, where)
    position = len(laws)
    local = source.local(element)
    laws.append(tidy(source.math.read(element.getKineticLaw().getMath(), where, local)))
    total: dict[str, Expression] = {}
    for sign, side in ((-1.0, element.getListOfReactants()), (1.0, element.getListOfProducts())):
        for reference in side:
            name = _changed(source, reference, where)
            if name is not None:
                term = call("mul", Number(sign), _stoichiometry(source, reference, where))
                total[name] = call("add", total.get(name, ZERO), term)
    for name, number in total.items():
        if number != ZERO:
            changes[name].append((position, number))


def _changed(source: Source, reference: libsbml.SpeciesReference, where: str) -> str | None:
    """The state that a participant stands for; None where the reaction leaves it alone."""
    identifier = reference.getSpecies()
    species = source.model.getSpecies(identifier)
    if species is None:
        raise InvalidInput(f"{where} mentions species '{identifier}', which is not defined")
    if species.getBoundaryCondition() or species.getConstant():
        return None
    if identifier in source.assigned or identifier in source.rated:
        raise InvalidInput(
            f"{where} changes '{identifier}', which a rule sets; "
            'give the species boundaryCondition="true"'
        )
    return source.names[identifier]


def _stoichiometry(source: Source, reference: libsbml.SpeciesReference, where: str) -> Expression:
    what = f"{where}: the stoichiometry of '{reference.getSpecies()}'"
    own = reference.getId() if reference.isSetId() else ""
    if own and not source.is_fixed(own):
        raise InvalidInput(f"{what} changes in time, which is not read; make it constant")
    if own in source.initial_math:
        return source.math.read(source.initial_math[own].getMath(), what)
    if reference.isSetStoichiometryMath():
        return source.math.read(reference.getStoichiometryMath().getMath(), what)
    if source.model.getLevel() >= 3 and not reference.isSetStoichiometry():
        raise InvalidInput(f"{what} is not given")
    return Number(reference.getStoichiometry() / max(reference.getDenominator(), 1))


def _volumes(source: Source, states: tuple[str, ...]) -> dict[str, Expression]:
    """The compartment's symbol for a concentration, 1 for an amount or what is no species."""
    found: dict[str, Expression] = {}
    by_name = {source.names[s.getId()]: s for s in source.model.getListOfSpecies()}
    for name in states:
        species = by_name.get(name)
        is_concentration = species is not None and source.has_volume(species)
        compartment = species.getCompartment() if species is not None else ""
        found[name] = Symbol(source.names[compartment]) if is_concentration else ONE
    return found


# Values at time 0.


def _start(source: Source, names: tuple[str, ...]) -> dict[str, Expression]:
    identifiers = {name: identifier for identifier, name in source.names.items()}
    found: dict[str, Expression] = {}
    for name in names:
        identifier = identifiers[name]
        if identifier in source.initial_math:
            node = source.initial_math[identifier].getMath()
            found[name] = tidy(source.math.read(node, f"initial assignment of '{identifier}'"))
            continue
        value = _given(source, identifier)
        if value is not None:
            found[name] = value
    return found


def _given(source: Source, identifier: str) -> Expression | None:
    """The value attribute in the meaning that the symbol has, None where there is none."""
    if identifier.startswith("/"):
        value = _local_value(source, identifier)
        return None if value is None else Number(value)
    species = source.model.getSpecies(identifier)
    if species is None:
        element = source.model.getParameter(identifier) or source.model.getCompartment(identifier)
        value = value_of(element)
        return None if value is None else Number(value)
    volume = Symbol(source.names[species.getCompartment()])
    is_concentration = source.has_volume(species)
    amount = given_amount(species)
    if amount is not None:
        return call("div", Number(amount), volume) if is_concentration else Number(amount)
    if not species.isSetInitialConcentration():
        return None
    concentration = Number(species.getInitialConcentration())
    return concentration if is_concentration else call("mul", concentration, volume)


def _local_value(source: Source, key: str) -> float | None:
    for reaction in source.model.getListOfReactions():
        law = reaction.getKineticLaw()
        for i in range(law.getNumParameters() if law is not None else 0):
            if local_key(reaction.getId(), law.getParameter(i).getId()) == key:
                return value_of(law.getParameter(i))
    return None


# Rules and events.


def in_order(rules: Mapping[str, Expression]) -> dict[str, Expression]:
    """Named expressions, each after the ones it mentions.

    Raises:
        InvalidInput: expressions that depend on each other in a circle.
    """
    ordered: dict[str, Expression] = {}
    pending = dict(rules)
    while pending:
        ready = [n for n, e in pending.items() if not symbols(e) & pending.keys()]
        if not ready:
            raise InvalidInput(f"'{min(pending)}' depends on itself through {sorted(pending)}")
        ordered |= {name: pending.pop(name) for name in ready}
    return ordered


def _read_events(source: Source) -> list[TimedEvent]:
    level = source.model.getLevel()
    found = []
    for position, element in enumerate(source.model.getListOfEvents()):
        name = element.getId() or f"event_{position}"
        where, trigger = f"event '{name}'", element.getTrigger()
        delay = element.getDelay()
        has_delay = delay is not None and delay.getMath() is not None
        if has_delay and source.math.read(delay.getMath(), where) != ZERO:
            raise InvalidInput(f"{where} has a delay, which is not read; shift its trigger")
        if element.getPriority() is not None:
            raise InvalidInput(f"{where} has a priority, which is not read; remove it")
        assignments = {
            source.names[a.getVariable()]: tidy(source.math.read(a.getMath(), where))
            for a in element.getListOfEventAssignments()
            if a.getMath() is not None
        }
        if trigger is None or trigger.getMath() is None or not assignments:
            continue
        condition = source.math.read(trigger.getMath(), where)
        found.append(
            TimedEvent(name, condition, assignments, level < 3 or trigger.getInitialValue())
        )
    return found


def _check_names(model: RateModel) -> None:
    known = {TIME, *model.states, *model.constants, *model.rules}
    groups = {
        "the kinetic laws": model.laws,
        "the rules": (*model.rules.values(), *model.rate_rules.values()),
        "the initial values": tuple(model.start.values()),
    }
    for what, expressions in groups.items():
        for name in sorted(frozenset().union(*map(symbols, expressions)) - known):
            raise InvalidInput(f"{what} mention '{name}', which is not defined{hint(name, known)}")
