"""Molecules of the interleukin-2 family: affinities, size and clearance, each with its source."""

from dataclasses import dataclass

from engine.errors import InvalidInput
from engine.network.quantities import ASSUMED, check_number

WEIGHT = 15.5
"""Molecular weight of interleukin-2, kDa (doi:10.1186/1476-9433-5-3; aldesleukin's label says
about 15.3)."""

IU_PER_MG = 18e6 / 1.1
"""Specific activity of aldesleukin, IU per mg: 18 million IU are 1.1 mg (Proleukin label)."""

_RICKERT = "doi:10.1016/j.jmb.2004.04.038"
_OCTET = "measured by Octet, github.com/meyer-lab/gcSolver.jl@b074e92 data/WTmutAffData.csv"
_COMBINED = (
    "assumed: IL2Ra of R38Q and IL2Rb/gamma-c of H16N, as the same table (gcSolver.jl@b074e92 "
    "data/WTmutAffData.csv) lists it"
)
_CHAINS = "computed: posterior median of k5rev 0.0794586 /min over 0.6 /nM/min"


@dataclass(frozen=True)
class Molecule:
    """An interleukin-2 or a mutein of it: what `engine.models.il2.il2_receptor` takes.

    The receptor model turns the dissociation constants into off-rates with the code rule of the
    gamma-chain model (gcSolver.jl): k1 = 0.6 kd_alpha, and k2, k4, k5, k10, k11 (the off-rates of
    the beta and gamma chains) are multiplied by kd_beta_gamma / 0.1324, 0.1324 nM being the value
    of monomeric interleukin-2 itself.

    A bivalent molecule (Fc fusion, two interleukin-2 per molecule) is described by its monovalent
    constants only: its **avidity**, the second binding after the first, is not modelled, although
    it decides the selectivity of such molecules (Orcutt-Jahns et al., PMC10658882).

    Args:
        name: what it is called.
        kd_alpha: dissociation constant to IL2Ra alone, nM, positive.
        kd_beta_gamma: apparent dissociation constant to IL2Rb with gamma-c, nM, positive.
        source: where the constants come from, or "assumed".
        clearance_scale: elimination rate over the one of aldesleukin (0.5 doubles the elimination
            half-life), 1 by default.
        clearance_source: where that comes from, or "assumed".
        weight: molecular weight, kDa, of one interleukin-2 by default; None where unknown. Only
            `iu_to_nmol` needs it: doses in nmol do not.
        is_bivalent: whether it has two interleukin-2 moieties (for reports; see above).

    Raises:
        InvalidInput: a constant that is not a positive finite number.

    Example:
        >>> Molecule("no-alpha", kd_alpha=1e4, kd_beta_gamma=0.133).source
        'assumed'
    """

    name: str
    kd_alpha: float
    kd_beta_gamma: float
    source: str = ASSUMED
    clearance_scale: float = 1.0
    clearance_source: str = ASSUMED
    weight: float | None = WEIGHT
    is_bivalent: bool = False

    def __post_init__(self) -> None:
        for attribute in ("kd_alpha", "kd_beta_gamma", "clearance_scale", "weight"):
            value = getattr(self, attribute)
            if value is not None or attribute != "weight":
                number = _positive(f"{attribute} of molecule '{self.name}'", value)
                object.__setattr__(self, attribute, number)


def mutein(
    name: str,
    kd_alpha: float,
    kd_beta_gamma: float,
    source: str = ASSUMED,
    clearance_scale: float = 1.0,
) -> Molecule:
    """A molecule of one's own design, monovalent.

    Args:
        name: what it is called.
        kd_alpha: dissociation constant to IL2Ra, nM.
        kd_beta_gamma: apparent dissociation constant to IL2Rb with gamma-c, nM.
        source: where the constants come from, "assumed" by default.
        clearance_scale: elimination rate over the one of aldesleukin, 1 by default.

    Returns:
        The molecule.

    Raises:
        InvalidInput: a constant that is not a positive finite number.

    Example:
        >>> mutein("Treg-biased", kd_alpha=1.0, kd_beta_gamma=1.3).kd_beta_gamma
        1.3
    """
    return Molecule(name, kd_alpha, kd_beta_gamma, source, clearance_scale)


def iu_to_nmol(iu: float, weight: float = WEIGHT) -> float:
    """International units of aldesleukin as an amount: iu / (18e6 / 1.1 mg) / weight.

    Args:
        iu: international units, a number or an array.
        weight: molecular weight, kDa, 15.5 by default.

    Returns:
        Amount, nmol.

    Example:
        >>> round(iu_to_nmol(18e6), 2)
        70.97

    References:
        Proleukin (aldesleukin) label: 18 million IU are 1.1 mg. Weight: doi:10.1186/1476-9433-5-3.
    """
    return iu / IU_PER_MG / weight * 1000.0


def _positive(what: str, value: float) -> float:
    number = check_number(what, value)
    if number == 0:
        raise InvalidInput(f"{what} is 0; give a positive number")
    return number


def _fusion(name: str, kd_alpha: float, kd_beta_gamma: float, source: str = _OCTET) -> Molecule:
    return Molecule(name, kd_alpha, kd_beta_gamma, source, weight=None, is_bivalent=True)


KD_BETA_GAMMA_WILD_TYPE = 0.0794586 / 0.6
"""Apparent constant of monomeric interleukin-2 to IL2Rb with gamma-c, nM: k5rev / kfbnd of the
gamma-chain model's posterior medians (gcSolver.jl's table rounds it to 0.133)."""

WILD_TYPE = Molecule(
    "IL-2",
    kd_alpha=10.0,
    kd_beta_gamma=KD_BETA_GAMMA_WILD_TYPE,
    source=f"kd_alpha: {_RICKERT}; kd_beta_gamma: {_CHAINS}",
    clearance_source="the reference: aldesleukin, Konrad et al. 1990, Cancer Research 50:2009",
)
"""Monomeric interleukin-2 (aldesleukin): KD 10 nM to IL2Ra, 0.132 nM to IL2Rb with gamma-c."""

MUTEINS = {
    molecule.name: molecule
    for molecule in (
        _fusion("V91K", 0.69, 7.5586),
        _fusion("R38Q", 0.71, 3.9949),
        _fusion("F42Q", 9.48, 2.815),
        _fusion("N88D", 1.01, 24.0166),
        _fusion("H16N", 0.43, 22.35),
        _fusion("R38Q_H16N", 0.71, 22.35, _COMBINED),
        _fusion("WT_N_Fc", 0.19, 5.296),
        _fusion("WT_C_Fc", 0.54, 3.043),
    )
}
"""Fc fusions by name (KD to IL2Ra and to IL2Rb with gamma-c, nM), as monovalent molecules.

The fusions are bivalent: `Molecule` says what that leaves out. Their constants come from another
assay than the wild type's: compare them with WT_N_Fc or WT_C_Fc. The table gives no clearance
(aldesleukin's is assumed, too fast for an Fc fusion: give yours with `dataclasses.replace`) and no
weight. R38Q_H16N repeats the constants of its single mutants and is marked as assumed.
"""
