"""Stops close enough for what is integrated over the stretches between two events.

An integrand that is affine in the time and the inputs has a closed form over any stretch. Any other
is integrated by quadrature, which is good where little moves between two events.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from engine.gradient.arguments import Arguments, few_sizes
from engine.gradient.directions import Prepared
from engine.kinetics.hoisting import is_affine
from engine.network.derivatives import without_rules
from engine.network.expressions import TIME, Expression, call, symbols
from engine.network.network import ReactionNetwork

# No stretch is longer than this many of the fastest time scale of an input: the quadrature is then
# off by less than 5e-5 of it. Where a law mentions the time there are at least so many stretches.
LONGEST_STRETCH, FEWEST_STRETCHES, MOST_STRETCHES = 1.25, 16, 4096


def closely_stopped(
    found: Prepared,
    stops: np.ndarray | None = None,
    changes: Mapping[str, Expression] | None = None,
) -> Arguments:
    """The arguments with stops between those that they have where these are too far apart.

    Args:
        found: the directions, whose scores are integrated.
        stops: in place of those of the arguments.
        changes: of a critic's belief with every reaction, if there is one: its products with the
            rates and with their slopes are integrated too.
    """
    arguments = found.arguments if stops is None else replace(found.arguments, ts=stops)
    longest = _longest(found, changes or {})
    gaps = np.diff([arguments.start, *arguments.ts])
    pieces = np.maximum(np.ceil(gaps / longest), 1.0).astype(int)
    if pieces.sum() == len(gaps):
        return arguments
    # Few numbers of stops are ever compiled.
    for _ in range(few_sizes(int(pieces.sum())) - int(pieces.sum())):
        pieces[np.argmax(gaps / pieces)] += 1
    ends = zip(arguments.ts - gaps, gaps, pieces, strict=True)
    return arguments.with_stops(
        *(begin + gap * k / number for begin, gap, number in ends for k in range(1, number))
    )


def moves(network: ReactionNetwork, expression: Expression) -> bool:
    """Whether an input or the time moves a law of the network or the expression."""
    moving = {TIME, *(one.name for one in network.inputs)}
    parts = (expression, *(reaction.propensity for reaction in network.reactions))
    return any(symbols(without_rules(network.rules, part)) & moving for part in parts)


def _longest(found: Prepared, changes: Mapping[str, Expression]) -> float:
    """How long a stretch may be; infinite where all integrands have closed forms."""
    arguments, network = found.arguments, found.arguments.network
    moving = frozenset({TIME, *(one.name for one in network.inputs)})
    integrands = []
    for reaction in network.reactions:
        rates = [reaction.propensity, *(d.slope(reaction.propensity) for d in found.directions)]
        change = changes.get(reaction.name)
        integrands += rates if change is None else [call("mul", rate, change) for rate in rates]
    if all(is_affine(without_rules(network.rules, one), moving) for one in integrands):
        return np.inf
    responses = [pk.response(arguments.num_patients) for pk in arguments.inputs.values()]
    fastest = max((float(r.rates.max()) for r in responses if r.num_modes), default=0.0)
    length = arguments.horizon - arguments.start
    # Laws that mention the time itself have a time scale that nobody knows.
    laws = (without_rules(network.rules, reaction.propensity) for reaction in network.reactions)
    is_timed = any(TIME in symbols(law) for law in laws)
    number = np.clip(
        length * fastest / LONGEST_STRETCH, FEWEST_STRETCHES if is_timed else 0, MOST_STRETCHES
    )
    return float(length / number) if number else np.inf
