"""One problem to be solved, with everything that its stages share."""

from dataclasses import asdict, dataclass, replace

import numpy as np

from engine.design.journal import Counter, Memory
from engine.design.options import AugmentedLagrangian
from engine.design.problem import TherapyProblem
from engine.design.verification import Verification, verify


@dataclass(frozen=True, eq=False)
class Task:
    """A problem, how it is to be solved, and what is known of it already.

    Args:
        problem, options, seed: as in `optimise`.
        name: of its stages.
        counter: of steps.
        memory: of finished stages.
    """

    problem: TherapyProblem
    options: AugmentedLagrangian
    seed: int
    name: str
    counter: Counter
    memory: Memory

    def named(self, name: str, problem: TherapyProblem) -> "Task":
        """Another problem with the same seed, options, counter and memory."""
        return replace(self, name=name, problem=problem)

    def verified(self, values: np.ndarray, purpose: str) -> Verification:
        """What numbers of the variables achieve, on patients of this purpose alone."""

        def done() -> object:
            number = self.options.num_verified
            return asdict(verify(self.problem, values, number, self.seed, purpose))

        return Verification.of(self.memory(f"{self.name}: {purpose}", done))
