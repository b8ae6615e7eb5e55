"""The laws of a template on some of its members, for the sparse step: their values and bounds."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.kinetics.evaluate import evaluate
from engine.kinetics.intervals import bounds
from engine.kinetics.program import guarded
from engine.kinetics.templates import Template

# Guards the bounds against rounding of the interval arithmetic.
SLACK = 1.0 + 1e-5


def entrants(template: Template) -> np.ndarray:
    """Columns, then the offsets of slots that have any, per member; a last row for none."""
    is_offset = template.offsets.any(axis=0)
    table = np.concatenate([template.columns, template.offsets[:, is_offset]], axis=1)
    return np.pad(table, ((0, 1), (0, 0))).astype(np.int32)


def slots(
    template: Template,
    rows: Array,
    count_at: Callable[[Array], Array],
    fixed_at: Callable[[Array], Array],
) -> dict[str, Array]:
    """What stands in the slots of members given by their rows of `entrants`, (..., columns)."""
    values: dict[str, Array] = {}
    next_offset = len(template.slots)
    for position, name in enumerate(template.slots):
        column = rows[..., position]
        if not template.is_count[position]:
            values[name] = fixed_at(column)
            continue
        count = count_at(column)
        if template.offsets[:, position].any():
            count = count - rows[..., next_offset]
            next_offset += 1
        values[name] = count.astype(jnp.float32)
    return values


def propensities(template: Template, values: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    """The template's law, NaN where it broke its guard; `values` has the slots and what moves."""
    law = evaluate(template.law, values, jnp, jnp.float32)
    return guarded(jnp.broadcast_to(law, shape), template.guard, values, jnp, jnp.float32)


def ceilings(
    template: Template,
    values: Mapping[str, Array],
    now: Mapping[str, Array],
    window: Mapping[str, tuple[Array, Array]],
    shape: tuple[int, ...],
) -> Array:
    """Upper bounds of the template's law over a window; NaN where it breaks its guard now.

    Args:
        template: the laws.
        values: what stands in the slots.
        now: what moves, at the beginning of the window.
        window: lower and upper bounds of what moves.
        shape: of the result.
    """
    upper = bounds(template.law, values, window, jnp, jnp.float32)[1] * jnp.float32(SLACK)
    upper = jnp.broadcast_to(jnp.maximum(upper, jnp.float32(0)), shape)
    if not (template.guard.is_signed or template.guard.required):
        return upper
    # A bound does not show a law that is negative: look at where it stands.
    law = propensities(template, {**values, **now}, shape)
    return jnp.where(jnp.isnan(law), law, upper)
