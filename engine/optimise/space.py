"""The parameters of a fit: names, bounds, transforms, priors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.network.network import hint
from engine.optimise.priors import Prior
from engine.optimise.transforms import LINEAR, Transform

Array = Any


@dataclass(frozen=True)
class Bounded:
    """A parameter to be estimated.

    Args:
        name: identifier.
        lower: smallest value, linear scale.
        upper: largest value, linear scale.
        transform: scale of the search.
        prior: its prior, if any.
    """

    name: str
    lower: float
    upper: float
    transform: Transform = LINEAR
    prior: Prior | None = None

    def __post_init__(self) -> None:
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            ends = [float(self.transform.forward(v)) for v in (self.lower, self.upper)]
        # A logit's own bounds are at infinity: every point of the search is inside them.
        if not self.lower < self.upper or any(map(np.isnan, ends)):
            raise InvalidInput(
                f"parameter '{self.name}' has bounds {self.lower:g}, {self.upper:g}, which do not "
                f"fit {type(self.transform).__name__}; give lower < upper within its domain"
            )


@dataclass(frozen=True)
class Space:
    """The parameters of a fit, P of them; a point is their transformed values, (P,).

    Args:
        parameters: in order.

    Example:
        >>> from engine.optimise.transforms import Log10
        >>> space = Space([Bounded("k", 1e-3, 1e3, Log10())])
        >>> space.to_mapping(np.array([2.0]))
        {'k': 100.0}
    """

    parameters: Sequence[Bounded]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))
        if not self.parameters:
            raise InvalidInput("there is no parameter to estimate")
        if len(set(self.names)) < len(self.names):
            raise InvalidInput("two parameters of a fit have the same name; rename one")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(p.name for p in self.parameters)

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds on the transformed scale, (P,) each."""
        # Numbers also where the first to ask is a function that is being traced.
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            lower = [float(p.transform.forward(p.lower)) for p in self.parameters]
            upper = [float(p.transform.forward(p.upper)) for p in self.parameters]
        return np.array(lower), np.array(upper)

    def linear(self, point: Array) -> Array:
        """Values (P,) of a point (P,); traceable."""
        values = [p.transform.backward(point[i]) for i, p in enumerate(self.parameters)]
        return jnp.stack(values)

    def negative_log_prior(self, point: Array) -> Array:
        """The sum of -log priors at a point; traceable."""
        total = jnp.zeros((), point.dtype)
        values = self.linear(point)
        for i, parameter in enumerate(self.parameters):
            prior = parameter.prior
            if prior is not None:
                total = total + prior.negative_log(point[i] if prior.is_on_scale else values[i])
        return total

    def to_mapping(self, point: np.ndarray) -> dict[str, float]:
        """Values by name, linear scale."""
        with jax.enable_x64(True):
            values = np.asarray(self.linear(jnp.asarray(point, jnp.float64)))
        return {name: float(v) for name, v in zip(self.names, values, strict=True)}

    def to_point(self, values: Mapping[str, float]) -> np.ndarray:
        """The point of values on the linear scale; bounds are not applied."""
        for name in values:
            if name not in self.names:
                raise InvalidInput(f"'{name}' is not estimated{hint(name, self.names)}")
        missing = [name for name in self.names if name not in values]
        if missing:
            raise InvalidInput(
                f"parameter '{missing[0]}' has no value; give one for each estimated"
            )
        with jax.enable_x64(True):
            return np.array([float(p.transform.forward(values[p.name])) for p in self.parameters])

    def sample(self, num: int, seed: int) -> np.ndarray:
        """Points uniform between the bounds on the transformed scale, (num, P).

        Start i is the same for any number of starts. A logit's infinite bounds count as +-4.
        """
        reach = [np.where(np.isinf(b), np.sign(b) * _LOGIT_REACH, b) for b in self.bounds]
        lower, upper = reach
        draws = [np.random.default_rng([seed, i]).random(len(self.names)) for i in range(num)]
        return lower + (upper - lower) * np.array(draws).reshape(num, len(self.names))


_LOGIT_REACH = 4.0
