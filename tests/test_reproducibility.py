"""A patient's trajectory depends on the key, the patient and the replicate, and on nothing else."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import engine
from engine import Event, FirstPassage, Formula, Maximum, TimeIntegral, execute
from engine.kernel import driver as drivers
from tests.simulation import network, run

TS = np.array([0.0, 0.5, 1.0, 2.5, 4.0])
NUM = 300


def model() -> engine.ReactionNetwork:
    """Everything at once: a drug, a rare reaction, an event with a delay, a variable, a rule."""
    return network(
        {"X": 5, "Y": 0, "R": 0},
        [
            ("0 -> X", Formula("20 * D / (1 + D)")),
            ("X -> Y", 0.8),
            ("2 Y -> X", 0.05),
            ("Y -> 0", 0.3),
            ("X -> X + R", 1e-5),
        ],
        parameters={"gain": 1.0},
        inputs=["D"],
        events=[Event("boost", "Y > 9", {"X": "X + 3"}, delay="0.2", is_persistent=False)],
    )


def simulated(num: int = NUM, **options) -> engine.Ensemble:
    defaults = {
        "inputs": {"D": engine.OneCompartment(clearance=1.0, volume=2.0, absorption=1.5)},
        "regimen": engine.Regimen.repeated(6.0, into="D", every=1.0, num_doses=4),
        "tallies": {
            "area": TimeIntegral("X * D"),
            "top": Maximum("X + Y"),
            "first": FirstPassage("Y > 18"),
        },
    }
    return run(model(), TS, num, seed=11, **defaults | options)


@pytest.fixture(scope="module")
def base() -> engine.Ensemble:
    return simulated()


def assert_same(found: engine.Ensemble, base: engine.Ensemble, rows=slice(None)) -> None:
    """Bit for bit."""
    np.testing.assert_array_equal(found.counts, base.counts[rows])
    np.testing.assert_array_equal(found.num_events, base.num_events[rows])
    np.testing.assert_array_equal(found["D"], base["D"][rows])
    for name, values in found.tallies.items():
        np.testing.assert_array_equal(values, base.tallies[name][rows], err_msg=name)


def test_the_base_is_worth_comparing(base: engine.Ensemble) -> None:
    assert np.isfinite(base.tallies["first"]).any() and np.isinf(base.tallies["first"]).any()
    pairs = np.column_stack([base.tallies["area"], base.num_events])
    assert len(np.unique(pairs, axis=0)) == NUM


# Each number of lanes and each length of a block once; all pairs in the fuller suite.
QUICK = ((128, 7), (256, 1), (1024, 64))


@pytest.mark.parametrize(
    ("lanes", "block"),
    [
        pytest.param(lanes, block, marks=() if (lanes, block) in QUICK else pytest.mark.full)
        for lanes in (128, 256, 1024)
        for block in (1, 7, 64)
    ],
)
def test_lanes_and_blocks(base: engine.Ensemble, lanes: int, block: int) -> None:
    assert_same(simulated(method=engine.Direct(lanes=lanes, block=block)), base)


@pytest.mark.parametrize("chunk", [pytest.param(64, marks=pytest.mark.full), 256])
def test_chunks(base: engine.Ensemble, monkeypatch, chunk: int) -> None:
    monkeypatch.setattr(execute, "SMALLEST_CHUNK", min(chunk, 128))
    with drivers.using(drivers.XLA._replace(largest_chunk=chunk)):
        assert_same(simulated(), base)


@pytest.mark.parametrize("threads", ["1", pytest.param("2", marks=pytest.mark.full), "5"])
def test_threads(base: engine.Ensemble, monkeypatch, threads: str) -> None:
    monkeypatch.setenv("ENGINE_NUM_THREADS", threads)
    assert_same(simulated(), base)


def test_cohorts_and_subsets(base: engine.Ensemble) -> None:
    assert_same(simulated(3), simulated(8), slice(3))
    assert_same(simulated(8), base, slice(8))
    chosen = np.array([250, 3, 77, 299])
    assert_same(simulated(4, patient_ids=chosen), base, chosen)


def test_a_split_cohort_is_the_whole_one(base: engine.Ensemble) -> None:
    for ids in (np.arange(100), np.arange(100, NUM)):
        assert_same(simulated(len(ids), patient_ids=ids), base, ids)


def test_replicates_are_other_paths_of_the_same_patient() -> None:
    few, many = simulated(4, num_replicates=2), simulated(4, num_replicates=3)
    rows = np.array([0, 1, 3, 4, 6, 7, 9, 10])
    assert_same(few, many, rows)
    assert not np.array_equal(many.counts[0], many.counts[1])


def test_tallies_and_records_do_not_disturb(base: engine.Ensemble) -> None:
    bare = simulated(tallies=None, record=["Y"])
    np.testing.assert_array_equal(bare["Y"], base["Y"])
    one = simulated(tallies={"top": Maximum("X + Y")}, record=())
    np.testing.assert_array_equal(one.tallies["top"], base.tallies["top"])
    assert base.levels and bare.levels and not one.levels
    with pytest.raises(engine.InvalidInput, match=r"'D' was not recorded; .* record a species"):
        one["D"]


def test_keys(base: engine.Ensemble) -> None:
    other = run(model(), TS, 3, seed=12, inputs={"D": engine.ConstantLevel(1.0)})
    again = run(model(), TS, 3, seed=12, inputs={"D": engine.ConstantLevel(1.0)})
    assert_same(again, other)
    assert not np.array_equal(other.counts, base.counts[:3])


def test_equal_numbers_shared_or_per_patient(base: engine.Ensemble) -> None:
    assert_same(simulated(x0={"X": np.full(NUM, 5)}, params={"gain": np.ones(NUM)}), base)


def test_the_users_precision_changes_nothing(base: engine.Ensemble) -> None:
    with jax.enable_x64(True):
        assert_same(simulated(), base)


_DIGEST = """
import sys, hashlib, jax
import engine
if sys.argv[1] == "configured":
    assert engine.configure_cpu() in ("set", "already set")
from tests.test_reproducibility import simulated
e = simulated(64)
print(hashlib.sha256(e.counts.tobytes() + e.tallies["area"].tobytes()).hexdigest())
"""


def test_compiler_options_change_nothing() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    digests = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST, how],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for how in ("configured", "plain")
    }
    assert len(digests) == 1


def test_new_numbers_do_not_recompile(monkeypatch) -> None:
    """Parameters, counts, doses, keys, names of arms and cohort sizes are data."""
    seen = []
    original = execute.runner

    def recording(*arguments):
        seen.append(original(*arguments))
        return seen[-1]

    monkeypatch.setattr(execute, "runner", recording)
    monkeypatch.setenv("ENGINE_NUM_THREADS", "1")
    for size, dose in ((20, 1.0), (50, 2.0), (100, 0.0), (3, 5.0)):
        simulated(
            size,
            params={"gain": np.full(size, 2.0 + dose)},
            x0={"X": np.arange(size)},
            regimen=engine.Regimen.repeated(dose, into="D", every=0.7, num_doses=3),
            method=engine.Direct(lanes=48),  # as in no other test: nothing is compiled for it yet
        )
    assert len({id(one) for one in seen}) == 1 and seen[0].num_compilations == 1


@pytest.mark.parametrize("number", [3, 12])
def test_a_regimen_for_all_is_one_for_each(number: int) -> None:
    """A lane's dose is chosen among few that all share, and looked up among many or its own."""
    dosed = network(
        {"X": 3},
        [("0 -> X", Formula("k * D")), ("X -> 0", 0.7)],
        parameters={"k": 2.0},
        inputs=["D"],
    )
    doses = [engine.Dose(1.0 + at, 0.5 * at, into="XD"[at % 2]) for at in range(number)]
    regimen = engine.Regimen(doses)
    inputs = {"D": engine.OneCompartment(clearance=1.0, volume=2.0)}
    shared, own = (
        run(dosed, [1.0, 3.3, 8.0], 40, inputs=inputs, regimen=one)
        for one in (regimen, [regimen] * 40)
    )
    assert_same(shared, own)
    np.testing.assert_array_equal(shared["D"], own["D"])
    assert np.ptp(shared["X"][:, 0]) > 0
