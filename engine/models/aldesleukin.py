"""Aldesleukin (recombinant interleukin-2) in the body: two compartments, two routes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from engine.dosing.pharmacokinetics import TwoCompartment, ZeroOrder
from engine.therapy.molecules import WILD_TYPE, Molecule

_KONRAD = "Konrad et al. 1990, Cancer Research 50:2009 (aacrjournals.org/cancerres 50/7/2009)"


@dataclass(frozen=True)
class Route:
    """How a dose enters the body.

    Args:
        name: what it is called.
        duration: minutes of constant absorption into the blood; 0 for a direct bolus.
        bioavailability: fraction of the dose that arrives.
        source: where the numbers come from, or "assumed".
    """

    name: str
    duration: float
    bioavailability: float
    source: str = "assumed"


INTRAVENOUS = Route("intravenous", 0.0, 1.0, "by definition")
SUBCUTANEOUS = Route(
    "subcutaneous", 480.0, 0.433, f"computed from the 8 h plateau at 2% of C0: {_KONRAD}"
)
REFERENCE_SURFACE = 1.73


def aldesleukin_pk(
    route: Route = SUBCUTANEOUS,
    molecule: Molecule = WILD_TYPE,
    body_surface: ArrayLike = REFERENCE_SURFACE,
) -> TwoCompartment:
    """Two-compartment pharmacokinetics of interleukin-2; doses in nmol give nM, time in minutes.

    V1 = 1.538 L/m2 (2.66 L at 1.73 m2), k10 = 0.0451, k12 = 0.00708, k21 = 0.00972 per minute:
    computed from the half-lives 12.9 and 85 min, the clearance 120 mL/min and the level of
    650 U/mL just after 1e6 U/m2 intravenously (Konrad 1990), for an assumed body surface of
    1.73 m2. They predict 39.6 U/mL at the end of a 6 h infusion of 1e6 U/m2; 41 were measured.
    Subcutaneous: zero-order absorption for 8 h, bioavailability 0.433, the fraction that the
    measured plateau (2% of the intravenous initial level) implies.

    A dose of D IU/m2 is the amount `iu_to_nmol(D * body_surface)`.

    Args:
        route: `SUBCUTANEOUS` (the default), `INTRAVENOUS` or a `Route` of one's own.
        molecule: its `clearance_scale` multiplies k10.
        body_surface: m2, a number or one per patient; scales V1 (and the clearance with it).

    Returns:
        The model for `inputs={"IL2": aldesleukin_pk()}`.

    Example:
        >>> float(aldesleukin_pk(INTRAVENOUS).volume[0].round(3))
        2.662

    References:
        Konrad et al. 1990, Pharmacokinetics of recombinant interleukin 2 in humans, Cancer
        Research 50:2009 (no DOI known to us).
    """
    absorption = ZeroOrder(route.duration) if route.duration > 0 else None
    return TwoCompartment.from_micro_constants(
        volume=2.66153846 / REFERENCE_SURFACE * np.asarray(body_surface, np.float64),
        k10=0.0450867052 * molecule.clearance_scale,
        k12=0.0070819291,
        k21=0.0097183780,
        absorption=absorption,
        bioavailability=route.bioavailability,
    )
