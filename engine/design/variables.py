"""What a designer may choose, and within which bounds."""

from dataclasses import dataclass

import numpy as np

from engine.design.policy import PolicyTerm
from engine.errors import InvalidInput
from engine.gradient.dose_targets import DoseTime
from engine.gradient.targets import Parameter, Target
from engine.network.quantities import check_number

# A start on a bound could not move: the transform is flat there.
MARGIN = 1e-3


@dataclass(frozen=True)
class Variable:
    r"""A number of the therapy between two bounds.

    The optimiser works on z in R: v = low + (high - low) s(z), s(z) = 1 / (1 + exp(-z)); where both
    bounds are positive the logarithm of v is what lies between theirs (not for times and terms of
    a policy).

    Args:
        target: the name of a parameter of the networks (an affinity), or `DoseAmount(0)`,
            `DoseTime(1)`, `DoseDuration(0)`, `PharmacokineticParameter("IL2", "clearance")`; or a
            term of a dosing policy, `Power("weight", 70.0)`.
        low, high: bounds, in the target's unit; low below high.
        start: where the optimiser begins; default the middle.
        name: what it is called; default the target's own name.
        unit: its unit, for reports.

    Raises:
        InvalidInput: bounds in the wrong order, a start outside of them.

    Example:
        >>> from engine.gradient import DoseAmount
        >>> dose = Variable(DoseAmount(0), 1.0, 100.0, name="dose", unit="nmol")
        >>> dose.start, dose.value(0.0)
        (10.0, 10.0)
    """

    target: str | Target | PolicyTerm
    low: float
    high: float
    start: float | None = None
    name: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        target = Parameter(self.target) if isinstance(self.target, str) else self.target
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "name", self.name or target.label)
        what = f"of the design variable '{self.name}'"
        for bound in ("low", "high"):
            number = check_number(f"{bound} {what}", getattr(self, bound), is_negative_allowed=True)
            object.__setattr__(self, bound, number)
        if not self.low < self.high:
            raise InvalidInput(f"low={self.low:g} {what} is not below high={self.high:g}")
        if self.start is None:
            object.__setattr__(self, "start", self.value(0.0))
        elif not self.low <= self.start <= self.high:
            raise InvalidInput(
                f"start={self.start:g} {what} is outside of {self.low:g} to {self.high:g}"
            )

    @property
    def is_logarithmic(self) -> bool:
        """Whether its logarithm lies between the bounds' logarithms."""
        return self.low > 0 and not isinstance(self.target, DoseTime | PolicyTerm)

    def value(self, z: float) -> float:
        """The number at a position z."""
        share = 1.0 / (1.0 + np.exp(-z))
        if self.is_logarithmic:
            return float(self.low * (self.high / self.low) ** share)
        return float(self.low + (self.high - self.low) * share)

    def slope(self, z: float) -> float:
        """dv/dz at a position."""
        share = 1.0 / (1.0 + np.exp(-z))
        bent = share * (1.0 - share)
        if self.is_logarithmic:
            return float(self.value(z) * np.log(self.high / self.low) * bent)
        return float((self.high - self.low) * bent)

    def position(self, value: float) -> float:
        """The z of a number, a little inside of the bounds."""
        if self.is_logarithmic:
            share = np.log(value / self.low) / np.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        share = np.clip(share, MARGIN, 1.0 - MARGIN)
        return float(np.log(share / (1.0 - share)))
