"""Expected outcomes as functions that JAX can differentiate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments, another_key
from engine.gradient.estimate import problem_of
from engine.gradient.martingale_critic import MartingaleCritic
from engine.gradient.outcome import Outcome
from engine.gradient.problem import Estimator, Problem
from engine.gradient.result import Gradient
from engine.gradient.targets import Target
from engine.kernel.tallies import Tally
from engine.network.network import ReactionNetwork

Point = Mapping[str, Any]


def expected(
    network: ReactionNetwork,
    estimator: Estimator,
    outcome: Outcome | Tally,
    wrt: str | Target | Sequence[str | Target],
    horizon: float | Sequence[float] | np.ndarray,
    *,
    key: Any,
    num_patients: int,
    refresh: int = 5,
    **simulation: Any,
) -> Callable[..., Array]:
    """E[outcome] as a function of the targets' values, differentiable by JAX.

    `jax.grad`, `jax.jit` and `jax.vmap` (over candidates) work on it, and so does any loss that
    calls it inside of an optax loop. The simulation runs on the host behind
    `jax.pure_callback`; its derivative is the estimator's gradient. Only first derivatives.

    Args:
        network, estimator, outcome, wrt, horizon, key, num_patients: as in
            `engine.gradient.estimate`.
        refresh: a `MartingaleCritic` learns a new belief at every so many-th call and reuses the
            last one in between, which stays unbiased; default 5.
        **simulation: further arguments of `engine.gradient.estimate` (`params`, `regimen`, ...);
            they say where everything stands that a point leaves as it is.

    Returns:
        A function `(point, step=0) -> E[outcome]`, a scalar. `point` maps labels (a parameter's
        name, `"amount of dose 0"`, ...) to scalars; `step` is a whole number that picks other
        randomness: pass the iteration, or leave it at 0 for the same random numbers every time.

    Raises:
        InvalidInput: as `engine.gradient.estimate`, at once for names and estimators.

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
        >>> mean = engine.gradient.expected(
        ...     network,
        ...     engine.gradient.MartingaleCritic(),
        ...     engine.FinalValue("X"),
        ...     "birth",
        ...     5.0,
        ...     key=jax.random.key(0),
        ...     num_patients=500,
        ... )
        >>> slope = jax.grad(lambda birth: mean({"birth": birth}))(10.0)
        >>> bool(abs(slope - 0.993) < 0.05)
        True
    """
    problem = problem_of(
        network, estimator, outcome, wrt, horizon, key=key, num_patients=num_patients, **simulation
    )
    if not isinstance(refresh, int) or refresh < 1:
        raise InvalidInput(f"refresh={refresh!r}: give a whole number of at least 1")
    host = _Host(problem, estimator, refresh)
    number = len(problem.targets)

    @jax.custom_jvp
    def value_of(vector: Array, step: Array) -> Array:
        shape = jax.ShapeDtypeStruct((), vector.dtype)
        return jax.pure_callback(host.value, shape, vector, step, vmap_method="sequential")

    @value_of.defjvp
    def value_and_tangent(primals: Any, tangents: Any) -> Any:
        vector, step = primals
        shapes = (
            jax.ShapeDtypeStruct((), vector.dtype),
            jax.ShapeDtypeStruct((number,), vector.dtype),
        )
        value, gradient = jax.pure_callback(
            host.value_and_gradient, shapes, vector, step, vmap_method="sequential"
        )
        return value, jnp.sum(gradient * tangents[0])

    def function(point: Point, step: Any = 0) -> Array:
        if set(point) != set(problem.labels):
            raise InvalidInput(
                f"the point has {sorted(point)}; give a value for each of {sorted(problem.labels)}"
            )
        numbers = [jnp.asarray(point[label]) for label in problem.labels]
        kind = jnp.result_type(float)
        vector = jnp.stack([one.astype(kind) for one in numbers])
        return value_of(vector, jnp.asarray(step, jnp.int32))

    return function


class _Host:
    """What the callbacks run; keeps the last belief of a critic."""

    def __init__(self, problem: Problem, estimator: Estimator, refresh: int) -> None:
        self.problem, self.estimator, self.refresh = problem, estimator, refresh
        self.critic: Any = None
        self.num_calls = 0

    def value(self, vector: np.ndarray, step: np.ndarray) -> np.ndarray:
        """E[outcome] alone."""
        arguments = self._at(vector, step)
        outcome = self.problem.outcome
        results = arguments.run({"outcome": outcome.tally}).tallies["outcome"]
        return np.asarray(outcome.values(results).mean(), np.asarray(vector).dtype)

    def value_and_gradient(
        self, vector: np.ndarray, step: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """E[outcome] and its gradient."""
        found = self._estimated(replace(self.problem, arguments=self._at(vector, step)))
        kind = np.asarray(vector).dtype
        return np.asarray(found.value, kind), found.gradient.astype(kind)

    def _estimated(self, problem: Problem) -> Gradient:
        if not isinstance(self.estimator, MartingaleCritic):
            return self.estimator.estimate(problem)
        is_stale = self.num_calls % self.refresh == 0
        self.num_calls += 1
        used = self.estimator if is_stale else MartingaleCritic(self.critic)
        found = used.estimate(problem)
        self.critic = found.critic
        return found

    def _at(self, vector: np.ndarray, step: np.ndarray) -> Arguments:
        arguments = self.problem.arguments
        for target, value in zip(self.problem.targets, np.asarray(vector, np.float64), strict=True):
            wanted = np.rint(value) if target.is_whole else value
            if not np.isfinite(wanted):
                raise InvalidInput(f"'{target.label}' is {wanted}; give a finite number")
            change = (wanted - np.mean(target.value(arguments))) / np.mean(
                target.weights(arguments)
            )
            arguments = target.moved(arguments, np.asarray(change))
        return replace(arguments, key=another_key(arguments.key, 7 + int(step)))
