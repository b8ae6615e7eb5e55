"""Poisson and normal numbers from a lane's random bits."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from engine.kernel.across import is_any

# Below this mean the distribution is inverted term by term, above it by an expansion.
INVERSION_BELOW = 5.0
# Terms of the inversion: a Poisson number of mean 5 exceeds this with a probability of 1e-16.
MAX_TERMS = 32
# Terms between two looks at whether every lane is done: one by one cost twice as much.
TERMS_AT_ONCE = 8
_LARGEST = 2.0**30


def _share(bits: Array) -> Array:
    """A uniform number strictly between 0 and 1: the middle of one of 2**23 intervals."""
    middle = (bits >> jnp.uint32(9)).astype(jnp.int32).astype(jnp.float32) + jnp.float32(0.5)
    return middle * jnp.float32(2.0**-23)


def normal(bits: Array) -> Array:
    """A standard normal number, within +-5.3 (one in ten million lies beyond), from 32 bits."""
    return jnp.float32(2**0.5) * lax.erf_inv(jnp.float32(2) * _share(bits) - jnp.float32(1))


def poisson(means: Sequence[Array], bits: Sequence[Array], is_stacked: bool = True) -> list[Array]:
    """A Poisson number for every mean, int32, by inverting the distribution function.

    Means from 5 on: floor of the expansion of the inverse in 1 / sqrt(mean) (Giles 2016,
    doi:10.1145/2699466), whose mean is at most 0.004% off and its variance 0.04%. Smaller means:
    terms of the distribution are summed until they exceed the uniform number; lanes wait for the
    largest.

    Args:
        means: arrays (L,), non-negative.
        bits: as many arrays of random bits, uint32 (L,).
        is_stacked: work on all of them as one array, which XLA does best; the numbers are the same.

    Returns:
        As many arrays (L,) int32; 0 where the mean is 0.
    """
    if not is_stacked:
        return [_poisson(mean, word) for mean, word in zip(means, bits, strict=True)]
    return list(_poisson(jnp.stack(list(means)), jnp.stack(list(bits))))


def _poisson(mean: Array, word: Array) -> Array:
    is_small = mean < jnp.float32(INVERSION_BELOW)
    counted = _invert(jnp.where(is_small, mean, jnp.float32(0)), word)
    return jnp.where(is_small, counted, _expanded(mean, normal(word)))


def _invert(means: Array, bits: Array) -> Array:
    """How many partial sums of the distribution lie below the uniform number."""

    def is_going(state: Any) -> Array:
        _, missing, _, k = state
        return is_any(missing >= 0) & (k < MAX_TERMS)

    def add(state: Any) -> Any:
        term, missing, count, k = state
        for _ in range(TERMS_AT_ONCE):
            count = count + (missing >= 0).astype(jnp.int32)
            k = k + jnp.float32(1)
            term = term * (means * (jnp.float32(1) / k))
            missing = missing - term
        return term, missing, count, k

    term = jnp.exp(-means)
    begin = (term, _share(bits) - term, jnp.zeros(means.shape, jnp.int32), jnp.float32(0))
    count: Array = lax.while_loop(is_going, add, begin)[2]
    return count


def _expanded(mean: Array, w: Array) -> Array:
    """floor of mean + sqrt(mean) w + ..., w standard normal; the mean apart, which may be large."""
    safe = jnp.maximum(mean, jnp.float32(1))
    root = jnp.sqrt(safe)
    square = w * w
    noise = (
        root * w
        + (jnp.float32(1 / 3) + square * jnp.float32(1 / 6))
        - w * (jnp.float32(1 / 36) + square * jnp.float32(1 / 72)) / root
        + (
            jnp.float32(-8 / 405)
            + square * (jnp.float32(7 / 810) + square * jnp.float32(1 / 270))
            # The next term, fitted to the exact inverse at means of 100 to 1600.
            + w
            * (
                jnp.float32(0.0172593)
                - square * (jnp.float32(0.0035247) + square * jnp.float32(0.0013309))
            )
            / root
        )
        / safe
    )
    return jnp.clip(jnp.floor(mean + noise), 0.0, _LARGEST).astype(jnp.int32)
