"""Random numbers that belong to the patient.

A lane's generator is xoshiro128++ (Blackman and Vigna 2021, doi:10.1145/3460772), vectorised over
lanes. Its state is set by Threefry-2x32 (Salmon et al. 2011, doi:10.1145/2063384.2063405) from the
patient's key and the number of the *segment*, the stretch between two of the lane's own stops
(save times, doses, events). Segments depend on the patient alone, so a trajectory is the same for
any number of lanes, block length, chunk or thread; and a stalled lane needs no bookkeeping,
because what its generator yields while it waits is never used.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.kinetics.elementary import minus_log

Words = tuple[Array, Array, Array, Array]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_ROUND_GROUPS = 5


def _rotate(x: Array, bits: int) -> Array:
    return (x << jnp.uint32(bits)) | (x >> jnp.uint32(32 - bits))


def threefry(key: tuple[Array, Array], counter: tuple[Array, Array]) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds: two uint32 words from a key and a counter, elementwise."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(_ROUND_GROUPS):
        for bits in _ROTATIONS[group % 2]:
            x = x + y
            y = _rotate(y, bits) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


def patient_key(key: tuple[Array, Array], patient: Array, replicate: Array) -> tuple[Array, Array]:
    """The key of one patient's replicate, from the run's key."""
    return threefry(key, (patient, replicate))


def segment_state(key: tuple[Array, Array], segment: Array) -> Words:
    """The generator's state at the start of a segment; never all zero.

    Half of it is the segment's own, half the patient's key. XLA's CPU compiler computes Threefry
    once for every word that comes from it: for four of them that took an eighth of the time of
    trajectories with 20 events between two stops.
    """
    first, second = threefry(key, (segment, jnp.zeros_like(segment)))
    return first, second, key[0], key[1] | jnp.uint32(1)


def draw(state: Words) -> tuple[Array, Words]:
    """The next 32 random bits of every lane."""
    s0, s1, s2, s3 = state
    bits = _rotate(s0 + s3, 7) + s0
    shifted = s1 << jnp.uint32(9)
    s2 = s2 ^ s0
    s3 = s3 ^ s1
    s1 = s1 ^ s2
    s0 = s0 ^ s3
    return bits, (s0, s1, s2 ^ shifted, _rotate(s3, 11))


def choose(condition: Array, a: Words, b: Words) -> Words:
    """The state a where the condition holds, else b."""
    first, second, third, fourth = (jnp.where(condition, x, y) for x, y in zip(a, b, strict=True))
    return first, second, third, fourth


def _to_float(bits: Array) -> Array:
    # By way of int32: CPUs before AVX-512 convert signed integers only.
    return bits.astype(jnp.int32).astype(jnp.float32)


def uniform(bits: Array) -> Array:
    """A uniform in (0, 1] with 31 bits near zero, from 32 random bits."""
    # One fused multiply-add.
    return _to_float(bits >> jnp.uint32(1)) * jnp.float32(2.0**-31) + jnp.float32(2.0**-32)


# The float32 below 2**-31: 31 bits, rounded up to 2**31, times this are below 1.
BELOW_2_31 = np.float32(2.0**-31 - 2.0**-55)


def fine_uniform(bits: Array, extra: Array) -> Array:
    """A uniform in (0, 1) with 43 bits near zero: the low 12 bits of `extra` refine it.

    A reaction with 1e-9 of the total propensity is then selected as often as it should be; with 32
    bits it would be 7% wrong. `extra` may be the word that gave the waiting time: its low bits do
    not reach a float32 unless that time is already longer than 8 mean waits. Or a word of the state
    on which `bits` does not depend.
    """
    low = _to_float(extra & jnp.uint32(0xFFF)) * jnp.float32(2.0**-43) + jnp.float32(2.0**-44)
    return _to_float(bits >> jnp.uint32(1)) * BELOW_2_31 + low


def share(state: Words) -> tuple[Array, Words]:
    """A uniform in (0, 1) that chooses among reactions, and the next state."""
    bits, after = draw(state)
    # Refined by the second word, on which these bits do not depend.
    return fine_uniform(bits, state[1]), after


def unit(state: Words) -> tuple[Array, Words]:
    """A `uniform` of which a wait is made, and the next state."""
    bits, after = draw(state)
    return uniform(bits), after


def wait_and_share(state: Words) -> tuple[Array, Array, Words]:
    """What one event needs: a unit exponential, a uniform that chooses, and the next state.

    Where a step keeps nothing else in registers, two words made one after the other (`share`,
    then `unit`) are better: see `direct.step`.
    """
    wait_bits, state = draw(state)
    choice_bits, state = draw(state)
    return exponential(wait_bits), fine_uniform(choice_bits, wait_bits), state


def exponential(bits: Array) -> Array:
    """A unit exponential, -log(u), positive, from 32 random bits."""
    return exponential_of(uniform(bits))


def exponential_of(u: Array) -> Array:
    """The unit exponential of a `uniform`."""
    # u rounds to 1 once in 2**25 draws: a wait of zero there would be 0/0 in an absorbed state.
    return jnp.maximum(minus_log(u), jnp.float32(1e-10))
