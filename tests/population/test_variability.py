"""Patients: reproducible whoever else is there, and distributed as stated."""

import jax
import numpy as np
import pytest
from scipy import stats

import engine
from engine.population.streams import identity_key, named_key, noise_key
from engine.population.variability import Constant, LogNormal, Normal, Uniform, sample
from tests.statistics import assert_holds_and_twin_fails, check_continuous, check_means

KEY = jax.random.key(11)
POPULATION = {
    "clearance": LogNormal(0.12, 0.3),
    "receptors": LogNormal(1.0, 0.7),
    "shift": Normal(-2.0, 3.0),
    "age": Uniform(18.0, 75.0),
    "dose": Constant(4.0),
}
SIZE = 100_000


@pytest.fixture(scope="module")
def patients():
    return sample(POPULATION, KEY, np.arange(SIZE))


@pytest.mark.parametrize("size", [1, 3, 7, 8, 33])
def test_a_patient_is_the_same_in_any_subset(patients, size):
    ids = np.random.default_rng(size).choice(SIZE, size, replace=False)
    for name, values in sample(POPULATION, KEY, ids).items():
        np.testing.assert_array_equal(values, patients[name][ids])


def test_other_variables_change_nothing(patients):
    fewer = sample({"age": POPULATION["age"]}, KEY, range(5))
    np.testing.assert_array_equal(fewer["age"], patients["age"][:5])
    turned = sample(dict(reversed(POPULATION.items())), KEY, range(5))
    np.testing.assert_array_equal(turned["clearance"], patients["clearance"][:5])


def test_other_keys_and_names_change_everything():
    one = sample({"a": Uniform(0, 1), "b": Uniform(0, 1)}, KEY, range(50))
    other = sample({"a": Uniform(0, 1)}, jax.random.key(12), range(50))
    assert not np.any(one["a"] == one["b"]) and not np.any(one["a"] == other["a"])


TRUTHS = {
    "clearance": lambda s: stats.lognorm(np.sqrt(np.log1p((0.3 * s) ** 2)), scale=0.12),
    "receptors": lambda s: stats.lognorm(np.sqrt(np.log1p((0.7 * s) ** 2)), scale=1.0),
    "shift": lambda s: stats.norm(-2.0, 3.0 * s),
    "age": lambda s: stats.uniform(18.0, 57.0 * s),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_distributions(patients, name):
    """The whole distribution; the twin has a spread wrong by 5%."""

    def check(truth):
        return check_continuous(patients[name], truth.cdf, num_comparisons=len(TRUTHS))

    assert_holds_and_twin_fails(check, TRUTHS[name](1.0), TRUTHS[name](1.05))


def test_variables_are_independent(patients):
    ranks = {n: np.argsort(np.argsort(patients[n])) / SIZE - 0.5 for n in TRUTHS}
    names = list(ranks)
    products = [ranks[a] * ranks[b] for i, a in enumerate(names) for b in names[:i]]
    assert check_means(np.stack(products, axis=1), 0.0)
    following = ranks["age"][1:] * ranks["age"][:-1]  # neighbours in identity
    assert check_means(following[::2], 0.0)


def test_constants(patients):
    assert np.all(patients["dose"] == 4.0)
    np.testing.assert_allclose(sample({"x": LogNormal(3.0, 0.0)}, KEY, [1])["x"], 3.0)


def test_streams_never_mix():
    keys = [
        named_key(KEY, "ab"),
        named_key(KEY, "a", "b"),
        named_key(KEY, "b", "a"),
        noise_key(KEY, "placebo", "Treg"),
        noise_key(KEY, "Treg", "placebo"),
        noise_key(KEY, "placebo", "Th"),
        identity_key(KEY, "Treg"),
        KEY,
    ]
    words = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}
    assert len(words) == len(keys)


def test_named_keys_do_not_change_between_versions():
    """The numbers of old trials stay theirs: a recorded key, and a recorded patient."""
    words = np.asarray(jax.random.key_data(named_key(jax.random.key(1), "reaction noise", "arm")))
    assert words.tolist() == RECORDED_KEY
    value = sample({"clearance": LogNormal(1.0, 0.3)}, jax.random.key(1), [4])["clearance"][0]
    assert value == pytest.approx(RECORDED_PATIENT, rel=1e-14)


RECORDED_KEY = [231190362, 1912702928]
RECORDED_PATIENT = 1.2021068752968507


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LogNormal(0.0, 0.1), "median of LogNormal is 0"),
        (lambda: LogNormal(1.0, -0.1), "cv of LogNormal is -0.1"),
        (lambda: Normal(float("nan"), 1.0), "mean of Normal is nan"),
        (lambda: Uniform(2.0, 1.0), "high=1 below low=2"),
        (lambda: Constant("x"), "value of Constant is 'x'"),
        (lambda: sample(POPULATION, KEY, [-1]), "patient_ids"),
        (lambda: sample(POPULATION, KEY, [0.5]), "patient_ids"),
        (lambda: named_key(KEY, 3), "name 3 of a random stream"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(engine.InvalidInput, match=message):
        make()
