"""An SBML model as the importer sees it: names, who sets what, and units of every symbol.

Every symbol of a file has a natural value (an amount or a concentration in the file's units for
a species). The network counts molecules, so a species' symbol becomes its count divided by
`Source.per_unit`: copies where the file means an amount, copies times the compartment's volume
where it means a concentration.
"""

import keyword
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import libsbml

from engine.errors import InvalidInput
from engine.network.expressions import TIME, Expression, Number, Symbol, call, substitute, symbols
from engine.network.sbml_algebra import ONE, ZERO, tidy
from engine.network.sbml_math import MathReader
from engine.network.sbml_units import copies_of, substance_unit


@dataclass(frozen=True, eq=False)
class Source:
    """A libSBML model with what the importer must look up about it.

    Args:
        model: the model.
        copies_per_unit: molecules in one substance unit, where the user says so.
        names: the network's name of every identifier.
        assigned: assignment rule of each identifier that has one.
        rated: rate rule of each identifier that has one.
        by_events: identifiers that an event sets.
        initial_math: initial assignment of each identifier that has one.
        are_volumes_free: a volume of 1 stays a symbol, because something may override it.
    """

    model: libsbml.Model
    copies_per_unit: float | None
    names: Mapping[str, str]
    assigned: Mapping[str, libsbml.Rule]
    rated: Mapping[str, libsbml.Rule]
    by_events: frozenset[str]
    initial_math: Mapping[str, libsbml.InitialAssignment]
    are_volumes_free: bool = False

    def is_fixed(self, identifier: str) -> bool:
        """Whether nothing sets it after time 0."""
        changing = (self.assigned, self.rated, self.by_events)
        return not any(identifier in group for group in changing)

    @cached_property
    def math(self) -> MathReader:
        """The reader of this model's math: species still in natural values."""
        table: dict[str, Expression] = {}
        elements = (self.model.getListOfSpecies(), self.model.getListOfParameters())
        for element in (e for group in elements for e in group):
            table[element.getId()] = Symbol(self.names[element.getId()])
        for compartment in self.model.getListOfCompartments():
            table[compartment.getId()] = self._volume(compartment)
        functions = {
            f.getId(): f.getMath() for f in self.model.getListOfFunctionDefinitions() if f.getMath()
        }
        reader = MathReader(table, functions)
        # A reaction's name in math stands for its rate.
        for reaction in self.model.getListOfReactions():
            law = reaction.getKineticLaw()
            if law is not None and law.getMath() is not None:
                where = f"reaction '{reaction.getId()}'"
                table[reaction.getId()] = reader.read(law.getMath(), where, self.local(reaction))
        return reader

    def _volume(self, compartment: libsbml.Compartment) -> Expression:
        """1 where it is 1 for good, so that it drops out of every law, else its symbol."""
        name = compartment.getId()
        is_plain = self.is_fixed(name) and name not in self.initial_math
        is_plain = is_plain and not self.are_volumes_free
        is_one = compartment.isSetSize() and compartment.getSize() == 1.0
        return ONE if is_plain and is_one else Symbol(self.names[name])

    def local(self, reaction: libsbml.Reaction) -> dict[str, Expression]:
        """The local parameters of a reaction's law, under their names in the network."""
        law = reaction.getKineticLaw()
        parameters = [law.getParameter(i) for i in range(law.getNumParameters())] if law else []
        return {
            p.getId(): Symbol(self.names[local_key(reaction.getId(), p.getId())])
            for p in parameters
        }

    @cached_property
    def moving(self) -> frozenset[str]:
        """Names that change with the state: species and quantities set by rules."""
        species = {s.getId() for s in self.model.getListOfSpecies()}
        found = species | self.assigned.keys() | self.rated.keys()
        return frozenset(self.names[i] for i in found if i in self.names)

    # Units.

    def copies(self, species: libsbml.Species) -> float:
        """Molecules in one unit of a species' amount."""
        if self.copies_per_unit is not None:
            return self.copies_per_unit
        unit = substance_unit(self.model, species)
        return copies_of(self.model, unit, f"species '{species.getId()}'")

    def has_volume(self, species: libsbml.Species) -> bool:
        """Whether the species' symbol means a concentration."""
        compartment = self.model.getCompartment(species.getCompartment())
        if compartment is None:
            raise InvalidInput(
                f"species '{species.getId()}' lives in compartment "
                f"'{species.getCompartment()}', which the file does not define"
            )
        is_point = compartment.getSpatialDimensionsAsDouble() == 0
        return not species.getHasOnlySubstanceUnits() and not is_point

    def per_unit(self, species: libsbml.Species) -> Expression:
        """Molecules per unit of the species' natural value."""
        copies = Number(self.copies(species))
        if not self.has_volume(species):
            return copies
        return call("mul", copies, self.math.symbols[species.getCompartment()])

    @cached_property
    def counted(self) -> dict[str, libsbml.Species]:
        """The species that the network counts, by their names there."""
        species = self.model.getListOfSpecies()
        return {self.names[s.getId()]: s for s in species if s.getId() not in self.assigned}

    @cached_property
    def units(self) -> dict[str, Expression]:
        """Molecules per unit of natural value of each counted species."""
        return {name: self.per_unit(species) for name, species in self.counted.items()}

    @cached_property
    def in_counts(self) -> dict[str, Expression]:
        """The natural value of each counted species in terms of its count."""
        return {name: call("div", Symbol(name), unit) for name, unit in self.units.items()}

    def expression(self, node: libsbml.ASTNode, where: str) -> Expression:
        """The math of an element in terms of counts."""
        return self.to_counts(self.math.read(node, where))

    def to_counts(self, expression: Expression) -> Expression:
        """An expression of natural values in terms of counts."""
        return tidy(substitute(expression, self.in_counts))

    # Values at time 0.

    def initial(self, identifier: str, asking: tuple[str, ...] = ()) -> Expression:
        """The natural value at time 0 in terms of parameters and constant volumes.

        Raises:
            InvalidInput: no value is given, or the values depend on each other in a circle.
        """
        if identifier in asking:
            raise InvalidInput(f"the initial value of '{identifier}' depends on itself")
        if identifier in self.assigned:
            node, what = self.assigned[identifier].getMath(), f"assignment rule of '{identifier}'"
        elif identifier in self.initial_math:
            node = self.initial_math[identifier].getMath()
            what = f"initial assignment of '{identifier}'"
        else:
            return self._given(identifier, asking)
        return self.at_start(self.math.read(node, what), (*asking, identifier))

    def at_start(self, expression: Expression, asking: tuple[str, ...] = ()) -> Expression:
        """An expression of natural values at time 0, with only parameters left in it."""
        values: dict[str, Expression] = {TIME: ZERO}
        for name in symbols(expression) - {TIME}:
            identifier = self._identifiers.get(name)
            if identifier is not None and not self._stays(identifier):
                values[name] = self.initial(identifier, asking)
        return tidy(substitute(expression, values))

    @cached_property
    def _identifiers(self) -> dict[str, str]:
        return {name: identifier for identifier, name in self.names.items()}

    def _stays(self, identifier: str) -> bool:
        """Whether a name is a constant of the network, which may stay in an initial value."""
        is_local = isinstance(identifier, str) and identifier.startswith("/")
        is_species = not is_local and self.model.getSpecies(identifier) is not None
        return is_local or (not is_species and self.is_fixed(identifier))

    def _given(self, identifier: str, asking: tuple[str, ...]) -> Expression:
        species = self.model.getSpecies(identifier)
        if species is None:
            element = self.model.getParameter(identifier) or self.model.getCompartment(identifier)
            value = value_of(element)
            if value is None:
                raise InvalidInput(f"'{identifier}' has no value in the file; give it one")
            return Number(value)
        amount = given_amount(species)
        if amount is None:
            if not species.isSetInitialConcentration():
                raise InvalidInput(
                    f"species '{identifier}' has no initial amount in the file; give it one"
                )
            concentration = Number(species.getInitialConcentration())
            if self.has_volume(species):
                return concentration
            return call("mul", concentration, self._size(species, asking))
        if self.has_volume(species):
            return call("div", Number(amount), self._size(species, asking))
        return Number(amount)

    def _size(self, species: libsbml.Species, asking: tuple[str, ...]) -> Expression:
        """The volume that a species starts in."""
        return self.at_start(self.math.symbols[species.getCompartment()], asking)


def given_amount(species: libsbml.Species) -> float | None:
    """The initialAmount attribute, None where it is absent or not a number."""
    is_given = species.isSetInitialAmount() and not math.isnan(species.getInitialAmount())
    return float(species.getInitialAmount()) if is_given else None


def value_of(element: libsbml.Parameter | libsbml.Compartment) -> float | None:
    """The value or size attribute, None where it is absent or not a number."""
    if isinstance(element, libsbml.Compartment):
        value, is_set = element.getSize(), element.isSetSize()
    else:
        value, is_set = element.getValue(), element.isSetValue()
    return float(value) if is_set and not math.isnan(value) else None


def local_key(reaction: str, parameter: str) -> str:
    """The key of a local parameter in `Source.names`; no SBML identifier holds a slash."""
    return f"/{reaction}/{parameter}"


def make_source(model: libsbml.Model, copies_per_unit: float | None) -> Source:
    """Index a model.

    Raises:
        InvalidInput: an algebraic rule.
    """
    assigned: dict[str, libsbml.Rule] = {}
    rated: dict[str, libsbml.Rule] = {}
    for rule in model.getListOfRules():
        if rule.isAlgebraic():
            raise InvalidInput(
                f"{model.getId() or 'the model'} has an algebraic rule, which the engine cannot "
                "simulate; solve it for one quantity and write an assignment rule"
            )
        (rated if rule.isRate() else assigned)[rule.getVariable()] = rule
    assignments = (a for e in model.getListOfEvents() for a in e.getListOfEventAssignments())
    return Source(
        model=model,
        copies_per_unit=copies_per_unit,
        names=_names(model),
        assigned=assigned,
        rated=rated,
        by_events=frozenset(a.getVariable() for a in assignments),
        initial_math={i.getSymbol(): i for i in model.getListOfInitialAssignments() if i.getMath()},
    )


def _names(model: libsbml.Model) -> dict[str, str]:
    """A name for every identifier: its own, or with underscores where that cannot be used."""
    groups = (model.getListOfCompartments(), model.getListOfSpecies(), model.getListOfParameters())
    names: dict[str, str] = {}
    given = {element.getId() for group in groups for element in group}
    taken = set(given)

    def fresh(wanted: str) -> str:
        while wanted in taken or wanted == TIME or keyword.iskeyword(wanted):
            wanted += "_"
        taken.add(wanted)
        return wanted

    for identifier in sorted(given):
        is_reserved = identifier == TIME or keyword.iskeyword(identifier)
        names[identifier] = fresh(identifier) if is_reserved else identifier
    for reaction in model.getListOfReactions():
        law = reaction.getKineticLaw()
        for i in range(law.getNumParameters() if law is not None else 0):
            own = law.getParameter(i).getId()
            key = local_key(reaction.getId(), own)
            names[key] = fresh(f"{reaction.getId()}__{own}")
    return names
