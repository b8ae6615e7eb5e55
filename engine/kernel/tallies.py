"""Tallies: functionals of the path, accumulated by the lane without storing the path.

Every tally follows one protocol. `start` makes its state; `interval` accounts for a stretch in
which counts are constant; `jump` for a change of counts (a reaction, a dose, an event's
assignment); `result` turns it into a number. On piecewise-constant counts they are exact, not
sampled at the save times; how closely a moving input is followed, each tally says.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.network.expressions import Expression, parse
from engine.network.network import ReactionNetwork

State = tuple[Array, ...]
Observe = Callable[..., Array]


class Interval(NamedTuple):
    """A stretch of constant counts.

    Attributes:
        elapsed: its length, (L,), zero for lanes that do not move.
        left: from its end to the lane's next stop, (L,); no number for lanes that do not move.
        at: the environment (name -> array) at a fraction of the stretch.
        average: the environment with time and inputs replaced by their means over the stretch.
        is_moving: whether an observed expression depends on time or an input.
        is_affine: whether the observed expression (a part of several) is affine in them.
        share: computes a tree of arrays once for all that use it; XLA would do it again for each.
        is_leap: whether many events fell into it, and counts are taken to move linearly.
        end: the environment at its end, where the step has it already.
    """

    elapsed: Array
    left: Array
    at: Callable[[float | Array], Mapping[str, Array]]
    average: Callable[[], Mapping[str, Array]]
    is_moving: bool
    is_affine: Callable[[int], bool]
    share: Callable[[Any], Any] = lambda values: values
    is_leap: bool = False
    end: Mapping[str, Array] | None = None


class Jump(NamedTuple):
    """A change of counts.

    Attributes:
        values: the environment after the change.
        time: when, (L,) float32.
        fired: whether the reaction of a given name fired, or None for doses and assignments.
        is_real: lanes in which something happened.
        before: the environment just before the change, where a reaction fired.
        share: as in `Interval`.
    """

    values: Mapping[str, Array]
    time: Array
    fired: Callable[[str], Array] | None
    is_real: Array
    before: Mapping[str, Array] | None = None
    share: Callable[[Any], Any] = lambda values: values


class Stop(NamedTuple):
    """A stop of the lane, before anything happens there.

    Attributes:
        values: the environment.
        elapsed: the time since the last stop, (L,).
        left: to the stop that the steps were counting down to, (L,); 0 but for lanes that were held
            on their way.
    """

    values: Mapping[str, Array]
    elapsed: Array
    left: Array


@dataclass(frozen=True)
class Tally(ABC):
    """A functional of the path of an expression of species, rules, variables and inputs."""

    expression: Expression

    def __post_init__(self) -> None:
        object.__setattr__(self, "expression", parse(self.expression))

    def expressions(self, network: ReactionNetwork) -> tuple[Expression, ...]:
        """What the lane evaluates for it: `observe(values, part)` gives the part-th."""
        return (self.expression,)

    def shared(self, network: ReactionNetwork) -> Mapping[str, Expression]:
        """Names `_d0`, `_d1`, ... for costly functions of the counts that `expressions` mention.

        They are evaluated once a step; they must not depend on the time or an input, but may on
        `carried` words. One tally of a simulation may have them.
        """
        return {}

    def is_looking(self, is_affine: bool) -> bool:
        """Whether long stretches must be cut, so that a moving expression is looked at often."""
        return True

    def carried(self, state: State) -> Mapping[str, Array]:
        """Words of the state that `shared` mentions, as `_b0`, `_b1`, ..."""
        return {}

    @abstractmethod
    def start(self, jump: Jump, observe: Observe) -> State:
        """State at time 0 (a jump to the initial counts)."""

    @abstractmethod
    def interval(self, state: State, interval: Interval, observe: Observe) -> State:
        """State after a stretch of constant counts."""

    @abstractmethod
    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """State after a change of counts."""

    # Whether `interval` changes nothing over no time, and `jump` nothing where no reaction fired:
    # then the lane need not choose between the state before and after.
    is_additive = False

    def settle(self, state: State, stop: Stop, observe: Observe) -> State:
        """State at a stop of the lane; sums fold there what they added since the last one."""
        return state

    def begin(self, state: State, values: Mapping[str, Array], observe: Observe) -> State:
        """State at the beginning of a segment, with the numbers of its cell."""
        return state

    num_words = 1

    def result(self, words: np.ndarray) -> np.ndarray:
        """The result (n,), from the state as 32-bit words (n, num_words), on the host."""
        return words.view(np.float32)[:, 0].astype(np.float64)


# Two-point Gauss quadrature, for integrands that are not affine in time and the inputs.
GAUSS = (0.21132486540518713, 0.7886751345948129)


def _integrate(interval: Interval, observe: Observe) -> Array:
    if not interval.is_moving:
        return observe(interval.at(0.0)) * interval.elapsed
    if interval.is_affine(0):
        return observe(interval.average()) * interval.elapsed
    first, second = (observe(interval.at(fraction)) for fraction in GAUSS)
    return jnp.float32(0.5) * (first + second) * interval.elapsed


def _accumulate(state: State, increment: Array) -> State:
    """Kahan's sum: 1e7 small increments do not vanish in float32."""
    total, compensation = state
    wanted = increment + compensation
    new = total + wanted
    return new, wanted - (new - total)


@dataclass(frozen=True)
class TimeIntegral(Tally):
    """The time integral (area under the curve) of an expression over the whole horizon.

    A = int_0^T f(x(t)) dt, exact for functions of counts, and where f is affine in time and the
    inputs (`"drug * R"`); otherwise (`"drug / (K + drug)"`) each stretch between candidates is
    integrated by two-point Gauss quadrature; there are 64 or more between two stops.

    Args:
        expression: f, for example `"IL6 + sIL6R"`.

    Example:
        >>> TimeIntegral("IL6 + sIL6R").expression.function
        'add'
    """

    num_words = 2

    def is_looking(self, is_affine: bool) -> bool:
        """What is affine has a closed form over any stretch."""
        return not is_affine

    def start(self, jump: Jump, observe: Observe) -> State:
        """Zero."""
        zero = jnp.zeros_like(jump.time)
        return zero, zero

    def interval(self, state: State, interval: Interval, observe: Observe) -> State:
        """Add f times the elapsed time."""
        return _accumulate(state, _integrate(interval, observe))

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """Nothing."""
        return state


@dataclass(frozen=True)
class Occupation(Tally):
    """The time spent where a condition holds: int_0^T 1[condition] dt.

    Exact for conditions on counts. One on time or an input is looked at twice in every stretch
    between candidate events, of which there are 64 or more between two stops.

    Args:
        expression: the condition, for example `"IL6 > 1000"`.
    """

    num_words = 2

    def start(self, jump: Jump, observe: Observe) -> State:
        """Zero."""
        zero = jnp.zeros_like(jump.time)
        return zero, zero

    def interval(self, state: State, interval: Interval, observe: Observe) -> State:
        """Add the elapsed time where the condition holds."""
        return _accumulate(
            state, _integrate(interval, lambda v: _as_condition(observe(v)).astype(jnp.float32))
        )

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """Nothing."""
        return state


def _as_condition(value: Array) -> Array:
    return value if value.dtype == bool else value != 0


class _Extremum(Tally):
    """The largest or smallest value on the path."""

    @staticmethod
    @abstractmethod
    def better(a: Array, b: Array) -> Array:
        """The more extreme of two values."""

    def start(self, jump: Jump, observe: Observe) -> State:
        """The value at time 0."""
        return (observe(jump.values) + jnp.zeros_like(jump.time),)

    def interval(self, state: State, interval: Interval, observe: Observe) -> State:
        """The value at the end of a stretch, where it moves."""
        if not interval.is_moving:
            return state
        return (self.better(state[0], observe(interval.at(1.0))),)

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """The value after a change of counts."""
        return (self.better(state[0], observe(jump.values)),)


@dataclass(frozen=True)
class Maximum(_Extremum):
    """The true peak of an expression on [0, T], not the largest saved point.

    Exact for functions of counts. Where the expression depends on time or an input it is looked at
    before and after every change and at every candidate event, 64 times or more between two stops.

    Args:
        expression: for example `"pSTAT5"`.
    """

    @staticmethod
    def better(a: Array, b: Array) -> Array:
        """The larger."""
        return jnp.maximum(a, b)


@dataclass(frozen=True)
class Minimum(_Extremum):
    """The true trough of an expression on [0, T]; see `Maximum`.

    Args:
        expression: for example `"Treg"`.
    """

    @staticmethod
    def better(a: Array, b: Array) -> Array:
        """The smaller."""
        return jnp.minimum(a, b)


# How often a leap is halved to find the time of a passage: to a 64th of its length.
HALVINGS = 6


@dataclass(frozen=True)
class FirstPassage(Tally):
    """The first time at which a condition holds; +inf where it never does.

    Exact for conditions on counts. A condition on time or an input is looked at only at changes and
    candidate events, so its passage may be reported up to one such stretch late: at most a 64th of
    the distance between two stops. Methods that step over many events bracket it: within the first
    step at whose end the condition holds, the time is halved six times, counts moving linearly.

    Args:
        expression: the condition, for example `"IL6 >= 1000"`.
    """

    def start(self, jump: Jump, observe: Observe) -> State:
        """Zero where the condition holds at once."""
        never = jnp.full_like(jump.time, jnp.inf)
        return (jnp.where(_as_condition(observe(jump.values)), jnp.zeros_like(jump.time), never),)

    def interval(self, state: State, interval: Interval, observe: Observe) -> State:
        """Look at the end of a stretch, where the condition moves."""
        if not interval.is_moving:
            return state
        values = interval.at(1.0)
        when = values["time"] if not interval.is_leap else self._bracketed(interval, observe)
        return (self._passed(state[0], observe(values), when),)

    @staticmethod
    def _bracketed(interval: Interval, observe: Observe) -> Array:
        """When the condition turns true in a stretch at whose end it holds."""
        low, high = jnp.zeros_like(interval.elapsed), jnp.ones_like(interval.elapsed)
        for _ in range(HALVINGS):
            middle = jnp.float32(0.5) * (low + high)
            holds = _as_condition(observe(interval.at(middle)))
            low, high = jnp.where(holds, low, middle), jnp.where(holds, middle, high)
        return interval.at(jnp.float32(0.5) * (low + high))["time"]

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """The time of the change that made the condition true."""
        return (self._passed(state[0], observe(jump.values), jump.time),)

    @staticmethod
    def _passed(first: Array, condition: Array, time: Array) -> Array:
        return jnp.where(_as_condition(condition), jnp.minimum(first, time), first)


@dataclass(frozen=True)
class FinalValue(Tally):
    """The value of an expression when the trajectory ends, at the last save time.

    Args:
        expression: for example `"IL6 + sIL6R"`.

    Example:
        >>> FinalValue("IL6").expression.name
        'IL6'
    """

    def start(self, jump: Jump, observe: Observe) -> State:
        """The value at time 0."""
        return (observe(jump.values) + jnp.zeros_like(jump.time),)

    def interval(self, state: State, interval: Interval, observe: Observe) -> State:
        """The value at the end of a stretch, where it moves."""
        if not interval.is_moving:
            return state
        return (observe(interval.at(1.0)),)

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """The value after a change of counts."""
        return (observe(jump.values),)

    def is_looking(self, is_affine: bool) -> bool:
        """Only the end matters."""
        return False


@dataclass(frozen=True)
class FiringCount(Tally):
    """How many times a reaction fired.

    Args:
        expression: the reaction's name.
    """

    def expressions(self, network: ReactionNetwork) -> tuple[Expression, ...]:
        """None: it looks at the firings."""
        return ()

    def start(self, jump: Jump, observe: Observe) -> State:
        """Zero."""
        return (jnp.zeros(jump.time.shape, jnp.int32),)

    def interval(self, state: State, interval: Interval, observe: Observe) -> State:
        """Nothing."""
        return state

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """One more where the reaction fired."""
        if jump.fired is None:
            return state
        return (state[0] + jump.fired(str(self.expression)).astype(jnp.int32),)

    def result(self, words: np.ndarray) -> np.ndarray:
        """The number of firings (n,)."""
        return words[:, 0].astype(np.int64)
