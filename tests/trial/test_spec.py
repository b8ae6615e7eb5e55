"""A trial's file: what it says, and how it says what is wrong."""

from pathlib import Path

import pytest

import engine
from engine.trial.biology import read_spec
from engine.trial.spec import TrialSpec
from engine.trial.tables import to_toml
from tests.trial.specs import CONTENTS, contents, tiny

EXAMPLE = Path(__file__).parents[2] / "examples" / "low_dose_il2.toml"


def write(tmp_path, data):
    path = tmp_path / "spec.toml"
    path.write_text(data if isinstance(data, str) else to_toml(data))
    return path


def test_the_example():
    spec = read_spec(EXAMPLE)
    assert [arm.dose for arm in spec.arms] == [0.0, 0.1, 0.26, 0.5, 1.0]
    assert spec.control == "placebo"
    assert spec.window.times()[[0, -1]].tolist() == [420.0, 480.0]
    covariates = spec.population.covariates
    assert all(one.source and one.unit for one in covariates.values())
    assert set(covariates) == {"body_surface", "clearance", "volume", "IL2Ra", "IL2Rb", "gc"}


@pytest.mark.parametrize("spec", [read_spec(EXAMPLE), tiny()], ids=["example", "tiny"])
def test_round_trip(tmp_path, spec):
    assert read_spec(write(tmp_path, spec.contents())) == spec


def test_odd_text_survives(tmp_path):
    arms = [{"name": 'a "quoted" \\ ü\tname', "dose": 1e-7}]
    spec = tiny(arms=arms, name="x=[1]#")
    assert read_spec(write(tmp_path, spec.contents())) == spec


def test_overrides():
    spec = tiny().with_overrides(9, 8)
    assert (spec.population.num_patients, spec.seed) == (9, 8)
    assert tiny().with_overrides(None, None) == tiny()
    with pytest.raises(engine.InvalidInput, match=r"population.num_patients = 0"):
        tiny().with_overrides(0, None)
    with pytest.raises(engine.InvalidInput, match=r"seed = -1"):
        tiny().with_overrides(None, -1)


MUTEIN = {"name": "mine", "kd_alpha": 1.0, "kd_beta_gamma": 2.0, "clearance_scale": 0.5}


def test_molecules():
    assert tiny(molecule={"name": "R38Q"}).molecule.molecule().kd_alpha == 0.71
    assert tiny(molecule=MUTEIN).molecule.molecule().clearance_scale == 0.5


CURVE = CONTENTS["population"]["covariates"]["clearance"]
MISTAKES = {
    "misspelt key": (("sead",), 1, r"unknown key 'sead'; did you mean 'seed'\?"),
    "misspelt nested": (("window", "durration"), 1.0, r"window: unknown key 'durration'.*duration"),
    "misspelt in arm": (("arms", 1, "dos"), 1.0, r"arms\[1\]: unknown key 'dos'; .*'dose'"),
    "text for number": (("arms", 0, "dose"), "0.1", r"arms\[0\]\.dose = '0.1': give"),
    "negative": (
        ("arms", 0, "dose"),
        -1.0,
        r"arms\[0\]\.dose = -1.0: give .*greater than or equal",
    ),
    "not finite": (("arms", 0, "dose"), float("nan"), r"arms\[0\]\.dose = nan: give .*finite"),
    "unit": (("arms", 0, "unit"), "mg", r"arms\[0\]\.unit = 'mg': give 'MIU/m2'"),
    "route": (("arms", 0, "route"), "oral", r"arms\[0\]\.route = 'oral': give 'subcutaneous'"),
    "same arm": (("arms", 1, "name"), "placebo", r"arms has 'placebo' twice"),
    "no interval": (
        ("arms", 0),
        {"name": "placebo", "dose": 0.0, "additional": 2},
        r"additional = 2 needs interval",
    ),
    "no arms": (("arms",), [], r"arms = \[\]: give"),
    "model": (("model",), "il2_recptor", r"model = 'il2_recptor'.*'il2_receptor'"),
    "cell": (("cells", "types"), ["Treg", "Tth"], r"cells.types: 'Tth' is not a cell type"),
    "cell twice": (("cells", "types"), ["Treg", "Treg"], r"cells.types has 'Treg' twice"),
    "no cells": (("cells", "per_patient"), 0, r"cells.per_patient = 0"),
    "half a cell": (("cells", "per_patient"), 1.5, r"cells.per_patient = 1.5: give .*integer"),
    "selective": (("endpoints",), {"selective_for": "NK"}, r"endpoints.selective_for = 'NK'"),
    "molecule": (("molecule",), {"name": "R38X"}, r"molecule: name = 'R38X'.*'R38Q'"),
    "affinities": (("molecule",), {"name": "R38Q", "kd_alpha": 1.0}, r"molecule: 'R38Q' is in the"),
    "weight": (("molecule",), {"name": "R38Q"}, r"arm 'placebo': unit = 'MIU/m2', but the weight"),
    "covariate": (
        ("population", "covariates", "clearence"),
        CURVE,
        r"population.covariates.clearence is unknown; did you mean 'clearance'",
    ),
    "covariate unit": (
        ("population", "covariates", "clearance"),
        CURVE | {"unit": "L"},
        r"population.covariates.clearance.unit = 'L': give '1'",
    ),
    "covariate key": (
        ("population", "covariates", "clearance"),
        CURVE | {"cvv": 0.1},
        r"population.covariates.clearance: unknown key 'cvv'; did you mean 'cv'",
    ),
    "distribution": (
        ("population", "covariates", "clearance"),
        CURVE | {"distribution": "lognormal"},
        r"clearance.distribution = 'lognormal': give one of 'log_normal'",
    ),
    "no source": (
        ("population", "covariates", "clearance"),
        {k: v for k, v in CURVE.items() if k != "source"},
        r"population.covariates.clearance.source is missing",
    ),
    "window": (("window", "points"), 1, r"window.points = 1"),
    "a window that is a number": (("window",), 3, r"window = 3: give"),
    "seed": (("seed",), 2**32, r"seed = 4294967296"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_with_path_value_and_remedy(tmp_path, case):
    keys, value, message = MISTAKES[case]
    data = contents()
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path = write(tmp_path, data)
    with pytest.raises(engine.InvalidInput, match=message) as caught:
        read_spec(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "text, message",
    [("name = ", "not TOML"), ("", "is missing"), ("\xff", "not TOML|cannot be read")],
)
def test_not_a_spec(tmp_path, text, message):
    with pytest.raises(engine.InvalidInput, match=message):
        read_spec(write(tmp_path, text))


def test_no_file(tmp_path):
    with pytest.raises(engine.InvalidInput, match="no such file"):
        read_spec(tmp_path / "absent.toml")
    with pytest.raises(engine.InvalidInput, match="cannot be read"):
        read_spec(tmp_path)


def test_specs_are_values():
    with pytest.raises(ValueError, match="frozen"):
        tiny().seed = 4
    assert isinstance(tiny(), TrialSpec)
