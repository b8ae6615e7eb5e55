"""Steps and events of a trajectory against stored counts: no change may cost steps unnoticed."""

import json

import numpy as np
import pytest

from benchmarks import counts
from benchmarks.networks import REFERENCE
from engine import FiringCount
from tests.statistics import assert_twin_fails, check_means

NUM, SEED = 128, 20
# Comparisons of the whole gate: networks x methods x (steps, events).
NUM_COMPARISONS = 2 * len(counts.CASES)
# Standard errors of the stored means that a right program is allowed besides its own.
SLACK_SIGMAS = 5.0
# Compilation dominates: every network by two methods, but for one that takes as long as three
# others; the rest in the fuller suite.
QUICK = {case for case in counts.CASES if case[1] in ("Direct", "TauLeaping")}
QUICK -= {("vilar", "TauLeaping")}
CASES = [pytest.param(*c, marks=() if c in QUICK else pytest.mark.full) for c in counts.CASES]


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads(counts.STORED.read_text())


@pytest.fixture(autouse=True)
def models(shared, monkeypatch):
    """The reference networks, where the tests find them."""
    if not (shared / "reference_models").is_dir():
        pytest.skip(f"the reference networks are not in {shared}")
    monkeypatch.setenv("ENGINE_SHARED", str(shared))


@pytest.mark.parametrize("network, method", CASES)
def test_counts(network: str, method: str, stored: dict) -> None:
    found = counts.simulated(network, method, NUM, SEED)
    expected = stored[network][method]
    for what, values in (("steps", found.num_steps), ("events", found.num_events)):
        mean, sd = expected[f"mean_{what}"], expected[f"sd_{what}"]
        slack = SLACK_SIGMAS * sd / np.sqrt(expected["num"])

        def check(scale: float, values=values, mean=mean, slack=slack):
            return check_means(
                values.astype(float), scale * mean, slack=slack, num_comparisons=NUM_COMPARISONS
            )

        result = check(1.0)
        assert result.is_ok, f"{network}, {method}, {what}: {result.message}"
        if mean:
            assert_twin_fails(check, 1.1)


@pytest.mark.parametrize("network", REFERENCE)
def test_every_step_is_an_event_or_a_stop(network: str) -> None:
    """Direct: firings, counted one by one, and stops are all there is."""
    reactions = counts.case_of(network).network.reaction_names
    tallies = {name: FiringCount(name) for name in reactions}
    found = counts.simulated(network, "Direct", 16, SEED, tallies=tallies)
    fired = sum(found.tallies[name] for name in reactions)
    np.testing.assert_array_equal(found.num_events, fired)
    np.testing.assert_array_equal(found.num_steps, fired + counts.POINTS)


def test_leaps_hold_more_events_than_steps() -> None:
    """dimer_decay: firings are counted one by one, in fewer than a 20th of the steps."""
    reactions = counts.case_of("dimer_decay").network.reaction_names
    tallies = {name: FiringCount(name) for name in reactions}
    found = counts.simulated("dimer_decay", "TauLeaping", 64, SEED, tallies=tallies)
    fired = sum(found.tallies[name] for name in reactions)
    np.testing.assert_array_equal(found.num_events, fired)
    assert np.all(found.num_steps < fired / 20)


@pytest.mark.full
@pytest.mark.parametrize("network", counts.STEPS)
def test_langevin_takes_its_steps(network: str) -> None:
    """The horizon in steps of dt, cut at save times."""
    found = counts.simulated(network, "Langevin", 8, SEED)
    between = counts.case_of(network).horizon / counts.POINTS
    least = np.floor(between / counts.STEPS[network] + 1e-9) * counts.POINTS
    assert np.all((found.num_steps >= least) & (found.num_steps <= least + 2 * counts.POINTS))
