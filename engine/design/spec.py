"""What a therapy design is, as its TOML file says it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from engine.design.optimiser import AugmentedLagrangian
from engine.design.problem import Criterion, TherapyProblem
from engine.design.variables import Variable
from engine.dosing.dose import Dose
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.coupled_difference import CoupledDifference
from engine.gradient.dose_targets import DoseAmount, DoseTime
from engine.gradient.martingale_critic import MartingaleCritic
from engine.gradient.outcome import Outcome
from engine.gradient.pathwise import Pathwise
from engine.gradient.problem import Estimator
from engine.gradient.score_function import ScoreFunction
from engine.gradient.targets import PharmacokineticParameter, Target
from engine.kernel.tallies import (
    FinalValue,
    FirstPassage,
    Maximum,
    Minimum,
    Occupation,
    Tally,
    TimeIntegral,
)
from engine.models.aldesleukin import aldesleukin_pk
from engine.models.il2 import il2_receptor
from engine.models.storm import cytokine_storm, storm_depot
from engine.network.network import ReactionNetwork, hint
from engine.trial.spec import Count, Covariate, NotNegative, Positive, Text
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
_TALLIES: dict[str, Callable[[Any], Tally]] = {
    "final": FinalValue,
    "maximum": Maximum,
    "minimum": Minimum,
    "time_integral": TimeIntegral,
    "occupation": Occupation,
    "first_passage": FirstPassage,
}
_ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "score_function": ScoreFunction,
    "martingale_critic": MartingaleCritic,
    "coupled_difference": CoupledDifference,
    "pathwise": Pathwise,
}


class CriterionTable(Table):
    """An expected outcome: of a tally, or the probability that it is above or below a number."""

    name: Text
    tally: Literal["final", "maximum", "minimum", "time_integral", "occupation", "first_passage"]
    of: Text
    above: float | None = None
    below: float | None = None
    cell: Text | None = None
    scale: Positive = 1.0

    @model_validator(mode="after")
    def _check(self) -> "CriterionTable":
        if self.above is not None and self.below is not None:
            raise ValueError("it has above and below; give one, or none for the mean")
        return self

    def outcome(self) -> Outcome:
        """The outcome."""
        tally, above, below = _TALLIES[self.tally](self.of), self.above, self.below
        if above is not None:
            return Outcome(tally, lambda values: values > above)
        if below is not None:
            return Outcome(tally, lambda values: values < below)
        return Outcome(tally)


class DoseTable(Table):
    """A dose that everyone is given."""

    into: Text
    amount: NotNegative
    time: NotNegative = 0.0
    duration: Positive | None = None

    def dose(self) -> Dose:
        """The dose."""
        return Dose(self.amount, self.time, into=self.into, duration=self.duration)


class VariableTable(Table):
    """What may be chosen: of a dose, of the molecule, or of the drug's pharmacokinetics."""

    name: Text
    low: float
    high: float
    start: float | None = None
    unit: str = ""
    dose: Annotated[int, Field(ge=0)] | None = None
    what: Literal["amount", "time"] = "amount"
    parameter: Text | None = None
    input: Text | None = None
    pharmacokinetic: Text | None = None

    @model_validator(mode="after")
    def _check(self) -> "VariableTable":
        kinds = [self.dose is not None, self.parameter is not None, self.input is not None]
        if sum(kinds) != 1 or (self.input is None) != (self.pharmacokinetic is None):
            raise ValueError(
                f"variable '{self.name}': give dose = NUMBER, or parameter = NAME, or input = NAME "
                "with pharmacokinetic = NAME"
            )
        self.variable()
        return self

    def variable(self) -> Variable:
        """The variable."""
        target: str | Target
        if self.dose is not None:
            target = DoseAmount(self.dose) if self.what == "amount" else DoseTime(self.dose)
        elif self.input is not None:
            target = PharmacokineticParameter(self.input, str(self.pharmacokinetic))
        else:
            target = str(self.parameter)
        return Variable(target, self.low, self.high, self.start, self.name, self.unit)


class OptimiserTable(Table):
    """Options of the optimiser; see `AugmentedLagrangian`."""

    num_rounds: Count = 6
    num_steps: Count = 15
    num_patients: Count = 1000
    growth: Annotated[float, Field(ge=1)] = 1.4
    learning_rate: Positive = 0.3
    penalty: Positive = 1.0
    num_verified: Count = 20_000
    estimator: Literal["score_function", "martingale_critic", "coupled_difference", "pathwise"] = (
        "score_function"
    )

    def options(self) -> AugmentedLagrangian:
        """The optimiser."""
        numbers = self.model_dump(exclude={"estimator"})
        return AugmentedLagrangian(**numbers, estimator=_ESTIMATORS[self.estimator]())


class DesignSpec(Table):
    """A whole therapy design; every field is a key of the file.

    Args:
        name: what it is called.
        seed: of everything random.
        model: `cytokine_storm` or `il2_receptor`.
        horizon, start: when the trajectories end and begin, in the model's time unit.
        bound: what the risk may be at most.
        frontier: further bounds.
        grid: variable -> numbers for a brute-force referee.
        benefit, risk, population, doses, variables, optimiser: see these tables; `population`
            names parameters of the model.
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

    def problem(self) -> TherapyProblem:
        """The problem of the file.

        Raises:
            InvalidInput: a name that the model does not know, with its key path.
        """
        if self.model not in MODELS:
            raise InvalidInput(f"model = '{self.model}' is unknown{hint(self.model, MODELS)}")
        model = MODELS[self.model]
        benefit, risk = self._criterion("benefit"), self._criterion("risk")
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
        start = np.array([variable.start for variable in problem.variables], float)
        for criterion in (benefit, risk):
            # Every name of the file is looked up once before anything long begins.
            problem.arguments(criterion, start, _any_key(), "check", 2).cohort()
        return problem

    def _criterion(self, which: str) -> Criterion:
        table: CriterionTable = getattr(self, which)
        model = MODELS[self.model]
        if model.has_cells != (table.cell is not None):
            remedy = "give cell = NAME" if model.has_cells else "leave cell out"
            raise InvalidInput(f"{which}.cell: {self.model} {_CELLS[model.has_cells]}; {remedy}")
        network = model.network(table.cell) if table.cell else model.network()
        for name in self.population:
            network.require(name, "parameter", what="population")
        population = {name: covariate.law() for name, covariate in self.population.items()}
        return Criterion(table.name, network, table.outcome(), population, table.scale)

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
