"""How a start ended, as data, and what to do about it."""

from enum import IntEnum


class FitStatus(IntEnum):
    """The end of one start of an optimisation."""

    RUNNING = 0
    CONVERGED = 1
    STALLED = 2
    OUT_OF_STEPS = 3
    NOT_FINITE = 4

    @property
    def message(self) -> str:
        """What happened and what to do."""
        return _MESSAGES[self]


_MESSAGES = {
    FitStatus.RUNNING: "still running",
    FitStatus.CONVERGED: "converged: no step within the bounds improves the objective",
    FitStatus.STALLED: (
        "stalled: the gradient is not zero but no shorter step improves the objective; tighten "
        "the solver's tolerances, or start elsewhere"
    ),
    FitStatus.OUT_OF_STEPS: "out of steps: still improving; raise max_steps, or run again",
    FitStatus.NOT_FINITE: (
        "failed: the objective is not finite at the start; other starts are not affected, narrow "
        "the bounds if most fail"
    ),
}
