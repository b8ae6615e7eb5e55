"""What a therapy design is, as its TOML file says it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from engine.design.fractions import with_fractions
from engine.design.personal import within
from engine.design.problem import Criterion, TherapyProblem
from engine.design.tables import (
    CriterionTable,
    DoseTable,
    FractionsTable,
    OptimiserTable,
    SubgroupsTable,
    VariableTable,
)
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.models.aldesleukin import aldesleukin_pk
from engine.models.il2 import il2_receptor
from engine.models.storm import cytokine_storm, storm_depot
from engine.network.network import ReactionNetwork, hint
from engine.population.variability import Multiple
from engine.trial.spec import Covariate, NotNegative, Positive, Text
from engine.trial.tables import Table


@dataclass(frozen=True)
class Treatable:
    """A model of the library that a therapy can be designed for.

    Attributes:
        network: of one kind of cell, or of the patient (called without a name).
        inputs: the drug's pharmacokinetics.
        has_cells: whether the network is of a kind of cell.
    """

    network: Callable[..., ReactionNetwork]
    inputs: Callable[[], dict[str, Any]]
    has_cells: bool


MODELS = {
    "cytokine_storm": Treatable(cytokine_storm, lambda: {"depot": storm_depot()}, False),
    "il2_receptor": Treatable(il2_receptor, lambda: {"IL2": aldesleukin_pk()}, True),
}


class DesignSpec(Table):
    """A whole therapy design; every field is a key of the file.

    Args:
        name: what it is called.
        seed: of everything random.
        model: `cytokine_storm` or `il2_receptor`.
        horizon, start: when the trajectories end and begin, in the model's time unit.
        bound: what the risk may be at most.
        frontier: further bounds.
        grid: variable -> numbers for a brute-force referee; a policy's terms need none.
        fractions: numbers of doses to be compared.
        subgroups: beside a dosing policy, a design for each.
        benefit, risk, population, doses, variables, optimiser: see these tables; `population`
            names parameters of the model.
        relative: those of the population that are factors on the model's own number, which differs
            between kinds of cells.
    """

    name: Text
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    model: Text
    horizon: Positive
    start: NotNegative = 0.0
    bound: Positive
    frontier: list[Positive] = Field(default_factory=list)
    benefit: CriterionTable
    risk: CriterionTable
    population: dict[str, Covariate] = Field(default_factory=dict)
    doses: Annotated[list[DoseTable], Field(min_length=1)]
    variables: Annotated[list[VariableTable], Field(min_length=1)]
    optimiser: OptimiserTable = OptimiserTable()
    grid: dict[str, list[float]] = Field(default_factory=dict)
    relative: list[Text] = Field(default_factory=list)
    fractions: FractionsTable | None = None
    subgroups: SubgroupsTable | None = None

    def problem(self) -> TherapyProblem:
        """The problem of the file.

        Raises:
            InvalidInput: a name that the model does not know, with its key path.
        """
        if self.model not in MODELS:
            raise InvalidInput(f"model = '{self.model}' is unknown{hint(self.model, MODELS)}")
        model = MODELS[self.model]
        networks: dict[str | None, ReactionNetwork] = {}
        benefit, risk = (self._criterion(which, networks) for which in ("benefit", "risk"))
        problem = TherapyProblem(
            benefit,
            risk,
            self.bound,
            tuple(table.variable() for table in self.variables),
            self.horizon,
            Regimen(tuple(table.dose() for table in self.doses)),
            model.inputs(),
            start=self.start,
        )
        self._check_outer(problem)
        start = np.array([variable.start for variable in problem.variables], float)
        for criterion in (benefit, risk):
            # Every name of the file is looked up once before anything long begins.
            problem.arguments(criterion, start, _any_key(), "check", 2).cohort()
        return problem

    def _check_outer(self, problem: TherapyProblem) -> None:
        """Fractions and subgroups make sense for the problem."""
        if self.fractions is not None:
            if problem.terms:
                raise InvalidInput(
                    "fractions and a dosing policy in one design; choose the count first, then "
                    "give the policy that number of doses"
                )
            for count in self.fractions.fractions().counts:
                with_fractions(problem, self.fractions.into, count)
        if self.subgroups is not None:
            if not problem.terms:
                raise InvalidInput(
                    "subgroups stand beside a dosing policy; give a variable with covariate = NAME"
                )
            within(problem, self.subgroups.covariate, 0.0, 1.0)
            self.subgroups.subgroups()

    def _criterion(self, which: str, networks: dict[str | None, ReactionNetwork]) -> Criterion:
        """A criterion; two of the same cell share a network, and so are simulated together."""
        table: CriterionTable = getattr(self, which)
        model = MODELS[self.model]
        if model.has_cells != (table.cell is not None):
            remedy = "give cell = NAME" if model.has_cells else "leave cell out"
            raise InvalidInput(f"{which}.cell: {self.model} {_CELLS[model.has_cells]}; {remedy}")
        if table.cell not in networks:
            networks[table.cell] = model.network(table.cell) if table.cell else model.network()
        network = networks[table.cell]
        for name in self.population:
            network.require(name, "parameter", what="population")
        population = {name: covariate.law() for name, covariate in self.population.items()}
        for name in self.relative:
            if name not in population:
                raise InvalidInput(
                    f"relative: '{name}' is not in the population{hint(name, population)}"
                )
            population[name] = Multiple(population[name], network.parameter_values[name])
        return Criterion(table.name, network, table.outcome(), population, table.scale, table.worst)

    def contents(self) -> dict[str, Any]:
        """The file's contents, as plain numbers, text, lists and dictionaries."""
        return self.model_dump(exclude_none=True)


_CELLS = {True: "is a model of single cells", False: "is a model of the whole patient"}


def _any_key() -> Any:
    import jax

    return jax.random.key(0)


def read_design(path: str | Path) -> tuple[DesignSpec, TherapyProblem]:
    """Read and check a design's TOML file.

    Raises:
        InvalidInput: in one line, the first mistake with its key path, value and remedy.
    """
    spec = DesignSpec.read(path)
    try:
        return spec, spec.problem()
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None
