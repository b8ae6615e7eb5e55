"""A cytokine storm under an immune agonist: agonist, inflammatory cytokine, tumour."""

from engine.dosing.pharmacokinetics import OneCompartment
from engine.errors import InvalidInput
from engine.network.events import AssignmentRule
from engine.network.expressions import parse
from engine.network.network import ReactionNetwork
from engine.network.quantities import Input, Parameter, Species, check_number
from engine.network.rate_laws import Formula, MassAction
from engine.network.reactions import Reaction

_PAPER = "Kareva and Gevertz 2022, doi:10.1101/2022.02.15.480585 (the authors' published code)"
_SCALE = "scaled"
# Copies of a scaled unit: assumed, see the docstring.
COPIES_PER_UNIT = 200.0
STORM_LEVEL = 6.0
"""The cytokine's scaled level above which the source speaks of a storm (y_U)."""

DOSE, DOSE_TIME, DOSE_INTERVAL = 10.0, 200.0, 24.0
"""The source's dose (scaled units), its time and the interval between parts of it (h)."""


def cytokine_storm(copies_per_unit: float = COPIES_PER_UNIT) -> ReactionNetwork:
    r"""Kareva and Gevertz' cytokine storm as a stochastic network.

    The source's scaled rate equations, time in hours,

    .. math::
        \dot C &= -k_{01} C \\
        \dot x &= k_{01} C + k_x k_T \frac{x T}{c_1 + x}
                  + b_{yx} \frac{x}{c_2 + x} (y - y_L)(y_U - y) - k_{im} x \\
        \dot y &= Y_{in} - k_2 y + b_{xy} \frac{y x}{c_2 + x} \\
        \dot T &= r T (T - m)(1 - T / K) - k_T \frac{x T}{c_1 + x}

    with C the agonist at the site of injection, x the agonist and the immune activity it raises, y
    an inflammatory cytokine and T the tumour. Every term is a reaction; those that can have either
    sign are a gain and a loss. A scaled unit of x, y and T is `copies_per_unit` molecules (or
    cells): the source knows no copy numbers, so this factor is assumed, and sets how noisy the
    system is; its mean field does not depend on it. The baseline of y is 2.4e-4 units: with 200
    copies a unit y is mostly absent, and a storm starts, or not, from single copies.

    C is the input `depot`: give `inputs={"depot": storm_depot()}` and doses of scaled units into
    it. What it releases arrives as a Poisson process.

    Observables: `agonist`, `cytokine` and `tumour` in scaled units. The source calls a peak of the
    cytokine above y_U = 6 a storm: `engine.Maximum("cytokine")`.

    Args:
        copies_per_unit: molecules or cells of one scaled unit, positive; default 200, assumed.

    Returns:
        The network, every parameter with its source.

    Raises:
        InvalidInput: a factor that is not positive.

    Example:
        >>> network = cytokine_storm()
        >>> len(network.species), len(network.reactions)
        (3, 11)

    References:
        Kareva and Gevertz 2022, Cytokine storm mitigation for exogenous immune agonists,
        doi:10.1101/2022.02.15.480585.
    """
    factor = check_number("copies_per_unit", copies_per_unit)
    if factor == 0:
        raise InvalidInput("copies_per_unit is 0; give a positive number of molecules")
    return ReactionNetwork(
        species=(
            Species("x", description="immune agonist and the activity it raises", source=_PAPER),
            Species("y", description="inflammatory cytokine", source=_PAPER),
            Species("T", parse("floor(T_start * copies + 0.5)"), description="tumour cells"),
        ),
        reactions=_reactions(),
        parameters=(Parameter("copies", parse(factor), "1", "assumed", _COPIES), *_parameters()),
        inputs=(Input("depot", unit=_SCALE),),
        assignment_rules=(
            AssignmentRule("agonist", parse("x / copies"), _SCALE),
            AssignmentRule("cytokine", parse("y / copies"), _SCALE),
            AssignmentRule("tumour", parse("T / copies"), _SCALE),
        ),
        name="cytokine_storm",
        time_unit="h",
    )


def storm_depot() -> OneCompartment:
    """The site of injection: doses of scaled units that leave at k01 = 0.1 per hour.

    Example:
        >>> float(storm_depot().clearance[0])
        0.1
    """
    return OneCompartment(clearance=0.1, volume=1.0)


_COPIES = "molecules or cells of a scaled unit"
_FEEDBACK = "(cytokine - y_L) * (y_U - cytokine)"
_GROWTH = "(tumour - m) * (1 - tumour / K)"


def _reactions() -> tuple[Reaction, ...]:
    meeting, acting = "x * tumour / (c1 + agonist)", "x / (c2 + agonist)"
    return (
        Reaction("0 -> x", Formula("copies * k01 * depot"), "release"),
        Reaction("x -> 2 x", Formula(f"k_x * k_T * {meeting}"), "recruit"),
        Reaction("x -> 2 x", Formula(f"b_yx * {acting} * max({_FEEDBACK}, 0)"), "inflame"),
        Reaction("x -> 0", Formula(f"b_yx * {acting} * max(-{_FEEDBACK}, 0)"), "restrain"),
        Reaction("x -> 0", MassAction("k_im"), "lose_x"),
        Reaction("0 -> y", Formula("copies * Y_in"), "make_y"),
        Reaction("y -> 2 y", Formula("b_xy * y * agonist / (c2 + agonist)"), "amplify"),
        Reaction("y -> 0", MassAction("k2"), "lose_y"),
        Reaction("T -> 2 T", Formula(f"r * T * max({_GROWTH}, 0)"), "grow"),
        Reaction("T -> 0", Formula(f"r * T * max(-{_GROWTH}, 0)"), "shrink"),
        Reaction("T -> 0", Formula("k_T * T * agonist / (c1 + agonist)"), "kill"),
    )


def _parameters() -> tuple[Parameter, ...]:
    rows = (
        ("T_start", "0.1", _SCALE, "tumour at time 0"),
        ("k01", "0.1", "h^-1", "agonist from the site of injection"),
        ("k_x", "2", "1", "activity gained for a tumour unit killed"),
        ("k_im", "0.693 / 7", "h^-1", "loss of agonist and activity"),
        ("b_yx", "0.01", "h^-1", "feedback of the cytokine on the activity"),
        ("y_L", "1", _SCALE, "cytokine level where the feedback turns stimulating"),
        ("y_U", "6", _SCALE, "cytokine level where it turns inhibiting again: a storm"),
        ("Y_in", "1e-4", "h^-1", "baseline production of cytokine"),
        ("k2", "0.42", "h^-1", "loss of cytokine"),
        ("b_xy", "0.8", "h^-1", "cytokine amplified by activity; the source looks at 0.4 to 2"),
        ("c1", "1", _SCALE, "half saturation of killing"),
        ("c2", "1", _SCALE, "half saturation of the feedbacks"),
        ("r", "0.06", "h^-1", "growth of the tumour"),
        ("m", "0.05", _SCALE, "tumour below which it dies out (Allee threshold)"),
        ("K", "1", _SCALE, "largest tumour"),
        ("k_T", "0.05", "h^-1", "killing; the source looks at 0.004 to 0.164"),
    )
    return tuple(Parameter(n, parse(v), unit, _PAPER, what) for n, v, unit, what in rows)
