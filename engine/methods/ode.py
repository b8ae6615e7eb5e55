"""The deterministic method: reaction-rate equations in counts, with doses at exact times."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import lineax
import numpy as np

from engine.kernel.status import Status
from engine.kernel.tallies import Tally
from engine.kinetics.drift import drift, state_names
from engine.methods import ode_course, rate_equations
from engine.methods.ode_tallies import check_tallies, integrands
from engine.network.network import ReactionNetwork

Array = Any


@dataclass(frozen=True)
class ODE:
    """Reaction-rate equations by an implicit Runge-Kutta method of order 5 (Kvaerno5).

    Deterministic: no noise, no extinction, no bimodality. It is the mean of the exact process only
    for laws linear in the counts. Cost per step: one Jacobian and one LU factorisation (S^3).
    Use when counts are large, to look at a model first, or as the reference of the mean field.

    Doses, delayed executions and comparisons of time happen at their exact times. A comparison of
    the state, and the turn of an expression whose maximum or minimum is tallied, is seen where it
    differs between the ends of a step, and its time is then found to the solver's tolerance: what
    holds for less than one step can be missed, and a path that only touches a threshold is decided
    by the tolerance. Equal priorities are executed in the network's order, not at random.
    Time integrals are unknowns of the solver. Cannot: conditions that hold at single moments
    (`time == 3`), firing counts.

    Args:
        rtol: relative tolerance of a step; 1e-8.
        atol: absolute tolerance of a step, molecules; 1e-8.
        max_steps: largest number of steps between two stops; 1,000,000.

    References:
        Kvaerno 2004, BIT Numerical Mathematics 44:489; Kidger 2021, arXiv:2202.02435 (Diffrax).
    """

    rtol: float = 1e-8
    atol: float = 1e-8
    max_steps: int = 1_000_000

    def __post_init__(self) -> None:
        rate_equations.check_tolerances(self)

    def linear_solver(self, network: ReactionNetwork) -> lineax.AbstractLinearSolver:
        """Elimination."""
        return lineax.AutoLinearSolver(well_posed=None)


class Solution(NamedTuple):
    """The paths of N patients.

    Attributes:
        values: in the order of `state_names(network)`, (N, T, S) float64, molecules.
        status: of `Status`, (N,).
        tallies: by name, (N,).
    """

    values: np.ndarray
    status: np.ndarray
    tallies: dict[str, np.ndarray]


def integrate(
    method: ODE,
    network: ReactionNetwork,
    ts: np.ndarray,
    params: Mapping[str, Array],
    x0: np.ndarray,
    schedule: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the reaction-rate equations of every patient from time 0: `solve` without tallies.

    Returns:
        The values, float64 (N, T, S) in the order of `state_names(network)`, molecules; and a
        boolean (N,) that is False where the solver ran out of steps or left the finite numbers.

    Example:
        >>> from engine.network.rate_laws import MassAction
        >>> from engine.network.reactions import Reaction
        >>> network = ReactionNetwork({"X": 100}, [Reaction("X -> 0", MassAction("k"))], {"k": 1.0})
        >>> values, is_ok = integrate(ODE(), network, np.array([0.0, 1.0]), {}, np.array([[100.0]]))
        >>> values[0, :, 0].round(4).tolist()
        [100.0, 36.7879]
    """
    solution = solve(method, network, ts, params, x0, schedule)
    return solution.values, solution.status == Status.COMPLETE


def solve(
    method: ODE,
    network: ReactionNetwork,
    ts: np.ndarray,
    params: Mapping[str, Array],
    x0: np.ndarray,
    schedule: Any = None,
    tallies: Mapping[str, Tally] | None = None,
    is_trough_saved: bool = False,
) -> Solution:
    """Solve the reaction-rate equations of every patient from time 0.

    Doses are given at their exact times; see `rate_equations.integrate`.

    Args:
        method: tolerances.
        network: the network.
        ts: save times, increasing, first >= 0, float64 (T,).
        params: every or some of the parameters and compartments, scalars or (N,), by name.
        x0: state at time 0, (N, S): the species, and optionally behind them the variables that a
            rate rule or an event changes (their initial values otherwise).
        schedule: a compiled `DosingSchedule`, its leading axis 1 (shared) or N; None where the
            network has no inputs and nothing is dosed.
        tallies: path functionals by name.
        is_trough_saved: at the time of a dose or event save the state before it.

    Returns:
        A `Solution`.

    Raises:
        InvalidInput: a trigger or tally that cannot be followed, an input without a schedule, or
            arrays of the wrong shape.
    """
    given = dict(tallies or {})
    check_tallies(network, given)
    if not (network.events or given or is_trough_saved):
        found = rate_equations.integrate(method, drift, network, ts, params, x0, schedule)
        status = np.where(found[1], Status.COMPLETE, Status.SOLVER_FAILED)
        return Solution(found[0], status, {})
    kinds, num = tuple(given.values()), len(state_names(network))
    times = rate_equations.save_times(ts)
    rows = rate_equations.prepare_rows(
        network, params, x0, schedule, num_extra=len(integrands(kinds))
    )
    task = ode_course.Task(
        method,
        rate_equations.representative(network),
        rate_equations.entries(schedule),
        kinds,
        is_trough_saved,
    )
    values, status, results = rate_equations.in_chunks(
        partial(ode_course.solve_chunk, task, times), rows
    )
    return Solution(
        values[:, :, :num], status, {name: results[:, i] for i, name in enumerate(given)}
    )
