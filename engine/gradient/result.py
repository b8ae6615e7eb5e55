"""The result of an estimate."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Gradient:
    """An estimated expectation and its gradient.

    Attributes:
        value: E[outcome].
        value_standard_error: its standard error.
        names: what was differentiated with respect to, (P,).
        gradient: dE[outcome] / dp per unit of each, (P,).
        standard_errors: of the gradient, (P,).
        residual_variance_ratio: rho = Var(f - M) / Var(f) of a critic; 1 without one.
        estimator: which estimator made each component, (P,).
        notes: what a reader should know: steps chosen, biases estimated, choices and their reasons.
        num_trajectories: simulated for the estimate, pilots and fits included.
        critic: the belief that a `MartingaleCritic` used, which can be given to the next one.
    """

    value: float
    value_standard_error: float
    names: tuple[str, ...]
    gradient: np.ndarray
    standard_errors: np.ndarray
    residual_variance_ratio: float
    estimator: tuple[str, ...]
    notes: tuple[str, ...] = ()
    num_trajectories: int = 0
    critic: Any = None

    def __getitem__(self, name: str) -> float:
        """One component by its name."""
        return float(self.gradient[self.names.index(name)])

    def __str__(self) -> str:
        lines = [f"value {self.value:.6g} +- {self.value_standard_error:.2g}"]
        rows = zip(self.names, self.gradient, self.standard_errors, self.estimator, strict=True)
        lines += [f"d/d {name}: {g:.6g} +- {se:.2g} ({how})" for name, g, se, how in rows]
        if self.residual_variance_ratio != 1.0:
            lines.append(f"residual variance ratio {self.residual_variance_ratio:.3g}")
        return "\n".join([*lines, *self.notes])
