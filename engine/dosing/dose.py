"""Doses: how much, when, where, how fast, how often."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engine.errors import InvalidInput
from engine.network.quantities import check_name, check_number


@dataclass(frozen=True)
class Dose:
    """An amount given into an input (a drug) or a species, once or repeatedly.

    The words of mrgsolve and NONMEM: `time` TIME, `amount` AMT, `into` CMT, `rate` RATE,
    `interval` II, `additional` ADDL, `is_steady_state` SS. A dose with `rate` or `duration` is an
    infusion at a constant rate, one without is a bolus. Doses at time t, t + interval, ...,
    t + additional * interval are given.

    Args:
        amount: how much, in the amount unit of the pharmacokinetics (or molecules, whole ones for
            a bolus into a species); not negative, 0 is a placebo.
        time: when, in the network's time unit, not negative; default 0.
        into: name of the input or species that receives it.
        rate: amount per time of an infusion, which lasts amount / rate; default a bolus.
        duration: how long an infusion lasts, instead of `rate`.
        interval: time between repetitions.
        additional: how many more doses follow the first; default 0.
        is_steady_state: the same dose has been given every `interval` since ever: the drug's
            level at `time` is the periodic one, and what was there before is forgotten.

    Raises:
        InvalidInput: a negative or non-finite number, both rate and duration, repetition without
            an interval, a steady-state infusion longer than the interval.

    Example:
        >>> weekly = Dose(30.0, into="tocilizumab", duration=1.0, interval=168.0, additional=3)
        >>> [dose.time for dose in weekly.expanded()]
        [0.0, 168.0, 336.0, 504.0]

    Where it differs from NONMEM: bioavailability below 1 lowers the rate at which an infusion
    reaches the body, and leaves its duration.
    """

    amount: float
    time: float = 0.0
    into: str = field(kw_only=True)
    rate: float | None = field(default=None, kw_only=True)
    duration: float | None = field(default=None, kw_only=True)
    interval: float | None = field(default=None, kw_only=True)
    additional: int = field(default=0, kw_only=True)
    is_steady_state: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_name("dose target", self.into)
        what = f"of the dose into '{self.into}'"
        for name in ("amount", "time"):
            object.__setattr__(self, name, check_number(f"{name} {what}", getattr(self, name)))
        for name in ("rate", "duration", "interval"):
            if getattr(self, name) is not None:
                number = check_number(f"{name} {what}", getattr(self, name))
                if number == 0.0:
                    raise InvalidInput(
                        f"{name} {what} is 0; give a positive {name} or leave it out"
                    )
                object.__setattr__(self, name, number)
        if self.rate is not None and self.duration is not None:
            raise InvalidInput(f"the dose into '{self.into}' has a rate and a duration; give one")
        additional = check_number(f"additional {what}", self.additional)
        if additional != int(additional):
            raise InvalidInput(f"additional {what} is {additional:g}; give a whole number of doses")
        object.__setattr__(self, "additional", int(additional))
        _check_repetition(self)

    @property
    def infusion_duration(self) -> float | None:
        """How long the infusion lasts, amount / rate or `duration`; None for a bolus."""
        return self.duration if self.rate is None else self.amount / self.rate

    def expanded(self) -> list["Dose"]:
        """The doses one by one, in time; only the first can be a steady-state dose."""
        first = replace(
            self, additional=0, interval=self.interval if self.is_steady_state else None
        )
        later = replace(first, is_steady_state=False, interval=None)
        every = self.interval or 0.0
        times = (self.time + every * k for k in range(1, self.additional + 1))
        return [first, *(replace(later, time=time) for time in times)]


@dataclass(frozen=True)
class Reset:
    """Every input goes back to its baseline and running infusions stop (NONMEM's EVID 3).

    The network's state, its species and variables, is not reset. Doses at the same time are given
    after the reset.

    Args:
        time: when, in the network's time unit; not negative.

    Example:
        >>> Reset(24.0).time
        24.0
    """

    time: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", check_number("time of a reset", self.time))

    def expanded(self) -> Sequence["Reset"]:
        """Itself, once."""
        return [self]


def _check_repetition(dose: Dose) -> None:
    what = f"the dose into '{dose.into}'"
    if dose.additional and dose.interval is None:
        raise InvalidInput(
            f"{what} has additional={dose.additional} without an interval; give interval="
        )
    if not dose.is_steady_state:
        return
    if dose.interval is None:
        raise InvalidInput(
            f"{what} is at steady state without an interval; give interval= (a steady state of a "
            "constant infusion is an infusion that started long before)"
        )
    lasting = dose.infusion_duration
    if lasting is not None and lasting > dose.interval:
        raise InvalidInput(
            f"{what} is at steady state and lasts {lasting:g}, longer than its interval "
            f"{dose.interval:g}; infusions at steady state may not overlap"
        )
