"""The tables of a design's TOML file."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from engine.design.fractions import Fractions
from engine.design.options import AugmentedLagrangian
from engine.design.personal import Subgroups
from engine.design.policy import Exponential, PolicyTerm, Power
from engine.design.variables import Variable
from engine.dosing.dose import Dose
from engine.gradient.automatic import Automatic
from engine.gradient.coupled_difference import CoupledDifference
from engine.gradient.dose_targets import DoseAmount, DoseDuration, DoseRate, DoseTime
from engine.gradient.martingale_critic import MartingaleCritic
from engine.gradient.outcome import Outcome
from engine.gradient.pathwise import Pathwise
from engine.gradient.problem import Estimator
from engine.gradient.random_perturbation import RandomPerturbation
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
from engine.trial.spec import Count, NotNegative, Positive, Text
from engine.trial.tables import Table

_TALLIES: dict[str, Callable[[Any], Tally]] = {
    "final": FinalValue,
    "maximum": Maximum,
    "minimum": Minimum,
    "time_integral": TimeIntegral,
    "occupation": Occupation,
    "first_passage": FirstPassage,
}
_ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "automatic": Automatic,
    "score_function": ScoreFunction,
    "martingale_critic": MartingaleCritic,
    "coupled_difference": CoupledDifference,
    "pathwise": Pathwise,
    "random_perturbation": RandomPerturbation,
}


_STEPPING: dict[str, Callable[[float], Estimator]] = {
    "coupled_difference": CoupledDifference,
    "random_perturbation": RandomPerturbation,
}
_OF_A_DOSE: dict[str, Callable[[int], Target]] = {
    "amount": DoseAmount,
    "time": DoseTime,
    "duration": DoseDuration,
    "rate": DoseRate,
}
_TERMS: dict[str, Callable[[str, float, tuple[int, ...]], PolicyTerm]] = {
    "power": Power,
    "exponential": Exponential,
}


class CriterionTable(Table):
    """An expected outcome: of a tally, or the probability that it is above or below a number.

    With `worst` a risk is the mean over that share of the patients (CVaR), not over all.
    """

    name: Text
    tally: Literal["final", "maximum", "minimum", "time_integral", "occupation", "first_passage"]
    of: Text
    above: float | None = None
    below: float | None = None
    cell: Text | None = None
    scale: Positive = 1.0
    worst: Annotated[float, Field(gt=0, lt=1)] | None = None

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
    rate: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> "DoseTable":
        if self.duration is not None and self.rate is not None:
            raise ValueError("it has a duration and a rate; give one")
        return self

    def dose(self) -> Dose:
        """The dose."""
        return Dose(self.amount, self.time, into=self.into, duration=self.duration, rate=self.rate)


class VariableTable(Table):
    """What may be chosen: of a dose, of the molecule, of the drug's pharmacokinetics, of a policy.

    With `dose`: its amount, time, duration or rate (`what`). With `covariate`: the power of
    (covariate / reference), or the slope of log dose in it (`form`), that multiplies the `doses`.
    """

    name: Text
    low: float
    high: float
    start: float | None = None
    unit: str = ""
    dose: Annotated[int, Field(ge=0)] | None = None
    what: Literal["amount", "time", "duration", "rate"] = "amount"
    parameter: Text | None = None
    input: Text | None = None
    pharmacokinetic: Text | None = None
    covariate: Text | None = None
    reference: float | None = None
    doses: list[Annotated[int, Field(ge=0)]] = Field(default_factory=lambda: [0])
    form: Literal["power", "exponential"] = "power"

    @model_validator(mode="after")
    def _check(self) -> "VariableTable":
        kinds = (self.dose, self.parameter, self.input, self.covariate)
        is_paired = (self.input is None) == (self.pharmacokinetic is None) and (
            self.covariate is None
        ) == (self.reference is None)
        if sum(kind is not None for kind in kinds) != 1 or not is_paired:
            raise ValueError(
                f"variable '{self.name}': give dose = NUMBER, or parameter = NAME, or input = NAME "
                "with pharmacokinetic = NAME, or covariate = NAME with reference = NUMBER"
            )
        self.variable()
        return self

    def variable(self) -> Variable:
        """The variable."""
        return Variable(self._target(), self.low, self.high, self.start, self.name, self.unit)

    def _target(self) -> str | Target | PolicyTerm:
        if self.dose is not None:
            return _OF_A_DOSE[self.what](self.dose)
        if self.input is not None:
            return PharmacokineticParameter(self.input, str(self.pharmacokinetic))
        if self.covariate is not None and self.reference is not None:
            return _TERMS[self.form](self.covariate, self.reference, tuple(self.doses))
        return str(self.parameter)


class FractionsTable(Table):
    """Numbers of doses into an input; see `Fractions`."""

    into: Text
    counts: Annotated[list[Count], Field(min_length=1)]

    def fractions(self) -> Fractions:
        """The numbers."""
        return Fractions(self.into, tuple(self.counts))


class SubgroupsTable(Table):
    """Patients by a covariate; see `Subgroups`."""

    covariate: Text
    shares: Annotated[list[float], Field(min_length=1)]

    def subgroups(self) -> Subgroups:
        """The subgroups."""
        return Subgroups(self.covariate, tuple(self.shares))


class OptimiserTable(Table):
    """Options of the optimiser; see `AugmentedLagrangian`. `step` is of differences."""

    num_rounds: Count = 6
    num_steps: Count = 15
    num_patients: Count = 1000
    growth: Annotated[float, Field(ge=1)] = 1.4
    learning_rate: Positive = 0.3
    penalty: Positive = 1.0
    num_verified: Count = 20_000
    estimator: Literal[
        "score_function",
        "martingale_critic",
        "coupled_difference",
        "random_perturbation",
        "pathwise",
        "automatic",
    ] = "score_function"
    step: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _check(self) -> "OptimiserTable":
        if self.step is not None and self.estimator not in _STEPPING:
            raise ValueError(
                f"step = {self.step:g} is of estimator = {' or '.join(_STEPPING)}; leave it out"
            )
        return self

    def options(self) -> AugmentedLagrangian:
        """The optimiser."""
        numbers = self.model_dump(exclude={"estimator", "step"})
        estimator = _ESTIMATORS[self.estimator]()
        if self.step is not None:
            estimator = _STEPPING[self.estimator](self.step)
        return AugmentedLagrangian(**numbers, estimator=estimator)
