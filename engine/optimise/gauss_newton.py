"""Gauss-Newton in a trust region with bounds: first choice for likelihoods of equations."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from engine.errors import InvalidInput
from engine.optimise.objective import Local, Objective
from engine.optimise.secant import secant_update
from engine.optimise.status import FitStatus

Array = Any
_LEAST_RADIUS = 1e-9
_PATIENCE = 4
_BISECTIONS = 50
_REFINEMENTS = 3


class State(NamedTuple):
    """One start."""

    point: Array  # the best so far, (P,)
    value: Array
    status: Array
    num_steps: Array
    gradient: Array
    curvature: Array
    secant: Array  # what the curvature leaves out of the Hessian, (P, P)
    has_secant: Array  # whether the model of the objective counts it in
    candidate: Array  # evaluated by the next step
    predicted: Array  # what the candidate should gain
    length: Array  # of the move to the candidate, in widths of the bounds
    radius: Array  # longest move allowed, in widths of the bounds
    idle: Array  # accepted steps in a row that gained next to nothing


@dataclass(frozen=True)
class GaussNewton:
    r"""Newton's method on the expected curvature, within a trust region and the bounds.

    .. math:: \min_s g^T s + s^T H s / 2, \quad |s / w| \le r, \quad l \le z + s \le u

    with H the Fisher information of a likelihood (J^T J of least squares), w the width of the
    bounds on the transformed scale, and r the radius, which grows where the model of the objective
    predicts well and shrinks where it does not. Where residuals are large, H misses the curvature
    of the predictions: a secant part S, learnt from changes of the gradient, is added while H + S
    foretells gains better than H alone. Without it steps across a valley overshoot, the radius
    shrinks and progress along the valley stops. The sphere is exact (by the eigenvalues of H + S);
    the bounds are met by holding what would leave them and solving again for the rest. One
    evaluation a step. Use first for anything with a curvature; first-order methods are slow in
    the narrow valleys of reaction kinetics.

    Args:
        max_steps: evaluations of a start; 300.
        gain_tolerance: a gain below this, relative to 1 + |value|, four times in a row, means
            convergence; 1e-7.
        gradient_tolerance: largest entry of the projected gradient at convergence; 1e-6.
        radius: of the trust region at the start, times sqrt(P); 0.1.

    References:
        More and Sorensen 1983, doi:10.1137/0904038; Dennis, Gay and Welsch 1981,
        doi:10.1145/355958.355965 (secant part, choice between models); Froehlich and Sorger 2022,
        doi:10.1371/journal.pcbi.1010322 (Fisher information for models of this kind).
    """

    max_steps: int = 300
    gain_tolerance: float = 1e-7
    gradient_tolerance: float = 1e-6
    radius: float = 0.1

    def __post_init__(self) -> None:
        for name in ("max_steps", "gain_tolerance", "gradient_tolerance", "radius"):
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
            secant=jnp.zeros((num, num), point.dtype),
            has_secant=jnp.asarray(False),
            candidate=point,
            predicted=zero,
            length=zero,
            radius=jnp.asarray(self.radius * num**0.5, point.dtype),
            idle=whole,
        )

    def step(self, objective: Objective, state: State) -> State:
        """Evaluate the candidate, keep it or not, propose the next."""
        local = objective.local(state.candidate)
        is_first = state.num_steps == 0
        is_finite = jnp.isfinite(local.value) & jnp.all(jnp.isfinite(local.gradient))
        is_better = is_finite & ((local.value < state.value) | is_first)
        gain = jnp.where(is_first, jnp.inf, state.value - local.value)
        state = _learnt(state, local, is_better & ~is_first, gain)
        state = self._taken(state, local, is_better, gain, is_first)
        state, projected = self._proposed(objective, state)
        is_flat = jnp.max(jnp.abs(projected)) <= self.gradient_tolerance
        # Nothing to gain inside the region: an optimum. Nothing, or a loss, at its rim or at a
        # bound: the region is too wide for the bounds, and a smaller one follows the gradient.
        least = 1e-13 * (1.0 + jnp.abs(state.value))
        is_spent = (jnp.abs(state.predicted) <= least) & (state.length < 0.8 * state.radius)
        is_lost = (state.predicted <= least) & ~is_spent
        state = state._replace(radius=jnp.where(is_lost, 0.25 * state.radius, state.radius))
        cases = [
            (is_first & ~is_finite, FitStatus.NOT_FINITE),
            (is_flat | is_spent | (state.idle >= _PATIENCE), FitStatus.CONVERGED),
            (state.radius < _LEAST_RADIUS, FitStatus.STALLED),
            (state.num_steps >= self.max_steps, FitStatus.OUT_OF_STEPS),
        ]
        status = jnp.select(
            [case for case, _ in cases],
            [jnp.asarray(int(status), jnp.int32) for _, status in cases],
            jnp.asarray(int(FitStatus.RUNNING), jnp.int32),
        )
        return state._replace(status=status)

    def _taken(
        self, state: State, local: Local, is_better: Array, gain: Array, is_first: Array
    ) -> State:
        """The better of the point and the candidate, and the radius that follows."""
        ratio = jnp.where(jnp.isfinite(gain), gain / jnp.maximum(state.predicted, 1e-300), -1.0)
        is_good, is_long = ratio > 0.75, state.length > 0.8 * state.radius
        longest = len(state.point) ** 0.5
        radius = jnp.where(
            ratio < 0.25, 0.25 * jnp.minimum(state.length, state.radius), state.radius
        )
        radius = jnp.where(is_good & is_long, jnp.minimum(2.0 * state.radius, longest), radius)
        # A gain that the radius kept small says nothing about the optimum.
        is_little = (gain <= self.gain_tolerance * (1.0 + jnp.abs(state.value))) & ~is_long
        one = jnp.ones((), jnp.int32)
        idle = jnp.where(is_better, jnp.where(is_little, state.idle + one, 0), state.idle)
        return state._replace(
            point=jnp.where(is_better, state.candidate, state.point),
            value=jnp.where(is_better, local.value, state.value),
            gradient=jnp.where(is_better, local.gradient, state.gradient),
            curvature=jnp.where(is_better, local.curvature, state.curvature),
            num_steps=state.num_steps + one,
            radius=jnp.where(is_first, state.radius, radius),
            idle=idle.astype(jnp.int32),
        )

    def _proposed(self, objective: Objective, state: State) -> tuple[State, Array]:
        """The state with its next candidate, and the projected gradient."""
        lower, upper = (jnp.asarray(b, state.point.dtype) for b in objective.space.bounds)
        width = jnp.where(jnp.isfinite(upper - lower), upper - lower, 10.0)
        point, gradient = state.point, state.gradient
        curvature = state.curvature + jnp.where(state.has_secant, state.secant, 0.0)
        is_held = ((point <= lower) & (gradient > 0)) | ((point >= upper) & (gradient < 0))
        projected = jnp.where(is_held, 0.0, gradient)
        move = jnp.zeros_like(point)
        for _ in range(_REFINEMENTS):
            # What is held moves to its bound; the rest answers to that.
            fixed = jnp.where(is_held, move, 0.0)
            slope = jnp.where(is_held, 0.0, gradient + curvature @ fixed) * width
            free = jnp.where(is_held, 0.0, width)
            bent = curvature * free[:, None] * free[None, :]
            wanted = fixed + width * _in_sphere(slope, bent, state.radius)
            goal = point + wanted
            is_held = is_held | (goal < lower) | (goal > upper)
            move = jnp.clip(goal, lower, upper) - point
        predicted = -(gradient @ move + 0.5 * move @ (curvature @ move))
        return state._replace(
            candidate=jnp.clip(point + move, lower, upper),
            predicted=predicted,
            length=jnp.linalg.norm(move / width),
        ), projected


def _learnt(state: State, local: Local, is_better: Array, gain: Array) -> State:
    """The secant part after a move, and whether the model with it foretold the gain better."""
    move, change = state.candidate - state.point, local.gradient - state.gradient
    plain = -(state.gradient @ move + 0.5 * move @ (state.curvature @ move))
    augmented = plain - 0.5 * move @ (state.secant @ move)
    is_closer = jnp.abs(augmented - gain) < jnp.abs(plain - gain)
    updated = secant_update(state.secant, move, change, local.curvature)
    return state._replace(
        secant=jnp.where(is_better, updated, state.secant),
        has_secant=jnp.where(jnp.isfinite(gain), is_closer, state.has_secant),
    )


def _in_sphere(gradient: Array, curvature: Array, radius: Array) -> Array:
    """The minimum of a quadratic within a sphere, (P,), by the eigenvalues of its curvature."""
    sizes, vectors = jnp.linalg.eigh(curvature)
    along = vectors.T @ gradient
    # Beyond the most negative curvature the shifted quadratic is convex.
    least = 1e-14 * jnp.maximum(jnp.max(jnp.abs(sizes)), 1e-30) + 1e-300
    floor = jnp.maximum(-sizes[0], 0.0)

    def length(shift: Array) -> Array:
        return jnp.linalg.norm(along / (sizes + floor + shift))

    # The shift that makes the move as long as the radius lies below |g| / radius.
    most = jnp.maximum(jnp.linalg.norm(along) / radius, least)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = jnp.sqrt(low * high)
        is_long = length(middle) > radius
        return jnp.where(is_long, middle, low), jnp.where(is_long, high, middle)

    _, shift = jax.lax.fori_loop(0, _BISECTIONS, halve, (least, most))
    shift = jnp.where(length(least) <= radius, least, shift)
    return -(vectors @ (along / (sizes + floor + shift)))
