"""How many doses: every number of them has a design of its own, and the best is verified anew."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.design.journal import Counter, Memory, Progress, forgetful
from engine.design.optimiser import designed, with_frontier
from engine.design.options import AugmentedLagrangian
from engine.design.policy import PolicyTerm
from engine.design.problem import TherapyProblem
from engine.design.result import Alternative, Design
from engine.design.task import Task
from engine.design.variables import Variable
from engine.dosing.dose import Dose
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput


@dataclass(frozen=True)
class Fractions:
    """Numbers of doses to be compared.

    Args:
        into: the input that the doses go into; others' doses stay.
        counts: how many of its doses are given, the first ones of the regimen.

    Raises:
        InvalidInput: no count, one twice, or one below 1.

    Example:
        >>> Fractions("drug", (1, 2, 3)).counts
        (1, 2, 3)
    """

    into: str
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", tuple(self.counts))
        if not self.counts or min(self.counts) < 1 or len(set(self.counts)) < len(self.counts):
            raise InvalidInput(
                f"counts={list(self.counts)} of the doses into '{self.into}': give different whole "
                "numbers from 1 on"
            )


def with_fractions(problem: TherapyProblem, into: str, count: int) -> TherapyProblem:
    """The problem with the first `count` doses into an input, and the variables that move them.

    Raises:
        InvalidInput: fewer doses than that, or no variable that is left.
    """
    doses = problem.regimen.doses
    mine = [i for i, dose in enumerate(doses) if isinstance(dose, Dose) and dose.into == into]
    if count > len(mine):
        raise InvalidInput(
            f"{count} doses into '{into}', and the regimen has {len(mine)}; write out as many as "
            "the largest count"
        )
    kept = [i for i in range(len(doses)) if i not in mine[count:]]
    places = {old: new for new, old in enumerate(kept)}
    variables = [_moved(variable, places) for variable in problem.variables]
    left = tuple(variable for variable in variables if variable is not None)
    if not left:
        raise InvalidInput(f"{count} doses into '{into}' leave no variable; make one of the first")
    return replace(problem, variables=left, regimen=Regimen(tuple(doses[i] for i in kept)))


def _moved(variable: Variable, places: dict[int, int]) -> Variable | None:
    """The variable where its dose now stands; None where the dose is gone."""
    target = variable.target
    if isinstance(target, PolicyTerm):
        doses = tuple(places[i] for i in target.doses if i in places)
        return replace(variable, target=replace(target, doses=doses)) if doses else None
    index = getattr(target, "index", None)
    if index is None:
        return variable
    if index not in places:
        return None
    return replace(variable, target=replace(target, index=places[index]))  # type: ignore[type-var]


def optimise_fractions(
    problem: TherapyProblem,
    fractions: Fractions,
    options: AugmentedLagrangian | None = None,
    *,
    seed: int = 0,
    frontier: Sequence[float] = (),
    progress: Progress | None = None,
    memory: Memory = forgetful,
) -> Design:
    """The best number of doses, with the best doses of that number.

    A count is a whole number and has no gradient: every count is designed on its own by gradients.
    Of the designs whose risk keeps the bound with its whole interval (of all, where none does) the
    one with the largest benefit is chosen, and verified once more, on patients that did not choose.

    Args:
        problem: its regimen has as many doses as the largest count, with their variables.
        fractions: the counts.
        options, seed, frontier, progress, memory: as in `optimise`.

    Returns:
        The chosen design; the others are its `alternatives`.

    Raises:
        InvalidInput: no count keeps the bound.
    """
    chosen = options or AugmentedLagrangian()
    problems = {n: with_fractions(problem, fractions.into, n) for n in fractions.counts}
    rounds = chosen.num_rounds * (len(problems) + len(frontier))
    counter = Counter(progress, rounds * chosen.num_steps)
    tasks = {n: Task(p, chosen, seed, _named(n), counter, memory) for n, p in problems.items()}
    designs: dict[int, Design] = {}
    refused: dict[int, str] = {}
    for count, task in tasks.items():
        try:
            designs[count] = designed(task)
        except InvalidInput as error:
            refused[count] = str(error)
    if not designs:
        first = fractions.counts[0]
        raise InvalidInput(f"no number of doses will do; {_named(first)}: {refused[first]}")
    best = max(designs, key=lambda n: _rank(designs[n]))
    task, design = tasks[best], designs[best]
    values = np.array(design.values)
    note = f"{_named(best)} of {', '.join(map(str, fractions.counts))} tried, verified anew"
    found = replace(
        design,
        verification=task.verified(values, "chosen"),
        notes=(note, *design.notes),
        alternatives=tuple(_alternative(n, designs, refused) for n in fractions.counts),
        num_trajectories=sum(one.num_trajectories for one in designs.values()),
    )
    return with_frontier(task, found, frontier)


def _named(count: int) -> str:
    return f"{count} dose" if count == 1 else f"{count} doses"


def _rank(design: Design) -> tuple[bool, float]:
    return design.verification.is_safe, design.verification.benefit.value


def _alternative(count: int, designs: dict[int, Design], refused: dict[int, str]) -> Alternative:
    if count in refused:
        return Alternative(_named(count), note=refused[count])
    design = designs[count]
    return Alternative(_named(count), design.names, design.values, design.verification)
