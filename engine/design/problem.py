"""What a good therapy is: a benefit to raise, a risk to bound, and who is treated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from engine.design.variables import Variable
from engine.dosing.pharmacokinetics import Pharmacokinetics
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments, stops_of
from engine.gradient.outcome import Outcome
from engine.gradient.problem import Estimator, Problem, SameOutcome
from engine.gradient.result import Gradient
from engine.gradient.targets import Target
from engine.methods.direct import Direct
from engine.network.network import ReactionNetwork
from engine.population.streams import named_key, noise_key
from engine.population.variability import Distribution, sample
from engine.simulate import key_words

Covariates = Mapping[str, np.ndarray]
Inputs = Mapping[str, Pharmacokinetics]


@dataclass(frozen=True, eq=False)
class Criterion:
    """An expected outcome of one system: a patient's cell of one type, or the whole patient.

    Args:
        name: what it is called.
        network: the system.
        outcome: the number whose expectation is meant; a condition makes it a probability.
        population: parameter of the network -> how it differs between patients. A patient's number
            depends on the parameter's name, so that a receptor that is plentiful on one cell type
            of a patient is so on the others.
        scale: the outcome is multiplied by it (1 over a maximum makes a share); default 1.
    """

    name: str
    network: ReactionNetwork
    outcome: Outcome
    population: Mapping[str, Distribution] = field(default_factory=dict)
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class TherapyProblem:
    r"""Maximise E[benefit] subject to E[risk] <= bound over the design variables.

    Args:
        benefit, risk: the two expectations; with a threshold outcome the risk is P(storm).
        bound: what the risk may be at most, positive.
        variables: what may be chosen.
        horizon: when the trajectories end, in the networks' time unit.
        regimen: the doses; variables move their amounts and times.
        inputs: the drug's pharmacokinetics, or a function of the patients' covariates.
        covariates: name -> distribution, for `inputs`.
        start: when the trajectories begin; default 0.
        method: the exact method; default `Direct()`.

    Raises:
        InvalidInput: no variable, two of the same name, a bound that is not positive.
    """

    benefit: Criterion
    risk: Criterion
    bound: float
    variables: tuple[Variable, ...]
    horizon: float
    regimen: Regimen = field(default_factory=Regimen)
    inputs: Inputs | Callable[[Covariates], Inputs] = field(default_factory=dict)
    covariates: Mapping[str, Distribution] = field(default_factory=dict)
    start: float = 0.0
    method: Direct = field(default_factory=Direct)

    def __post_init__(self) -> None:
        object.__setattr__(self, "variables", tuple(self.variables))
        names = [variable.name for variable in self.variables]
        if not names:
            raise InvalidInput("a therapy problem without variables; give at least one Variable")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InvalidInput(f"the design variable '{twice[0]}' stands twice; rename one")
        if not self.bound > 0:
            raise InvalidInput(f"bound={self.bound:g}: give a positive bound on the risk")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables."""
        return tuple(variable.name for variable in self.variables)

    def values_at(self, positions: np.ndarray) -> np.ndarray:
        """The variables' numbers at positions z, (V,)."""
        pairs = zip(self.variables, positions, strict=True)
        return np.array([variable.value(z) for variable, z in pairs])

    def arguments(
        self, criterion: Criterion, values: np.ndarray, key: Any, noise: str, num_patients: int
    ) -> Arguments:
        """What is simulated for one criterion at given numbers of the variables.

        Args:
            criterion: the system.
            values: (V,).
            key: who the patients are: the same key, the same patients for both criteria.
            noise: name of the reaction noise.
            num_patients: how many.
        """
        ids = np.arange(num_patients)
        inputs = self.inputs
        if callable(inputs):
            inputs = inputs(sample(self.covariates, key, ids))
        arguments = Arguments(
            criterion.network,
            stops_of(self.horizon),
            key_words(noise_key(key, noise, criterion.name)),
            num_patients,
            1,
            ids,
            sample(criterion.population, key, ids),
            {},
            dict(inputs),
            self.regimen,
            self.start,
            self.method,
        )
        for variable, value in zip(self.variables, values, strict=True):
            target = variable.target
            assert isinstance(target, Target)
            now = float(np.mean(target.value(arguments)))
            arguments = target.moved(arguments, np.asarray(value - now))
        return arguments

    def gradient(
        self,
        criterion: Criterion,
        estimator: Estimator,
        values: np.ndarray,
        key: Any,
        noise: str,
        num_patients: int,
    ) -> Gradient:
        """The criterion and its derivatives by the variables, before scaling.

        A risk that no patient met has no slope that could be seen, and needs none.

        Raises:
            InvalidInput: a benefit that no patient has, or that all have alike.
            SameOutcome: a risk that all patients meet.
        """
        arguments = self.arguments(criterion, values, key, noise, num_patients)
        targets: list[Target] = [v.target for v in self.variables]  # type: ignore[misc]
        try:
            return estimator.estimate(Problem(arguments, criterion.outcome, tuple(targets)))
        except SameOutcome as same:
            if criterion is self.risk and same.value == 0.0:
                flat = np.zeros(len(targets))
                names = ("nothing happened",) * len(targets)
                return Gradient(0.0, 1.0 / same.number, self.names, flat, flat, 1.0, names)
            if criterion is self.risk:
                raise
            at = ", ".join(f"{n}={v:.3g}" for n, v in zip(self.names, values, strict=True))
            raise InvalidInput(
                f"'{criterion.name}' is {same.value:g} for all {same.number} patients at {at}; "
                "begin elsewhere (start=), or simulate more patients"
            ) from None

    def outcomes(
        self, criterion: Criterion, values: np.ndarray, key: Any, noise: str, num_patients: int
    ) -> np.ndarray:
        """The scaled outcome of every patient, (num_patients,)."""
        arguments = self.arguments(criterion, values, key, noise, num_patients)
        ensemble = arguments.run({"outcome": criterion.outcome.tally})
        return criterion.scale * criterion.outcome.values(ensemble.tallies["outcome"])


def patients_key(seed: int, purpose: str) -> Any:
    """The key of a group of patients: those of one purpose are not those of another."""
    return named_key(jax.random.key(seed), "design", purpose)
