"""A time-varying input as a level and exponential modes: c(t) = level + sum_m A_m exp(-lambda_m t).

The *state* of an input is an array whose first entry is the level and whose others are the
amplitudes A_m. Time only decays the amplitudes; a dose only adds to the state. So the value, its
integral and its bounds over any window are closed forms, and a hundred doses cost what one does.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engine.errors import InvalidInput

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class ModalResponse:
    """What a unit of drug does to an input: direct delta(t) + F sum_m gain_m exp(-lambda_m t).

    Everything is float64; R is 1 (all patients alike) or the number of patients.

    Args:
        rates: decay rates lambda_m, per time, not negative, shape (n_modes, R).
        gains: value of each mode just after a unit bolus that reaches the body, in the input's
            unit per amount, shape (n_modes, R). They may have either sign.
        duration: time over which a bolus is absorbed at a constant rate, shape (R,); None (the
            default) absorbs it at once or, with first-order absorption, as the modes say.
        bioavailability: fraction F of every dose that reaches the body, in [0, 1], shape (R,);
            default 1.
        baseline: value without any dose, shape (R,); default 0.
        direct: value per unit of infusion rate that follows the infusion without delay, shape
            (R,); 1 for an input that *is* an infusion rate; default 0.
        like: the name of an input whose decay rates these are, so that a lane computes the
            exponentials once for both; default None.
        is_signed: values below 0 are meant, and not cut off as rounding; default False.

    Raises:
        InvalidInput: shapes that do not agree.

    Example:
        >>> drug = ModalResponse(rates=np.array([[0.5]]), gains=np.array([[2.0]]))
        >>> state = drug.start() + drug.bolus(10.0)
        >>> state.ravel()  # the level, then the mode
        array([ 0., 20.])
    """

    rates: Array
    gains: Array
    duration: Array | None = None
    bioavailability: Array = field(default_factory=lambda: np.ones(1))
    baseline: Array = field(default_factory=lambda: np.zeros(1))
    direct: Array = field(default_factory=lambda: np.zeros(1))
    like: str | None = None
    is_signed: bool = False

    def __post_init__(self) -> None:
        rates, gains = (np.asarray(a, np.float64) for a in (self.rates, self.gains))
        if rates.ndim != 2 or gains.ndim != 2 or rates.shape[0] != gains.shape[0]:
            raise InvalidInput(
                f"rates {rates.shape} and gains {gains.shape} of a modal response must both be "
                "(n_modes, patients)"
            )
        single = {
            name: np.atleast_1d(np.asarray(getattr(self, name), np.float64))
            for name in ("duration", "bioavailability", "baseline", "direct")
            if getattr(self, name) is not None
        }
        try:
            (num_rows,) = np.broadcast_shapes(
                rates.shape[1:], gains.shape[1:], *(array.shape for array in single.values())
            )
        except ValueError:
            raise InvalidInput("the parts of a modal response have different patients") from None
        for name, array in {"rates": rates, "gains": gains, **single}.items():
            full = np.broadcast_to(array, (*array.shape[:-1], num_rows))
            object.__setattr__(self, name, full)

    @property
    def num_modes(self) -> int:
        """Number of exponential modes."""
        return self.rates.shape[0]

    @property
    def num_rows(self) -> int:
        """1 where all patients are alike, otherwise the number of patients."""
        return self.rates.shape[1]

    @property
    def is_bolus_exact(self) -> bool:
        """A bolus is a jump of the amplitudes, so an event inside a simulation can give one."""
        return self.duration is None and self.num_modes > 0

    def response(self, num_patients: int) -> "ModalResponse":
        """Itself: a modal response can stand wherever pharmacokinetics are asked for."""
        if self.num_rows not in (1, num_patients):
            raise InvalidInput(
                f"a modal response for {self.num_rows} patients was given for {num_patients}"
            )
        return self

    def rows(self, indices: ArrayLike) -> "ModalResponse":
        """The response of some patients; one shared by all stays shared."""
        if self.num_rows == 1:
            return self
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        taken: dict[str, Any] = {
            name: array[..., indices] for name, array in given.items() if np.ndim(array)
        }
        return replace(self, **taken)

    def require_cleared(self, what: str) -> None:
        """Raise unless every mode decays: without that an infusion is a ramp.

        Raises:
            InvalidInput: a mode with rate 0 and a gain, naming `what`.
        """
        stuck = np.any((self.rates <= 0.0) & (self.gains != 0.0), axis=0)
        if stuck.any():
            patient = f" of patient {int(np.argmax(stuck))}" if self.num_rows > 1 else ""
            raise InvalidInput(
                f"{what}: the clearance{patient} is 0, and then an infusion or a steady state is a "
                "ramp, not a sum of exponentials; give a positive clearance, or boluses only"
            )

    def start(self) -> Array:
        """The state before any dose, shape (1 + n_modes, R): the baseline in the level."""
        state = np.zeros((1 + self.num_modes, self.num_rows))
        state[0] = self.baseline
        return state

    def bolus(self, amount: ArrayLike) -> Array:
        """What a bolus adds to the state: A_m += F gain_m amount.

        Args:
            amount: amounts, any shape whose last axis is 1 or R.

        Returns:
            Shape (1 + n_modes, *shape), the level first (unchanged, 0).
        """
        if np.any(self.direct):
            raise InvalidInput("an infusion rate cannot take a bolus; give a rate or a duration")
        amount = np.atleast_1d(np.asarray(amount, np.float64))
        added = self.bioavailability * amount * _along(self.gains, amount)
        return np.concatenate([np.zeros((1, *added.shape[1:])), added])

    def infusion(self, rate: ArrayLike) -> Array:
        """What the start of an infusion adds to the state; its end adds the negative.

        level += r (direct + F sum_m gain_m / lambda_m),  A_m -= r F gain_m / lambda_m.

        Args:
            rate: amounts per time r, any shape whose last axis is 1 or R.

        Returns:
            Shape (1 + n_modes, *shape), the level first.

        Raises:
            InvalidInput: a mode does not decay.
        """
        self.require_cleared("infusion")
        rate = np.atleast_1d(np.asarray(rate, np.float64))
        plateaus = self.bioavailability * rate * _along(self._areas(), rate)
        level = self.direct * rate + plateaus.sum(axis=0)
        return np.concatenate([level[np.newaxis], -plateaus])

    def steady_bolus(self, amount: ArrayLike, interval: ArrayLike) -> Array:
        """The state just after a bolus that has been given every `interval` since ever.

        A_m = F gain_m amount / (1 - exp(-lambda_m interval)); the level is 0 (add the baseline).
        """
        self.require_cleared("steady state")
        interval = np.atleast_1d(np.asarray(interval, np.float64))
        state = self.bolus(amount)
        state[1:] /= -np.expm1(-_along(self._positive_rates(), interval) * interval)
        return state

    def steady_infusion(self, rate: ArrayLike, duration: ArrayLike, interval: ArrayLike) -> Array:
        """The state just after the start of an infusion given every `interval` since ever.

        The finished infusions leave, with r the rate, d <= i the duration and the interval,
        A_m = r F gain_m / lambda_m (1 - exp(-lambda_m d)) exp(-lambda_m (i - d))
        / (1 - exp(-lambda_m i)), a form that cannot overflow; the one that starts is added.
        """
        state = self.infusion(rate)
        lasting, every = (np.atleast_1d(np.asarray(a, np.float64)) for a in (duration, interval))
        if np.any(lasting > every):
            raise InvalidInput("a steady-state infusion must be over before the next one starts")
        rates = _along(self._positive_rates(), every)
        past = np.expm1(-rates * lasting) / np.expm1(-rates * every)
        left = past * np.exp(-rates * (every - lasting))
        state[1:] *= 1.0 - left  # the started infusion has -r F gain / lambda
        return state

    def _positive_rates(self) -> Array:
        """The rates, with 1 for a mode that stands still (its gain is 0 where this is used)."""
        return np.where(self.rates > 0.0, self.rates, 1.0)

    def _areas(self) -> Array:
        return self.gains / self._positive_rates()


def _along(array: Array, like: Array) -> Array:
    """(n_modes, R) with axes put in so that it broadcasts against the trailing axes of `like`."""
    return array.reshape(array.shape[0], *(1,) * (like.ndim - 1), array.shape[1])
