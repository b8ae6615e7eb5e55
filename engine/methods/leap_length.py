"""How far tau-leaping may leap: Cao, Gillespie and Petzold's step selection, for any rate law.

Cao, Gillespie and Petzold 2006, doi:10.1063/1.2159468; critical reactions: 2005,
doi:10.1063/1.1992473.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.kernel.model import LaneModel
from engine.kernel.state import Constants, Lanes
from engine.kinetics.evaluate import evaluate
from engine.network.expressions import Call, Expression, Symbol, symbols

# A species is short where a reaction could fire less often than this before it is used up.
CRITICAL_BELOW = 10
# A real number of molecules below which its life time is not followed.
FEW = 0.1
# By how much of itself the total propensity may change with time and inputs in a step: exact steps
# take it as it is at their beginning.
MOST_BY_INPUTS = 0.09
# The largest relative change in a leap of a propensity whose reaction fires alone: its hazard is
# taken as it is at the beginning.
MOST_BY_LEAPS = 0.03
# No limit on a leap.
UNLIMITED = 1e30
TINY = 1e-37


class Rates(NamedTuple):
    """Propensities for the next step.

    Attributes:
        propensities: one array per reaction, now.
        order: for every reaction its order: a number, or an array where it depends on the counts.
        reach: how far the propensities may be used.
    """

    propensities: list[Array]
    order: list[Array]
    reach: Array


def rates(model: LaneModel, epsilon: float, constants: Constants, lanes: Lanes) -> Rates:
    """Every propensity, its order, and how long inputs and time leave it as it is."""
    remaining = lanes.remaining
    values = model.values(constants, lanes.counts, remaining)
    propensities = model.propensities(values)
    order = [_order(model, law, values) for law in model.program.laws]
    if not model.is_thinned:
        return Rates(propensities, order, jnp.full_like(remaining, jnp.inf))
    now, zero = total_of(propensities), jnp.zeros_like(remaining)
    ceiling = total_of(model.upper_bounds(constants, lanes.counts, remaining, zero))
    last = model.values(constants, lanes.counts, zero)
    end = total_of(model.propensities(last))
    change = jnp.maximum(ceiling - now, now - end) / jnp.maximum(ceiling, jnp.float32(TINY))
    allowed = jnp.float32(min(3 * epsilon, MOST_BY_INPUTS))
    share = allowed / jnp.maximum(change, allowed)
    return Rates(propensities, order, remaining * share)


def total_of(arrays: Sequence[Array]) -> Array:
    """Their sum, from the left."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def _order(model: LaneModel, law: Expression, values: dict[str, Array]) -> Array:
    """The sum of a law's elasticities |x da/dx| / a over its species; at least 1.

    2 for a + b, 2 + 1 / (x - 1) for a pair of equals, as in Cao et al., and defined for every law.
    """
    whole = model.program.without_rules(law)
    names = sorted(symbols(whole) & set(model.network.species_names))
    if _is_monomial(whole):
        return jnp.float32(max(len(names), 1))
    total = jnp.float32(0)
    for name in names:
        x = values[name]

        def along(x: Array, name: str = name) -> Array:
            return evaluate(whole, {**values, name: x}, jnp, jnp.float32)

        value, slope = jax.jvp(along, (x,), (x,))
        total = total + jnp.abs(slope) / jnp.maximum(value, jnp.float32(TINY))
    return jnp.maximum(total, jnp.float32(1))


def _is_monomial(law: Expression) -> bool:
    """Whether a law is a product of different symbols."""
    if isinstance(law, Call) and law.function == "mul":
        factors = law.arguments
        return all(isinstance(f, Symbol) for f in factors) and len(set(factors)) == len(factors)
    return isinstance(law, Symbol)


def leap_length(
    model: LaneModel,
    epsilon: float,
    counts: Sequence[Array],
    found: Rates,
    is_critical: Sequence[Array | None],
    is_noisy: bool = True,
    most_lost: float = 2.0,
) -> Array:
    """The longest leap over which no propensity changes by more than epsilon, relatively.

    With b what a species may move by, it may lose `most_lost` b in all, whatever it gains.

    Without noise (`is_noisy` false) a species is held to its net drift, and to the part of its life
    time that an explicit integration needs.
    """
    changes, longest = model.net_changes, jnp.full_like(found.reach, UNLIMITED)
    zero = jnp.float32(0)
    frequent = [
        a if critical is None else jnp.where(critical, zero, a)
        for a, critical in zip(found.propensities, is_critical, strict=True)
    ]
    for species, name in enumerate(model.network.species_names):
        order = _highest_order(model, found.order, name)
        column = changes[:, species]
        flows = [(int(v), a) for v, a in zip(column, frequent, strict=True) if v]
        if order is None or not flows:
            continue
        x = counts[species].astype(jnp.float32)
        most = _largest_change(model, epsilon, is_critical, found.propensities, name)
        bound = jnp.maximum(most * x / order, jnp.float32(1))
        if is_noisy:
            time = _time_to_move(bound, flows, most_lost)
        else:
            time = _time_to_drift(epsilon, x, bound, flows)
        longest = jnp.minimum(longest, time)
    return longest


def _largest_change(
    model: LaneModel,
    epsilon: float,
    is_critical: Sequence[Array | None],
    propensities: Sequence[Array],
    name: str,
) -> Array:
    """Epsilon; less for a species that the law of a critical reaction contains."""
    most = jnp.float32(epsilon)
    if epsilon <= MOST_BY_LEAPS:
        return most
    for law, critical, a in zip(model.program.laws, is_critical, propensities, strict=True):
        if critical is not None and name in symbols(model.program.without_rules(law)):
            most = jnp.where(critical & (a > 0), jnp.float32(MOST_BY_LEAPS), most)
    return most


def _time_to_move(bound: Array, flows: Sequence[tuple[int, Array]], most_lost: float) -> Array:
    """How long a species needs to move by `bound`: by drift, noise, or a part of its losses."""
    tiny = jnp.float32(TINY)
    drift = total_of([jnp.float32(v) * a for v, a in flows])
    noise = total_of([jnp.float32(v**2) * a for v, a in flows])
    shortest = jnp.minimum(
        bound / jnp.maximum(jnp.abs(drift), tiny), bound * bound / jnp.maximum(noise, tiny)
    )
    losses = [jnp.float32(-v) * a for v, a in flows if v < 0]
    if not losses:
        return shortest
    longest = jnp.float32(most_lost) * bound / jnp.maximum(total_of(losses), tiny)
    return jnp.minimum(shortest, longest)


def _time_to_drift(
    epsilon: float, x: Array, bound: Array, flows: Sequence[tuple[int, Array]]
) -> Array:
    """How long a species needs to move by `bound` in all, or to lose a part of itself.

    Gains and losses that balance need no short steps, but an explicit scheme of order 2 is unstable
    beyond two life times: ten epsilon of one, at most a half.
    """
    tiny = jnp.float32(TINY)
    drift = total_of([jnp.float32(v) * a for v, a in flows])
    time = bound / jnp.maximum(jnp.abs(drift), tiny)
    losses = [jnp.float32(-v) * a for v, a in flows if v < 0]
    if not losses:
        return time
    part = jnp.float32(min(10 * epsilon, 0.5)) * jnp.maximum(x, jnp.float32(FEW))
    return jnp.minimum(time, part / jnp.maximum(total_of(losses), tiny))


def _highest_order(model: LaneModel, order: Sequence[Array], name: str) -> Array | None:
    """The largest order of the laws that a species enters."""
    highest: Array | None = None
    for law, one in zip(model.program.laws, order, strict=True):
        if name in symbols(model.program.without_rules(law)):
            highest = one if highest is None else jnp.maximum(highest, one)
    return highest


def critical(model: LaneModel, counts: Sequence[Array]) -> list[Array | None]:
    """For every reaction whether it is critical; None where it never is.

    A species is short where 10 firings of some reaction would use it up. Critical are all reactions
    that use up or make what is short, not only those that use it up, as in Cao et al.: a molecule
    that is made in a leap would live to its end, however short its life (a species with half a
    molecule on average had twice as many).
    """
    uses = np.maximum(-model.net_changes, 0).max(axis=0)
    result: list[Array | None] = []
    for row in model.net_changes:
        is_critical: Array | None = None
        for species in np.flatnonzero((row != 0) & (uses > 0)).tolist():
            is_short = counts[species] < jnp.int32(CRITICAL_BELOW * int(uses[species]))
            is_critical = is_short if is_critical is None else is_critical | is_short
        result.append(is_critical)
    return result
