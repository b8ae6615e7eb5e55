"""Elementary functions of float32 arrays in few operations, each one instruction of a vector.

Beside these XLA's own, on a CPU, take twice as long (the logarithm) or half as long again (the
logistic function).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax


def estrin(coefficients: Sequence[float], x: Array) -> Array:
    """A polynomial, constant first: as many dependent steps as the logarithm of its degree."""
    terms, power = [jnp.float32(c) for c in coefficients], x
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        rest = terms[-1:] if len(terms) % 2 else []
        terms = [low + high * power for low, high in pairs] + rest
        power = power * power
    return terms[0]


# -log(1 + x) / x on [-1/3, 1/3], constant first: the polynomial of degree 7 whose largest relative
# error, 2**-22.6, is smallest.
_LOG_COEFFICIENTS = (
    -9.999998478e-1,
    4.999993075e-1,
    -3.333794143e-1,
    2.500845872e-1,
    -1.979552785e-1,
    1.640174809e-1,
    -1.711080889e-1,
    1.546858850e-1,
)


def minus_log(u: Array) -> Array:
    """-log(u) of positive float32 numbers; relative error below 2**-21.

    A polynomial in the mantissa on [2/3, 4/3), summed by Estrin's scheme: Horner's chain of
    operations, each waiting for the last, took a tenth of a step of the direct method.
    """
    word = lax.bitcast_convert_type(u, jnp.int32)
    exponent = (word - jnp.int32(0x3F2AAAAB)) >> jnp.int32(23)
    mantissa = lax.bitcast_convert_type(word - (exponent << jnp.int32(23)), jnp.float32)
    x = mantissa - jnp.float32(1)
    series = estrin(_LOG_COEFFICIENTS, x)
    return series * x + exponent.astype(jnp.float32) * jnp.float32(-0.69314718056)


# 2**f on [0, 1), constant first: of the polynomials of degree 5 that are exact at both ends, so
# that a power of 2 has no jump, the one whose largest relative error, 2**-23.7, is smallest.
_POWER_COEFFICIENTS = (
    1.0,
    6.931510112e-1,
    2.401676552e-1,
    5.579049852e-2,
    9.026639820e-3,
    1.864195261e-3,
)
# Powers of 2 beyond have no word.
_FARTHEST = 126.0
# Added to a small whole number it leaves that in the last bits of its word.
_SHIFTER = 1.5 * 2.0**23


def power_of_two(y: Array) -> Array:
    """2**y for float32 numbers between -126 and 127; relative error below 2**-21."""
    whole = jnp.floor(y)
    part = y - whole
    mantissa = jnp.float32(_POWER_COEFFICIENTS[-1])
    for coefficient in _POWER_COEFFICIENTS[-2::-1]:
        mantissa = mantissa * part + jnp.float32(coefficient)
    word = lax.bitcast_convert_type(mantissa, jnp.int32)
    exponent = lax.bitcast_convert_type(whole + jnp.float32(_SHIFTER), jnp.int32)
    return lax.bitcast_convert_type(word + (exponent << jnp.int32(23)), jnp.float32)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) of float32 numbers; relative error below 2**-20 (1 + |x| / 16).

    Below -87 it stays what it is there, 1e-38. The division is that of the processor: a reciprocal
    by Newton's method takes longer, as it stands in line with all else.
    """
    y = x * jnp.float32(-1.4426950408889634)
    # Not `jnp.clip`, which takes three times as long: it asks for NaN, which stays NaN here too.
    y = jnp.where(y > _FARTHEST, jnp.float32(_FARTHEST), y)
    y = jnp.where(y < -_FARTHEST, jnp.float32(-_FARTHEST), y)
    return jnp.float32(1) / (jnp.float32(1) + power_of_two(y))
