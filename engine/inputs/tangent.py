"""How an input changes with a number that its modes depend on: its tangent, as an input itself.

    c(s) = level + sum_m A_m exp(-lambda_m s),
    c'(s) = level' + sum_m (A'_m - A_m lambda'_m s) exp(-lambda_m s)

The tangent takes the doses of the input. Its modes A'_m stand beside the input's own A_m and decay
with them (`InputLayout.tangents`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from engine.inputs.modes import ModalResponse

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class ModalTangent:
    """What a dose does to the tangent of an input: to its level' and A'_m, and lambda'.

    All are differences of float64 numbers of two responses, (higher - lower) * scale. Its methods
    are those of `ModalResponse`.

    Args:
        higher: the response under a number a little higher.
        lower: the response under a number a little lower.
        scale: 1 over their distance, one number or one per patient.
        like: the name of the input.

    Example:
        >>> def drug(clearance):
        ...     return ModalResponse(np.array([[clearance / 2]]), np.array([[0.5]]))
        >>> tangent = ModalTangent(drug(1.001), drug(0.999), np.array([500.0]), "drug")
        >>> tangent.slopes.round(6), tangent.bolus(3.0).ravel()
        (array([[0.5]]), array([0., 0.]))
    """

    higher: ModalResponse
    lower: ModalResponse
    scale: Array
    like: str

    is_signed = True
    # Events do not dose it.
    is_bolus_exact = False

    @property
    def num_modes(self) -> int:
        """Number of modes, those of the input."""
        return self.higher.num_modes

    @property
    def num_rows(self) -> int:
        """1 where all patients are alike, otherwise the number of patients."""
        return max(self.higher.num_rows, self.lower.num_rows, self.scale.size)

    @property
    def duration(self) -> Array | None:
        """The input's zero-order absorption; its own tangent would move its end."""
        return self.higher.duration

    @property
    def rates(self) -> Array:
        """The input's decay rates, (n_modes, R)."""
        return (self.higher.rates + self.lower.rates) / 2.0

    @property
    def slopes(self) -> Array:
        """How the decay rates change, lambda'_m, (n_modes, R)."""
        return self._difference(lambda response: response.rates)

    @property
    def baseline(self) -> Array:
        """How the value without any dose changes, (R,)."""
        return self._difference(lambda response: response.baseline)

    @property
    def direct(self) -> Array:
        """How the value per infusion rate changes, (R,)."""
        return self._difference(lambda response: response.direct)

    def response(self, num_patients: int) -> "ModalTangent":
        """Itself."""
        self.higher.response(num_patients)
        return self

    def rows(self, indices: ArrayLike) -> "ModalTangent":
        """The tangent of some patients; one shared by all stays shared."""
        scale = self.scale if self.scale.size == 1 else np.take(self.scale, np.asarray(indices))
        higher, lower = self.higher.rows(indices), self.lower.rows(indices)
        return replace(self, higher=higher, lower=lower, scale=scale)

    def require_cleared(self, what: str) -> None:
        """Raise unless every mode decays."""
        self.higher.require_cleared(what)

    def start(self) -> Array:
        """The state before any dose."""
        return self._difference(lambda response: response.start())

    def bolus(self, amount: ArrayLike) -> Array:
        """What a bolus adds to the state."""
        return self._difference(lambda response: response.bolus(amount))

    def infusion(self, rate: ArrayLike) -> Array:
        """What the start of an infusion adds to the state."""
        return self._difference(lambda response: response.infusion(rate))

    def steady_bolus(self, amount: ArrayLike, interval: ArrayLike) -> Array:
        """The state just after a bolus given every `interval` since ever."""
        return self._difference(lambda response: response.steady_bolus(amount, interval))

    def steady_infusion(self, rate: ArrayLike, duration: ArrayLike, interval: ArrayLike) -> Array:
        """The state just after the start of an infusion given every `interval` since ever."""
        return self._difference(lambda r: r.steady_infusion(rate, duration, interval))

    def _difference(self, part: Callable[[ModalResponse], Array]) -> Array:
        return np.asarray(self.scale * (part(self.higher) - part(self.lower)))
