"""Where starts begin: the best of a few random points each."""

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.optimise.objective import Objective


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
    if draws == 1:
        return rounds[0]
    points = np.stack(rounds, axis=1)
    flat = points.reshape(-1, points.shape[-1])
    padded = np.concatenate([flat, np.repeat(flat[-1:], -len(flat) % batch, axis=0)])
    with jax.enable_x64(True):
        values_of = jax.jit(jax.vmap(objective.value))
        pieces = [
            np.asarray(values_of(jnp.asarray(padded[i : i + batch])))
            for i in range(0, len(padded), batch)
        ]
    values = np.concatenate(pieces)[: len(flat)].reshape(num_starts, draws)
    best = np.argmin(np.where(np.isnan(values), np.inf, values), axis=1)
    return points[np.arange(num_starts), best]
