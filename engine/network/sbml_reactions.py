"""Reactions of an SBML file: directions, stoichiometry and the propensity of each channel."""

import libsbml

from engine.errors import InvalidInput
from engine.network.expressions import (
    Expression,
    Number,
    Symbol,
    call,
    evaluate,
    substitute,
    symbols,
)
from engine.network.rate_laws import Formula, MassAction, RateLaw
from engine.network.reactions import Reaction
from engine.network.sbml_algebra import (
    ZERO,
    coefficient,
    degree,
    is_sign_unclear,
    split_signs,
    tidy,
)
from engine.network.sbml_source import Source

Side = dict[str, int]


def read_reaction(
    source: Source, element: libsbml.Reaction, constants: frozenset[str], fixed: frozenset[str]
) -> list[Reaction]:
    """The one or two channels of an SBML reaction.

    A law that is a difference is split into a forward and a reverse channel, named `name` and
    `name_reverse`: always for a reaction marked reversible, and for one marked irreversible
    only where its law can only be meant so (see `_is_two_way`). A single positive law is one
    channel whatever the mark, because Level 2 marks a reaction reversible by default.

    Args:
        source: the model.
        element: the reaction.
        constants: names of the network's parameters and constant compartments.
        fixed: species of the file that the network holds as parameters.

    Raises:
        InvalidInput: a construct that cannot be simulated exactly, named with the reaction.
    """
    where = f"reaction '{element.getId()}'"
    check_law(source, element, where)
    reactants = _side(source, element.getListOfReactants(), where, fixed)
    products = _side(source, element.getListOfProducts(), where, fixed)
    law = tidy(source.math.read(element.getKineticLaw().getMath(), where, source.local(element)))
    forward, backward = _directions(source, element, law, reactants, products)
    copies = _extent_copies(source, (*reactants, *products), where)
    channels = [(element.getId(), forward, reactants, products)]
    if backward is not None:
        channels.append((f"{element.getId()}_reverse", backward, products, reactants))
    return [
        Reaction(
            f"{_text(before)} -> {_text(after)}",
            _rate_law(source, expression, before, copies, constants),
            name=name,
            description=element.getName(),
        )
        for name, expression, before, after in channels
    ]


def check_law(source: Source, element: libsbml.Reaction, where: str) -> None:
    """Raise unless a reaction has a plain kinetic law in the units of the model."""
    law = element.getKineticLaw()
    if law is None or law.getMath() is None:
        raise InvalidInput(f"{where} has no kinetic law; give it one")
    if element.isSetFast() and element.getFast():
        raise InvalidInput(
            f"{where} is marked fast (always in equilibrium), which the engine cannot simulate "
            'exactly; write fast="false" with a large rate constant'
        )
    model = source.model
    for attribute, own, kind in (
        ("timeUnits", law.getTimeUnits(), "time"),
        ("substanceUnits", law.getSubstanceUnits(), "substance"),
    ):
        if own and own != kind:
            raise InvalidInput(f"{where} has its own {attribute} '{own}'; use the model's units")
    participants = [*element.getListOfReactants(), *element.getListOfProducts()]
    converted = [model.getSpecies(p.getSpecies()) for p in participants]
    if model.isSetConversionFactor() or any(s and s.isSetConversionFactor() for s in converted):
        raise InvalidInput(f"{where} uses a conversionFactor, which is not read; use a factor")


# Stoichiometry.


def _side(source: Source, references: libsbml.ListOf, where: str, fixed: frozenset[str]) -> Side:
    """Molecules of each counted species; those set by rules or held fixed are left out."""
    side: Side = {}
    for reference in references:
        identifier = reference.getSpecies()
        species = source.model.getSpecies(identifier)
        if species is None:
            raise InvalidInput(f"{where} mentions species '{identifier}', which is not defined")
        number = _stoichiometry(source, reference, where)
        by_rule = identifier in source.assigned or identifier in source.rated
        if by_rule and not species.getBoundaryCondition():
            raise InvalidInput(
                f"{where} changes '{identifier}', which a rule sets; "
                'give the species boundaryCondition="true"'
            )
        if number and identifier not in fixed and identifier not in source.assigned:
            name = source.names[identifier]
            side[name] = side.get(name, 0) + number
    return side


def _stoichiometry(source: Source, reference: libsbml.SpeciesReference, where: str) -> int:
    name = reference.getSpecies()
    what = f"{where}: the stoichiometry of '{name}'"
    own = reference.getId() if reference.isSetId() else ""
    varies = own and (not source.is_fixed(own) or own in source.initial_math)
    if reference.isSetStoichiometryMath():
        value = source.math.read(reference.getStoichiometryMath().getMath(), what)
        varies = not isinstance(value, Number)
        number = 0.0 if varies else evaluate(value, {})
    elif source.model.getLevel() >= 3 and not reference.isSetStoichiometry():
        raise InvalidInput(f"{what} is not given")
    else:
        number = reference.getStoichiometry() / max(reference.getDenominator(), 1)
    if varies:
        raise InvalidInput(f"{what} is computed; exact simulation needs a fixed integer")
    if number != round(number) or number < 0:
        raise InvalidInput(
            f"{what} is {number:g}, not a whole number of molecules; double the counts "
            "(one count = half a molecule) or write the reaction with whole numbers"
        )
    return round(number)


def _extent_copies(source: Source, names: tuple[str, ...], where: str) -> float:
    """Molecules in one unit of the reaction's extent: that of the species it changes."""
    found: dict[float, str] = {}
    for name in names:
        species = source.counted[name]
        if not species.getBoundaryCondition():
            found.setdefault(source.copies(species), species.getId())
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise InvalidInput(
            f"{where} changes '{first}' and '{second}', whose substance units differ; "
            "give one factor for all, read_sbml(..., copies_per_unit=...)"
        )
    return next(iter(found), 1.0)


def _text(side: Side) -> str:
    terms = (name if number == 1 else f"{number} {name}" for name, number in side.items())
    return " + ".join(terms) or "0"


# Directions.


def _directions(
    source: Source, element: libsbml.Reaction, law: Expression, reactants: Side, products: Side
) -> tuple[Expression, Expression | None]:
    """The forward rate, and the reverse rate of a law that is a difference."""
    where = f"reaction '{element.getId()}'"
    moving = source.moving
    pairs = [name for name, number in reactants.items() if number >= 2]
    forward, backward = split_signs(law, moving, pairs)
    if not element.getReversible():
        if _is_two_way(forward, backward, reactants, products):
            return tidy(forward), tidy(backward)
        return law, None
    if is_sign_unclear(law, moving, pairs):
        raise InvalidInput(
            f"{where} is reversible and its law, {law}, cannot be separated into a forward and a "
            'reverse rate; write two reactions, or reversible="false" if it is never negative'
        )
    if ZERO in (forward, backward):
        # One term: its constants, such as a switch 1 - blocked, may be written negated.
        return law, None
    mentioned = symbols(backward)
    if products and not mentioned & products.keys():
        # k * (P^2 - P) for 2 P -> P2 is a falling factorial, not a reverse rate.
        if mentioned & reactants.keys():
            return law, None
        raise InvalidInput(
            f"{where} is reversible and the reverse part of its law, {tidy(backward)}, does not "
            "depend on a product; write two reactions"
        )
    return tidy(forward), tidy(backward)


def _is_two_way(forward: Expression, backward: Expression, reactants: Side, products: Side) -> bool:
    """Whether a law marked irreversible is kf * A - kr * B all the same.

    The forward part must vanish without some reactant and the reverse part without some
    product that is not a reactant, and the reverse part must be free of the reactants: so
    `k * A * (total - B)`, which never becomes negative where `total` bounds B, stays as it is.
    """
    if backward == ZERO:
        return False
    only_products = products.keys() - reactants.keys()
    return (
        _vanishes(forward, reactants)
        and _vanishes(backward, only_products)
        and not symbols(backward) & reactants.keys()
    )


def _vanishes(expression: Expression, names: Side | set[str]) -> bool:
    present = [name for name in names if name in symbols(expression)]
    return any(tidy(substitute(expression, {name: ZERO})) == ZERO for name in present)


# Rate laws.


def _rate_law(
    source: Source, law: Expression, reactants: Side, copies: float, constants: frozenset[str]
) -> RateLaw:
    """The propensity of one channel: copies times the law, in counts.

    A law that is X^s times something free of X, X a reactant of stoichiometry s >= 2, is mass
    action in concentrations: X^s becomes X (X-1) ... (X-s+1), here and nowhere else. It is
    taken as written where counts are what the file means (items, hasOnlySubstanceUnits), and
    wherever it has another form, such as X (X - 1).
    """
    powers = {name: s for name, s in reactants.items() if s >= 2 and degree(law, name) == s}
    falling = {name: s for name, s in powers.items() if not _means_counts(source, name)}
    extent = Number(copies)
    as_powers = source.to_counts(call("mul", extent, law))
    is_mass_action = powers.keys() == falling.keys() and all(
        degree(law, name) == s for name, s in reactants.items()
    )
    if is_mass_action:
        rest = source.to_counts(call("mul", extent, _over_units(source, law, reactants)))
        if symbols(rest) <= constants:
            factorials = (Number(float(_factorial(s))) for s in reactants.values())
            return MassAction(tidy(call("mul", *factorials, rest)))
    if not falling:
        return Formula(as_powers)
    rest = source.to_counts(call("mul", extent, _over_units(source, law, falling)))
    factors = [
        call("sub", Symbol(name), Number(float(taken)))
        for name, s in falling.items()
        for taken in range(s)
    ]
    return Formula(tidy(call("mul", rest, *factors)), macroscopic=as_powers)


def _over_units(source: Source, law: Expression, reactants: Side) -> Expression:
    """What multiplies the counts of `reactants` in a law of their powers."""
    units = [source.units[name] for name, power in reactants.items() for _ in range(power)]
    return call("div", coefficient(law, reactants.keys()), call("mul", Number(1.0), *units))


def _means_counts(source: Source, name: str) -> bool:
    species = source.counted[name]
    return not source.has_volume(species) and source.copies(species) == 1.0


def _factorial(s: int) -> int:
    return 1 if s < 2 else s * _factorial(s - 1)
