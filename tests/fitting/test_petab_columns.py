"""A column whose name nearly is one of PEtab's is warned of in one line; others are one's own."""

import warnings

import pytest

import engine
from tests.fitting.petab_files import measured, write_problem
from tests.network import sbml_text as sbml

MODEL = sbml.document(
    species=sbml.species("A", initialConcentration=1.0),
    parameters=sbml.parameter("k", 1.0),
    reactions=sbml.reaction("lose", "A", "", "k * A"),
)


def written(folder, parameter=None, observable=None, measurement=None):
    return write_problem(
        folder,
        MODEL,
        parameters={"k": parameter or {}},
        conditions={"c": {}},
        observables={"a": {"observableFormula": "A", **(observable or {})}},
        measurements=[measured("a", "c", 1.0, 0.5, **(measurement or {}))],
    )


MISSPELT = {
    "prior": ({"parameter": {"objectivePrior": "normal"}}, "objectivePriorType"),
    "case": ({"parameter": {"objectivepriortype": "normal"}}, "objectivePriorType"),
    "noise": ({"measurement": {"noiseParameter": 0.1}}, "noiseParameters"),
    "rest": ({"measurement": {"preequilibrationCondition": "c"}}, "preequilibrationConditionId"),
    "name": ({"observable": {"observable_name": "a"}}, "observableName"),
}
OWN = {
    "a unit": {"parameter": {"parameterUnit": "1/h"}, "observable": {"observableUnit": "nM"}},
    "a remark": {"measurement": {"comment": "x", "experimentName": "y", "useData": True}},
    "beside PEtab's": {"measurement": {"noiseParameters": "", "noiseParameters_old": 0.1}},
}


@pytest.mark.parametrize("case", MISSPELT)
def test_a_misspelt_column_is_warned_of(case, tmp_path):
    more, meant = MISSPELT[case]
    (given,) = next(iter(more.values()))
    with pytest.warns(UserWarning) as found:
        engine.read_petab(written(tmp_path, **more))
    (text,) = [str(one.message) for one in found]
    assert f"'{given}' is not PEtab's" in text
    assert text.endswith(f"did you mean '{meant}'?")
    assert "\n" not in text
    assert found[0].filename == __file__


@pytest.mark.parametrize("case", OWN)
def test_a_column_of_ones_own_is_not(case, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.read_petab(written(tmp_path, **OWN[case]))
