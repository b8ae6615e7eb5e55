"""Stops close enough for what is integrated over the stretches between two events.

An integrand that is affine in the time and the inputs has a closed form over any stretch. Any other
is integrated by quadrature, which is good where little moves between two events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from engine.dosing.dose import Dose
from engine.gradient.arguments import Arguments, few_sizes
from engine.gradient.directions import Prepared
from engine.kinetics.hoisting import is_affine
from engine.network.derivatives import without_rules
from engine.network.expressions import TIME, Expression, call, symbols
from engine.network.network import ReactionNetwork

# No stretch is longer than this many of the fastest time scale of an input: the quadrature is then
# off by less than 5e-5 of it. Where a law mentions the time there are at least so many stretches.
LONGEST_STRETCH, FEWEST_STRETCHES, MOST_STRETCHES = 1.25, 16, 4096
# Of a mode exp(-GONE) is nothing. With more times of doses than this, one is always near.
GONE, MOST_DOSES = 16.0, 256


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
    if _has_closed_forms(found, changes or {}):
        return arguments
    speeds = _speeds(arguments)
    turns = arguments.with_stops(*(t for one in speeds for t in (one.since, one.until)))
    begins = np.concatenate([[arguments.start], turns.ts[:-1]])
    gaps = turns.ts - begins
    rates = np.max([one.over(begins) for one in speeds], axis=0, initial=0.0)
    pieces = _pieces(arguments, gaps, rates)
    if pieces.sum() == len(arguments.ts):
        return arguments
    cut = zip(begins, gaps, pieces, strict=True)
    between = [begin + gap * k / number for begin, gap, number in cut for k in range(1, number)]
    return turns.with_stops(*between)


def _pieces(arguments: Arguments, gaps: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Into how many each gap is cut where something moves at such a rate."""
    length = arguments.horizon - arguments.start
    # Laws that mention the time itself have a time scale that nobody knows.
    is_timed = any(TIME in symbols(law) for law in _laws(arguments.network))
    least = FEWEST_STRETCHES / length if is_timed else 0.0
    per_time = np.clip(rates / LONGEST_STRETCH, least, MOST_STRETCHES / length)
    pieces = np.maximum(np.ceil(gaps * per_time * (1 - 1e-12)), 1.0).astype(int)
    # Few numbers of stops are ever compiled.
    missing = few_sizes(int(pieces.sum())) - int(pieces.sum())
    for _ in range(missing if pieces.sum() > len(arguments.ts) else 0):
        pieces[np.argmax(gaps / pieces)] += 1
    return pieces


@dataclass(frozen=True)
class _Speed:
    """A rate at which something moves for a while."""

    rate: float
    since: float
    until: float

    def over(self, begins: np.ndarray) -> np.ndarray:
        """The rate in stretches that begin so."""
        return np.where((begins >= self.since) & (begins < self.until), self.rate, 0.0)


def _speeds(arguments: Arguments) -> list[_Speed]:
    """How fast the modes of the inputs move, and when: until they are gone after the last dose."""
    responses = [pk.response(arguments.num_patients) for pk in arguments.inputs.values()]
    modes = [(float(mode.max()), float(mode.min())) for r in responses for mode in r.rates]
    bends = _bends(arguments)
    is_known = all(r.duration is None for r in responses) and len(bends) <= MOST_DOSES
    if not is_known or any(event.doses for event in arguments.network.events):
        return [_Speed(fastest, arguments.start, arguments.horizon) for fastest, _ in modes]
    spans = zip(bends, [*bends[1:], arguments.horizon], strict=True)
    return [
        _Speed(fastest, begin, min(end, begin + GONE / slowest if slowest > 0 else np.inf))
        for begin, end in spans
        for fastest, slowest in modes
    ]


def _bends(arguments: Arguments) -> list[float]:
    """When levels jump or bend: at the start, and where doses are given or end."""
    times = {arguments.start}
    for regimen in arguments.regimens:
        for one in regimen.expanded():
            if isinstance(one, Dose):
                times |= {one.time, one.time + (one.infusion_duration or 0.0)}
        if len(times) > MOST_DOSES:
            break
    return sorted(t for t in times if arguments.start <= t < arguments.horizon)


def moves(network: ReactionNetwork, expression: Expression) -> bool:
    """Whether an input or the time moves a law of the network or the expression."""
    parts = (without_rules(network.rules, expression), *_laws(network))
    return any(symbols(part) & _moving(network) for part in parts)


def _has_closed_forms(found: Prepared, changes: Mapping[str, Expression]) -> bool:
    """Whether every integrand is affine in what moves between events."""
    network, moving = found.arguments.network, _moving(found.arguments.network)
    integrands = []
    for reaction in network.reactions:
        rates = [reaction.propensity, *(d.slope(reaction.propensity) for d in found.directions)]
        change = changes.get(reaction.name)
        integrands += rates if change is None else [call("mul", rate, change) for rate in rates]
    return all(is_affine(without_rules(network.rules, one), moving) for one in integrands)


def _moving(network: ReactionNetwork) -> frozenset[str]:
    """What moves between events."""
    return frozenset({TIME, *(one.name for one in network.inputs)})


def _laws(network: ReactionNetwork) -> list[Expression]:
    """The propensities without rules."""
    return [without_rules(network.rules, one.propensity) for one in network.reactions]
