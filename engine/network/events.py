"""Events: something happens at a time or when a condition becomes true."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.errors import InvalidInput
from engine.network.expressions import Expression, parse
from engine.network.quantities import check_name


@dataclass(frozen=True)
class Event:
    """Assignments or doses executed when a trigger changes from false to true.

    The meaning is SBML's (Level 3 Version 2, section 4.11): the trigger fires on a change from
    false to true; execution follows after `delay`; a trigger that is not persistent cancels the
    execution when it becomes false again before it; of executions due at one time the one with
    the highest priority goes first, and equal priorities are ordered at random by the patient's
    own stream.

    Args:
        name: identifier.
        trigger: condition, such as `"time >= 24"` or `"IL6 > 1000"`.
        assignments: new value of each species or variable, as expressions.
        doses: amount given to each input or species when the event executes (a rescue dose).
        delay: time from trigger to execution, an expression; 0 by default.
        priority: an expression; without one the order is random among its equals.
        is_persistent: execution happens even if the trigger becomes false during the delay.
        is_initially_true: value the trigger is taken to have had just before time 0; true means
            that a condition that holds at time 0 does not fire.
        uses_trigger_time_values: assignments are computed when triggered, not when executed.
    """

    name: str
    trigger: Expression
    assignments: Mapping[str, Expression] = field(default_factory=dict)
    doses: Mapping[str, Expression] = field(default_factory=dict)
    delay: Expression | None = None
    priority: Expression | None = None
    is_persistent: bool = True
    is_initially_true: bool = True
    uses_trigger_time_values: bool = True

    def __post_init__(self) -> None:
        check_name("event", self.name)
        if not self.assignments and not self.doses:
            raise InvalidInput(f"event '{self.name}' does nothing; give assignments= or doses=")
        for attribute in ("assignments", "doses"):
            given = getattr(self, attribute)
            read = {target: parse(value) for target, value in given.items()}
            object.__setattr__(self, attribute, read)
        for attribute in ("trigger", "delay", "priority"):
            value = getattr(self, attribute)
            if value is not None:
                object.__setattr__(self, attribute, parse(value))


@dataclass(frozen=True)
class AssignmentRule:
    """A quantity that always equals an expression, such as a total or an observable.

    Args:
        target: its name.
        expression: what it equals at every time.
        unit: its unit.
    """

    target: str
    expression: Expression
    unit: str = ""

    def __post_init__(self) -> None:
        check_name("assignment rule", self.target)
        object.__setattr__(self, "expression", parse(self.expression))


@dataclass(frozen=True)
class RateRule:
    """A continuous variable with a given time derivative.

    Args:
        target: name of a variable or continuous species.
        expression: its derivative with respect to time.
    """

    target: str
    expression: Expression

    def __post_init__(self) -> None:
        check_name("rate rule", self.target)
        object.__setattr__(self, "expression", parse(self.expression))
