"""Compartmental pharmacokinetics: how a dose becomes a concentration, as exponential modes.

The central concentration after a unit bolus, directly or through a first-order depot, is

    c(t) = q / V sum_r n(r) / prod_{s != r} (s - r) exp(-r t)

over the rates r: the compartments' own, and ka with absorption (then q = ka, else q = 1), with
n(r) = 1 for one compartment and n(r) = k21 - r for two. This is a divided difference, so it stays
finite as rates meet, but its terms do not: `_spread` keeps ka off the other rates.
"""

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from engine.errors import InvalidInput
from engine.inputs.modes import ModalResponse

Array = np.ndarray

# Half the smallest logarithmic distance of ka to another rate. Rates moved apart by +-d around
# their geometric mean change the concentration by at most 0.36 d^2 of its peak (9e-6 here) and
# its integral not at all; three that meet move by +-2 d, at four times the error. The amplitudes
# are 1 / (2 d) times the concentration, so a lane's float32 rounding has about the same size.
SPREAD = 5e-3


class Pharmacokinetics(Protocol):
    """Anything that gives the modal response of an input."""

    def response(self, num_patients: int) -> ModalResponse:
        """The response for this many patients."""
        ...


@dataclass(frozen=True, eq=False)
class FirstOrder:
    """Absorption at a rate proportional to what is left in the depot.

    Args:
        rate: ka, per time, positive; a number or one per patient.
    """

    rate: ArrayLike

    def __post_init__(self) -> None:
        rate = _numbers("absorption rate", self.rate, is_zero_allowed=False)
        object.__setattr__(self, "rate", rate)


@dataclass(frozen=True, eq=False)
class ZeroOrder:
    """Absorption at a constant rate: a bolus acts as an infusion over `duration`.

    Args:
        duration: time until a dose is absorbed, positive; a number or one per patient.
    """

    duration: ArrayLike

    def __post_init__(self) -> None:
        duration = _numbers("absorption duration", self.duration, is_zero_allowed=False)
        object.__setattr__(self, "duration", duration)


Absorption = FirstOrder | ZeroOrder | float | Array | None


@dataclass(frozen=True, eq=False)
class OneCompartment:
    """dc/dt = -(clearance / volume) c + absorbed / volume: a well-mixed body.

    Every number may be one per patient, shape (N,). Units: time is the network's, concentration
    is the dose's amount unit per volume unit, and must be the input's unit.

    Args:
        clearance: volume cleared per time, not negative.
        volume: volume of distribution, positive.
        absorption: None (the default) puts doses into the central compartment; a number is a
            first-order rate ka (per time); or `FirstOrder(rate)`, `ZeroOrder(duration)`.
        bioavailability: fraction of every dose that reaches the body, in [0, 1]; default 1.
        baseline: endogenous concentration that is always added; default 0.

    Raises:
        InvalidInput: a number outside these ranges; naming it and the patient.

    Where ka is within 1% of the elimination rate both are moved to 1% apart about their geometric
    mean: the concentration changes by less than 1e-5 of its peak, its integral not at all.

    Example:
        >>> drug = OneCompartment(clearance=2.0, volume=10.0)
        >>> drug.response(1).rates
        array([[0.2]])
    """

    clearance: ArrayLike
    volume: ArrayLike
    absorption: Absorption = None
    bioavailability: ArrayLike = 1.0
    baseline: ArrayLike = 0.0

    def __post_init__(self) -> None:
        _check_compartment(self)

    @classmethod
    def from_micro_constants(
        cls,
        volume: ArrayLike,
        k10: ArrayLike,
        *,
        absorption: Absorption = None,
        bioavailability: ArrayLike = 1.0,
        baseline: ArrayLike = 0.0,
    ) -> "OneCompartment":
        """From the elimination rate k10 = clearance / volume (per time).

        Example:
            >>> OneCompartment.from_micro_constants(volume=10.0, k10=0.2).clearance
            array([2.])
        """
        volume, k10 = _numbers("volume", volume, is_zero_allowed=False), _numbers("k10", k10)
        return cls(_together("k10", k10, volume), volume, absorption, bioavailability, baseline)

    def response(self, num_patients: int) -> ModalResponse:
        """The modal response, R = 1 where no argument is per patient."""
        _check_lengths(self, num_patients)
        return _response(self, [np.asarray(self.clearance) / np.asarray(self.volume)], None)


@dataclass(frozen=True, eq=False)
class TwoCompartment:
    """A central compartment that exchanges with a peripheral one; doses and effect are central.

    V1 dc1/dt = -CL c1 - Q (c1 - c2) + absorbed,  V2 dc2/dt = Q (c1 - c2).

    Every number may be one per patient, shape (N,); units as in `OneCompartment`.

    Args:
        clearance: CL, volume cleared per time from the central compartment, not negative.
        volume: V1, of the central compartment, positive.
        intercompartmental_clearance: Q, volume exchanged per time, positive.
        peripheral_volume: V2, positive.
        absorption: as in `OneCompartment`.
        bioavailability: as in `OneCompartment`.
        baseline: as in `OneCompartment`.

    Raises:
        InvalidInput: a number outside these ranges; naming it and the patient.

    Where ka is within 1% of a rate of the two compartments, see `OneCompartment`; where all three
    rates are that close the error is less than 4e-5 of the peak.

    Example:
        >>> drug = TwoCompartment(1.0, 3.0, intercompartmental_clearance=0.5, peripheral_volume=4.0)
        >>> drug.response(1).num_modes
        2
    """

    clearance: ArrayLike
    volume: ArrayLike
    intercompartmental_clearance: ArrayLike
    peripheral_volume: ArrayLike
    absorption: Absorption = None
    bioavailability: ArrayLike = 1.0
    baseline: ArrayLike = 0.0

    def __post_init__(self) -> None:
        _check_compartment(self)
        for name in ("intercompartmental_clearance", "peripheral_volume"):
            numbers = _numbers(name.replace("_", " "), getattr(self, name), is_zero_allowed=False)
            object.__setattr__(self, name, numbers)

    @classmethod
    def from_micro_constants(
        cls,
        volume: ArrayLike,
        k10: ArrayLike,
        k12: ArrayLike,
        k21: ArrayLike,
        *,
        absorption: Absorption = None,
        bioavailability: ArrayLike = 1.0,
        baseline: ArrayLike = 0.0,
    ) -> "TwoCompartment":
        """From k10 = CL / V1, k12 = Q / V1 and k21 = Q / V2 (per time).

        Example:
            >>> drug = TwoCompartment.from_micro_constants(3.0, k10=0.1, k12=0.2, k21=0.1)
            >>> drug.peripheral_volume
            array([6.])
        """
        volume = _numbers("volume", volume, is_zero_allowed=False)
        k21 = _numbers("k21", k21, is_zero_allowed=False)
        clearance = _together("k10", _numbers("k10", k10), volume)
        exchange = _together("k12", _numbers("k12", k12, is_zero_allowed=False), volume)
        peripheral = _together("k21", 1.0 / k21, exchange)
        return cls(clearance, volume, exchange, peripheral, absorption, bioavailability, baseline)

    def response(self, num_patients: int) -> ModalResponse:
        """The modal response, R = 1 where no argument is per patient."""
        _check_lengths(self, num_patients)
        exchange, volume = np.asarray(self.intercompartmental_clearance), np.asarray(self.volume)
        k10, k12 = np.asarray(self.clearance) / volume, exchange / volume
        k21 = exchange / np.asarray(self.peripheral_volume)
        total = k10 + k12 + k21
        # (k10 + k12 + k21)^2 - 4 k10 k21 written as a sum of squares, which cannot cancel. The two
        # rates meet only where the exchange vanishes; a distance of 1e-7 costs 1e-14 there.
        root = np.sqrt((k10 + k12 - k21) ** 2 + 4.0 * k12 * k21)
        fast = (total + np.maximum(root, 1e-7 * total)) / 2.0
        return _response(self, [fast, k10 * k21 / fast], k21)


@dataclass(frozen=True, eq=False)
class ConstantLevel:
    """An input that stays where it is: an endogenous or clamped level. It takes no doses.

    Args:
        value: the level in the input's unit, not negative; a number or one per patient.

    Example:
        >>> ConstantLevel(5.0).response(1).baseline
        array([5.])
    """

    value: ArrayLike

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _numbers("level", self.value))

    def response(self, num_patients: int) -> ModalResponse:
        """A response without modes."""
        nothing = np.zeros((0, 1))
        _check_lengths(self, num_patients)
        return ModalResponse(nothing, nothing, baseline=np.asarray(self.value))


@dataclass(frozen=True)
class InfusionRate:
    """An input that is the rate of the infusions given into it, amount per time, without delay.

    This is how molecules are infused into a species: the rate drives a reaction `0 -> species`.

    Example:
        >>> InfusionRate().response(1).infusion(3.0)
        array([[3.]])
    """

    def response(self, num_patients: int) -> ModalResponse:
        """A response without modes whose level is the rate."""
        nothing = np.zeros((0, 1))
        return ModalResponse(nothing, nothing, direct=np.ones(1))


def _numbers(what: str, given: ArrayLike, *, is_zero_allowed: bool = True) -> Array:
    """Finite non-negative float64 numbers, shape (1,) or (N,)."""
    try:
        numbers = np.atleast_1d(np.asarray(given, np.float64))
    except (TypeError, ValueError):
        raise InvalidInput(f"{what} is {given!r}; give a number, or one per patient") from None
    if numbers.ndim != 1 or numbers.size == 0:
        raise InvalidInput(f"{what} has shape {numbers.shape}; give a number, or one per patient")
    is_bad = ~np.isfinite(numbers) | (numbers < 0.0) | ((numbers == 0.0) & (not is_zero_allowed))
    if is_bad.any():
        patient = int(np.argmax(is_bad))
        where = f" for patient {patient}" if numbers.size > 1 else ""
        needed = "not negative" if is_zero_allowed else "positive"
        raise InvalidInput(f"{what} is {numbers[patient]:g}{where}; it must be finite and {needed}")
    return numbers


def _together(what: str, first: Array, second: Array) -> Array:
    """The product, where both are one number or one per patient."""
    if first.size != second.size and 1 not in (first.size, second.size):
        raise InvalidInput(
            f"{what} and the other numbers are for {first.size} and {second.size} patients"
        )
    return first * second


def _check_compartment(model: OneCompartment | TwoCompartment) -> None:
    checked = {
        "clearance": _numbers("clearance", model.clearance),
        "volume": _numbers("volume", model.volume, is_zero_allowed=False),
        "bioavailability": _numbers("bioavailability", model.bioavailability),
        "baseline": _numbers("baseline", model.baseline),
    }
    if np.any(checked["bioavailability"] > 1.0):
        largest = checked["bioavailability"].max()
        raise InvalidInput(f"bioavailability is {largest:g}; it is a fraction, at most 1")
    absorption = model.absorption
    if absorption is not None and not isinstance(absorption, FirstOrder | ZeroOrder):
        absorption = FirstOrder(absorption)
    for name, numbers in {**checked, "absorption": absorption}.items():
        object.__setattr__(model, name, numbers)


def _check_lengths(
    model: OneCompartment | TwoCompartment | ConstantLevel, num_patients: int
) -> None:
    """Raise unless every argument is one number or one per patient."""
    arguments = {f.name: getattr(model, f.name) for f in fields(model)}
    match arguments.get("absorption"):
        case FirstOrder(rate=numbers) | ZeroOrder(duration=numbers):
            arguments["absorption"] = numbers
    for name, numbers in arguments.items():
        if numbers is not None and np.size(numbers) not in (1, num_patients):
            raise InvalidInput(
                f"{name} of {type(model).__name__} has {np.size(numbers)} numbers for "
                f"{num_patients} patients; give one, or one per patient"
            )


def _response(
    model: OneCompartment | TwoCompartment, own: list[Array], k21: Array | None
) -> ModalResponse:
    """The response with the compartments' own rates; the formula is the module's."""
    absorption, rates, scale = model.absorption, own, 1.0 / np.asarray(model.volume)
    if isinstance(absorption, FirstOrder):
        ka = np.asarray(absorption.rate)
        rates, scale = _spread(own, ka), scale * ka
    gains = []
    for i, rate in enumerate(rates):
        gain = scale if k21 is None else scale * (k21 - rate)
        for other in (*rates[:i], *rates[i + 1 :]):
            gain = gain / (other - rate)
        gains.append(gain)
    return ModalResponse(
        np.stack(np.broadcast_arrays(*rates)),
        np.stack(np.broadcast_arrays(*gains)),
        duration=np.asarray(absorption.duration) if isinstance(absorption, ZeroOrder) else None,
        bioavailability=np.asarray(model.bioavailability),
        baseline=np.asarray(model.baseline),
    )


def _spread(own: list[Array], ka: Array) -> list[Array]:
    """The compartments' rates and ka, where ka is too close to some moved apart.

    Moving close rates symmetrically leaves a divided difference unchanged to first order, and
    keeping their product leaves the integral of the concentration unchanged exactly.
    """
    rates = np.stack(np.broadcast_arrays(*own, ka))
    with np.errstate(divide="ignore"):
        logs = np.log(rates)
    is_close = np.abs(logs - logs[-1]) < 2.0 * SPREAD  # with itself, so always one
    count = is_close.sum(axis=0)
    middle = np.where(is_close, logs, 0.0).sum(axis=0) / count
    # Close rates keep their order: the k-th smallest of n moves to middle + (2 k - n + 1) SPREAD.
    order = np.argsort(np.argsort(np.where(is_close, logs, np.inf), axis=0, kind="stable"), axis=0)
    moved = np.exp(middle + (2 * order - count + 1) * SPREAD)
    # By size: as ka passes another rate every mode changes continuously (`ModalTangent`).
    return list(np.sort(np.where(is_close & (count > 1), moved, rates), axis=0))
