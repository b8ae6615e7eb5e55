"""The networks of the questions, with their horizons: reference files and networks built here.

A path (of `generated.write`, say) names a network that lies there as PATH.json and PATH.xml.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import engine
from benchmarks.rivals import default_models_directory, load_reference_model
from engine.models.il2 import il2_receptor


@dataclass(frozen=True)
class Case:
    """A network and how it is run.

    Attributes:
        network: what reacts.
        horizon: the last save time, in the network's time unit.
        x0: initial counts other than the network's.
        params: parameters other than the network's.
        inputs: levels of the inputs.
    """

    network: engine.ReactionNetwork
    horizon: float
    x0: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)


def reference(name: str) -> Case:
    """One of the four reference networks."""
    return stored(default_models_directory() / name)


def stored(stem: Path) -> Case:
    """A network that lies as STEM.json and STEM.xml."""
    model = load_reference_model(Path(f"{stem}.json"))
    return Case(engine.read_sbml(f"{stem}.xml"), model.end_time)


def dimer_decay_published() -> Case:
    """dimer_decay from 100,000 molecules, as published (Gillespie 2001, doi:10.1063/1.1378322)."""
    return replace(reference("dimer_decay"), x0={"S1": 100_000})


def jakstat_many() -> Case:
    """jakstat with 100 times the STAT and the receptors, all rates as they are."""
    return replace(reference("jakstat"), x0={"S": 1_000_000, "R": 100_000})


# Molecules in one micromole per litre of a cell of 1.66 pL: an assumed volume.
COPIES_PER_MICROMOLAR = 1e6
STIMULATION = 0.1


def nfkb() -> Case:
    """I-kappa-B and NF-kappa-B after stimulation, 100,000 molecules of each.

    Hoffmann et al. 2002, doi:10.1126/science.1071914, BioModels BIOMD0000000140, in a cell of an
    assumed 1.66 pL; stimulated by 0.1 uM of IKK at time 0 from the file's initial state. The rate
    rule and the event of the file act from minute 2000 on and are left out: the horizon is 60.
    """
    folder = default_models_directory().parent / "science" / "sbml"
    network = engine.read_sbml(
        folder / "BIOMD0000000140.xml", copies_per_unit=COPIES_PER_MICROMOLAR
    )
    return Case(
        replace(network, rate_rules=(), events=()),
        60.0,
        x0={"IKK": STIMULATION * COPIES_PER_MICROMOLAR},
    )


def telegraph() -> Case:
    """A gene of one copy that switches, and its plentiful product; all rates invented."""
    mass = engine.MassAction
    network = engine.ReactionNetwork(
        {"off": 1, "on": 0, "P": 5000},
        [
            engine.Reaction("off -> on", mass(0.3), "open"),
            engine.Reaction("on -> off", mass(0.7), "close"),
            engine.Reaction("on -> on + P", mass(4000.0), "make"),
            engine.Reaction("P -> 0", mass(1.0), "lose"),
        ],
        name="telegraph",
    )
    return Case(network, 5.0)


def il2_held() -> Case:
    """The interleukin-2 receptor of a regulatory T cell at 0.1 nM for an hour."""
    return Case(il2_receptor("Treg"), 60.0, inputs={"IL2": engine.ConstantLevel(0.1)})


# Molecules of one nM in the plasma that a cell has for itself: 0.1 nL, assumed (1e7 cells a mL).
MOLECULES_PER_NANOMOLAR = 60_221.0
# What an intravenous bolus leaves at once, nM: assumed, within the therapeutic range.
BOLUS = 1.0
# Konrad et al. 1990, as in `engine.models.aldesleukin`, per minute.
ELIMINATION, OUTWARD, INWARD = 0.0450867052, 0.0070819291, 0.0097183780


def il2_consumed() -> Case:
    """The receptor of a regulatory T cell with plasma and tissue ligand that the cell consumes.

    The input of `il2_receptor` becomes the species `plasma` (molecules per cell), which binding on
    the surface takes up and unbinding gives back; two compartments lose and exchange it.
    """
    cell, mass = il2_receptor("Treg"), engine.MassAction
    reactions = []
    for one in cell.reactions:
        if one.name in ("bind_L_a", "bind_L_b"):
            (chain,), (bound,) = one.reactants, one.products
            law = mass(f"k_bind / {MOLECULES_PER_NANOMOLAR!r}")
            one = engine.Reaction(f"{chain} + plasma -> {bound}", law, one.name)
        elif one.name in ("bind_L_a_reverse", "bind_L_b_reverse"):
            (bound,), (chain,) = one.reactants, one.products
            one = engine.Reaction(f"{bound} -> {chain} + plasma", one.rate_law, one.name)
        reactions.append(one)
    reactions += [
        engine.Reaction("plasma -> 0", mass(ELIMINATION), "eliminate"),
        engine.Reaction("plasma -> tissue", mass(OUTWARD), "leave"),
        engine.Reaction("tissue -> plasma", mass(INWARD), "return"),
    ]
    species = (
        *cell.species,
        engine.Species("plasma", BOLUS * MOLECULES_PER_NANOMOLAR),
        engine.Species("tissue", 0),
    )
    network = replace(
        cell, species=species, reactions=tuple(reactions), inputs=(), name="il2_consumed"
    )
    return Case(network, 30.0)


REFERENCE = ("birth_death", "dimer_decay", "vilar", "jakstat")

CASES: dict[str, Callable[[], Case]] = {
    **{name: (lambda name=name: reference(name)) for name in REFERENCE},
    "dimer_decay_published": dimer_decay_published,
    "jakstat_many": jakstat_many,
    "nfkb": nfkb,
    "telegraph": telegraph,
    "il2_held": il2_held,
    "il2_consumed": il2_consumed,
}


def case_of(name: str) -> Case:
    """A network by its name, or by the path at which it lies."""
    if name in CASES:
        return CASES[name]()
    if os.sep in name:
        return stored(Path(name))
    raise SystemExit(f"'{name}' is not a network; {', '.join(CASES)} are")
