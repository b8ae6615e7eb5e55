"""Units of an SBML file: molecules per unit of substance, and labels."""

import math

import libsbml

from engine.errors import InvalidInput
from engine.network.sbml_math import AVOGADRO

_REMEDY = "give read_sbml(..., copies_per_unit=<molecules in one substance unit>)"
_PREFIXES = {
    -15: "femto",
    -12: "pico",
    -9: "nano",
    -6: "micro",
    -3: "milli",
    -2: "centi",
    3: "kilo",
    6: "mega",
}
_TIMES = {60.0: "minute", 3600.0: "hour", 86400.0: "day", 604800.0: "week"}


def substance_unit(model: libsbml.Model, species: libsbml.Species) -> str:
    """The name of the unit of a species' amount, or "" where none is declared.

    Level 2 has a predefined unit 'substance' (mole unless redefined). A file that neither
    redefines it nor names another unit says nothing on purpose: it counts as undeclared.
    """
    if species.isSetSubstanceUnits():
        return str(species.getSubstanceUnits())
    if model.getLevel() >= 3:
        return str(model.getSubstanceUnits())
    return "substance" if model.getUnitDefinition("substance") is not None else ""


def copies_of(model: libsbml.Model, unit: str, what: str) -> float:
    """Molecules in one unit of substance: 1 for item, Avogadro's number for mole.

    Args:
        model: the model whose unit definitions apply.
        unit: name of a unit kind or of a unit definition; "" where undeclared.
        what: whose unit it is, for the message.

    Raises:
        InvalidInput: a unit that is not a number of things (undeclared, dimensionless, a mass).
    """
    definition = model.getUnitDefinition(unit) if unit else None
    if definition is None:
        direct = {"item": 1.0, "mole": AVOGADRO}
        if unit in direct:
            return direct[unit]
        raise InvalidInput(f"the substance unit of {what} is {unit or 'undeclared'}; {_REMEDY}")
    factor, dimension = 1.0, 0.0
    for part in definition.getListOfUnits():
        exponent = part.getExponentAsDouble()
        factor *= (part.getMultiplier() * 10.0 ** part.getScale()) ** exponent
        match part.getKind():
            case libsbml.UNIT_KIND_ITEM:
                dimension += exponent
            case libsbml.UNIT_KIND_MOLE:
                dimension += exponent
                factor *= AVOGADRO**exponent
            case libsbml.UNIT_KIND_AVOGADRO:
                factor *= AVOGADRO**exponent
            case libsbml.UNIT_KIND_DIMENSIONLESS:
                pass
            case _:
                dimension = math.nan
    if dimension != 1.0:
        text = unit_label(model, unit) or "dimensionless"
        raise InvalidInput(
            f"the substance unit of {what}, '{unit}' ({text}), is no number of molecules; {_REMEDY}"
        )
    return factor


def unit_label(model: libsbml.Model, unit: str) -> str:
    """A readable text such as "nanomole litre^-1", "" for none or dimensionless.

    Example: `<unit kind="second" multiplier="60"/>` is "minute"; a factor without a name is
    written out ("0.06 second"). Labels never rescale a number.
    """
    definition = model.getUnitDefinition(unit) if unit else None
    if definition is None:
        return "" if unit in ("", "dimensionless") else unit
    return " ".join(filter(None, map(_part_label, definition.getListOfUnits())))


def _part_label(part: libsbml.Unit) -> str:
    kind = str(libsbml.UnitKind_toString(part.getKind()))
    multiplier, scale = part.getMultiplier(), part.getScale()
    exponent = part.getExponentAsDouble()
    factor = multiplier * 10.0**scale
    if kind == "dimensionless" or exponent == 0:
        return "" if factor == 1.0 else f"{factor:g}"
    if kind == "second" and factor in _TIMES:
        text = _TIMES[factor]
    elif multiplier == 1.0 and scale in _PREFIXES:
        text = f"{_PREFIXES[scale]}{kind}"
    elif factor == 1.0:
        text = kind
    else:
        text = f"{factor:g} {kind}" if exponent == 1 else f"({factor:g} {kind})"
    return text if exponent == 1 else f"{text}^{exponent:g}"


def time_label(model: libsbml.Model) -> str:
    """The label of the model's unit of time; "" where the file declares none.

    Numbers are never rescaled by it: published files declare 60 ms and mean minutes.
    """
    if model.getLevel() >= 3:
        return unit_label(model, model.getTimeUnits())
    return unit_label(model, "time") if model.getUnitDefinition("time") is not None else ""
