"""Profiles and bootstrap against regressions and the Fisher information."""

import jax.numpy as jnp
import numpy as np
import pytest

import engine
from engine.fitting.bootstrap import parametric_bootstrap
from engine.fitting.fisher import fisher_information
from engine.fitting.petab_objective import PetabObjective
from engine.fitting.profile import THRESHOLD_95, profile_likelihood
from engine.optimise.objective import LeastSquares
from engine.optimise.space import Bounded, Space
from engine.optimise.transforms import Log10
from tests.fitting.petab_files import measured, write_problem
from tests.network import sbml_text as sbml

DESIGN = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
DATA = np.array([0.2, 1.1, 1.9, 3.2])
LINE = Space([Bounded("offset", -20.0, 20.0), Bounded("slope", -20.0, 20.0)])


def residuals(values):
    return (jnp.asarray(DATA) - jnp.asarray(DESIGN) @ values) / 0.3


def test_profile_and_information_of_a_regression():
    objective = LeastSquares(LINE, residuals)
    point = np.linalg.lstsq(DESIGN, DATA, rcond=None)[0]
    covariance = np.linalg.inv(DESIGN.T @ DESIGN / 0.09)
    information = fisher_information(objective, point)
    np.testing.assert_allclose(information.covariance, covariance, rtol=1e-6)
    assert information.weak == () and information.remarks() == []
    expected = 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    assert information.log_evidence_term == pytest.approx(expected, rel=1e-6)
    for i, name in enumerate(LINE.names):
        found = profile_likelihood(objective, point, name, reach=2.0)
        half = np.sqrt(2 * THRESHOLD_95 * covariance[i, i])
        np.testing.assert_allclose(
            [found.lower, found.upper], point[i] + half * np.array([-1, 1]), rtol=1e-3
        )
        rise = 0.5 * (found.grid - point[i]) ** 2 / covariance[i, i]
        np.testing.assert_allclose(found.values - found.best, rise, atol=1e-4)
        assert found.is_open == (False, False) and "is identifiable" in found.remark()


def test_an_open_profile_says_what_to_do():
    # Only the product is seen: each factor can be anything within its bounds.
    space = Space([Bounded(n, 1e-2, 1e2, Log10()) for n in ("a", "b")])
    objective = LeastSquares(space, lambda v: (v[:1] * v[1:] - 2.0) / 0.1)
    point = np.log10([2.0, 1.0])
    found = profile_likelihood(objective, point, "a")
    # Up to where b would leave its bounds: a from 0.02, with b = 100.
    assert found.is_open[1] is True
    assert "a is not limited above" in found.remark()
    information = fisher_information(objective, point)
    assert information.weak == (("a", "b"),)
    assert "only in combination" in information.remarks()[0]
    with pytest.raises(engine.InvalidInput, match="'c' is not estimated"):
        profile_likelihood(objective, point, "c")


@pytest.mark.full
def test_bootstrap_has_the_standard_errors_of_the_information(tmp_path):
    ts = np.linspace(0.2, 4.0, 40)
    truth = 3.0 * np.exp(-0.6 * ts)
    path = write_problem(
        tmp_path,
        sbml.document(
            species=sbml.species("A", initialConcentration=1.0),
            parameters=sbml.parameter("k", 1.0) + sbml.parameter("a0", 1.0),
            initial=sbml.initial("A", "a0"),
            reactions=sbml.reaction("lose", "A", "", "k * A"),
        ),
        {n: {"parameterScale": "log10"} for n in ("k", "a0")},
        {"c": {}},
        {"a": {"observableFormula": "A", "noiseFormula": "0.1"}},
        [measured("a", "c", t, m) for t, m in zip(ts, truth, strict=True)],
    )
    objective = PetabObjective(engine.read_petab(path))
    point = np.log10([0.6, 3.0])
    found = parametric_bootstrap(objective, point, num_replicates=200, batch=50)
    expected = fisher_information(objective, point).standard_errors
    # The relative error of a standard deviation is 1 / sqrt(2 R) = 5%; five of them either way.
    np.testing.assert_allclose(found.standard_errors, expected, rtol=0.25)
    lower, upper = found.interval()
    assert np.all(lower < point) and np.all(point < upper)
    assert np.all(upper - lower > 2.5 * expected)
