"""`estimate`: the gradient of an expected outcome, by any estimator."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.dosing.pharmacokinetics import Pharmacokinetics
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments, stops_of
from engine.gradient.outcome import Outcome
from engine.gradient.problem import Estimator, Problem
from engine.gradient.result import Gradient
from engine.gradient.targets import Target, as_targets
from engine.kernel.tallies import Tally
from engine.methods.direct import Direct
from engine.network.network import ReactionNetwork
from engine.simulate import key_words


def estimate(
    network: ReactionNetwork,
    estimator: Estimator,
    outcome: Outcome | Tally,
    wrt: str | Target | Sequence[str | Target],
    horizon: float | Sequence[float] | np.ndarray,
    *,
    key: Any,
    num_patients: int,
    num_replicates: int = 1,
    params: Mapping[str, Any] | None = None,
    x0: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Pharmacokinetics] | None = None,
    regimen: Regimen | Sequence[Regimen] | None = None,
    start: float = 0.0,
    method: Direct | None = None,
) -> Gradient:
    """Estimate E[outcome] and its gradient through the exact stochastic simulation.

    Args:
        network: what reacts.
        estimator: `ScoreFunction()`, `MartingaleCritic()`, `CoupledDifference()`, ...; its options
            are its own.
        outcome: an `Outcome`, or a tally whose mean is meant.
        wrt: names of parameters, `InitialCount("X")`, `DoseAmount(0)`, `DoseTime(0)`,
            `PharmacokineticParameter("IL2", "clearance")`, `PopulationMean("k", ...)`.
        horizon: when trajectories end; or increasing times at which they also stop.
        key: `jax.random.key(seed)`.
        num_patients: number of patients; trajectories are these times the replicates.
        num_replicates, params, x0, inputs, regimen, start: as in `engine.simulate`.
        method: the exact method with its limits; default `Direct()`.

    Returns:
        The `Gradient`, per unit of each parameter.

    Raises:
        InvalidInput: an unknown name, a parameter without influence, an outcome that is never or
            always reached, an estimator that is not valid for the outcome.
        SimulationFailed: a trajectory did not reach the horizon.

    Example:
        >>> import engine, jax
        >>> network = engine.ReactionNetwork(
        ...     species={"X": 0},
        ...     parameters={"birth": 10.0, "death": 1.0},
        ...     reactions=[
        ...         engine.Reaction("0 -> X", engine.MassAction("birth")),
        ...         engine.Reaction("X -> 0", engine.MassAction("death")),
        ...     ],
        ... )
        >>> found = estimate(
        ...     network,
        ...     engine.gradient.ScoreFunction(),
        ...     engine.FinalValue("X"),
        ...     ["birth", "death"],
        ...     5.0,
        ...     key=jax.random.key(0),
        ...     num_patients=200,
        ... )
        >>> found.names
        ('birth', 'death')
    """
    problem = problem_of(
        network,
        estimator,
        outcome,
        wrt,
        horizon,
        key=key,
        num_patients=num_patients,
        num_replicates=num_replicates,
        params=params,
        x0=x0,
        inputs=inputs,
        regimen=regimen,
        start=start,
        method=method,
    )
    return estimator.estimate(problem)


def problem_of(
    network: ReactionNetwork,
    estimator: Estimator,
    outcome: Outcome | Tally,
    wrt: str | Target | Sequence[str | Target],
    horizon: float | Sequence[float] | np.ndarray,
    *,
    key: Any,
    num_patients: int,
    num_replicates: int = 1,
    params: Mapping[str, Any] | None = None,
    x0: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Pharmacokinetics] | None = None,
    regimen: Regimen | Sequence[Regimen] | None = None,
    start: float = 0.0,
    method: Direct | None = None,
) -> Problem:
    """The arguments of `estimate`, checked."""
    if not hasattr(estimator, "estimate"):
        raise InvalidInput(f"estimator {estimator!r} is none; give engine.gradient.ScoreFunction()")
    arguments = Arguments(
        network,
        stops_of(horizon),
        key_words(key),
        num_patients,
        num_replicates,
        None,
        dict(params or {}),
        dict(x0 or {}),
        dict(inputs or {}),
        regimen if regimen is not None else Regimen(),
        start,
        method or Direct(),
    )
    given = outcome if isinstance(outcome, Outcome) else Outcome(outcome)
    problem = Problem(arguments, given, as_targets(wrt))
    arguments.cohort()
    for target in problem.targets:
        target.value(arguments)
    return problem
