"""From a problem to a design: search, verification on fresh patients, sensitivities, frontier."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from engine.design.journal import Counter, Memory, Progress, forgetful
from engine.design.options import AugmentedLagrangian
from engine.design.outcomes import Estimators, gradient_problem, gradients
from engine.design.problem import Criterion, TherapyProblem, patients_key
from engine.design.result import Design, Point, Sensitivity
from engine.design.search import Search, positions_of
from engine.design.verification import Verification, verify
from engine.errors import InvalidInput
from engine.gradient.automatic import Automatic, Chosen
from engine.gradient.problem import SameOutcome


def optimise(
    problem: TherapyProblem,
    options: AugmentedLagrangian | None = None,
    *,
    seed: int = 0,
    frontier: Sequence[float] = (),
    progress: Progress | None = None,
    memory: Memory = forgetful,
) -> Design:
    """Find a therapy and say what it achieves on fresh patients.

    Where the risk's interval, on fresh patients, reaches above the bound, the search goes on; what
    is reported comes from patients used for nothing else.

    Args:
        problem: what to maximise, what to bound, what to choose.
        options: of the optimiser; default `AugmentedLagrangian()`.
        seed: of everything random.
        frontier: further bounds, for the efficacy-toxicity frontier.
        progress: called with (steps done, steps in all).
        memory: keeps finished stages, a `Journal`; default none.

    Returns:
        The design.

    Raises:
        InvalidInput: no design of the variables' bounds keeps the bound on the risk.
    """
    chosen = options or AugmentedLagrangian()
    rounds = chosen.num_rounds * (1 + len(frontier))
    counter = Counter(progress, rounds * chosen.num_steps)
    task = Task(problem, chosen, seed, "design", counter, memory)
    return task.with_frontier(task.design(), frontier)


class Task:
    """One problem to be solved, with everything that its stages share.

    Args:
        problem, options, seed: as in `optimise`.
        name: of its stages.
        counter: of steps.
        memory: of finished stages.
    """

    def __init__(
        self,
        problem: TherapyProblem,
        options: AugmentedLagrangian,
        seed: int,
        name: str,
        counter: Counter,
        memory: Memory,
    ) -> None:
        self.problem, self.options, self.seed = problem, options, seed
        self.name, self.counter, self.memory = name, counter, memory

    def named(self, name: str, problem: TherapyProblem) -> "Task":
        """Another problem with the same seed, options, counter and memory."""
        return Task(problem, self.options, self.seed, name, self.counter, self.memory)

    def design(self) -> Design:
        """Search, verify and differentiate.

        Raises:
            InvalidInput: no design was found that keeps the bound.
        """
        problem = self.problem
        start = np.array([variable.start for variable in problem.variables], float)
        before = self.verified(start, "start")
        estimators, notes = self._estimators(start)
        search = self._search(before, estimators)
        positions, more = search.until_safe(np.array(positions_of(problem, start)))
        values = problem.values_at(positions)
        verification = self.verified(values, "verification")
        if verification.risk.low > problem.bound:
            raise InvalidInput(
                f"no design was found with a risk of at most {problem.bound:g}: the last has "
                f"{verification.risk.value:.3g}; raise the bound, or widen the variables' ranges"
            )
        return Design(
            problem.names,
            tuple(variable.unit for variable in problem.variables),
            tuple(map(float, values)),
            verification,
            before,
            tuple(search.path),
            self._sensitivities(values, estimators),
            notes=(*notes, *more, *self._warnings(verification)),
            num_trajectories=search.num_trajectories,
        )

    def with_frontier(self, design: Design, bounds: Sequence[float]) -> Design:
        """The design with designs under other bounds, each from the one before."""
        positions = np.array(positions_of(self.problem, np.array(design.values)))
        start = np.array([variable.start for variable in self.problem.variables], float)
        estimators, _ = self._estimators(start)
        points = []
        for bound in sorted(bounds):
            task = self.named(f"{self.name}, bound {bound:g}", replace(self.problem, bound=bound))
            search = task._search(design.start, estimators)
            positions, _ = search.until_safe(positions)
            values = self.problem.values_at(positions)
            found = task.verified(values, "frontier")
            points.append(Point(bound, tuple(map(float, values)), found))
        return replace(design, frontier=tuple(points))

    def verified(self, values: np.ndarray, purpose: str) -> Verification:
        """What numbers of the variables achieve, on patients of this purpose alone."""

        def done() -> object:
            number = self.options.num_verified
            return asdict(verify(self.problem, values, number, self.seed, purpose))

        return Verification.of(self.memory(f"{self.name}: {purpose}", done))

    def _search(self, before: Verification, estimators: Estimators) -> Search:
        return Search(
            self.problem,
            self.options,
            self.seed,
            self.name,
            self.counter,
            self.memory,
            before,
            estimators,
        )

    def _estimators(self, start: np.ndarray) -> tuple[Estimators, list[str]]:
        """Of benefit and risk; an automatic one chooses once, at the start."""
        automatic = self.options.estimator
        if not isinstance(automatic, Automatic):
            return (automatic, automatic), []
        problem, notes, found = self.problem, [], []
        for criterion in (problem.benefit, problem.risk):

            def done(criterion: Criterion = criterion) -> object:
                key = patients_key(self.seed, "choice")
                number = self.options.num_patients
                posed = gradient_problem(problem, criterion, start, key, "choice", number)
                chosen = automatic.choose(posed)
                return {"names": chosen.names, "notes": chosen.notes}

            plain = self.memory(f"{self.name}: estimator of {criterion.name}", done)
            found.append(Chosen(tuple(plain["names"])))
            notes += [f"gradient of {criterion.name}: {note}" for note in plain["notes"]]
        return (found[0], found[1]), notes

    def _warnings(self, verification: Verification) -> list[str]:
        if verification.is_safe:
            return []
        return [
            f"the risk's interval on fresh patients, up to {verification.risk.high:.3g}, reaches "
            f"above the bound {self.problem.bound:g}; verify with more patients"
        ]

    def _sensitivities(self, values: np.ndarray, estimators: Estimators) -> dict[str, Sensitivity]:
        problem, key = self.problem, patients_key(self.seed, "sensitivity")
        number = self.options.num_verified

        def done() -> object:
            both = gradients(problem, estimators, values, key, "sensitivity", number)
            columns: list[list[float]] = []
            for one, found in ((problem.benefit, both.benefit), (problem.risk, both.risk)):
                if isinstance(found, SameOutcome):
                    raise found
                for column in (found.gradient, found.standard_errors):
                    columns.append((one.scale * column).tolist())
            return columns

        columns = self.memory(f"{self.name}: sensitivity", done)
        return {
            name: Sensitivity(*map(float, numbers))
            for name, numbers in zip(problem.names, zip(*columns, strict=True), strict=True)
        }
