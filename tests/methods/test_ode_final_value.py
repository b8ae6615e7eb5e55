"""The value at the horizon as a tally of the rate equations."""

import jax
import numpy as np
import pytest

import engine
from tests.simulation import network

DECAY = network(
    {"X": 100, "Y": 0},
    [("X -> Y", engine.MassAction("k"))],
    parameters={"k": 0.3},
)


@pytest.mark.parametrize("ts", [pytest.param([5.0], marks=pytest.mark.full), [1.0, 2.5, 5.0]])
def test_it_is_the_last_saved_value(ts: list[float]) -> None:
    tallies = {"end": engine.FinalValue("X + 2 * Y"), "peak": engine.Maximum("X")}
    doses = engine.Regimen([engine.Dose(50.0, 2.0, into="X")])
    found = engine.simulate(
        DECAY, engine.ODE(), ts, key=jax.random.key(0), regimen=doses, tallies=tallies
    )
    left = 100 * np.exp(-0.3 * 5.0) + 50 * np.exp(-0.3 * 3.0)
    assert found.tallies["end"][0] == pytest.approx(2 * 150 - left, rel=1e-5)
    assert found.tallies["end"][0] == pytest.approx(
        found["X"][0, -1] + 2 * found["Y"][0, -1], rel=1e-6
    )


def test_a_dose_at_the_horizon_counts() -> None:
    doses = engine.Regimen([engine.Dose(50.0, 5.0, into="X")])
    found = engine.simulate(
        DECAY,
        engine.ODE(),
        [5.0],
        key=jax.random.key(0),
        regimen=doses,
        tallies={"end": engine.FinalValue("X")},
    )
    assert found.tallies["end"][0] == pytest.approx(100 * np.exp(-1.5) + 50, rel=1e-5)
