"""Every case of the public PEtab test suite (version 1, SBML), against its own solution.

The suite is the package `petabtests`, whose cases lie beside its code; nothing of it is imported.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import engine


def _cases() -> list[Path]:
    spec = find_spec("petabtests")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent / "cases" / "v1.0.0" / "sbml"
    return sorted(one for one in folder.glob("*") if one.name.isdigit())


CASES = _cases()
pytestmark = pytest.mark.full


def test_suite_is_installed():
    if not CASES:
        pytest.skip("pip install petabtests brings the cases of the PEtab test suite")
    assert len(CASES) >= 18


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def solved(request):
    """A case's problem and its solution."""
    case = request.param
    solution = yaml.safe_load((case / f"_{case.name}_solution.yaml").read_text())
    tables = [pd.read_csv(case / name, sep="\t") for name in solution["simulation_files"]]
    return engine.read_petab(case / f"_{case.name}.yaml"), solution, pd.concat(tables)


def test_likelihood_and_simulations_are_the_solution(solved):
    problem, solution, table = solved
    nominal = problem.nominal_parameters
    value = problem.negative_log_likelihood(nominal)
    assert abs(-value - solution["llh"]) < solution["tol_llh"]
    assert np.allclose(
        problem.simulate(nominal), table["simulation"], rtol=0, atol=solution["tol_simulations"]
    )
    location, scale = problem.predict(nominal)
    chi2 = np.sum(((problem.rows.observed - location) / scale) ** 2)
    assert abs(chi2 - solution["chi2"]) < solution["tol_chi2"]


def test_gradient_is_the_slope_of_the_likelihood(solved):
    problem, _, _ = solved
    nominal = problem.nominal_parameters
    _, gradient = problem.value_and_gradient(nominal)
    for name, slope in gradient.items():
        step = 1e-4 * max(abs(nominal[name]), 1e-2)
        sides = [
            problem.negative_log_likelihood({**nominal, name: nominal[name] + sign * step})
            for sign in (1, -1)
        ]
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-5)
