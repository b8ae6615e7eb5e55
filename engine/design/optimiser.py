"""From a problem to a design: search, verification on fresh patients, sensitivities, frontier."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.design.journal import Counter, Memory, Progress, forgetful
from engine.design.options import AugmentedLagrangian
from engine.design.outcomes import Estimators, gradient_problem, gradients
from engine.design.problem import Criterion, TherapyProblem, patients_key
from engine.design.result import Design, Point, Sensitivity
from engine.design.search import Search, positions_of
from engine.design.task import Task
from engine.design.verification import Verification
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

    Where the risk's interval, on fresh patients, reaches above the bound, or so near to it that the
    next patients' might, the search goes on; what is reported comes from patients used for nothing
    else.

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
    return with_frontier(task, designed(task), frontier)


def designed(task: Task) -> Design:
    """Search, verify and differentiate.

    Raises:
        InvalidInput: no design was found that keeps the bound.
    """
    problem = task.problem
    start = _start(problem)
    before = task.verified(start, "start")
    estimators, notes = _estimators(task)
    search = Search(task, before, estimators)
    positions, more = search.until_safe(np.array(positions_of(problem, start)))
    values = problem.values_at(positions)
    verification = task.verified(values, "verification")
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
        _sensitivities(task, values, estimators),
        notes=(*notes, *more, *_warnings(problem, verification)),
        num_trajectories=search.num_trajectories,
    )


def with_frontier(task: Task, design: Design, bounds: Sequence[float]) -> Design:
    """The design with designs under other bounds, each from the one before."""
    problem = task.problem
    positions = np.array(positions_of(problem, np.array(design.values)))
    estimators, _ = _estimators(task)
    points = []
    for bound in sorted(bounds):
        one = task.named(f"{task.name}, bound {bound:g}", replace(problem, bound=bound))
        positions, _ = Search(one, design.start, estimators).until_safe(positions)
        values = problem.values_at(positions)
        found = one.verified(values, "frontier")
        points.append(Point(bound, tuple(map(float, values)), found))
    return replace(design, frontier=tuple(points))


def _start(problem: TherapyProblem) -> np.ndarray:
    return np.array([variable.start for variable in problem.variables], float)


def _estimators(task: Task) -> tuple[Estimators, list[str]]:
    """Of benefit and risk; an automatic one chooses once, at the start."""
    automatic = task.options.estimator
    if not isinstance(automatic, Automatic):
        return (automatic, automatic), []
    problem, notes, found = task.problem, [], []
    for criterion in (problem.benefit, problem.risk):

        def done(criterion: Criterion = criterion) -> object:
            key, number = patients_key(task.seed, "choice"), task.options.num_patients
            given = (_start(problem), key, "choice", number)
            chosen = automatic.choose(gradient_problem(problem, criterion, *given))
            return {"names": chosen.names, "notes": chosen.notes}

        plain = task.memory(f"{task.name}: estimator of {criterion.name}", done)
        found.append(Chosen(tuple(plain["names"])))
        notes += [f"gradient of {criterion.name}: {note}" for note in plain["notes"]]
    return (found[0], found[1]), notes


def _warnings(problem: TherapyProblem, verification: Verification) -> list[str]:
    if verification.is_safe:
        return []
    return [
        f"the risk's interval on fresh patients, up to {verification.risk.high:.3g}, reaches "
        f"above the bound {problem.bound:g}; verify with more patients"
    ]


def _sensitivities(
    task: Task, values: np.ndarray, estimators: Estimators
) -> dict[str, Sensitivity]:
    """Derivatives of benefit and risk by every variable, on fresh patients."""
    problem, number = task.problem, task.options.num_verified

    def done() -> object:
        key = patients_key(task.seed, "sensitivity")
        both = gradients(problem, estimators, values, key, "sensitivity", number)
        columns: list[list[float]] = []
        for one, found in ((problem.benefit, both.benefit), (problem.risk, both.risk)):
            if isinstance(found, SameOutcome):
                raise found
            for column in (found.gradient, found.standard_errors):
                columns.append((one.scale * column).tolist())
        return columns

    columns = task.memory(f"{task.name}: sensitivity", done)
    return {
        name: Sensitivity(*map(float, numbers))
        for name, numbers in zip(problem.names, zip(*columns, strict=True), strict=True)
    }
