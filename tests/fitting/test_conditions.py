"""Measurements under many conditions, against closed forms of immigration and death."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import engine
from engine.fitting.condition_objective import ConditionObjective
from engine.fitting.fisher import FisherInformation, fisher_information
from engine.fitting.measurements import Measurements, per_group
from engine.fitting.predictions import predict_rows, residual_table
from engine.optimise.gauss_newton import GaussNewton
from engine.optimise.likelihoods import Gaussian, LogNormal, fisher_weights
from engine.optimise.multi_start import multi_start
from engine.optimise.space import Bounded, Space
from engine.optimise.transforms import Log10

TRUTH = {
    "potency": 3.0,
    "death": 0.8,
    "sd": 0.05,
    "gain[a]": 2.0,
    "gain[b]": 7.0,
    "floor[a]": 1.5,
    "floor[b]": 0.5,
}
TIMES, DOSES, START = (0.5, 1.0, 3.0), (0.3, 1.0, 4.0, 9.0), {"a": 0.0, "b": 6.0}


def network():
    """Immigration at a rate that an input sets, and death."""
    return engine.ReactionNetwork(
        species={"X": 0},
        parameters={"birth": 1.0, "death": 0.8},
        reactions=[
            engine.Reaction("0 -> X", engine.MassAction("birth * drug")),
            engine.Reaction("X -> 0", engine.MassAction("death")),
        ],
        inputs=("drug",),
        assignment_rules={"double": "2 * X"},
        name="immigration",
    )


def closed_form(frame, values):
    """What is measured of each row, by the closed form of the mean."""
    gone = np.exp(-values["death"] * frame["t"])
    birth = values["potency"] * frame["strength"] * frame["drug"]
    mean = frame["X"] * gone + birth / values["death"] * (1.0 - gone)
    gain = frame["kind"].map(lambda k: values[f"gain[{k}]"])
    return (frame["kind"].map(lambda k: values[f"floor[{k}]"]) + gain * 2.0 * mean).to_numpy()


def frame(repeats=1):
    rows = [
        {"t": t, "drug": d, "kind": k, "X": START[k], "strength": s}
        for t in TIMES
        for d in DOSES
        for k in "ab"
        for s in (0.5, 2.0)
    ]
    return pd.DataFrame(rows * repeats)


def measurements(rows, values):
    return Measurements.from_frame(
        rows.assign(m=values), "t", "m", ["drug", "X", "strength"], ["kind"]
    )


def objective(data, likelihood=None, **changes):
    space = Space(
        [
            Bounded("potency", 0.1, 100.0, Log10()),
            Bounded("death", 0.01, 10.0, Log10()),
            Bounded("sd", 1e-3, 1.0, Log10()),
            *per_group("gain", data, ["kind"], 0.1, 100.0, Log10()),
            *per_group("floor", data, ["kind"], 0.1, 10.0, Log10()),
        ]
    )
    given = {
        "network": network(),
        "space": space,
        "data": data,
        "observable": "floor + gain * double",
        "noise": "sd",
        "groups": {"gain": ["kind"], "floor": ["kind"]},
        "links": {"birth": "potency * strength"},
        "likelihood": likelihood or LogNormal(),
    }
    return ConditionObjective(**(given | changes))


def noisy(rows, key, values=TRUTH):
    draws = np.random.default_rng(key).standard_normal(len(rows))
    return measurements(rows, closed_form(rows, values) * np.exp(values["sd"] * draws))


def test_value_is_the_density_and_its_slopes_are_differences():
    data = noisy(frame(), 2)
    found = objective(data)
    assert data.num_conditions == 16
    point = found.space.to_point({**TRUTH, "potency": 2.5, "sd": 0.3})
    law = stats.lognorm(0.3, scale=closed_form(frame(), {**TRUTH, "potency": 2.5}))
    with jax.enable_x64(True):
        value = jax.jit(found.value)
        local = jax.jit(found.local)(jnp.asarray(point))
        steps = 1e-5 * np.eye(len(point))
        slopes = [float(value(point + s) - value(point - s)) / 2e-5 for s in steps]
    assert float(local.value) == pytest.approx(-law.logpdf(data.values).sum(), rel=1e-7)
    np.testing.assert_allclose(local.gradient, slopes, rtol=1e-5, atol=1e-3)


def test_the_weights_are_the_expected_squares_of_the_score():
    draws = np.random.default_rng(3).standard_normal(200_000)
    for likelihood, data in (
        (Gaussian(), 4.0 + 0.3 * draws),
        (LogNormal(), 4.0 * np.exp(0.3 * draws)),
    ):
        with jax.enable_x64(True):
            score = jax.vmap(jax.grad(likelihood.negative_log, argnums=(1, 2)), (0, None, None))
            scores = score(jnp.asarray(data), jnp.asarray(4.0), jnp.asarray(0.3))
            weights = fisher_weights(likelihood, jnp.asarray(4.0), jnp.asarray(0.3))
        for found, weight in zip(scores, weights, strict=True):
            squares = np.asarray(found) ** 2
            bound = 4.5 * squares.std() / np.sqrt(len(squares))
            assert abs(squares.mean() - float(weight)) < bound
            assert abs(squares.mean() - 1.1 * float(weight)) > bound


@pytest.mark.full
def test_a_fit_finds_the_truth_and_predicts_what_it_has_not_seen():
    """The held-out strength is 2.0; a twin that swaps the two strengths must fail."""
    rows = frame(repeats=3)
    is_held = (rows["strength"] == 2.0).to_numpy()
    everything = noisy(rows, 4)
    train, seen = everything.where(~is_held), everything.values[is_held]
    fit = objective(train)
    fits = multi_start(fit, GaussNewton(), fit.space.sample(3, seed=0), batch=3)
    information = fisher_information(fit, fits.points[fits.best])
    z = (information.point - fit.space.to_point(TRUTH)) / information.standard_errors
    assert np.all(np.abs(z) < stats.norm.isf(1e-5 / len(z))), z
    # Right and wrong rows in one call: the twin's strength is that of the other rows.
    held = rows[is_held]
    both = pd.concat([held, held.assign(strength=0.5)])
    twice = measurements(both, np.tile(seen, 2))
    found = predict_rows(fit.on(twice), information)
    law, is_first = stats.chi2(len(held)), np.arange(len(both)) < len(held)
    for rows_of, is_right in ((is_first, True), (~is_first, False)):
        part = found.where(rows_of)
        away = np.log(seen / part.values)
        distance = away @ np.linalg.solve(part.covariance, away)
        assert (law.ppf(1e-5) < distance < law.isf(1e-5)) == is_right


def test_interval_of_a_scale_is_the_closed_form():
    """One gain, k rows: the logarithm's variance is sd^2 (1 + 1 / k)."""
    data = Measurements(np.full(8, 1.0), np.full(8, 5.0), {"drug": np.full(8, 2.0)})
    space = Space([Bounded("gain", 0.01, 100.0, Log10())])
    fit = ConditionObjective(network(), space, data, "gain * X", "0.2", likelihood=LogNormal())
    # The rate equations leave birth * drug (1 - exp(-death)) / death.
    point = np.log10([5.0 * 0.8 / (2.0 * (1.0 - np.exp(-0.8)))])
    matrix = np.array([[8.0 * (np.log(10.0) / 0.2) ** 2]])
    information = FisherInformation(space, point, matrix, np.array([False]), ())
    found = predict_rows(fit, information, level=0.9)
    reach = stats.norm.isf(0.05) * 0.2 * np.sqrt(1.0 + 1.0 / 8.0)
    np.testing.assert_allclose(found.upper, 5.0 * np.exp(reach), rtol=1e-5)
    np.testing.assert_allclose(found.lower, 5.0 * np.exp(-reach), rtol=1e-5)
    np.testing.assert_allclose(found.covariance, 0.04 * (np.eye(8) + 1.0 / 8.0), rtol=1e-6)


def test_residuals_by_group():
    data = Measurements(np.zeros(4), [1.0, 4.0, 2.0, 2.0], labels={"cell": ["NK", "NK", "T", "T"]})
    table = residual_table(data, [2.0, 2.0, 2.0, 2.0 * np.e], ["cell"]).set_index("cell")
    assert table.loc["NK", "r_squared"] == pytest.approx(0.0)
    assert table.loc["NK", "rms"] == pytest.approx(np.log(2.0))
    assert table.loc["T", "bias"] == pytest.approx(-0.5)
    assert np.isnan(table.loc["T", "r_squared"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observable": "gain * dubble"}, "'dubble' in a formula of the fit is unknown"),
        ({"links": {"birth": "potency * strenght"}}, "'strenght' in the link of 'birth'"),
        ({"links": {}}, "nothing uses parameter 'potency'"),
        ({"links": {"birth": "potency"}}, "condition 'strength' sets nothing"),
        ({"groups": {"gain": ["sort"], "floor": ["kind"]}}, "'sort' is not a label"),
    ],
)
def test_what_means_nothing_is_refused(changes, words):
    with pytest.raises(engine.InvalidInput, match=words.replace("(", r"\(")):
        objective(noisy(frame(), 5), **changes)


def test_rows_without_a_parameter_or_a_number_are_refused():
    fit = objective(noisy(frame(), 6))
    rows = frame().assign(kind="c", X=0.0)
    with pytest.raises(engine.InvalidInput, match=r"'floor\[c\]'|'gain\[c\]'"):
        fit.on(measurements(rows, np.ones(len(rows))))
    with pytest.raises(engine.InvalidInput, match="'values' is nan in row 1"):
        Measurements([0.0, 1.0], [1.0, np.nan])
    with pytest.raises(engine.InvalidInput, match="no column 'dose'"):
        Measurements.from_frame(frame(), "t", "drug", ["dose"])


def test_a_rounded_initial_count_cannot_be_fitted():
    from engine.models.il2 import il2_receptor

    data = Measurements([1.0], [5.0], {"IL2": [0.1]})
    space = Space([Bounded("k_endo", 0.01, 1.0, Log10())])
    with pytest.raises(engine.InvalidInput, match="through a rounding, which has no slope"):
        ConditionObjective(il2_receptor(), space, data, "active", "1.0")
