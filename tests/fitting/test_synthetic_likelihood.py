"""The synthetic likelihood against its closed form: immigration and death is Poisson."""

import jax
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2, multivariate_normal
from scipy.stats import t as student

import engine
from engine.fitting.stochastic_fit import stochastic_fit
from engine.fitting.synthetic_likelihood import SyntheticLikelihood
from engine.optimise.space import Bounded, Space
from engine.optimise.transforms import Log10

TS = np.array([0.5, 3.0])
NUM = 200
SPACE = Space([Bounded("birth", 1.0, 1e3, Log10()), Bounded("death", 0.01, 10.0, Log10())])
TRUTH = {"birth": 40.0, "death": 0.8}
AT = {"birth": 70.0, "death": 1.0}


def network():
    return engine.ReactionNetwork(
        species={"X": 0},
        parameters=TRUTH,
        reactions=[
            engine.Reaction("0 -> X", engine.MassAction("birth")),
            engine.Reaction("X -> 0", engine.MassAction("death")),
        ],
        name="immigration",
    )


def mean_at(birth, death):
    return birth / death * (1.0 - np.exp(-death * TS))


def cells(truth, seed):
    rng = np.random.default_rng(seed)
    return [rng.poisson(m, size=NUM) for m in mean_at(**truth)]


def closed_form(snapshots, birth, death, widths_at=None):
    """-log density of each snapshot's mean and variance under Poisson's moments."""
    total = 0.0
    means = mean_at(birth, death)
    widths = means if widths_at is None else mean_at(**widths_at)
    for x, m, w in zip(snapshots, means, widths, strict=True):
        # Central moments of a Poisson variable: m, m, m + 3 m^2.
        wide = w + 3 * w**2 - w**2 * (NUM - 3) / (NUM - 1)
        law = multivariate_normal([m, m], np.array([[w, w], [w, wide]]) / NUM)
        total -= law.logpdf([x.mean(), x.var(ddof=1)])
    return total


def slopes(snapshots, at, widths_at=None):
    """The closed form's derivatives by the values."""
    found = []
    for name in SPACE.names:
        h = 1e-5 * at[name]
        ends = [
            closed_form(snapshots, **{**at, name: at[name] + s * h}, widths_at=widths_at)
            for s in (1, -1)
        ]
        found.append((ends[0] - ends[1]) / (2 * h))
    return np.array(found)


def test_value_and_gradient_are_the_closed_form():
    snapshots, num_cells, num_keys = cells(TRUTH, 1), 10_000, 12
    objective = SyntheticLikelihood(network(), SPACE, TS, {"X": snapshots}, num_cells=num_cells)
    found = [objective.value_and_gradient(AT, jax.random.key(5 + i)) for i in range(num_keys)]
    assert objective.value(AT, jax.random.key(5)) == (found[0].value, found[0].standard_error)
    rows = np.array([[one.value, *one.gradient] for one in found])
    mean, error = rows.mean(axis=0), rows.std(axis=0, ddof=1) / num_keys**0.5
    # Its standard error is the spread of the values: a chi-square of 11, one in 100,000 outside.
    ratio = rows[:, 0].std(ddof=1) / np.mean([one.standard_error for one in found])
    assert chi2.ppf(5e-6, 11) < 11 * ratio**2 < chi2.ppf(1 - 5e-6, 11)
    # Three checks of 12 keys that fail together once in 100,000, and the plug-in's bias: the noise
    # of two moments in units of the data's, and that of the widths.
    truth = np.array([closed_form(snapshots, **AT), *slopes(snapshots, AT)])
    bias = 4 * len(TS) * NUM / num_cells + 20 / num_cells * np.abs(truth)
    bound = student.ppf(1 - 5e-6 / 3, 11) * error + bias
    assert np.all(np.abs(mean - truth) < bound)
    # Twins: a death rate that is 2% off, and widths that do not follow the parameters.
    wrong = {**AT, "death": AT["death"] * 1.02}
    assert abs(mean[0] - closed_form(snapshots, **wrong)) > bound[0]
    assert np.any(np.abs(mean[1:] - slopes(snapshots, AT, widths_at=AT)) > bound[1:])


@pytest.mark.full
def test_a_descent_finds_the_best_parameters():
    snapshots = cells(TRUTH, 2)
    best = minimize(
        lambda z: closed_form(snapshots, *(10.0**z)), np.log10([30.0, 0.6]), method="Nelder-Mead"
    ).x
    objective = SyntheticLikelihood(network(), SPACE, TS, {"X": snapshots}, num_cells=2_000)
    fit = stochastic_fit(
        objective, {"birth": 30.0, "death": 0.5}, jax.random.key(6), num_steps=45, rate=0.04
    )
    found = np.log10([fit.parameters[n] for n in SPACE.names])
    # The standard errors that the data leave, by the curvature of the closed form.
    h = 1e-3
    hessian = np.array(
        [
            [
                sum(
                    a * b * closed_form(snapshots, *(10.0 ** (best + h * (a * e + b * g))))
                    for a in (1, -1)
                    for b in (1, -1)
                )
                / (4 * h**2)
                for g in np.eye(2)
            ]
            for e in np.eye(2)
        ]
    )
    errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
    # None of thirty keys ends further away; the last points' average alone does with most.
    bound = 0.5 * errors
    assert np.all(np.abs(found - best) < bound)
    # The regression knows the curvature, along the valley and across.
    assert np.linalg.eigvalsh(fit.curvature) == pytest.approx(np.linalg.eigvalsh(hessian), rel=0.5)
    assert np.all(np.abs(found - np.log10([40.0, 0.8])) < 4.9 * errors + bound)
    # A twin: cells that die 30% faster are told apart.
    faster = cells({**TRUTH, "death": 1.04}, 2)
    other = minimize(lambda z: closed_form(faster, *(10.0**z)), best, method="Nelder-Mead").x
    assert not np.all(np.abs(found - other) < bound)


def test_bad_input_is_named():
    with pytest.raises(engine.InvalidInput, match="four or more"):
        SyntheticLikelihood(network(), SPACE, TS, {"X": [np.ones(3)] * 2})
    with pytest.raises(engine.InvalidInput, match="1 snapshots, ts has 2 times"):
        SyntheticLikelihood(network(), SPACE, TS, {"X": [np.ones(5)]})
    objective = SyntheticLikelihood(network(), SPACE, TS, {"X": cells(TRUTH, 1)}, num_cells=50)
    with pytest.raises(engine.InvalidInput, match="'death' has no value"):
        objective.value({"birth": 1.0}, jax.random.key(0))
    with pytest.raises(engine.InvalidInput, match="all simulated cells have 0 of 'X'"):
        objective.value({"birth": 1e-9, "death": 1.0}, jax.random.key(0))
    with pytest.raises(engine.InvalidInput, match="within the bounds"):
        stochastic_fit(objective, {"birth": 0.1, "death": 1.0}, jax.random.key(0))
