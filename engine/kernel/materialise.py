"""Keep XLA from computing shared values again for everything that uses them."""

from typing import Literal, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

T = TypeVar("T")


def materialise(is_running: Array | Literal[True], values: T) -> T:
    """`values`, computed once and written to memory.

    XLA's CPU compiler merges cheap elementwise producers into each of their users. In a step every
    species uses every propensity, so without this the propensities are computed once per species:
    vilar ran at 28 million events/s instead of 60 to 90. `lax.optimization_barrier` is removed
    before fusion; a conditional is not, as long as its predicate is known only at run time.

    Args:
        is_running: scalar, true while any lane is alive; where it is false nobody looks at the
            values. The constant True inside a kernel, whose values stay in registers anyway.
        values: a tree of arrays.
    """
    if is_running is True:
        return values
    return lax.cond(is_running, lambda v: v, lambda v: jax.tree.map(jnp.zeros_like, v), values)
