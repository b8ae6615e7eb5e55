"""The linear noise approximation: means and covariances from one differential equation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.kinetics.drift import (
    Drift,
    drift,
    environment,
    net_changes,
    reaction_rates,
    state_names,
)
from engine.methods import rate_equations
from engine.methods.lyapunov import MomentSolver, positions
from engine.network.network import ReactionNetwork

Array = Any


@dataclass(frozen=True)
class LinearNoise:
    r"""Means and covariances of molecule counts by the linear noise approximation.

    .. math:: dx/dt = V a(x, t), \quad dC/dt = J C + C J^T + V diag(a) V^T, \quad J = d(V a)/dx

    with V the net changes, a the macroscopic rates (the drift's own: c n^2 / 2 for a pair of equal
    molecules) and C(0) = 0: initial counts are known. A dose into a species moves the mean and
    leaves the covariance; drug levels enter analytically; a variable with a rate rule has no noise
    of its own and passes on what it receives.

    Exact for laws affine in the counts. Otherwise the relative error of the mean is of order
    1 / counts (the mean is the rate equations'), and so is that of the covariance.
    Use when counts are large and one state is stable: noise around a mean without sampling error,
    smooth in the parameters (likelihoods, gradients).
    Cannot: extinction, bimodality, noise-induced switching or oscillation, small counts, events,
    tallies. The distribution it means is a normal one.
    Cost per step: of order S^3 to S^4. The unknowns are the means and the upper triangle of the
    covariance, Y = S + S (S + 1) / 2 of them (1,325 for 50 species), but the linear systems of an
    implicit step are solved as a Lyapunov equation of the size of the means (see `lyapunov`), not
    by an elimination of order S^6. Affordable to about 50 species for a cohort, beyond that for a
    few patients; a gradient through it is one elimination (Y^3, Y^2 numbers) a stage of a step.

    Args:
        rtol: relative tolerance of a step; 1e-8.
        atol: absolute tolerance of a step, molecules (means) and molecules^2 (covariances); 1e-6.
            At 1e-8 vilar, whose covariances reach 5e6, did not end: rounding alone is larger.
        max_steps: largest number of steps between two doses; 1,000,000.

    Example:
        >>> import jax, engine
        >>> network = engine.ReactionNetwork(
        ...     species={"X": 0},
        ...     parameters={"birth": 10.0, "death": 0.1},
        ...     reactions=[
        ...         engine.Reaction("0 -> X", engine.MassAction("birth")),
        ...         engine.Reaction("X -> 0", engine.MassAction("death")),
        ...     ],
        ... )
        >>> ensemble = engine.simulate(
        ...     network, engine.LinearNoise(), [0.0, 200.0], key=jax.random.key(0)
        ... )
        >>> ensemble.values[0, -1].round(3).tolist(), ensemble.covariances[0, -1].round(3).tolist()
        ([100.0], [[100.0]])

    References:
        van Kampen, Stochastic Processes in Physics and Chemistry, chapter X; Elf and Ehrenberg
        2003, doi:10.1101/gr.1196503.
    """

    rtol: float = 1e-8
    atol: float = 1e-6
    max_steps: int = 1_000_000

    def __post_init__(self) -> None:
        rate_equations.check_tolerances(self)

    def linear_solver(self, network: ReactionNetwork) -> MomentSolver:
        """Elimination for the means, a Lyapunov equation for the covariances."""
        return MomentSolver(len(state_names(network)))


def integrate(
    method: LinearNoise,
    network: ReactionNetwork,
    ts: np.ndarray,
    params: Mapping[str, Array],
    x0: np.ndarray,
    schedule: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve the means and covariances of every patient from time 0.

    Args:
        method: tolerances.
        network: the network, without events.
        ts: save times, increasing, first >= 0, float64 (T,).
        params: every or some of the parameters and compartments, scalars or (N,), by name.
        x0: counts at time 0, (N, S); see `ode.integrate`.
        schedule: a compiled `DosingSchedule`, or None; see `ode.integrate`.

    Returns:
        Means (N, T, S), molecules, and covariances (N, T, S, S), molecules^2, float64, in the
        order of `state_names(network)`; and a boolean (N,) that is False where the solver failed
        or a variance became negative (a rate law that is negative somewhere).

    Raises:
        InvalidInput: events, an input without a schedule, or arrays of the wrong shape.

    Example:
        >>> from engine.network.rate_laws import MassAction
        >>> from engine.network.reactions import Reaction
        >>> network = ReactionNetwork({"X": 100}, [Reaction("X -> 0", MassAction("k"))], {"k": 1.0})
        >>> ts, x0 = np.array([0.0, 1.0]), np.array([[100.0]])
        >>> means, covariances, is_ok = integrate(LinearNoise(), network, ts, {}, x0)
        >>> means[0, :, 0].round(4).tolist(), covariances[0, :, 0, 0].round(4).tolist()
        ([100.0, 36.7879], [0.0, 23.2544])
    """
    if network.events:
        raise InvalidInput(
            f"{network.name} has event '{network.events[0].name}'; the linear noise approximation "
            "runs no events: use engine.Direct(), or give doses as a regimen"
        )
    num = len(state_names(network))
    values, is_ok = rate_equations.integrate(
        method, moment_equations, network, ts, params, x0, schedule, num * (num + 1) // 2
    )
    means, covariances = values[..., :num], values[..., num:][..., positions(num)]
    # Rounding and the solver's tolerance leave small negative variances; a rate that is negative
    # leaves large ones.
    variances = np.diagonal(covariances, axis1=2, axis2=3)
    slack = 1e-3 + 1e-6 * np.abs(means)
    return means, covariances, is_ok & ~np.any(variances < -slack, axis=(1, 2))


def moment_equations(network: ReactionNetwork) -> Drift:
    """The right-hand side of the means and the covariances.

    Args:
        network: the network; its events are no part of it.

    Returns:
        A function `(t, y, params, inputs) -> dy/dt` as the drift's, y of shape (S + S (S + 1) / 2,)
        the means and behind them the upper triangle of the covariances, row by row.
    """
    num = len(state_names(network))
    upper, where = np.triu_indices(num), positions(num)
    mean_drift, changes = drift(network), net_changes(network)
    environment_of, rates_of = environment(network), reaction_rates(network)

    def derivative(
        t: Array, y: Array, params: Mapping[str, Array], inputs: Mapping[str, Array]
    ) -> Array:
        x, covariance = y[:num], y[num:][where]

        def slope(x: Array) -> Array:
            return mean_drift(t, x, params, inputs)

        v = jnp.asarray(changes, y.dtype)
        rates = rates_of(environment_of(t, x, params, inputs), y.dtype)
        drawn = jnp.dot(jax.jacfwd(slope)(x), covariance, precision="highest")
        noise = jnp.dot(v * rates[None, :], v.T, precision="highest")
        return jnp.concatenate([slope(x), (drawn + drawn.T + noise)[upper]])

    return derivative
