"""Published problems: their likelihood at the nominal point, and derivatives by differences."""

import csv

import numpy as np
import pytest

import engine

QUICK = ("Boehm_JProteomeRes2014", "Perelson_Science1996")
SLOW = ("Raia_CancerResearch2011", "Crauste_CellSystems2017", "Schwen_PONE2014")
NAMES = [*QUICK, *(pytest.param(name, marks=pytest.mark.full) for name in SLOW)]


def reference(shared, name):
    """The first number of the table's column, such as "138.222 (AMICI ...)"."""
    with (shared / "science" / "petab_problems.csv").open() as file:
        row = next(r for r in csv.DictReader(file) if r["problem"] == name)
    return float(row["nllh_nominal"].split()[0])


def problem(shared, name):
    return engine.read_petab(shared / "petab" / name / f"{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_nominal_likelihood_is_the_published_one(name, shared):
    one = problem(shared, name)
    found = one.negative_log_likelihood(one.nominal_parameters)
    # The table has as few as three decimals.
    assert found == pytest.approx(reference(shared, name), abs=1e-3)


@pytest.mark.full
@pytest.mark.parametrize("name", ["Boehm_JProteomeRes2014", "Schwen_PONE2014"])
def test_gradient_is_that_of_differences(name, shared):
    one = problem(shared, name)
    rng = np.random.default_rng(3)
    at = one.nominal_parameters
    at |= {n: at[n] * np.exp(0.1 * rng.normal()) for n in one.estimated}
    value, gradient = one.value_and_gradient(at)
    assert value == pytest.approx(one.negative_log_likelihood(at), rel=1e-10)
    for name_ in one.estimated:
        h = 1e-3 * at[name_]
        ends = [one.negative_log_likelihood(at | {name_: at[name_] + s * h}) for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * h)
        scale = max(abs(gradient[name_] * at[name_]), 1.0)
        assert abs(slope - gradient[name_]) * at[name_] < 1e-3 * scale, name_
