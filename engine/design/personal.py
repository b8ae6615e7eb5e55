"""Personalised dosing: a policy beside one size for all and a design for every subgroup."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import numpy as np

from engine.design.journal import Counter, Memory, Progress, forgetful
from engine.design.optimiser import designed, with_frontier
from engine.design.options import AugmentedLagrangian
from engine.design.policy import PolicyTerm
from engine.design.problem import Criterion, TherapyProblem
from engine.design.result import Alternative, Design
from engine.design.task import Task
from engine.design.variables import Variable
from engine.design.verification import Estimate, difference
from engine.errors import InvalidInput
from engine.population.variability import Distribution, Part

ONE_SIZE = "one size for all"


@dataclass(frozen=True)
class Subgroups:
    """Patients by a covariate, cut at shares of the population.

    Args:
        covariate: a covariate, or a parameter of a population.
        shares: where to cut, increasing, between 0 and 1: (1/3, 2/3) makes three of equal size.

    Raises:
        InvalidInput: shares that do not increase or lie outside of 0 and 1.

    Example:
        >>> Subgroups("weight", (0.5,)).parts
        ((0.0, 0.5), (0.5, 1.0))
    """

    covariate: str
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", tuple(self.shares))
        edges = (0.0, *self.shares, 1.0)
        if len(edges) < 3 or any(a >= b for a, b in pairwise(edges)):
            raise InvalidInput(
                f"shares={list(self.shares)} of the subgroups by '{self.covariate}': give "
                "increasing numbers between 0 and 1"
            )

    @property
    def parts(self) -> tuple[tuple[float, float], ...]:
        """The shares of the population between which each subgroup lies."""
        edges = (0.0, *self.shares, 1.0)
        return tuple(pairwise(edges))


def one_size(problem: TherapyProblem) -> TherapyProblem:
    """The problem without its policy.

    Raises:
        InvalidInput: nothing but the policy can be chosen.
    """
    left = tuple(v for v in problem.variables if not isinstance(v.target, PolicyTerm))
    return replace(problem, variables=left)


def within(problem: TherapyProblem, covariate: str, low: float, high: float) -> TherapyProblem:
    """The problem of the patients whose covariate lies between two shares of the population.

    Raises:
        InvalidInput: a covariate that the problem does not have.
    """

    def part(laws: Mapping[str, Distribution]) -> dict[str, Distribution]:
        return {n: Part(law, low, high) if n == covariate else law for n, law in laws.items()}

    def among(criterion: Criterion) -> Criterion:
        return replace(criterion, population=part(criterion.population))

    laws = (problem.covariates, problem.benefit.population, problem.risk.population)
    if not any(covariate in law for law in laws):
        raise InvalidInput(
            f"subgroups by '{covariate}', of which the problem knows nothing; give its distribution"
        )
    benefit, risk = among(problem.benefit), among(problem.risk)
    return replace(problem, benefit=benefit, risk=risk, covariates=part(problem.covariates))


def optimise_policy(
    problem: TherapyProblem,
    options: AugmentedLagrangian | None = None,
    *,
    subgroups: Subgroups | None = None,
    seed: int = 0,
    frontier: Sequence[float] = (),
    progress: Progress | None = None,
    memory: Memory = forgetful,
) -> Design:
    """A dosing policy, fitted end to end, beside one size for all and a design by subgroup.

    All keep the same bound: the policy and the one size over all patients, a subgroup's dose over
    its own. The policy's search begins at the one size that was found: who is hurt by a small dose
    is not who is by a large one, and the way from the one to the other is long. By how much the
    policy is better than the one size is estimated on the same patients.

    Args:
        problem: some of its variables are terms of a policy, `Power(...)` or `Exponential(...)`.
        subgroups: also a design for each; default none.
        options, seed, frontier, progress, memory: as in `optimise`.

    Returns:
        The policy; the others are its `alternatives`.

    Raises:
        InvalidInput: no term of a policy, or no policy that keeps the bound.
    """
    if not problem.terms:
        raise InvalidInput(
            "no variable is a term of a dosing policy; give Variable(Power('weight', 70.0), ...)"
        )
    chosen = options or AugmentedLagrangian()
    number = 2 + len(frontier) + (len(subgroups.parts) if subgroups else 0)
    counter = Counter(progress, number * chosen.num_rounds * chosen.num_steps)
    task = Task(problem, chosen, seed, "policy", counter, memory)
    one = _designed(task.named(ONE_SIZE, one_size(problem)), ONE_SIZE)
    from_there = task.named(task.name, _begun_at(problem, one))
    design = with_frontier(from_there, designed(from_there), frontier)
    others = [_compared(task, design, one)]
    others += by_subgroup(task, subgroups) if subgroups else ()
    curves = problem.dose_curves(np.array(design.values))
    return replace(design, alternatives=tuple(others), policy=curves)


def _begun_at(problem: TherapyProblem, one: Alternative) -> TherapyProblem:
    """The problem with its search begun at a design of one size, where one was found."""
    begun = dict(zip(one.names, one.values, strict=True))

    def start(variable: Variable) -> float | None:
        if not begun or not isinstance(variable.target, PolicyTerm):
            return begun.get(variable.name, variable.start)
        return min(max(0.0, variable.low), variable.high)

    variables = tuple(replace(v, start=start(v)) for v in problem.variables)
    return replace(problem, variables=variables)


def _compared(task: Task, design: Design, one: Alternative) -> Alternative:
    """One size for all, and by how much the policy is better."""
    if one.verification is None:
        return one
    pair = (
        (task.problem, np.array(design.values)),
        (one_size(task.problem), np.array(one.values)),
    )

    def done() -> object:
        number = task.options.num_verified
        return asdict(difference(*pair, number, task.seed, "verification"))

    return replace(one, gain=Estimate(**task.memory(f"{ONE_SIZE}: gain", done)))


def by_subgroup(task: Task, subgroups: Subgroups) -> tuple[Alternative, ...]:
    """A dose for every subgroup, each of which keeps the bound on its own."""
    alternatives = []
    for number, (low, high) in enumerate(subgroups.parts):
        name = f"subgroup {number + 1} of {len(subgroups.parts)} by {subgroups.covariate}"
        problem = within(one_size(task.problem), subgroups.covariate, low, high)
        found = _designed(task.named(name, problem), name)
        alternatives.append(replace(found, shares=(low, high)))
    return tuple(alternatives)


def _designed(task: Task, name: str) -> Alternative:
    try:
        design = designed(task)
    except InvalidInput as error:
        return Alternative(name, note=str(error))
    return Alternative(name, design.names, design.values, design.verification)
