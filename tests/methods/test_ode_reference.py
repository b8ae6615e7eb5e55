"""The rate equations of published models against libRoadRunner's trajectories.

The files are read with copies_per_unit=1, so that a count is an amount in the file's own unit, and
solved from the file's own, fractional, initial amounts.
"""

import csv
from pathlib import Path

import libsbml
import numpy as np
import pytest

import engine
from engine.kinetics.drift import state_names
from engine.kinetics.evaluate import evaluate
from engine.methods import ode

METHOD = engine.ODE(rtol=1e-9, atol=1e-10)
# The reference itself has errors of this relative size where a species has just vanished.
RELATIVE, OF_THE_SPECIES, OF_THE_MODEL = 1e-4, 1e-7, 1e-12
MODELS = (
    "BIOMD0000000550",
    "BIOMD0000000591",
    "BIOMD0000000665",
    "BIOMD0000000892",
    "BIOMD0000001060",
)
# These take much longer to compile than all the others together.
LARGE_MODELS = (
    "BIOMD0000000093",
    "BIOMD0000000094",
    "BIOMD0000000101",
    "BIOMD0000000140",
    "BIOMD0000000347",
    "BIOMD0000000381",
    "BIOMD0000000537",
    "BIOMD0000000544",
    "BIOMD0000000585",
    "BIOMD0000000714",
    "BIOMD0000000786",
    "BIOMD0000000837",
    "BIOMD0000001021",
    "BIOMD0000001077",
    "MODEL2210070001",
    "BIOMD0000000711",
    "BIOMD0000000959",
    "MODEL2307050001",
)
REFUSED = {
    "BIOMD0000000151": r"reaction 'R23': the stoichiometry of 'x13' is 0.5, not a whole number",
    "BIOMD0000000620": (
        r"event 'Anakinra_Administration_event'.*'time == Anakinra_dose_counter' compares for "
        "equality what moves with time"
    ),
}


def solved(
    folder: Path, name: str, **changes: float
) -> tuple[list[str], np.ndarray, dict[str, np.ndarray], engine.ReactionNetwork]:
    """The reference's columns and table, and every name's values at its times by our method."""
    with (folder / "reference_ode" / f"{name}.csv").open() as file:
        header, *rows = csv.reader(file)
    reference = np.array(rows, float)
    network = engine.read_sbml(folder / "sbml" / f"{name}.xml", copies_per_unit=1.0)
    x0 = np.array([[network.initial_values[species] for species in network.species_names]])
    values, is_ok = ode.integrate(METHOD, network, reference[:, 0], changes, x0)
    assert is_ok.all()
    known = {"time": reference[:, 0], **network.initial_values, **network.parameter_values}
    known |= {state: values[0, :, i] for i, state in enumerate(state_names(network))}
    for target, rule in network.rules.items():
        known[target] = evaluate(rule, known, np, np.float64)
    return header, reference, known, network


def errors(folder: Path, name: str, **changes: float) -> dict[str, float]:
    """The largest error of every species, in units of what is allowed; columns are [species]."""
    header, reference, known, network = solved(folder, name, **changes)
    model = libsbml.readSBMLFromFile(str(folder / "sbml" / f"{name}.xml"))
    species = {s.getId(): s for s in model.getModel().getListOfSpecies()}
    largest, found = np.abs(reference[:, 1:]).max(), {}
    for column, label in enumerate(header[1:], 1):
        identifier = label.strip("[]")
        expected = reference[:, column]
        home = species[identifier].getCompartment()
        element = model.getModel().getCompartment(home)
        size = known.get(home, element.getSize() if element.isSetSize() else 1.0)
        # A species set by a rule keeps the file's concentration; others are amounts.
        is_concentration = identifier in network.rules and not (
            species[identifier].getHasOnlySubstanceUnits()
        )
        ours = known[identifier] / (1.0 if is_concentration else size)
        floor = OF_THE_SPECIES * np.abs(expected).max() + OF_THE_MODEL * largest
        allowed = RELATIVE * np.abs(expected) + floor
        found[identifier] = float(np.max(np.abs(ours - expected) / allowed))
    assert len(found) == len(header) - 1
    return found


@pytest.fixture(scope="module")
def science(shared):
    folder = shared / "science"
    if not (folder / "reference_ode").is_dir():
        pytest.skip(f"no reference trajectories in {folder}")
    return folder


def check(folder: Path, name: str) -> None:
    wrong = {species: error for species, error in errors(folder, name).items() if not error < 1}
    assert not wrong


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_libroadrunner(science, name):
    check(science, name)


@pytest.mark.full
@pytest.mark.parametrize("name", LARGE_MODELS)
def test_large_models_agree_with_libroadrunner(science, name):
    check(science, name)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_solved_is_refused_by_name(science, name):
    with pytest.raises(engine.InvalidInput, match=REFUSED[name]):
        solved(science, name)


def test_every_reference_is_accounted_for(science):
    files = {path.stem for path in (science / "reference_ode").glob("*.csv")}
    assert files == {*MODELS, *LARGE_MODELS, *REFUSED}


def test_a_wrong_rate_fails(science):
    """Twin that must fail: one rate constant of a small model is 2% wrong."""
    network = engine.read_sbml(
        science / "sbml" / "BIOMD0000000591.xml", copies_per_unit=1.0
    ).parameter_values
    found = errors(science, "BIOMD0000000591", k_phos=1.02 * network["k_phos"])
    assert max(found.values()) > 10
