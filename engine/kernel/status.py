"""How a trajectory ended."""

from enum import IntEnum


class Status(IntEnum):
    """The outcome of one trajectory; 0 is complete, anything else is a reason and a remedy."""

    COMPLETE = 0
    EVENT_BUDGET_SPENT = 1
    POPULATION_OVERFLOW = 2
    INVALID_PROPENSITY = 3
    EVENT_QUEUE_OVERFLOW = 4
    EVENT_CASCADE = 5
    INVALID_ASSIGNMENT = 6
    SOLVER_FAILED = 7
    NOT_RUN = 8
    STEP_TOO_LONG = 9

    @property
    def message(self) -> str:
        """What happened and what to do."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.COMPLETE: "complete",
    Status.EVENT_BUDGET_SPENT: (
        "spent its event budget before the last save time; raise Direct(max_events=...), shorten "
        "the horizon, or look for a population that explodes"
    ),
    Status.POPULATION_OVERFLOW: (
        "a count came within reach of 2**31; rescale the model to larger units"
    ),
    Status.INVALID_PROPENSITY: (
        "a propensity became negative, not finite, or positive without its reactants; correct the "
        "rate law, or write it so that it vanishes when a reactant is used up"
    ),
    Status.EVENT_QUEUE_OVERFLOW: (
        "more delayed events are pending than the queue holds; raise Direct(queue_size=...)"
    ),
    Status.EVENT_CASCADE: (
        "events trigger each other without end at one time; correct their triggers"
    ),
    Status.INVALID_ASSIGNMENT: (
        "an event assigned a negative, fractional or too large number to a count, a number that is "
        "not finite to a variable, or has a negative delay; round with floor(...) or correct it"
    ),
    Status.SOLVER_FAILED: (
        "the ODE solver ran out of steps or left the finite numbers; raise ODE(max_steps=...) or "
        "look for a solution that blows up"
    ),
    Status.NOT_RUN: "did not run",
    Status.STEP_TOO_LONG: (
        "a step would take more molecules of a species than there are; shorten Langevin(dt=...), "
        "or use Direct() or Hybrid() where few species are fast"
    ),
}
