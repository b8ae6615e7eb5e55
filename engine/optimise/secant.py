"""What Gauss-Newton leaves out of the Hessian, learnt from changes of the gradient."""

from typing import Any

import jax.numpy as jnp

Array = Any
_LEAST_COSINE = 1e-8


def secant_update(secant: Array, move: Array, change: Array, curvature: Array) -> Array:
    r"""The symmetric matrix S nearest the last one that explains a change of the gradient.

    .. math:: (H + S) s = y, \quad S_+ = S + (d v^T + v d^T) / v^T s - d^T s \, v v^T / (v^T s)^2

    with the move s, the change y of the gradient, the curvature H at the new point,
    d = y - H s - S s and v = y. S is first scaled down to the size that the change shows, so that
    it fades where residuals do. A move along which the gradient falls leaves S as it was.

    Args:
        secant: S, (P, P).
        move: s, (P,).
        change: y, (P,).
        curvature: H, (P, P).

    Returns:
        The new S, (P, P).

    References:
        Dennis, Gay and Welsch 1981, doi:10.1145/355958.355965 (NL2SOL).
    """
    target = change - curvature @ move
    seen, known = jnp.abs(move @ target), jnp.abs(move @ (secant @ move))
    sized = secant * jnp.where(known > seen, seen / jnp.maximum(known, 1e-300), 1.0)
    away, along = target - sized @ move, change @ move
    lengths = jnp.linalg.norm(change) * jnp.linalg.norm(move)
    is_safe = along > _LEAST_COSINE * lengths
    along = jnp.where(is_safe, along, 1.0)
    both = jnp.outer(away, change)
    updated = sized + (both + both.T) / along
    updated = updated - (away @ move) * jnp.outer(change, change) / along**2
    return jnp.where(is_safe & jnp.all(jnp.isfinite(updated)), updated, secant)
