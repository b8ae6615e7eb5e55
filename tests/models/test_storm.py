"""The cytokine storm: its mean field against computed targets, its noise against the mean field."""

import jax
import numpy as np
import pytest

import engine
from engine.errors import InvalidInput
from engine.models import MODELS
from engine.models.storm import (
    DOSE,
    DOSE_INTERVAL,
    DOSE_TIME,
    STORM_LEVEL,
    cytokine_storm,
    storm_depot,
)
from tests.statistics import check_means

TS = np.linspace(0.0, 800.0, 401)
# Computed from the source's equations (science/cross_checks.json): largest cytokine level after one
# dose of 10 at 200 h, and after the same dose in daily parts with the tumour at 800 h.
PEAKS = {0.4: 0.0007742, 0.6: 0.003362, 0.8: 0.06636, 1.2: 19.48, 2.0: 36.49}
FRACTIONS = {2: (0.03898, 0.8777), 3: (0.007497, 0.09659), 4: (0.002044, 0.05373)}
DIGITS = 2e-3  # four digits are given, of peaks on a grid


def fractions(number: int) -> engine.Regimen:
    one = engine.Dose(
        DOSE / number, DOSE_TIME, into="depot", interval=DOSE_INTERVAL, additional=number - 1
    )
    return engine.Regimen(one)


def solve(copies: float) -> engine.Ensemble:
    """One dose at the amplifications of PEAKS, then the source's own in 2 to 4 parts."""
    amplification = [*PEAKS, *[0.8] * len(FRACTIONS)]
    return engine.simulate(
        cytokine_storm(copies),
        engine.ODE(rtol=1e-9, atol=1e-6),
        TS,
        key=jax.random.key(0),
        num_patients=len(amplification),
        params={"b_xy": np.array(amplification)},
        inputs={"depot": storm_depot()},
        regimen=[*[fractions(1)] * len(PEAKS), *map(fractions, FRACTIONS)],
        tallies={"peak": engine.Maximum("cytokine")},
    )


@pytest.fixture(scope="module")
def mean_field() -> engine.Ensemble:
    return solve(1e6)


def test_peaks_of_the_source(mean_field: engine.Ensemble) -> None:
    found, expected = mean_field.tallies["peak"][: len(PEAKS)], list(PEAKS.values())
    np.testing.assert_allclose(found, expected, rtol=DIGITS)
    assert np.array_equal(found > STORM_LEVEL, np.array(list(PEAKS)) > 1.0)


def test_fractionated_doses_of_the_source(mean_field: engine.Ensemble) -> None:
    peaks, tumours = zip(*FRACTIONS.values(), strict=True)
    np.testing.assert_allclose(mean_field.tallies["peak"][len(PEAKS) :], peaks, rtol=DIGITS)
    np.testing.assert_allclose(mean_field["tumour"][len(PEAKS) :, -1], tumours, rtol=DIGITS)


def test_the_mean_field_does_not_know_the_copies(mean_field: engine.Ensemble) -> None:
    few = solve(500.0)
    np.testing.assert_allclose(few["tumour"], mean_field["tumour"], rtol=1e-4, atol=1e-5)


@pytest.mark.full
def test_many_copies_are_the_mean_field() -> None:
    """Counts of 1e4 to 1e5: the exact mean is within its errors, and 1 / copies, of the ODE."""
    copies, ts, num = 2e4, [200.0, 208.0, 216.0], 400
    options = {"inputs": {"depot": storm_depot()}, "regimen": fractions(1)}
    network = cytokine_storm(copies)
    mean = engine.simulate(network, engine.ODE(), ts, key=jax.random.key(0), **options)
    exact = engine.simulate(
        network, engine.TauLeaping(), ts, key=jax.random.key(1), num_patients=num, **options
    )
    for name in ("agonist", "tumour"):
        samples, truth = exact[name][:, 1:], mean[name][0, 1:]
        slack = 5e-3 * truth  # the noise shifts the mean of a law that is not linear
        assert check_means(samples, truth, slack=slack)
        assert not check_means(samples, 1.02 * truth, slack=slack)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match="copies_per_unit"):
        cytokine_storm(0.0)


def test_the_library_knows_it() -> None:
    network = MODELS["cytokine_storm"]()
    assert network.name == "cytokine_storm"
    assert all(parameter.source and parameter.unit for parameter in network.parameters)
