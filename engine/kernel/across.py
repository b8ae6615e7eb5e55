"""The one thing a step may ask across lanes."""

import jax.numpy as jnp
from jax import Array


def is_any(mask: Array) -> Array:
    """Whether a condition holds in any lane; a form that Triton can reduce too."""
    return jnp.max(mask.astype(jnp.int32)) > 0
