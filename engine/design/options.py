"""Options of the optimiser."""

from dataclasses import dataclass, field

from engine.errors import InvalidInput
from engine.gradient.problem import Estimator
from engine.gradient.score_function import ScoreFunction


@dataclass(frozen=True)
class AugmentedLagrangian:
    """Options of the optimiser.

    Args:
        num_rounds: rounds, each with patients of its own; default 6.
        num_steps: steps of Adam in a round; default 15.
        num_patients: patients of the first round; default 1000.
        growth: factor on them from round to round; default 1.4.
        learning_rate: step of Adam on the positions z at the beginning; default 0.3.
        penalty: rho; default 1.
        num_verified: fresh patients on which the design is verified; default 20,000.
        estimator: of the gradients; default `ScoreFunction()`.

    Raises:
        InvalidInput: a number that is not positive.

    Example:
        >>> AugmentedLagrangian(num_rounds=3).num_steps
        15
    """

    num_rounds: int = 6
    num_steps: int = 15
    num_patients: int = 1000
    growth: float = 1.4
    learning_rate: float = 0.3
    penalty: float = 1.0
    num_verified: int = 20_000
    estimator: Estimator = field(default_factory=ScoreFunction)

    def __post_init__(self) -> None:
        for name in ("num_rounds", "num_steps", "num_patients", "num_verified"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InvalidInput(f"{name}={value!r}: give a whole number of at least 1")
        for name in ("learning_rate", "penalty"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name}={getattr(self, name)!r}: give a positive number")
        if not self.growth >= 1:
            raise InvalidInput(f"growth={self.growth!r}: give a factor of at least 1")
