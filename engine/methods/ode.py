"""The deterministic method: reaction-rate equations in counts, with doses at exact times."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import InvalidInput
from engine.kinetics.drift import drift
from engine.methods import rate_equations
from engine.network.network import ReactionNetwork

Array = Any


@dataclass(frozen=True)
class ODE:
    """Reaction-rate equations by an implicit Runge-Kutta method of order 5 (Kvaerno5).

    Deterministic: no noise, no extinction, no bimodality. It is the mean of the exact process only
    for laws linear in the counts. Cost per step: one Jacobian and one LU factorisation (S^3).
    Use when counts are large, to look at a model first, or as the reference of the mean field.
    It cannot run events yet.

    Args:
        rtol: relative tolerance of a step; 1e-8.
        atol: absolute tolerance of a step, molecules; 1e-8.
        max_steps: largest number of steps between two doses; 1,000,000.

    References:
        Kvaerno 2004, BIT Numerical Mathematics 44:489; Kidger 2021, arXiv:2202.02435 (Diffrax).
    """

    rtol: float = 1e-8
    atol: float = 1e-8
    max_steps: int = 1_000_000

    def __post_init__(self) -> None:
        rate_equations.check_tolerances(self)


def integrate(
    method: ODE,
    network: ReactionNetwork,
    ts: np.ndarray,
    params: Mapping[str, Array],
    x0: np.ndarray,
    schedule: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the reaction-rate equations of every patient from time 0.

    Doses are given at their exact times; see `rate_equations.integrate`.

    Args:
        method: tolerances.
        network: the network, without events.
        ts: save times, increasing, first >= 0, float64 (T,).
        params: every or some of the parameters and compartments, scalars or (N,), by name.
        x0: state at time 0, (N, S): the species, and optionally behind them the variables that a
            rate rule changes (their initial values otherwise).
        schedule: a compiled `DosingSchedule`, its leading axis 1 (shared) or N; None where the
            network has no inputs and nothing is dosed.

    Returns:
        The values, float64 (N, T, S) in the order of `state_names(network)`, molecules; and a
        boolean (N,) that is False where the solver ran out of steps or left the finite numbers.

    Raises:
        InvalidInput: events, an input without a schedule, or arrays of the wrong shape.

    Example:
        >>> from engine.network.rate_laws import MassAction
        >>> from engine.network.reactions import Reaction
        >>> network = ReactionNetwork({"X": 100}, [Reaction("X -> 0", MassAction("k"))], {"k": 1.0})
        >>> values, is_ok = integrate(ODE(), network, np.array([0.0, 1.0]), {}, np.array([[100.0]]))
        >>> values[0, :, 0].round(4).tolist()
        [100.0, 36.7879]
    """
    if network.events:
        raise InvalidInput(
            f"{network.name} has event '{network.events[0].name}'; the ODE method does not run "
            "events yet: use engine.Direct(), or give doses as a regimen"
        )
    return rate_equations.integrate(method, drift, network, ts, params, x0, schedule)
