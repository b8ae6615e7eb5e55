"""Poisson and normal numbers from a lane's random bits."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from engine.kernel.materialise import Running, materialise
from engine.kernel.random import uniform
from engine.kinetics.elementary import estrin, minus_log

# Below this mean the distribution is inverted term by term, above it by an expansion.
INVERSION_BELOW = 5.0
# Terms of the inversion, an even number: a Poisson number of mean 5 exceeds this with a probability
# of 8e-8, below what float32 sums resolve. A loop that ends when all lanes are done, and looks at
# the means below 5 only, took twice as long.
MAX_TERMS = 20
_LARGEST = 2**30

# z / (2 u - 1) of the normal quantile z, in w = -log(4 u (1 - u)) scaled from [0, 15.5] to [-1, 1],
# constant first: fitted at Chebyshev's points, error of z below 1.2e-6 at every u of `_share`.
_LONGEST = 15.5
_QUANTILE = (
    3.7010387,
    1.9611160,
    -4.4534318e-1,
    1.6736203e-1,
    -4.1373235e-2,
    -3.0809932e-2,
    6.0983781e-2,
    -5.6009520e-2,
    4.3226196e-2,
    -2.8990989e-2,
    -1.0848762e-2,
    4.1641480e-2,
    -1.7966725e-2,
    -1.0793086e-2,
    7.1134657e-3,
)

# (exp(y) - 1) / y on [0, INVERSION_BELOW / 8], constant first: least squares of the relative error,
# below 7e-9, less 5e-7 of itself. Were it ever too large the sums would end below 1, and the last
# uniform numbers count all terms.
_EXPM1 = (0.9999994937, 0.5000005103, 0.1666520211, 0.04176730084, 0.008023660305, 0.001815729896)


def _share(bits: Array) -> Array:
    """A uniform number strictly between 0 and 1: the middle of one of 2**23 intervals."""
    middle = (bits >> jnp.uint32(9)).astype(jnp.int32).astype(jnp.float32) + jnp.float32(0.5)
    return middle * jnp.float32(2.0**-23)


def normal(bits: Array) -> Array:
    """A standard normal number, within +-5.3 (one in ten million lies beyond), from 32 bits.

    One polynomial for the whole range, without a square root or a choice between centre and tail:
    3.4 times as fast as `lax.erf_inv`.
    """
    u = _share(bits)
    w = minus_log(jnp.float32(4) * u * (jnp.float32(1) - u))
    slope = estrin(_QUANTILE, w * jnp.float32(2 / _LONGEST) - jnp.float32(1))
    return (jnp.float32(2) * u - jnp.float32(1)) * slope


def poisson(is_running: Running, means: Sequence[Array], bits: Sequence[Array]) -> list[Array]:
    """A Poisson number for every mean, int32, by inverting the distribution function.

    Means from 5 on: floor of the expansion of the inverse in 1 / sqrt(mean) (Giles 2016,
    doi:10.1145/2699466), whose mean is at most 0.004% off and its variance 0.04%. Smaller means:
    20 terms of the distribution are summed and those that the uniform number exceeds are counted.

    XLA works on all of them as one array. Left to itself it computes them again for every species
    that uses one: on 29 reactions a number took 28 ns in place of 3.

    Args:
        is_running: as `materialise` takes it; True in a kernel, where nothing can be stacked.
        means: arrays (L,), non-negative.
        bits: as many arrays of random bits, uint32 (L,).

    Returns:
        As many arrays (L,) int32; 0 where the mean is 0.
    """
    if is_running is True:
        return [_poisson(mean, word) for mean, word in zip(means, bits, strict=True)]
    numbers = _poisson(jnp.stack(list(means)), jnp.stack(list(bits)))
    return list(materialise(is_running, numbers))


def _poisson(mean: Array, word: Array) -> Array:
    is_small = mean < jnp.float32(INVERSION_BELOW)
    counted = _invert(jnp.where(is_small, mean, jnp.float32(0)), word)
    return jnp.where(is_small, counted, _expanded(mean, normal(word)))


def _invert(means: Array, bits: Array) -> Array:
    """How many partial sums of the distribution lie below the uniform number 1 - v.

    Sums are less 1, and so are exp(mean) and (1 - v) exp(mean): a mean of 1e-8 fires as often as it
    should. In units of the next term what is missing follows r_k+1 = r_k (k + 1) / mean - 1: one
    operation that waits for the last, and two terms at a time half of one.
    """
    one, inverse = jnp.float32(1), jnp.float32(1) / jnp.maximum(means, jnp.float32(1e-15))
    grown = _grown(means)
    missing = grown - uniform(bits) * (grown + one)
    count = jnp.full(means.shape, MAX_TERMS, jnp.int32)
    # (k + 1) / mean and (k + 2) / mean.
    first, second, twice = inverse, inverse + inverse, inverse + inverse
    for _ in range(MAX_TERMS // 2):
        after = missing * first - one
        count = count + _sign(missing) + _sign(after)
        missing = missing * (first * second) - (second + one)
        first, second = first + twice, second + twice
    return count


def _grown(means: Array) -> Array:
    """exp - 1 of a number from 0 to `INVERSION_BELOW`; too small by 2e-7 to 3e-6 of itself.

    By doubling three times, exp(2 y) - 1 = d (d + 2) with d = exp(y) - 1, in half the time of exp.
    """
    part = means * jnp.float32(1 / 8)
    grown = part * estrin(_EXPM1, part)
    for _ in range(3):
        grown = grown * (grown + jnp.float32(2))
    return grown


def _sign(value: Array) -> Array:
    """-1 where a number is negative, else 0."""
    return lax.bitcast_convert_type(value, jnp.int32) >> jnp.int32(31)


def _expanded(mean: Array, w: Array) -> Array:
    """floor of mean + sqrt(mean) w + ..., w standard normal; the mean apart, which may be large."""
    safe = jnp.maximum(mean, jnp.float32(1))
    root = jnp.sqrt(safe)
    # One division, not one for each of three terms.
    small = jnp.float32(1) / root
    square = w * w
    noise = (
        root * w
        + (jnp.float32(1 / 3) + square * jnp.float32(1 / 6))
        - small * w * (jnp.float32(1 / 36) + square * jnp.float32(1 / 72))
        + small
        * small
        * (
            jnp.float32(-8 / 405)
            + square * (jnp.float32(7 / 810) + square * jnp.float32(1 / 270))
            # The next term, fitted to the exact inverse at means of 100 to 1600.
            + small
            * w
            * (
                jnp.float32(0.0172593)
                - square * (jnp.float32(0.0035247) + square * jnp.float32(0.0013309))
            )
        )
    )
    # Cut off, not rounded down, and bounded as whole numbers: the same, and faster.
    return jnp.clip((mean + noise).astype(jnp.int32), 0, _LARGEST)
