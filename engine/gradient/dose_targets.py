"""Targets of doses: amount, time, an infusion's duration and rate, every patient's own doses."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from engine.dosing.dose import Dose
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.targets import Target


def with_doses(arguments: Arguments, index: int, changed: Callable[[int, Dose], Dose]) -> Arguments:
    """The arguments with one dose of every regimen replaced by a function of (regimen, dose)."""
    regimens = []
    pairs = zip(arguments.regimens, arguments.doses(index), strict=True)
    for position, (regimen, dose) in enumerate(pairs):
        assert isinstance(dose, Dose)
        doses = list(regimen.doses)
        doses[index] = changed(position, dose)
        regimens.append(Regimen(tuple(doses)))
    return arguments.with_regimens(regimens)


def _shifted(arguments: Arguments, index: int, name: str, change: np.ndarray) -> Arguments:
    """A number of one dose moved, for all patients alike or for each by their own change."""
    steps = np.asarray(change, np.float64)
    if steps.size > 1 and len(arguments.regimens) == 1:
        arguments = replace(arguments, regimen=arguments.regimens * steps.size)
    moves = np.broadcast_to(steps, (len(arguments.regimens),))

    def changed(row: int, dose: Dose) -> Dose:
        return replace(dose, **{name: getattr(dose, name) + float(moves[row])})

    return with_doses(arguments, index, changed)


def _doses(arguments: Arguments, index: int) -> list[Dose]:
    return [dose for dose in arguments.doses(index) if isinstance(dose, Dose)]


def _per_regimen(values: list[float]) -> np.ndarray:
    return np.asarray(values[0] if len(values) == 1 else values, np.float64)


def _infusion(arguments: Arguments, index: int, name: str) -> np.ndarray:
    """The duration or rate of an infusion.

    Raises:
        InvalidInput: the dose says it otherwise, or is a bolus.
    """
    values = [getattr(dose, name) for dose in _doses(arguments, index)]
    if any(value is None for value in values):
        raise InvalidInput(
            f"dose {index} has no {name}; give {name}= in Dose(...), which makes it an infusion"
        )
    return _per_regimen(values)


@dataclass(frozen=True)
class DoseAmount(Target):
    """The amount of a dose, and of its repetitions where it has `additional` ones.

    Args:
        index: its position in `Regimen([...])`, from 0.
    """

    index: int

    @property
    def label(self) -> str:
        """The dose."""
        return f"amount of dose {self.index}"

    def value(self, arguments: Arguments) -> np.ndarray:
        """The amount."""
        return _per_regimen([d.amount for d in _doses(arguments, self.index)])

    def size(self, arguments: Arguments) -> float:
        """The typical amount; the largest of all doses where that is 0."""
        if np.median(np.abs(self.value(arguments))) > 0:
            return super().size(arguments)
        amounts = [getattr(d, "amount", 0.0) for r in arguments.regimens for d in r.doses]
        return max(amounts) or 1.0

    def moved(self, arguments: Arguments, change: np.ndarray) -> Arguments:
        """Another amount."""
        return _shifted(arguments, self.index, "amount", change)


@dataclass(frozen=True)
class DoseTime(Target):
    """The time of a dose.

    Args:
        index: its position in `Regimen([...])`, from 0.
        reach: how far before and after the dose time is stretched by the time-warp score; default
            to the nearest other dose, the start or the horizon.
    """

    index: int
    reach: float | None = None

    @property
    def label(self) -> str:
        """The dose's time."""
        return f"time of dose {self.index}"

    def value(self, arguments: Arguments) -> np.ndarray:
        """The time."""
        return _per_regimen([d.time for d in _doses(arguments, self.index)])

    def moved(self, arguments: Arguments, change: np.ndarray) -> Arguments:
        """Another time."""
        return _shifted(arguments, self.index, "time", change)


@dataclass(frozen=True)
class DoseDuration(Target):
    """How long an infusion lasts, its amount given (a dose with `duration`).

    The level u of an infusion of A over D is linear in A / D, and its end moves with D:
    du/dD = (level after a bolus of A at the infusion's end - u) / D.

    Args:
        index: its position in `Regimen([...])`, from 0.

    Example:
        >>> DoseDuration(0).label
        'duration of dose 0'
    """

    index: int

    @property
    def label(self) -> str:
        """The infusion's duration."""
        return f"duration of dose {self.index}"

    def value(self, arguments: Arguments) -> np.ndarray:
        """The duration."""
        return _infusion(arguments, self.index, "duration")

    def moved(self, arguments: Arguments, change: np.ndarray) -> Arguments:
        """Another duration."""
        self.value(arguments)
        return _shifted(arguments, self.index, "duration", change)


@dataclass(frozen=True)
class DoseRate(Target):
    """The rate of an infusion, its amount given (a dose with `rate`, which lasts amount / rate).

    Args:
        index: its position in `Regimen([...])`, from 0.

    Example:
        >>> DoseRate(0).label
        'rate of dose 0'
    """

    index: int

    @property
    def label(self) -> str:
        """The infusion's rate."""
        return f"rate of dose {self.index}"

    def value(self, arguments: Arguments) -> np.ndarray:
        """The rate."""
        return _infusion(arguments, self.index, "rate")

    def moved(self, arguments: Arguments, change: np.ndarray) -> Arguments:
        """Another rate."""
        self.value(arguments)
        return _shifted(arguments, self.index, "rate", change)


@dataclass(frozen=True, eq=False)
class IndividualDoses(Target):
    """A number behind the amounts of doses that differ between patients, a policy's coefficient.

    Patient i's dose d moves by `factors_i * amounts_id` with the number theta:
    dE/dtheta = E[sum_d dE_i/dA_id factors_i amounts_id]. The patients have a regimen each.

    Args:
        name: what the number is called.
        number: its value.
        doses: positions of the doses in every `Regimen([...])`, from 0.
        amounts: not negative, (num_patients, number of doses).
        factors: of either sign, (num_patients,).

    Example:
        >>> IndividualDoses("exponent", 0.5, (0,), [[2.0], [3.0]], [0.1, -0.1]).label
        'exponent'
    """

    name: str
    number: float
    doses: tuple[int, ...]
    amounts: ArrayLike
    factors: ArrayLike
    is_signed = True

    @property
    def label(self) -> str:
        """Its name."""
        return self.name

    def value(self, arguments: Arguments) -> np.ndarray:
        """The number.

        Raises:
            InvalidInput: other numbers of patients or doses than the arguments have.
        """
        expected = (len(arguments.regimens), len(self.doses))
        if np.shape(self.amounts) != expected or np.shape(self.factors) != expected[:1]:
            raise InvalidInput(
                f"IndividualDoses('{self.name}') has amounts {np.shape(self.amounts)} and factors "
                f"{np.shape(self.factors)}; give (regimens, doses) = {expected} and {expected[:1]}"
            )
        return np.asarray(self.number, np.float64)

    def size(self, arguments: Arguments) -> float:
        """The change that moves a typical dose by as much as itself; 1 where none moves."""
        doses = zip(*(arguments.doses(index) for index in self.doses), strict=True)
        now = np.array([[getattr(dose, "amount", 0.0) for dose in row] for row in doses])
        per_unit = np.asarray(self.factors)[:, np.newaxis] * np.asarray(self.amounts)
        shares = per_unit[now > 0] / now[now > 0]
        typical = np.sqrt(np.mean(shares**2)) if shares.size else 0.0
        return float(1.0 / typical) if typical > 0 else 1.0

    def moved(self, arguments: Arguments, change: np.ndarray) -> Arguments:
        """Every patient's doses moved along; none below 0."""
        self.value(arguments)
        factors = np.asarray(self.factors, np.float64)
        factors = np.asarray(change, np.float64) * factors
        moves = factors[:, np.newaxis] * np.asarray(self.amounts, np.float64)
        for index, column in zip(self.doses, moves.T, strict=True):
            arguments = with_doses(arguments, index, _adding(column))
        return arguments

    def of_patients(self, rows: np.ndarray) -> Target:
        """The number behind some of the patients' doses."""
        amounts, factors = np.asarray(self.amounts)[rows], np.asarray(self.factors)[rows]
        return replace(self, amounts=amounts, factors=factors)


def _adding(moves: np.ndarray) -> Callable[[int, Dose], Dose]:
    """Every patient's dose with more of it, none below 0."""
    return lambda row, dose: replace(dose, amount=max(dose.amount + float(moves[row]), 0.0))
