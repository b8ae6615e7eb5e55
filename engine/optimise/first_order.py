"""First-order optimisers of optax: Adam and its kin, and L-BFGS with a line search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from engine.optimise.objective import Objective
from engine.optimise.status import FitStatus

Array = Any


# A line search compares values; this stands for one that is not finite.
_WORST = 1e30


class State(NamedTuple):
    """One start."""

    point: Array  # the best so far, (P,)
    value: Array
    status: Array
    num_steps: Array
    current: Array  # where the next step begins, (P,)
    inner: Any  # the state of optax
    last_gain: Array  # step of the last improvement


@dataclass(frozen=True)
class FirstOrder:
    """Any gradient transformation of optax, projected on the bounds.

    Schedules are those of optax. Many cheap steps; for stochastic gradients and for smooth
    objectives without a curvature. On the narrow valleys of reaction kinetics `GaussNewton` needs
    a hundredth of the steps.

    Args:
        make: makes the transformation, such as `lambda: optax.adamw(schedule)`; Adam with a
            cosine schedule by default.
        max_steps: gradient evaluations of a start; 2,000.
        patience: steps without an improvement after which a start ends; 200.
        gain_tolerance: what counts as an improvement, relative to 1 + |value|; 1e-9.

    References:
        Kingma and Ba 2015, arXiv:1412.6980.
    """

    make: Callable[[], optax.GradientTransformation] | None = None
    max_steps: int = 2_000
    patience: int = 200
    gain_tolerance: float = 1e-9

    @property
    def transformation(self) -> optax.GradientTransformation:
        """The transformation of gradients."""
        if self.make is not None:
            return self.make()
        return optax.adam(optax.cosine_decay_schedule(0.05, self.max_steps))

    def start(self, objective: Objective, point: Array) -> State:
        """The state before the first evaluation."""
        del objective
        return _fresh(point, self.transformation.init(point))

    def step(self, objective: Objective, state: State) -> State:
        """One gradient step."""
        value, gradient = jax.value_and_grad(objective.value)(state.current)
        is_finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        safe = jnp.where(is_finite, gradient, 0.0)
        with _optax_types():
            updates, inner = self.transformation.update(safe, state.inner, state.current)
        lower, upper = (jnp.asarray(b, value.dtype) for b in objective.space.bounds)
        moved = jnp.clip(state.current + updates, lower, upper)
        # Where the objective ended, back half the way to the best point.
        current = jnp.where(is_finite, moved, 0.5 * (state.current + state.point))
        return _judged(self, state, state.current, value, is_finite, current, inner)


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS with a zoom line search (optax), for smooth objectives without a curvature.

    Bounds enter by a sigmoid of every parameter that has two finite ones.

    Args:
        memory: pairs kept; 10.
        max_steps: line searches of a start; 500.
        patience: steps without an improvement after which a start ends; 5.
        gain_tolerance: what counts as an improvement, relative to 1 + |value|; 1e-9.

    References:
        Nocedal 1980, doi:10.1090/S0025-5718-1980-0572855-7.
    """

    memory: int = 10
    max_steps: int = 500
    patience: int = 5
    gain_tolerance: float = 1e-9

    @property
    def transformation(self) -> Any:
        """The transformation of gradients."""
        return optax.lbfgs(memory_size=self.memory)

    def start(self, objective: Objective, point: Array) -> State:
        """The state before the first evaluation."""
        free = _to_free(objective, point)
        return _fresh(point, self.transformation.init(free))._replace(current=free)

    def step(self, objective: Objective, state: State) -> State:
        """One line search."""

        def of_free(free: Array) -> Array:
            value = objective.value(_from_free(objective, free))
            return jnp.where(jnp.isfinite(value), value, _WORST)

        value_and_grad = optax.value_and_grad_from_state(of_free)
        with _optax_types():
            value, gradient = value_and_grad(state.current, state=state.inner)
            is_finite = (value < _WORST) & jnp.all(jnp.isfinite(gradient))
            safe = jnp.where(is_finite, gradient, 0.0)
            updates, inner = self.transformation.update(
                safe, state.inner, state.current, value=value, grad=safe, value_fn=of_free
            )
        point = _from_free(objective, state.current)
        return _judged(self, state, point, value, is_finite, state.current + updates, inner)


def _optax_types() -> Any:
    """Optax mixes counters of two integer types, which the strictest promotion rules forbid."""
    return jax.numpy_dtype_promotion("standard")


def _fresh(point: Array, inner: Any) -> State:
    whole = jnp.zeros((), jnp.int32)
    value = jnp.asarray(jnp.inf, point.dtype)
    return State(point, value, whole, whole, point, inner, whole)


def _judged(
    rule: FirstOrder | LBFGS,
    state: State,
    evaluated: Array,
    value: Array,
    is_finite: Array,
    current: Array,
    inner: Any,
) -> State:
    """The state with the best point kept and its status."""
    is_first = state.num_steps == 0
    num_steps = state.num_steps + jnp.ones((), jnp.int32)
    is_better = is_finite & (value < state.value)
    gain = jnp.where(jnp.isfinite(state.value), state.value - value, jnp.inf)
    is_gain = is_better & (gain > rule.gain_tolerance * (1.0 + jnp.abs(value)))
    last = jnp.where(is_gain, num_steps, state.last_gain)
    cases = [
        (is_first & ~is_finite, FitStatus.NOT_FINITE),
        (num_steps - last >= rule.patience, FitStatus.CONVERGED),
        (num_steps >= rule.max_steps, FitStatus.OUT_OF_STEPS),
    ]
    status = jnp.select(
        [case for case, _ in cases],
        [jnp.asarray(int(s), jnp.int32) for _, s in cases],
        jnp.asarray(int(FitStatus.RUNNING), jnp.int32),
    )
    return State(
        point=jnp.where(is_better, evaluated, state.point),
        value=jnp.where(is_better, value, state.value),
        status=status,
        num_steps=num_steps,
        current=current,
        inner=inner,
        last_gain=last,
    )


def _finite_bounds(objective: Objective, dtype: Any) -> tuple[Array, Array, Array]:
    lower, upper = (jnp.asarray(b, dtype) for b in objective.space.bounds)
    has_both = jnp.isfinite(lower) & jnp.isfinite(upper)
    return jnp.where(has_both, lower, 0.0), jnp.where(has_both, upper, 1.0), has_both


def _to_free(objective: Objective, point: Array) -> Array:
    lower, upper, has_both = _finite_bounds(objective, point.dtype)
    share = jnp.clip((point - lower) / (upper - lower), 1e-6, 1.0 - 1e-6)
    return jnp.where(has_both, jnp.log(share / (1.0 - share)), point)


def _from_free(objective: Objective, free: Array) -> Array:
    lower, upper, has_both = _finite_bounds(objective, free.dtype)
    return jnp.where(has_both, lower + (upper - lower) * jax.nn.sigmoid(free), free)
