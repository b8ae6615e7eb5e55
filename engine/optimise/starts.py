"""Where starts begin: the best of a few random points each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.optimise.objective import Objective, Settling

Array = Any


def screened_starts(
    objective: Objective, num_starts: int, seed: int, *, draws: int = 10, batch: int = 8
) -> np.ndarray:
    """Starts that are each the best of some points uniform between the bounds.

    A value costs a fraction of a step, and many random points of a model of reactions explode or
    are flat: their starts would fail or end at once.

    Args:
        objective: the objective; its values are compared.
        num_starts: how many starts, N.
        seed: of the points; start i is the same for any number of starts.
        draws: points of each start; 1 takes the first as it is.
        batch: points evaluated together.

    Returns:
        Points on the transformed scale, (N, P).

    Raises:
        InvalidInput: no start, or no draw.
    """
    if num_starts < 1 or draws < 1:
        raise InvalidInput(f"num_starts={num_starts}, draws={draws}: give at least 1")
    rounds = [objective.space.sample(num_starts, seed + 7919 * k) for k in range(draws)]
    flat = np.stack(rounds, axis=1).reshape(num_starts * draws, -1)
    settled = objective.settled if isinstance(objective, Settling) else None
    if settled is None and draws == 1:
        return flat

    def tried(point: Array) -> tuple[Array, Array]:
        best = point if settled is None else settled(point)
        return best, objective.value(best)

    points, values = _in_batches(tried, flat, batch)
    points, values = (a.reshape(num_starts, draws, *a.shape[1:]) for a in (points, values))
    best = np.argmin(np.where(np.isnan(values), np.inf, values), axis=1)
    return points[np.arange(num_starts), best]


def _in_batches(
    function: Callable[[Array], tuple[Array, Array]], points: np.ndarray, batch: int
) -> list[np.ndarray]:
    """What a function gives for each of many points (N, P), `batch` of them at a time."""
    padded = np.concatenate([points, np.repeat(points[-1:], -len(points) % batch, axis=0)])
    with jax.enable_x64(True):
        vectorised = jax.jit(jax.vmap(function))
        pieces = [
            jax.tree.map(np.asarray, vectorised(jnp.asarray(padded[i : i + batch])))
            for i in range(0, len(padded), batch)
        ]
    return [np.concatenate(part)[: len(points)] for part in zip(*pieces, strict=True)]
