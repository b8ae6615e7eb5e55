"""What a good therapy is: a benefit to raise, a risk to bound, and who is treated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from engine.design.policy import (
    DoseCurve,
    IndividualAmounts,
    PolicyTerm,
    check_terms,
    individual_amounts,
)
from engine.design.variables import Variable
from engine.dosing.pharmacokinetics import Pharmacokinetics
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments, stops_of
from engine.gradient.dose_targets import DoseAmount
from engine.gradient.outcome import Outcome
from engine.gradient.targets import Target
from engine.methods.direct import Direct
from engine.network.network import ReactionNetwork
from engine.population.streams import named_key, noise_key
from engine.population.variability import Distribution, sample
from engine.simulate import key_words

# Shares of the population at which a policy is drawn.
SHARES = np.linspace(0.005, 0.995, 100)
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
        scale: the outcome is multiplied by it (1 over a maximum makes a share), positive; default
            1.
        worst: of a risk: not its mean over all patients counts but that over the worst share of
            them, between 0 and 1 (conditional value at risk; patients and their reaction noise
            together). Default None, the mean.

    Raises:
        InvalidInput: a scale that is not positive, a share that is none.
    """

    name: str
    network: ReactionNetwork
    outcome: Outcome
    population: Mapping[str, Distribution] = field(default_factory=dict)
    scale: float = 1.0
    worst: float | None = None

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InvalidInput(f"scale={self.scale:g} of '{self.name}': give a positive number")
        if self.worst is not None and not 0.0 < self.worst < 1.0:
            raise InvalidInput(
                f"worst={self.worst:g} of '{self.name}': give a share between 0 and 1, such as 0.05"
            )


@dataclass(frozen=True, eq=False)
class TherapyProblem:
    r"""Maximise E[benefit] subject to E[risk] (or CVaR) <= bound over the design variables.

    Args:
        benefit, risk: the two expectations; with a threshold outcome the risk is P(storm).
        bound: what the risk may be at most, positive.
        variables: what may be chosen; terms of a dosing policy among them make doses individual.
        horizon: when the trajectories end, in the networks' time unit.
        regimen: the doses; variables move their amounts and times.
        inputs: the drug's pharmacokinetics, or a function of the patients' covariates.
        covariates: name -> distribution, for `inputs`.
        start: when the trajectories begin; default 0.
        method: the exact method; default `Direct()`.

    Raises:
        InvalidInput: no variable, two of the same name, a bound that is not positive, a benefit
            with `worst`, a policy of what nobody knows or of a dose without bounds.
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
        if self.benefit.worst is not None:
            raise InvalidInput(f"worst of the benefit '{self.benefit.name}': only a risk has it")
        check_terms(self.terms, [variable.target for variable in self.variables], [*self._known])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables."""
        return tuple(variable.name for variable in self.variables)

    @property
    def terms(self) -> tuple[PolicyTerm, ...]:
        """Terms of the dosing policy; none is one dose for all."""
        return tuple(v.target for v in self.variables if isinstance(v.target, PolicyTerm))

    @property
    def is_one_system(self) -> bool:
        """Whether benefit and risk are two outcomes of one network and one population.

        Then both are seen on the same trajectories, simulated once.
        """
        one, other = self.benefit, self.risk
        return one.network is other.network and dict(one.population) == dict(other.population)

    @property
    def num_systems(self) -> int:
        """Trajectories of one patient: 1, or 2 where benefit and risk are of different systems."""
        return 1 if self.is_one_system else 2

    @property
    def _known(self) -> dict[str, Distribution]:
        """What a policy can know of a patient."""
        return {**self.risk.population, **self.benefit.population, **self.covariates}

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
        return self.with_targets(criterion, values, key, noise, num_patients)[0]

    def with_targets(
        self, criterion: Criterion, values: np.ndarray, key: Any, noise: str, num_patients: int
    ) -> tuple[Arguments, tuple[Target, ...]]:
        """The same, and the variables as targets of its gradient."""
        arguments = self._for_all(criterion, key, noise, num_patients)
        for variable, value in zip(self.variables, values, strict=True):
            target = variable.target
            if isinstance(target, Target):
                now = float(np.mean(target.value(arguments)))
                arguments = target.moved(arguments, np.asarray(value - now))
        if not self.terms:
            return arguments, tuple(v.target for v in self.variables)  # type: ignore[misc]
        return self._individual(arguments, values, key)

    def _for_all(self, criterion: Criterion, key: Any, noise: str, num_patients: int) -> Arguments:
        """The simulation with the regimen as it was given."""
        ids = np.arange(num_patients)
        inputs = self.inputs
        # Outcomes of one system belong to the same trajectories.
        system = self.benefit if self.is_one_system else criterion
        if callable(inputs):
            inputs = inputs(sample(self.covariates, key, ids))
        return Arguments(
            criterion.network,
            stops_of(self.horizon),
            key_words(noise_key(key, noise, system.name)),
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

    def _individual(
        self, arguments: Arguments, values: np.ndarray, key: Any
    ) -> tuple[Arguments, tuple[Target, ...]]:
        """Every patient's own doses, and the variables as numbers behind them."""
        pairs = list(zip(self.variables, map(float, values), strict=True))
        covariates = sample(self._covariates_of_terms, key, np.arange(arguments.num_patients))
        found = self._amounts(values, covariates)
        targets: list[Target] = []
        for variable, value in pairs:
            match variable.target:
                case DoseAmount(index=index) if index in found.amounts:
                    targets.append(found.amount_target(variable.name, index, value))
                case PolicyTerm() as term:
                    targets.append(found.term_target(variable.name, term, value, covariates))
                case target:
                    targets.append(target)  # type: ignore[arg-type]
        return found.given(arguments), tuple(targets)

    @property
    def _covariates_of_terms(self) -> dict[str, Distribution]:
        """What the policy looks at."""
        names = {term.covariate for term in self.terms}
        return {name: law for name, law in self._known.items() if name in names}

    def _amounts(self, values: np.ndarray, covariates: Covariates) -> IndividualAmounts:
        pairs = list(zip(self.variables, map(float, values), strict=True))
        bases = {
            v.target.index: (value, v.low, v.high)
            for v, value in pairs
            if isinstance(v.target, DoseAmount)
        }
        terms = [(v.target, value) for v, value in pairs if isinstance(v.target, PolicyTerm)]
        return individual_amounts(terms, bases, covariates)

    def dose_curves(self, values: np.ndarray) -> tuple[DoseCurve, ...]:
        """What the policy gives at numbers of the variables, (V,), by each of its covariates."""
        laws = self._covariates_of_terms
        names = {v.target.index: v.name for v in self.variables if isinstance(v.target, DoseAmount)}
        medians = {n: law.quantile(np.full_like(SHARES, 0.5)) for n, law in laws.items()}
        curves = []
        for name, law in laws.items():
            covariates = {**medians, name: law.quantile(SHARES)}
            moved = {d for term in self.terms if term.covariate == name for d in term.doses}
            amounts = self._amounts(values, covariates).amounts
            drawn = (SHARES, covariates[name])
            curves += [
                DoseCurve(name, names[d], *(tuple(map(float, x)) for x in (*drawn, amounts[d])))
                for d in sorted(moved)
            ]
        return tuple(curves)


def patients_key(seed: int, purpose: str) -> Any:
    """The key of a group of patients: those of one purpose are not those of another."""
    return named_key(jax.random.key(seed), "design", purpose)
