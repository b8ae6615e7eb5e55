"""What a network is made of: species, parameters, compartments, variables and inputs."""

import keyword
import math
from dataclasses import dataclass

from engine.errors import InvalidInput
from engine.network.expressions import TIME, Expression, Number, evaluate, parse

ASSUMED = "assumed"
ZERO = Number(0.0)


def check_name(kind: str, name: str) -> None:
    """Raise unless `name` can stand in an expression."""
    if not isinstance(name, str) or not name.isidentifier():
        raise InvalidInput(
            f"{kind} name {name!r} is not an identifier; "
            "use letters, digits and _, not first a digit"
        )
    if name == TIME or keyword.iskeyword(name):
        raise InvalidInput(f"{kind} name '{name}' is reserved; choose another name")


def check_number(what: str, value: float, *, is_negative_allowed: bool = False) -> float:
    """A finite float, or a message that names the thing and its value."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"{what} is {value!r}, which is not a number") from None
    if not math.isfinite(number):
        raise InvalidInput(f"{what} is {number}; give a finite number")
    if number < 0 and not is_negative_allowed:
        raise InvalidInput(f"{what} is {number:g}; it cannot be negative")
    return number


def _value(what: str, value: str | float | Expression, *, is_negative_allowed: bool) -> Expression:
    if isinstance(value, int | float):
        return Number(check_number(what, value, is_negative_allowed=is_negative_allowed))
    return parse(value)


@dataclass(frozen=True)
class Species:
    """A kind of molecule, counted.

    Args:
        name: identifier used in expressions, where it stands for the number of molecules.
        initial: molecules at time 0: a number, or an expression of parameters.
        compartment: name of the compartment it lives in, if any.
        is_boundary: reactions do not change its count; events and rules may.
        is_constant: nothing changes its count.
        is_continuous: the quantity is a real number (set by a rate rule), not a count.
        unit: unit of the count, for labels.
        description: what it is.
        source: where the initial amount comes from (a DOI), or "assumed".
    """

    name: str
    initial: Expression = ZERO
    compartment: str | None = None
    is_boundary: bool = False
    is_constant: bool = False
    is_continuous: bool = False
    unit: str = "molecules"
    description: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        check_name("species", self.name)
        what = f"initial count of species '{self.name}'"
        initial = _value(what, self.initial, is_negative_allowed=self.is_continuous)
        object.__setattr__(self, "initial", initial)


@dataclass(frozen=True)
class Parameter:
    """A number that a patient may have of their own and that stays constant in time.

    Args:
        name: identifier used in expressions.
        value: a number, or an expression of other parameters.
        unit: its unit, for example "nM^-1 min^-1".
        source: where the value comes from (a DOI), or "assumed".
        description: what it is.
    """

    name: str
    value: Expression
    unit: str = ""
    source: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        check_name("parameter", self.name)
        what = f"parameter '{self.name}'"
        object.__setattr__(self, "value", _value(what, self.value, is_negative_allowed=True))


@dataclass(frozen=True)
class Compartment:
    """A volume. In expressions its name stands for its size.

    Args:
        name: identifier used in expressions.
        volume: size in `unit`, positive.
        unit: its unit.
    """

    name: str
    volume: float = 1.0
    unit: str = "litre"

    def __post_init__(self) -> None:
        check_name("compartment", self.name)
        volume = check_number(f"volume of compartment '{self.name}'", self.volume)
        if volume == 0:
            raise InvalidInput(f"volume of compartment '{self.name}' is 0; give a positive volume")
        object.__setattr__(self, "volume", volume)


@dataclass(frozen=True)
class Variable:
    """A real number that events set, or that a rate rule integrates; not a count.

    Args:
        name: identifier used in expressions.
        initial: value at time 0: a number, or an expression of parameters.
        unit: its unit.
    """

    name: str
    initial: Expression = ZERO
    unit: str = ""

    def __post_init__(self) -> None:
        check_name("variable", self.name)
        what = f"initial value of variable '{self.name}'"
        object.__setattr__(self, "initial", _value(what, self.initial, is_negative_allowed=True))


@dataclass(frozen=True)
class Input:
    """A named time-varying quantity given from outside, such as a drug's concentration.

    Args:
        name: identifier used in expressions.
        unit: its unit; the pharmacokinetics given to `simulate` must deliver this unit.
    """

    name: str
    unit: str = ""

    def __post_init__(self) -> None:
        check_name("input", self.name)


def resolve(values: dict[str, Expression], known: dict[str, float]) -> dict[str, float]:
    """Numbers for named expressions that may mention each other, in order of dependence.

    Raises:
        InvalidInput: a circular definition, or a name that has no value.
    """
    numbers = dict(known)
    pending = dict(values)
    while pending:
        solved = {}
        for name, expression in pending.items():
            try:
                solved[name] = evaluate(expression, numbers)
            except InvalidInput as error:
                reason = error
        if not solved:
            name = next(iter(pending))
            raise InvalidInput(f"'{name}' = {pending[name]} cannot be resolved: {reason}")
        numbers.update(solved)
        pending = {name: value for name, value in pending.items() if name not in solved}
    return {name: numbers[name] for name in values}
