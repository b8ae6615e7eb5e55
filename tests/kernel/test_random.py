"""Random numbers against published vectors, plain references and their laws."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from engine.kernel import random
from engine.kinetics import elementary
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_continuous,
    check_distribution,
    check_means,
)

Array = np.ndarray


def word(value: int) -> Array:
    return jnp.asarray(np.uint32(value))


def words(values: object) -> Array:
    return jnp.asarray(np.asarray(values, np.uint32))


@pytest.mark.parametrize(
    "counter, key, expected",
    [  # Random123's known answers for threefry2x32, 20 rounds
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(counter, key, expected) -> None:
    found = random.threefry(tuple(map(word, key)), tuple(map(word, counter)))
    assert tuple(int(x) for x in found) == expected


def xoshiro128pp(state: list[int], num: int) -> list[int]:
    """Blackman and Vigna's C code, in plain integers."""
    mask = 0xFFFFFFFF

    def rotate(x: int, k: int) -> int:
        return ((x << k) | (x >> (32 - k))) & mask

    s, out = list(state), []
    for _ in range(num):
        out.append((rotate((s[0] + s[3]) & mask, 7) + s[0]) & mask)
        t = (s[1] << 9) & mask
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotate(s[3], 11)
    return out


def test_xoshiro_reference() -> None:
    start = [[1, 2, 3, 4], [0xDEADBEEF, 0x12345678, 0x9ABCDEF0, 0x0F1E2D3C], [0, 0, 0, 1]]
    expected = np.array([xoshiro128pp(s, 200) for s in start], np.uint32)
    state = tuple(words(column) for column in np.array(start, np.uint64).T)
    for position in range(200):
        bits, state = random.draw(state)
        assert bits.dtype == jnp.uint32
        np.testing.assert_array_equal(bits, expected[:, position])
    # The first numbers of the published generator from 1, 2, 3, 4.
    assert expected[0, :4].tolist() == [641, 1573767, 3222811527, 3517856514]


def test_streams_differ_and_repeat() -> None:
    """Keys of patients and replicates, and states of segments, do not collide."""
    patient, replicate = np.meshgrid(np.arange(300), np.arange(20), indexing="ij")
    key = random.patient_key((word(7), word(9)), words(patient.ravel()), words(replicate.ravel()))
    pairs = np.stack([np.asarray(k) for k in key], axis=1)
    assert len(np.unique(pairs, axis=0)) == patient.size
    segment = random.segment_state((words([3] * 5000), words([4] * 5000)), words(np.arange(5000)))
    states = np.stack([np.asarray(s) for s in segment], axis=1)
    assert len(np.unique(states, axis=0)) == 5000
    assert np.all(states[:, 3] % 2 == 1)  # never all zero


def generated(num: int, lanes: int) -> Array:
    """Bits of many segments' generators, (num, lanes)."""
    key = random.patient_key((word(1), word(2)), words(np.arange(lanes)), words([0] * lanes))
    state = random.segment_state(key, words([5] * lanes))
    out = []
    for _ in range(num):
        bits, state = random.draw(state)
        out.append(np.asarray(bits))
    return np.stack(out)


def test_bits_are_uniform() -> None:
    bits = generated(40, 4096)
    for shift in (0, 8, 16, 24):
        values = ((bits >> shift) & 0xFF).ravel()
        assert_holds_and_twin_fails(
            lambda p, v=values: check_distribution(v, p),
            np.full(256, 1 / 256),
            np.linspace(0.93, 1.07, 256) / 256,
        )
    # Lanes (patients) and successive draws do not go together.
    x = (bits >> 8) / 2.0**24 - 0.5
    assert check_means((x[:, 1:] * x[:, :-1]).ravel(), 0.0)
    assert check_means((x[1:] * x[:-1]).ravel(), 0.0)


def test_segments_of_a_patient_do_not_go_together() -> None:
    """Their states share half of their bits: what they yield must not."""
    lanes, segments, num = 4096, 8, 12
    key = random.patient_key((word(1), word(2)), words(np.arange(lanes)), words([0] * lanes))
    drawn = []
    for segment in range(segments):
        state = random.segment_state(key, words([segment] * lanes))
        for _ in range(num):
            bits, state = random.draw(state)
            drawn.append(np.asarray(bits))
    drawn = np.stack(drawn).reshape(segments, num, lanes)
    x = (drawn >> 8) / 2.0**24 - 0.5
    for lag in (1, 2, 7):
        assert check_means((x[lag:] * x[:-lag]).ravel(), 0.0)
        # Of any two words half the bits are equal, 16 with a variance of 8.
        equal = np.bitwise_count(drawn[lag:] ^ drawn[:-lag]).astype(float)
        assert check_means(equal.ravel(), 16.0)
    # The shared words themselves, drawn from directly, would be seen.
    shared = np.stack([np.asarray(key[0])] * 2)
    assert not check_means(np.bitwise_count(shared[1:] ^ shared[:-1]).astype(float).ravel(), 16.0)


def test_uniform_lies_in_zero_one() -> None:
    ends = words([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])
    u = np.asarray(random.uniform(ends), np.float64)
    assert np.all(u > 0) and np.all(u <= 1) and np.all(np.diff(u) >= 0)
    assert u[0] == 0.5 * 2.0**-31
    fine = np.asarray(random.fine_uniform(ends[:, None], words([[0, 0xFFF, 0xFFFFFFFF]])))
    assert np.all(fine > 0) and np.all(fine <= 1)
    assert fine[0, 0] == 2.0**-44


def test_fine_uniform_is_fine_near_zero() -> None:
    """Of all 2^43 draws, those below a tiny share, counted: at most 0.1% off down to 1e-9.

    Below 2^-31 the first word's 31 bits are 0, and its refinement decides; above, the draws below
    p are the words below p 2^31 and a part of one.
    """
    low = words(np.arange(4096))
    for share in (1e-9, 3e-9, 1e-8, 1e-7, 1e-6):
        whole = int(share * 2.0**31)
        edge = [words(np.full(4096, 2 * n)) for n in range(max(whole - 1, 0), whole + 2)]
        selected = max(whole - 1, 0) * 4096
        for bits in edge:
            selected += int(np.sum(np.asarray(random.fine_uniform(bits, low)) < np.float32(share)))
        assert selected / 2.0**43 == pytest.approx(share, rel=1e-3)
    # A 32-bit uniform selects 1e-9 four times or not: 7% off. That would be seen.
    assert round(1e-9 * 2**32) / 2**32 != pytest.approx(1e-9, rel=1e-2)


def test_exponential_is_minus_log(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = np.concatenate([np.arange(4096), 2**32 - 1 - np.arange(4096)]).astype(np.uint64)
    middle = np.random.default_rng(1).integers(0, 2**32, 200_000, dtype=np.uint64)
    bits = words(np.concatenate([edge, middle]))
    u = np.asarray(random.uniform(bits), np.float64)
    inside = u < 1

    def largest_error() -> float:
        found = np.asarray(random.exponential(bits), np.float64)
        assert np.all(found > 0) and np.all(np.isfinite(found))
        assert np.all(found[~inside] == np.float32(1e-10))
        return float(np.max(np.abs(found[inside] / -np.log(u[inside]) - 1)))

    assert largest_error() < 2.0**-21
    # A polynomial of a lower degree would be seen.
    monkeypatch.setattr(elementary, "_LOG_COEFFICIENTS", (*elementary._LOG_COEFFICIENTS[:-1], 0.0))
    assert largest_error() > 2.0**-18


def test_exponential_law() -> None:
    samples = np.asarray(random.exponential(words(generated(60, 4096))), np.float64).ravel()
    assert_holds_and_twin_fails(
        lambda rate: check_continuous(samples, lambda t: stats.expon.cdf(rate * t)), 1.0, 1.02
    )
    assert_holds_and_twin_fails(lambda m: check_means(samples, m, 1.0), 1.0, 1.02)
