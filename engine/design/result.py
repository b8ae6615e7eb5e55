"""The result of a therapy design."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from engine.design.policy import DoseCurve
from engine.design.verification import Estimate, Verification


@dataclass(frozen=True)
class Step:
    """One step of the optimiser.

    Attributes:
        values: the variables.
        benefit, risk: estimates there, and their standard errors.
        multiplier: price of the risk: shares of the benefit per share of the bound.
        num_patients: patients simulated.
    """

    values: tuple[float, ...]
    benefit: float
    benefit_error: float
    risk: float
    risk_error: float
    multiplier: float
    num_patients: int

    @staticmethod
    def of(plain: Mapping[str, Any]) -> "Step":
        """From a plain dictionary."""
        return Step(**{**plain, "values": tuple(plain["values"])})


@dataclass(frozen=True)
class Sensitivity:
    """What a variable does at the design, per unit of it.

    Attributes:
        benefit, risk: derivatives with standard errors.
    """

    benefit: float
    benefit_error: float
    risk: float
    risk_error: float


@dataclass(frozen=True)
class Point:
    """A point of the frontier: the design under another bound."""

    bound: float
    values: tuple[float, ...]
    verification: Verification


@dataclass(frozen=True)
class Alternative:
    """Another way to treat, designed under the same bound.

    Attributes:
        name: "2 doses", "one size for all", "subgroup 1 of 3 by weight".
        names, values: of its variables; empty where no design of it keeps the bound.
        verification: what it achieves, on the patients that it is for.
        gain: by how much the design's benefit is larger, on the same fresh patients; None where
            the patients are others.
        note: what a reader should know.
        shares: of a subgroup, the shares of the population between which it lies.
    """

    name: str
    names: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    verification: Verification | None = None
    gain: Estimate | None = None
    note: str = ""
    shares: tuple[float, float] | None = None


@dataclass(frozen=True)
class Design:
    """A therapy, and what it achieves on fresh patients.

    Attributes:
        names, units: of the variables.
        values: their numbers.
        verification: benefit and risk on patients that played no part in finding the design.
        start: the same where the optimiser began.
        path: the optimiser's steps.
        sensitivities: name -> derivatives of benefit and risk at the design.
        frontier: designs under other bounds, by bound.
        notes: what a reader should know.
        alternatives: other numbers of doses, one size for all, subgroups.
        num_trajectories: simulated in the search, verification apart.
        policy: of a dosing policy, the doses by its covariates.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    values: tuple[float, ...]
    verification: Verification
    start: Verification
    path: tuple[Step, ...]
    sensitivities: dict[str, Sensitivity]
    frontier: tuple[Point, ...] = ()
    notes: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    num_trajectories: int = 0
    policy: tuple[DoseCurve, ...] = ()

    def __getitem__(self, name: str) -> float:
        """A variable's number."""
        return self.values[self.names.index(name)]

    def contents(self) -> dict[str, Any]:
        """As plain dictionaries, for JSON."""
        found = asdict(self)
        checked = [(found["verification"], self.verification), (found["start"], self.start)]
        checked += [
            (p["verification"], q.verification)
            for p, q in zip(found["frontier"], self.frontier, strict=True)
        ]
        checked += [
            (p["verification"], q.verification)
            for p, q in zip(found["alternatives"], self.alternatives, strict=True)
            if q.verification is not None
        ]
        for plain, verification in checked:
            plain["violation"], plain["is_safe"] = verification.violation, verification.is_safe
        return found
