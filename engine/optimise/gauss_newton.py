"""Gauss-Newton with damping and bounds: the optimiser of choice for likelihoods of equations."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from engine.errors import InvalidInput
from engine.optimise.objective import Local, Objective
from engine.optimise.status import FitStatus

Array = Any
_MOST_DAMPED = 1e12
_PATIENCE = 3


class State(NamedTuple):
    """One start."""

    point: Array  # the best so far, (P,)
    value: Array
    status: Array
    num_steps: Array
    gradient: Array
    curvature: Array
    candidate: Array  # evaluated by the next step
    predicted: Array  # what the candidate should gain
    damping: Array
    growth: Array
    idle: Array  # accepted steps in a row that gained next to nothing


@dataclass(frozen=True)
class GaussNewton:
    r"""Levenberg's and Marquardt's method on the expected curvature, projected on the bounds.

    .. math:: (H + \lambda\, diag(H)) s = -g, \quad z' = clip(z + s)

    over the parameters that are not held at a bound by their gradient; H is the Fisher information
    for likelihoods (Gauss-Newton for least squares). A step is accepted where it improves, and
    the damping follows the ratio of the achieved gain and the predicted one (Nielsen 1999). One
    evaluation a step. Use first for anything with a curvature; first-order methods are slow on
    the narrow valleys of reaction kinetics.

    Args:
        max_steps: evaluations of a start; 200.
        gain_tolerance: a gain below this, relative to 1 + |value|, three times in a row, means
            convergence; 1e-9.
        gradient_tolerance: largest entry of the projected gradient at convergence; 1e-6.
        damping: lambda at the start; 0.1.
        reach: longest step of a parameter, as a share of its bounds' distance; 0.2.

    References:
        Marquardt 1963, doi:10.1137/0111030; Kanzow, Yamashita, Fukushima 2004,
        doi:10.1016/j.cam.2004.02.013 (bounds).
    """

    max_steps: int = 200
    gain_tolerance: float = 1e-9
    gradient_tolerance: float = 1e-6
    damping: float = 0.1
    reach: float = 0.2

    def __post_init__(self) -> None:
        for name in ("max_steps", "gain_tolerance", "gradient_tolerance", "damping", "reach"):
            if not getattr(self, name) > 0:
                value = getattr(self, name)
                raise InvalidInput(f"GaussNewton {name} is {value}; give a positive number")

    def start(self, objective: Objective, point: Array) -> State:
        """The state before the first evaluation."""
        del objective
        num = len(point)
        zero, whole = jnp.zeros((), point.dtype), jnp.zeros((), jnp.int32)
        return State(
            point=point,
            value=jnp.asarray(jnp.inf, point.dtype),
            status=whole,
            num_steps=whole,
            gradient=jnp.zeros(num, point.dtype),
            curvature=jnp.eye(num, dtype=point.dtype),
            candidate=point,
            predicted=zero,
            damping=jnp.asarray(self.damping, point.dtype),
            growth=jnp.asarray(2.0, point.dtype),
            idle=whole,
        )

    def step(self, objective: Objective, state: State) -> State:
        """Evaluate the candidate, keep it or not, propose the next."""
        local = objective.local(state.candidate)
        is_first = state.num_steps == 0
        is_finite = jnp.isfinite(local.value) & jnp.all(jnp.isfinite(local.gradient))
        gain = state.value - local.value
        is_better = is_finite & ((gain > 0) | is_first)
        state = self._taken(state, local, is_better, jnp.where(is_first, jnp.inf, gain), is_first)
        candidate, predicted, projected = self._proposed(objective, state)
        size = 1.0 + jnp.abs(state.value)
        is_flat = jnp.max(jnp.abs(projected)) <= self.gradient_tolerance
        is_idle = (state.idle >= _PATIENCE) | (predicted <= 1e-14 * size)
        cases = [
            (is_first & ~is_finite, FitStatus.NOT_FINITE),
            (is_flat | (is_idle & (state.damping < 1.0)), FitStatus.CONVERGED),
            (state.damping > _MOST_DAMPED, FitStatus.STALLED),
            (is_idle, FitStatus.CONVERGED),
            (state.num_steps >= self.max_steps, FitStatus.OUT_OF_STEPS),
        ]
        status = jnp.select(
            [case for case, _ in cases],
            [jnp.asarray(int(status), jnp.int32) for _, status in cases],
            jnp.asarray(int(FitStatus.RUNNING), jnp.int32),
        )
        return state._replace(candidate=candidate, predicted=predicted, status=status)

    def _taken(
        self, state: State, local: Local, is_better: Array, gain: Array, is_first: Array
    ) -> State:
        ratio = gain / jnp.maximum(state.predicted, 1e-300)
        eased = jnp.maximum(1.0 / 3.0, 1.0 - (2.0 * jnp.minimum(ratio, 1.0) - 1.0) ** 3)
        damping = jnp.where(is_better, state.damping * eased, state.damping * state.growth)
        damping = jnp.where(is_first, state.damping, jnp.maximum(damping, 1e-12))
        is_little = gain <= self.gain_tolerance * (1.0 + jnp.abs(state.value))
        one = jnp.ones((), jnp.int32)
        idle = jnp.where(is_better, jnp.where(is_little, state.idle + one, 0), state.idle)
        return state._replace(
            point=jnp.where(is_better, state.candidate, state.point),
            value=jnp.where(is_better, local.value, state.value),
            gradient=jnp.where(is_better, local.gradient, state.gradient),
            curvature=jnp.where(is_better, local.curvature, state.curvature),
            num_steps=state.num_steps + one,
            damping=damping,
            growth=jnp.where(is_better, 2.0, state.growth * 2.0).astype(state.growth.dtype),
            idle=idle.astype(jnp.int32),
        )

    def _proposed(self, objective: Objective, state: State) -> tuple[Array, Array, Array]:
        """The next candidate, the gain it should bring, and the projected gradient."""
        lower, upper = (jnp.asarray(b, state.point.dtype) for b in objective.space.bounds)
        point, gradient = state.point, state.gradient
        is_held = ((point <= lower) & (gradient > 0)) | ((point >= upper) & (gradient < 0))
        free = jnp.where(is_held, 0.0, 1.0).astype(point.dtype)
        projected = gradient * free
        curvature = state.curvature * free[:, None] * free[None, :]
        diagonal = jnp.diag(curvature)
        floor = 1e-8 * jnp.max(diagonal) + 1e-30
        damped = curvature + jnp.diag(state.damping * jnp.maximum(diagonal, floor) + 1.0 - free)
        move = -jnp.linalg.solve(damped, projected)
        width = jnp.where(jnp.isfinite(upper - lower), upper - lower, 10.0)
        excess = jnp.max(jnp.abs(move) / (self.reach * width))
        move = move / jnp.maximum(excess, 1.0)
        candidate = jnp.clip(point + jnp.where(jnp.isfinite(move), move, 0.0), lower, upper)
        taken = candidate - point
        predicted = -(gradient @ taken + 0.5 * taken @ (state.curvature @ taken))
        return candidate, predicted, projected
