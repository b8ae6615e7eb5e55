r"""Dosing policies: from what is known of a patient to the patient's doses.

.. math:: A_i = A\, \exp\Big(\sum_k \theta_k \varphi_k(c_i)\Big), \quad low \le A_i \le high

A is the amount of a dose, a variable with bounds, which keep every patient's dose; theta_k are
variables too. A power law of a covariate, (c_i / reference)^theta, has phi = log(c / reference), an
exponential one phi = c - reference. All theta 0 is one dose for all.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.dosing.dose import Dose
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.dose_targets import DoseAmount, IndividualDoses
from engine.gradient.targets import Target
from engine.network.network import hint
from engine.network.quantities import check_number

Covariates = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PolicyTerm(ABC):
    """A coefficient theta of a dosing policy, and what it multiplies.

    Args:
        covariate: what is known of a patient: a covariate of the problem, or a parameter in the
            population of its benefit or risk (looked up in this order).
        reference: the covariate at which the term changes nothing, in its unit.
        doses: positions of the doses that it changes, from 0.

    Raises:
        InvalidInput: no dose, or a reference that is not a number (of a power: not positive).
    """

    covariate: str
    reference: float
    doses: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        check_number(f"reference of '{self.covariate}'", self.reference, is_negative_allowed=True)
        object.__setattr__(self, "doses", tuple(self.doses))
        if not self.doses:
            raise InvalidInput(f"{self.label}: no doses; give the positions of those it changes")

    @property
    @abstractmethod
    def label(self) -> str:
        """What it is called."""

    @abstractmethod
    def feature(self, covariate: np.ndarray) -> np.ndarray:
        """phi of every patient, (N,)."""


@dataclass(frozen=True)
class Power(PolicyTerm):
    """The exponent of (covariate / reference); see `PolicyTerm`.

    Example:
        >>> Power("weight", 70.0).feature(np.array([70.0])).tolist()
        [0.0]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reference > 0:
            raise InvalidInput(f"{self.label}: reference={self.reference:g}; give a positive one")

    @property
    def label(self) -> str:
        """The covariate's exponent."""
        return f"exponent of {self.covariate}"

    def feature(self, covariate: np.ndarray) -> np.ndarray:
        """log(c / reference)."""
        if np.any(covariate <= 0):
            raise InvalidInput(
                f"{self.label}: '{self.covariate}' is {covariate.min():.3g} for a patient; a power "
                "needs positive numbers, give Exponential(...)"
            )
        return np.asarray(np.log(covariate / self.reference))


@dataclass(frozen=True)
class Exponential(PolicyTerm):
    """The slope of log dose in (covariate - reference); see `PolicyTerm`.

    Example:
        >>> Exponential("burden", 2.0).feature(np.array([3.0])).tolist()
        [1.0]
    """

    @property
    def label(self) -> str:
        """The covariate's slope."""
        return f"slope of {self.covariate}"

    def feature(self, covariate: np.ndarray) -> np.ndarray:
        """c - reference."""
        return np.asarray(covariate - self.reference)


@dataclass(frozen=True, eq=False)
class IndividualAmounts:
    """Every patient's doses under a policy.

    Attributes:
        amounts: position of a dose -> (N,), within its bounds.
        is_inside: position of a dose -> whether the bounds leave it free, (N,).
    """

    amounts: Mapping[int, np.ndarray]
    is_inside: Mapping[int, np.ndarray]

    def given(self, arguments: Arguments) -> Arguments:
        """The arguments with a regimen for every patient."""
        doses = list(arguments.regimens[0].doses)
        rows = []
        for i in range(arguments.num_patients):
            own = list(doses)
            for index, amounts in self.amounts.items():
                dose = doses[index]
                assert isinstance(dose, Dose)
                own[index] = replace(dose, amount=float(amounts[i]))
            rows.append(Regimen(tuple(own)))
        return replace(arguments, regimen=tuple(rows))

    def amount_target(self, name: str, index: int, base: float) -> Target:
        """The dose at the references, behind every patient's."""
        moved = np.where(self.is_inside[index], self.amounts[index] / base, 0.0)
        return IndividualDoses(name, base, (index,), moved[:, np.newaxis], np.ones(len(moved)))

    def term_target(
        self, name: str, term: PolicyTerm, theta: float, covariates: Covariates
    ) -> Target:
        """A coefficient behind every patient's doses."""
        moved = [np.where(self.is_inside[d], self.amounts[d], 0.0) for d in term.doses]
        feature = term.feature(covariates[term.covariate])
        return IndividualDoses(name, theta, term.doses, np.stack(moved, axis=1), feature)


@dataclass(frozen=True)
class DoseCurve:
    """What a policy gives by one covariate, the others at their medians: for reports.

    Attributes:
        covariate: its name.
        dose: name of the variable that is the dose at the references.
        shares: of the population below each point.
        covariates, amounts: the points.
    """

    covariate: str
    dose: str
    shares: tuple[float, ...]
    covariates: tuple[float, ...]
    amounts: tuple[float, ...]


def individual_amounts(
    terms: Sequence[tuple[PolicyTerm, float]],
    bases: Mapping[int, tuple[float, float, float]],
    covariates: Covariates,
) -> IndividualAmounts:
    """The doses of patients under a policy.

    Args:
        terms: with their coefficients.
        bases: position of a dose -> amount at the references, lowest, highest.
        covariates: name -> (N,).
    """
    logs: dict[int, np.ndarray] = {}
    for term, theta in terms:
        feature = theta * term.feature(covariates[term.covariate])
        for index in term.doses:
            logs[index] = logs.get(index, 0.0) + feature
    amounts, is_inside = {}, {}
    for index, change in logs.items():
        base, low, high = bases[index]
        # Far beyond either bound the exponential would overflow.
        free = base * np.exp(np.clip(change, -50.0, 50.0))
        amounts[index] = np.clip(free, low, high)
        is_inside[index] = (free > low) & (free < high)
    return IndividualAmounts(amounts, is_inside)


def check_terms(
    terms: Sequence[PolicyTerm], targets: Sequence[object], known: Sequence[str]
) -> None:
    """Every term's covariate is known, and its doses have bounds.

    Raises:
        InvalidInput: naming the term and what to give.
    """
    bounded = {target.index for target in targets if isinstance(target, DoseAmount)}
    for term in terms:
        if term.covariate not in known:
            raise InvalidInput(
                f"{term.label}: nothing is known of '{term.covariate}'"
                f"{hint(term.covariate, known)}; give its distribution in the population"
            )
        missing = sorted(set(term.doses) - bounded)
        if missing:
            raise InvalidInput(
                f"{term.label}: the amount of dose {missing[0]} is not a variable; make it one, "
                "its bounds keep every patient's dose"
            )
