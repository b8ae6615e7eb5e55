"""Which reaction fires: the first whose running sum of propensities exceeds a target, and its jump.

Gillespie (1977), doi:10.1021/j100540a008. Methods share this that fire one reaction a step.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.kernel.materialise import Running, compute_once
from engine.kernel.model import LaneModel

# Targets at which no reaction fires: of a rare one's turn, which no total may reach; where nothing
# fires; and in a lane that waits. No propensity is above the last two, infinite or no number.
AT_RARE, NOTHING, WAITING = np.float32(2.0**127), np.float32(np.inf), np.float32(np.nan)
# A number times this, in float32, is the next smaller one.
BELOW_ONE = np.float32(1 - 2**-24)


class Selection(NamedTuple):
    """A partition of the propensities for choosing a reaction.

    Attributes:
        cumulative: running sum of the common reactions' propensities, one array per reaction.
        rare: sum of the rare reactions' propensities.
        total: sum of all.
    """

    cumulative: list[Array]
    rare: Array
    total: Array


def partition(
    model: LaneModel, values: Mapping[str, Array], threshold: Array, is_running: Running
) -> Selection:
    """Split propensities into common and rare ones, below the threshold.

    The split depends on the path alone, and both parts are summed exactly enough on their own:
    whatever the threshold is, the next reaction has the right distribution.
    """

    def rates() -> list[Array]:
        found = model.program.propensities(values, jnp, jnp.float32)
        return [jnp.broadcast_to(a, threshold.shape) for a in found]

    # The two sums each work them out, inside of their conditional, unless they are written down.
    written = compute_once(is_running, rates) if model.has_dear_laws else None

    def sums() -> tuple[list[Array], Array]:
        common = rare = jnp.zeros_like(threshold)
        cumulative = []
        for a in rates() if written is None else written:
            is_common = a >= threshold
            rare = rare + jnp.where(is_common, jnp.float32(0), a)
            common = common + jnp.where(is_common, a, jnp.float32(0))
            cumulative.append(common)
        return cumulative, rare

    cumulative, rare = compute_once(is_running, sums)
    total = cumulative[-1] + rare
    # An infinite total would freeze the clock: NaN stops the lane with a status instead.
    total = jnp.where(total < AT_RARE, total, jnp.float32(jnp.nan))
    return Selection(cumulative, rare, total)


def fire(
    model: LaneModel, counts: Sequence[Array], cumulative: Sequence[Array], target: Array
) -> tuple[Array, ...]:
    """Counts after the first reaction whose cumulative propensity exceeds `target`.

    With masks g_j = not (target < c_j) the change of species i is
    v_0i + sum_j g_j (v_j+1,i - v_ji), v past the last reaction being zero. A target must be below
    the last c_j, or one at which no reaction fires. Fourteen per cent faster than one-hot
    selection.
    """
    # One array less to read for every species than with the last c_j itself.
    ends = (*cumulative[:-1], jnp.float32(AT_RARE))
    passed = [~(target < end) for end in ends]
    changes = model.net_changes
    result = []
    for species, count in enumerate(counts):
        column = [int(v) for v in changes[:, species]] + [0]
        if count.dtype != jnp.int32:
            result.append(count + _total_step(column, passed))
            continue
        if column[0]:
            count = count + jnp.int32(column[0])
        for j, mask in enumerate(passed):
            step = column[j + 1] - column[j]
            if step:
                count = jnp.where(mask, count + jnp.int32(step), count)
        result.append(count)
    return tuple(result)


def firing(model: LaneModel, cumulative: Sequence[Array], target: Array) -> Callable[[str], Array]:
    """Of a reaction's name, the lanes in which `fire` fires it."""

    def fired(name: str) -> Array:
        j = model.network.reaction_names.index(name)
        here = target < cumulative[j]
        return here & ~(target < cumulative[j - 1]) if j else here

    return fired


def _total_step(column: Sequence[int], passed: Sequence[Array]) -> Array:
    """The change of a species that is a real number."""
    total = jnp.full(passed[0].shape, column[0], jnp.int32)
    for j, mask in enumerate(passed):
        if step := column[j + 1] - column[j]:
            total = total + mask.astype(jnp.int32) * jnp.int32(step)
    return total.astype(jnp.float32)
