"""How patients differ: distributions, and the numbers that a given patient draws from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from engine.errors import InvalidInput
from engine.network.quantities import check_number
from engine.population.streams import identity_key


class Distribution(Protocol):
    """Anything that turns a uniform number into one of the population."""

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """The value below which a share `u` of the population lies, elementwise."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same number for everyone.

    Args:
        value: the number.
    """

    value: float

    def __post_init__(self) -> None:
        check_number("value of Constant", self.value, is_negative_allowed=True)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """`value`."""
        return np.full(np.shape(u), float(self.value))


@dataclass(frozen=True)
class LogNormal:
    """exp(log(median) + sigma z) with z standard normal and sigma^2 = log(1 + cv^2).

    Args:
        median: half of the population lies below it, positive. The mean is
            median sqrt(1 + cv^2).
        cv: coefficient of variation, standard deviation over mean; 0 is a constant.

    Raises:
        InvalidInput: a median that is not positive, a negative cv.

    Example:
        >>> LogNormal(median=2.0, cv=0.3).quantile(np.array([0.5])).tolist()
        [2.0]
    """

    median: float
    cv: float

    def __post_init__(self) -> None:
        if check_number("median of LogNormal", self.median) == 0:
            raise InvalidInput("median of LogNormal is 0; give a positive number")
        check_number("cv of LogNormal", self.cv)

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return math.sqrt(math.log1p(self.cv**2))

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """median exp(sigma Phi^-1(u))."""
        return np.asarray(self.median * np.exp(self.sigma * ndtri(u)))


@dataclass(frozen=True)
class Normal:
    """mean + sd z with z standard normal; for numbers that may be negative.

    Args:
        mean: its mean.
        sd: its standard deviation, not negative.
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        check_number("mean of Normal", self.mean, is_negative_allowed=True)
        check_number("sd of Normal", self.sd)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """mean + sd Phi^-1(u)."""
        return np.asarray(self.mean + self.sd * ndtri(u))


@dataclass(frozen=True)
class Uniform:
    """Every number between two bounds alike.

    Args:
        low: lower bound.
        high: upper bound, not below `low`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            check_number(f"{name} of Uniform", getattr(self, name), is_negative_allowed=True)
        if self.high < self.low:
            raise InvalidInput(f"Uniform has high={self.high:g} below low={self.low:g}; swap them")

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """low + (high - low) u."""
        return np.asarray(self.low + (self.high - self.low) * u)


@dataclass(frozen=True)
class Part:
    """The patients of a distribution that lie between two shares of it: a subgroup.

    Args:
        whole: the distribution.
        low, high: shares between 0 and 1, low below high.

    Raises:
        InvalidInput: other shares.

    Example:
        >>> Part(Uniform(0.0, 10.0), 0.5, 1.0).quantile(np.array([0.0, 0.5])).tolist()
        [5.0, 7.5]
    """

    whole: Distribution
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < self.high <= 1.0:
            raise InvalidInput(
                f"Part of a distribution from {self.low:g} to {self.high:g}; give increasing "
                "shares between 0 and 1"
            )

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """The whole's quantile at low + (high - low) u."""
        return self.whole.quantile(self.low + (self.high - self.low) * np.asarray(u))


@dataclass(frozen=True)
class Multiple:
    """A distribution of factors on a typical number.

    Args:
        whole: the distribution of the factor.
        typical: what it multiplies.

    Example:
        >>> Multiple(LogNormal(1.0, cv=0.3), 50.0).quantile(np.array([0.5])).tolist()
        [50.0]
    """

    whole: Distribution
    typical: float

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """The factor's quantile times the typical number."""
        return self.typical * self.whole.quantile(u)


def sample(
    distributions: Mapping[str, Distribution],
    key: Any,
    patient_ids: Sequence[int] | np.ndarray,
) -> dict[str, np.ndarray]:
    """The numbers of given patients.

    A number depends on the key, the patient's id and the variable's name alone: it is the same in
    every arm and in any subset of the patients, and another variable more does not change it.

    Args:
        distributions: variable name -> distribution. Variables are independent.
        key: `jax.random.key(seed)`; the streams of `simulate` with the same key are others.
        patient_ids: identities, from 0 to 2**32 - 1, shape (N,).

    Returns:
        Variable name -> (N,) float64.

    Raises:
        InvalidInput: identities that are not whole numbers in that range.

    Example:
        >>> import jax
        >>> population = {"clearance": LogNormal(0.12, cv=0.3), "weight": Uniform(50, 90)}
        >>> all_of_them = sample(population, jax.random.key(1), range(8))
        >>> some = sample(population, jax.random.key(1), [5, 2])
        >>> bool(some["weight"][0] == all_of_them["weight"][5])
        True
    """
    ids = np.asarray(patient_ids)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or np.any((ids < 0) | (ids >= 2**32)):
        raise InvalidInput("patient_ids: give whole numbers from 0 to 2**32 - 1, shape (N,)")
    words = ids.astype(np.uint32)
    return {
        name: distribution.quantile(_uniforms(identity_key(key, name), words))
        for name, distribution in distributions.items()
    }


def _uniforms(key: Any, ids: np.ndarray) -> np.ndarray:
    """One number in (0, 1) a patient: the middle of one of 2^52 equal intervals, so never an end.

    Only integers are made on the device: floating-point code could differ in the last bit between
    the elements of a vector and its remainder, and a patient would then depend on the others.
    """
    folded = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(ids))
    bits = np.asarray(jax.vmap(lambda one: jax.random.bits(one, (2,), jnp.uint32))(folded))
    high, low = bits.astype(np.uint64).T
    return (((high << np.uint64(20)) ^ (low >> np.uint64(12))) + 0.5) * 2.0**-52
