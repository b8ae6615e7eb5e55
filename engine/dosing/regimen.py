"""Regimens: everything one patient is given."""

from collections.abc import Iterable
from dataclasses import dataclass

from engine.dosing.dose import Dose, Reset
from engine.errors import InvalidInput


@dataclass(frozen=True)
class Regimen:
    """The doses (and resets) of a patient, in any order; regimens add up.

    Args:
        doses: `Dose` and `Reset` objects, or a single one.

    Raises:
        InvalidInput: anything else.

    Example:
        >>> loading = Regimen(Dose(800.0, into="drug"))
        >>> maintenance = Regimen.repeated(400.0, into="drug", every=24.0, num_doses=2, start=24.0)
        >>> [(dose.time, dose.amount) for dose in (loading + maintenance).expanded()]
        [(0.0, 800.0), (24.0, 400.0), (48.0, 400.0)]
    """

    doses: tuple[Dose | Reset, ...] = ()

    def __post_init__(self) -> None:
        given = (self.doses,) if isinstance(self.doses, Dose | Reset) else self.doses
        if not isinstance(given, Iterable):
            raise InvalidInput(f"{given!r} is not a Dose; give Regimen([Dose(...), ...])")
        doses = tuple(given)
        for dose in doses:
            if not isinstance(dose, Dose | Reset):
                raise InvalidInput(f"{dose!r} is not a Dose; give Regimen([Dose(...), ...])")
        object.__setattr__(self, "doses", doses)

    def __add__(self, other: "Regimen") -> "Regimen":
        """Both regimens given together."""
        if not isinstance(other, Regimen):
            return NotImplemented
        return Regimen(self.doses + other.doses)

    def expanded(self) -> list[Dose | Reset]:
        """Elementary doses in time; at one time resets, then steady states, then others."""
        elementary = [one for dose in self.doses for one in dose.expanded()]
        return sorted(elementary, key=lambda one: (one.time, _rank(one)))

    @staticmethod
    def repeated(
        amount: float,
        *,
        into: str,
        every: float,
        num_doses: int,
        start: float = 0.0,
        duration: float | None = None,
    ) -> "Regimen":
        """The same dose at start, start + every, ...: `num_doses` in all.

        Args:
            amount: amount of each dose.
            into: input or species that receives it.
            every: time between doses, positive.
            num_doses: how many, at least 1.
            start: time of the first; default 0.
            duration: how long each is infused; default a bolus.

        Example:
            >>> regimen = Regimen.repeated(2.0, into="drug", every=8.0, num_doses=3)
            >>> [dose.time for dose in regimen.expanded()]
            [0.0, 8.0, 16.0]
        """
        if num_doses < 1:
            raise InvalidInput(f"num_doses is {num_doses}; give at least 1, or an empty Regimen()")
        dose = Dose(
            amount,
            start,
            into=into,
            duration=duration,
            interval=every,
            additional=num_doses - 1,
        )
        return Regimen((dose,))

    @staticmethod
    def infusion(amount: float, *, into: str, duration: float, time: float = 0.0) -> "Regimen":
        """One infusion of `amount` at a constant rate over `duration` from `time`.

        Example:
            >>> Regimen.infusion(10.0, into="drug", duration=2.0).expanded()[0].infusion_duration
            2.0
        """
        return Regimen((Dose(amount, time, into=into, duration=duration),))


def _rank(one: Dose | Reset) -> int:
    if isinstance(one, Reset):
        return 0
    return 1 if one.is_steady_state else 2
