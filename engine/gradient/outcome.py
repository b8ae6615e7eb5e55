"""Outcomes: the number of a trajectory whose expectation is differentiated."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.errors import InvalidInput
from engine.kernel.tallies import Tally

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """f(tally of the path): a mean, a probability, anything a trajectory decides.

    Args:
        tally: `FinalValue`, `Maximum`, `TimeIntegral`, `FirstPassage`, ...
        function: of the tallies' results (n,), elementwise; default the result itself. A condition
            makes the expectation a probability.

    Raises:
        InvalidInput: not a tally, or a function that cannot be called.

    Example:
        >>> from engine.kernel.tallies import Maximum
        >>> storm = Outcome(Maximum("IL6"), lambda peak: peak > 1000)
        >>> storm.values(np.array([10.0, 2000.0]))
        array([0., 1.])
    """

    tally: Tally
    function: Function | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.tally, Tally):
            raise InvalidInput(
                f"outcome {self.tally!r} is not a tally; give Outcome(engine.FinalValue('X')), ..."
            )
        if self.function is not None and not callable(self.function):
            raise InvalidInput(f"outcome function {self.function!r} cannot be called")

    def values(self, results: np.ndarray) -> np.ndarray:
        """The outcome of every trajectory, (n,) float64.

        Raises:
            InvalidInput: a function of another shape, or a value that is not finite.
        """
        found = np.asarray(results if self.function is None else self.function(results))
        if found.shape != results.shape:
            raise InvalidInput(
                f"the outcome's function makes shape {found.shape} of {results.shape}; it must be "
                "elementwise"
            )
        values = found.astype(np.float64)
        if not np.all(np.isfinite(values)):
            raise InvalidInput(
                f"the outcome is {values[~np.isfinite(values)][0]} for "
                f"{np.sum(~np.isfinite(values))} of {len(values)} trajectories (a first passage "
                "that never happens is inf); give a function that makes it finite, such as "
                "lambda t: t < horizon"
            )
        return values
