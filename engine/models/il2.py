"""Interleukin-2 and its receptor on T and NK cells: binding, trafficking, active complexes."""

from dataclasses import dataclass

from engine.errors import InvalidInput
from engine.network.events import AssignmentRule
from engine.network.expressions import parse
from engine.network.network import ReactionNetwork, hint
from engine.network.quantities import Input, Parameter, Species, check_number
from engine.network.rate_laws import MassAction
from engine.network.reactions import Reaction, reversible
from engine.therapy.molecules import WILD_TYPE, Molecule

_REPOSITORY = "Farhat et al. 2021, Cell Reports; github.com/meyer-lab/gc-cytokines@c48ba92"
_CHAINS = f"{_REPOSITORY} (posterior median of the stored chains)"
_METHODS = f"{_REPOSITORY} (Methods)"
_RICKERT = "doi:10.1016/j.jmb.2004.04.038, by way of the same repository's Methods"
_COUNTS = f"{_REPOSITORY} ckine/data/final_receptor_levels.csv (geometric mean, computed)"
_COUNTS_GCSOLVER = "github.com/meyer-lab/gcSolver.jl@b074e92 data/RecQuantitation.csv (10^mean log)"
_BALANCE = "computed: detailed balance"


@dataclass(frozen=True)
class CellType:
    """A kind of cell: how many receptor chains it shows on its surface without ligand.

    Args:
        name: what it is called.
        il2ra: IL2Ra (CD25) molecules on the surface of a cell.
        il2rb: IL2Rb (CD122) molecules on the surface of a cell.
        gc: gamma-c (CD132) molecules on the surface of a cell.
        source: where the numbers come from, or "assumed".

    Raises:
        InvalidInput: a number that is negative or not finite.
    """

    name: str
    il2ra: float
    il2rb: float
    gc: float
    source: str = "assumed"

    def __post_init__(self) -> None:
        for attribute in ("il2ra", "il2rb", "gc"):
            what = f"{attribute} of cell type '{self.name}'"
            object.__setattr__(self, attribute, check_number(what, getattr(self, attribute)))


CELL_TYPES = {
    cell.name: cell
    for cell in (
        CellType("Treg", 3475.80, 657.01, 14016.56, _COUNTS),
        CellType("Th", 328.90, 158.45, 13326.20, _COUNTS),
        CellType("CD8", 22.26, 510.87, 12407.26, f"{_COUNTS}; IL2Ra near the detection limit"),
        CellType("NK", 22.31, 8502.94, 7643.12, f"{_COUNTS}; IL2Ra near the detection limit"),
    )
}
"""Cells of peripheral blood by name, the set of the model's regression targets."""

CELL_TYPES_GCSOLVER = {
    cell.name: cell
    for cell in (
        CellType("Treg", 3646, 2350, 6868, _COUNTS_GCSOLVER),
        CellType("Th", 581, 2627, 5612, _COUNTS_GCSOLVER),
        CellType("CD8", 526, 3438, 6394, _COUNTS_GCSOLVER),
        CellType("NK", 274, 6517, 3743, _COUNTS_GCSOLVER),
    )
}
"""The later measurements of the same laboratory, which disagree with `CELL_TYPES`."""

SURFACE = ("IL2Ra", "IL2Rb", "gc", "L_a", "L_b", "L_ab", "L_ag", "L_bg", "L_abg")
_CHAIN_NAMES = SURFACE[:3]
_ACTIVE = ("L_bg", "L_abg")
_ACTIVE_RULE = "surface_active + endosomal_activity / endosomal_area * (L_bg_endo + L_abg_endo)"
_LIGAND = "L_endo"
# What binds to what, at which off-rate: ligand and chain, then complex and chain.
_BINDING = (("IL2Ra", "L_a", "k1"), ("IL2Rb", "L_b", "k2"))
_DIMERISATION = (
    ("L_a", "gc", "L_ag", "k4"),
    ("L_b", "gc", "L_bg", "k5"),
    ("L_bg", "IL2Ra", "L_abg", "k8"),
    ("L_ag", "IL2Rb", "L_abg", "k9"),
    ("L_ab", "gc", "L_abg", "k10"),
    ("L_a", "IL2Rb", "L_ab", "k11"),
    ("L_b", "IL2Ra", "L_ab", "k12"),
)


def il2_receptor(
    cell: str | CellType = "Treg", molecule: Molecule = WILD_TYPE, ligand: str = "IL2"
) -> ReactionNetwork:
    """The interleukin-2 receptor of one cell under a given ligand concentration.

    IL2Ra, IL2Rb and gamma-c on the surface; ligand binds IL2Ra or IL2Rb and the complexes gather
    the other chains (L_a, L_b, L_ab, L_ag, L_bg, L_abg); everything is endocytosed, complexes
    with IL2Rb and gamma-c (the active ones) faster; in the endosome (suffix `_endo`, with its own
    free ligand `L_endo`) the same binding goes on with 5-fold off-rates; active complexes are
    degraded, the others recycled or, a small part, degraded. 19 species, 65 reactions, time in
    minutes, counts in molecules per cell. The ligand outside is the input `ligand`, in nM, which
    the cell does not consume.

    Every cell starts at its own ligand-free steady state: the parameters `IL2Ra_per_cell`,
    `IL2Rb_per_cell` and `gc_per_cell` are surface counts there, from which follow the synthesis
    rates and the endosomal counts (rounded to whole molecules); give them per patient. So can
    `kd_alpha` and `kd_beta_gamma` be (a molecule of one's own).

    Observables: `active` = surface L_bg + L_abg + (activity / area) endosomal ones;
    `surface_active` without the endosomal ones.

    The source counts endosomal species per unit of membrane area, n_endo / 0.5, weighs them with
    0.5 in `active`, and puts 623 of its units to 1 nM of endosomal ligand. In molecules, as here:
    the weight is 1, endosomal pairs meet at k_dimer / 0.5, and 623 x 0.5 = 311.5 molecules are
    1 nM, which reproduces the source's equations. Its Methods say 10 fL, which is 6 molecules per
    nM: a conflict in the source that matters (active complexes at 60 min come out 1.03 to 7.7
    times higher, most for a weak binder on few receptors), open to you as the parameter
    `endosome_unit` = 12.04. Another: gcSolver.jl has k_recycle 0.009 /min.

    Args:
        cell: "Treg", "Th", "CD8", "NK" (see `CELL_TYPES`) or a `CellType`.
        molecule: the ligand; wild type by default. Avidity is not modelled (see `Molecule`).
        ligand: name of the input that is the ligand's concentration, "IL2" by default.

    Returns:
        The network, named after the cell, every parameter with unit and source.

    Raises:
        InvalidInput: an unknown cell type.

    Example:
        >>> network = il2_receptor("Treg")
        >>> len(network.species), len(network.reactions)
        (19, 65)
        >>> network.initial_values["IL2Ra"]
        3476.0

    References:
        Farhat et al. 2021, Modeling Cell-Specific Dynamics and Regulation of the Common Gamma
        Chain Cytokines, Cell Reports (github.com/meyer-lab/gc-cytokines); affinities: Rickert et
        al. 2004, doi:10.1016/j.jmb.2004.04.038.
    """
    chosen = _cell_type(cell)
    return ReactionNetwork(
        species=_species(chosen),
        reactions=(
            *_synthesis(),
            *_surface_binding(ligand),
            *_endosomal_binding(),
            *_trafficking(),
        ),
        parameters=(*_affinities(molecule), *_rates(), *_receptors(chosen)),
        inputs=(Input(ligand, unit="nM"),),
        assignment_rules=(
            AssignmentRule("surface_active", parse("L_bg + L_abg"), "molecules"),
            AssignmentRule("active", parse(_ACTIVE_RULE), "molecules"),
        ),
        name=f"il2_receptor_{chosen.name}",
        time_unit="min",
    )


def _cell_type(cell: str | CellType) -> CellType:
    if isinstance(cell, CellType):
        return cell
    if cell not in CELL_TYPES:
        raise InvalidInput(f"'{cell}' is not a cell type of this model{hint(cell, CELL_TYPES)}")
    return CELL_TYPES[cell]


def _species(cell: CellType) -> tuple[Species, ...]:
    source = f"computed: ligand-free steady state; {cell.source}"
    none = "no ligand before time 0"
    result = []
    for suffix, place in (("", "surface"), ("_endo", "endosome")):
        for name in _CHAIN_NAMES:
            initial = _endosomal(name) if suffix else f"{name}_per_cell"
            result.append(
                Species(
                    name + suffix,
                    parse(f"floor({initial} + 0.5)"),
                    description=f"free chain, {place}",
                    source=source,
                )
            )
        for name in SURFACE[3:]:
            result.append(Species(name + suffix, description=f"complex, {place}", source=none))
    return (*result, Species(_LIGAND, description="free ligand, endosome", source=none))


def _endosomal(chain: str) -> str:
    """Ligand-free endosomal count: what comes in by endocytosis leaves at recycle + sort."""
    return f"{chain}_per_cell * k_endo / (k_recycling + k_sorting)"


def _synthesis() -> list[Reaction]:
    return [Reaction(f"0 -> {c}", MassAction(f"{c}_synthesis"), f"make_{c}") for c in _CHAIN_NAMES]


def _surface_binding(ligand: str) -> list[Reaction]:
    reactions: list[Reaction] = []
    for chain, bound, off in _BINDING:
        bind = MassAction(f"k_bind * {ligand}")
        reactions.append(Reaction(f"{chain} -> {bound}", bind, f"bind_{bound}"))
        reactions.append(Reaction(f"{bound} -> {chain}", MassAction(off), f"bind_{bound}_reverse"))
    for first, second, result, off in _DIMERISATION:
        name = f"join_{first}_{second}"
        reactions += reversible(f"{first} + {second} <-> {result}", "k_dimer", off, name)
    return reactions


def _endosomal_binding() -> list[Reaction]:
    reactions: list[Reaction] = []
    for chain, bound, off in _BINDING:
        reactions += reversible(
            f"{chain}_endo + {_LIGAND} <-> {bound}_endo",
            "k_bind / endosome_capacity",
            f"endosomal_off * {off}",
            f"bind_{bound}_endo",
        )
    for first, second, result, off in _DIMERISATION:
        reactions += reversible(
            f"{first}_endo + {second}_endo <-> {result}_endo",
            "k_dimer / endosomal_area",
            f"endosomal_off * {off}",
            f"join_{first}_{second}_endo",
        )
    return reactions


def _trafficking() -> list[Reaction]:
    reactions = []
    for name in SURFACE:
        is_active = name in _ACTIVE
        inward = MassAction("k_endo + k_endo_active" if is_active else "k_endo")
        lost = MassAction("k_degrade" if is_active else "k_sorting")
        reactions.append(Reaction(f"{name} -> {name}_endo", inward, f"endocytose_{name}"))
        reactions.append(Reaction(f"{name}_endo -> 0", lost, f"degrade_{name}"))
        if not is_active:
            back = MassAction("k_recycling")
            reactions.append(Reaction(f"{name}_endo -> {name}", back, f"recycle_{name}"))
    return [*reactions, Reaction(f"{_LIGAND} -> 0", MassAction("k_degrade"), "degrade_ligand")]


def _parameter(
    name: str, value: str | float, unit: str, source: str, description: str
) -> Parameter:
    return Parameter(name, parse(value), unit, source, description)


def _affinities(molecule: Molecule) -> tuple[Parameter, ...]:
    per_minute = "min^-1"
    rule = "computed: mutein rule of github.com/meyer-lab/gcSolver.jl"
    return (
        _parameter("kd_alpha", molecule.kd_alpha, "nM", molecule.source, "ligand to IL2Ra"),
        _parameter("kd_beta", 144.0, "nM", _RICKERT, "wild type to IL2Rb alone"),
        _parameter(
            "kd_beta_gamma",
            molecule.kd_beta_gamma,
            "nM",
            molecule.source,
            "ligand to IL2Rb with gamma-c, apparent",
        ),
        _parameter("k_bind", 0.60, "nM^-1 min^-1", _METHODS, "ligand to a chain"),
        _parameter(
            "k_dimer",
            0.00286185,
            "cell molecule^-1 min^-1",
            _CHAINS,
            "complex to a chain on the surface",
        ),
        _parameter("k4_wild", 11.9402, per_minute, _CHAINS, "L_ag -> L_a + gc, wild type"),
        _parameter("k5_wild", 0.0794586, per_minute, _CHAINS, "L_bg -> L_b + gc, wild type"),
        _parameter("k10_ratio", 8.0, "1", _RICKERT, "k10 / k5: KD 12 nM over 1.5 nM"),
        _parameter("k11_ratio", 42.0, "1", _RICKERT, "k11 / k5: KD 63 nM over 1.5 nM"),
        _parameter(
            "weakening",
            "k_bind * kd_beta_gamma / k5_wild",
            "1",
            rule,
            "off-rates of IL2Rb and gamma-c over the wild type's",
        ),
        _parameter("k1", "k_bind * kd_alpha", per_minute, rule, "L_a -> IL2Ra"),
        _parameter("k2", "k_bind * kd_beta * weakening", per_minute, rule, "L_b -> IL2Rb"),
        _parameter("k4", "k4_wild * weakening", per_minute, rule, "L_ag -> L_a + gc"),
        _parameter("k5", "k5_wild * weakening", per_minute, rule, "L_bg -> L_b + gc"),
        _parameter("k10", "k10_ratio * k5", per_minute, rule, "L_abg -> L_ab + gc"),
        _parameter("k11", "k11_ratio * k5", per_minute, rule, "L_ab -> L_a + IL2Rb"),
        _parameter("k12", "k1 * k11 / k2", per_minute, _BALANCE, "L_ab -> L_b + IL2Ra"),
        _parameter("k8", "k10 * k12 / k5", per_minute, _BALANCE, "L_abg -> L_bg + IL2Ra"),
        _parameter("k9", "k10 * k11 / k4", per_minute, _BALANCE, "L_abg -> L_ag + IL2Rb"),
    )


def _rates() -> tuple[Parameter, ...]:
    per_minute = "min^-1"
    return (
        _parameter("k_endo", 0.0928333, per_minute, _CHAINS, "endocytosis"),
        _parameter("k_endo_active", 2.5433, per_minute, _CHAINS, "added for active complexes"),
        _parameter("k_recycle", 0.0907381, per_minute, _CHAINS, "endosome to surface, unsorted"),
        _parameter("k_degrade", 0.0067576, per_minute, _CHAINS, "lysosomal degradation, sorted"),
        _parameter("sorted_fraction", 0.123864, "1", _CHAINS, "of inactive species to lysosomes"),
        _parameter(
            "k_recycling",
            "k_recycle * (1 - sorted_fraction)",
            per_minute,
            f"computed: {_METHODS}",
            "recycling of inactive species",
        ),
        _parameter(
            "k_sorting",
            "k_degrade * sorted_fraction",
            per_minute,
            f"computed: {_METHODS}",
            "degradation of inactive species",
        ),
        _parameter("endosomal_off", 5.0, "1", _METHODS, "off-rates there over the surface's"),
        _parameter("endosomal_area", 0.5, "1", _METHODS, "membrane there over the surface's"),
        _parameter(
            "endosomal_activity",
            0.5,
            "1",
            _METHODS,
            "activity of endosomal complexes per membrane area over the surface's",
        ),
        _parameter(
            "endosome_unit",
            623.0,
            "nM^-1",
            f"{_REPOSITORY} (code constant internalV; the Methods' 10 fL would be 6.02)",
            "receptors per area unit in 1 nM of ligand",
        ),
        _parameter(
            "endosome_capacity",
            "endosome_unit * endosomal_area",
            "molecule nM^-1",
            f"computed: {_REPOSITORY}",
            "molecules in the endosome at 1 nM",
        ),
    )


def _receptors(cell: CellType) -> tuple[Parameter, ...]:
    counts = (cell.il2ra, cell.il2rb, cell.gc)
    unit = "molecule cell^-1"
    measured = [
        _parameter(f"{chain}_per_cell", count, unit, cell.source, "on the surface without ligand")
        for chain, count in zip(_CHAIN_NAMES, counts, strict=True)
    ]
    made = [
        _parameter(
            f"{chain}_synthesis",
            f"{chain}_per_cell * k_endo / (1 + k_recycling / k_sorting)",
            f"{unit} min^-1",
            "computed: ligand-free steady state",
            "synthesis onto the surface",
        )
        for chain in _CHAIN_NAMES
    ]
    return (*measured, *made)
