"""What a trial needs to know of a model: its cells, covariates, drug levels and observables."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.dosing.dose import Dose
from engine.dosing.pharmacokinetics import TwoCompartment
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.models.aldesleukin import INTRAVENOUS, REFERENCE_SURFACE, SUBCUTANEOUS, aldesleukin_pk
from engine.models.il2 import CELL_TYPES, il2_receptor
from engine.network.network import ReactionNetwork, hint
from engine.therapy.molecules import Molecule, iu_to_nmol
from engine.trial.spec import Arm, TrialSpec

_ROUTES = {route.name: route for route in (SUBCUTANEOUS, INTRAVENOUS)}
_CHAINS = {"IL2Ra": "il2ra", "IL2Rb": "il2rb", "gc": "gc"}


@dataclass(frozen=True)
class InterleukinTwo:
    """The interleukin-2 receptor on cells of patients who are given interleukin-2.

    Covariates (patient i): body_surface B_i, m2, scales the doses per m2 and the volumes; and
    factors on the typical patient's clearance c_i, volumes v_i, and receptor chains r_i, the same
    for all cell types of a patient. Elimination is k10 c_i / v_i; the rates of exchange between
    the compartments stay. A covariate that a trial leaves out is the typical one for everyone.

    Attributes:
        observable: what the endpoints are of: active signalling complexes per cell.
        recorded: species that it is computed from.
        drug: the input that is the drug's concentration, in `drug_unit`.
        covariates: name -> (unit, the typical patient's number).
    """

    observable: str = "active"
    recorded: tuple[str, ...] = ("L_bg", "L_abg", "L_bg_endo", "L_abg_endo")
    drug: str = "IL2"
    drug_unit: str = "nM"

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Names of the cells it knows."""
        return tuple(CELL_TYPES)

    @property
    def covariates(self) -> dict[str, tuple[str, float]]:
        """Name -> (unit, the typical patient's number)."""
        factors = ("clearance", "volume", *_CHAINS)
        return {"body_surface": ("m2", REFERENCE_SURFACE)} | dict.fromkeys(factors, ("1", 1.0))

    def network(self, cell_type: str, molecule: Molecule) -> ReactionNetwork:
        """One cell."""
        return il2_receptor(cell_type, molecule, self.drug)

    def parameters(
        self, cell_type: str, covariates: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Every patient's own parameters of a cell: its surface receptors."""
        cell = CELL_TYPES[cell_type]
        return {
            f"{chain}_per_cell": getattr(cell, attribute) * covariates[chain]
            for chain, attribute in _CHAINS.items()
        }

    def pharmacokinetics(
        self, route: str, molecule: Molecule, covariates: Mapping[str, np.ndarray]
    ) -> TwoCompartment:
        """Every patient's own pharmacokinetics; amounts in nmol, time in minutes."""
        typical = aldesleukin_pk(_ROUTES[route], molecule, covariates["body_surface"])
        volume = covariates["volume"]
        return replace(
            typical,
            clearance=typical.clearance * covariates["clearance"],
            volume=typical.volume * volume,
            intercompartmental_clearance=typical.intercompartmental_clearance * volume,
            peripheral_volume=typical.peripheral_volume * volume,
        )

    def amounts(self, arm: Arm, molecule: Molecule, body_surface: np.ndarray) -> np.ndarray:
        """What one dose of an arm is for every patient, nmol."""
        surface = body_surface if arm.unit.endswith("/m2") else np.ones_like(body_surface)
        if not arm.unit.startswith("MIU"):
            return arm.dose * surface
        if molecule.weight is None:
            raise InvalidInput(
                f"arm '{arm.name}': unit = '{arm.unit}', but the weight of {molecule.name} is not "
                "known; give the dose in nmol or nmol/m2"
            )
        return iu_to_nmol(arm.dose * 1e6, molecule.weight) * surface

    def regimens(self, arm: Arm, amounts: np.ndarray) -> list[Regimen]:
        """What every patient of an arm is given."""
        return [
            Regimen(
                (
                    Dose(
                        float(amount),
                        into=self.drug,
                        interval=arm.interval,
                        additional=arm.additional,
                    ),
                )
            )
            for amount in amounts
        ]


BIOLOGIES = {"il2_receptor": InterleukinTwo()}
"""The models that trials can be made of."""


def biology_of(spec: TrialSpec) -> InterleukinTwo:
    """The biology of a trial."""
    if spec.model not in BIOLOGIES:
        raise InvalidInput(f"model = '{spec.model}' is unknown{hint(spec.model, BIOLOGIES)}")
    return BIOLOGIES[spec.model]


def check_biology(spec: TrialSpec) -> None:
    """Check what only the model knows: cell types, covariates, units.

    Raises:
        InvalidInput: an unknown name or another unit than the model's, with its key path.
    """
    biology = biology_of(spec)
    molecule = spec.molecule.molecule()
    for cell_type in spec.cells.types:
        if cell_type not in biology.cell_types:
            raise InvalidInput(
                f"cells.types: '{cell_type}' is not a cell type of {spec.model}"
                f"{hint(cell_type, biology.cell_types)}"
            )
    chosen = spec.endpoints.selective_for
    if chosen not in spec.cells.types:
        raise InvalidInput(
            f"endpoints.selective_for = '{chosen}' is not one of cells.types"
            f"{hint(chosen, spec.cells.types)}"
        )
    for name, covariate in spec.population.covariates.items():
        path = f"population.covariates.{name}"
        if name not in biology.covariates:
            raise InvalidInput(f"{path} is unknown{hint(name, biology.covariates)}")
        unit, _ = biology.covariates[name]
        if covariate.unit != unit:
            raise InvalidInput(f"{path}.unit = '{covariate.unit}': give '{unit}'")
    for arm in spec.arms:
        biology.amounts(arm, molecule, np.ones(1))


def read_spec(path: str | Path) -> TrialSpec:
    """Read and check a trial's TOML file.

    Args:
        path: the file.

    Returns:
        The trial.

    Raises:
        InvalidInput: in one line, the first mistake with its key path, value and remedy.
    """
    spec = TrialSpec.read(path)
    try:
        check_biology(spec)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None
    return spec
