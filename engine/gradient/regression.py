"""Control variates fitted on one half of the trajectories and used on the other."""

import numpy as np

Array = np.ndarray


def halves(number: int, replicates: int = 1) -> Array:
    """Which half each trajectory belongs to; a patient's replicates stay together."""
    return (np.arange(number) // replicates) % 2 == 0


def without(values: Array, controls: Array, replicates: int = 1) -> Array:
    """Values less the multiple of zero-mean controls that varies most like them.

    The multiple is estimated on the other half, so that nothing is biased.

    Args:
        values: (n,).
        controls: (n, K), each of mean zero.
        replicates: consecutive rows that must not be separated.
    """
    is_first = halves(len(values), replicates)
    if not is_first.any() or is_first.all() or not controls.shape[1]:
        return values
    result = np.array(values, np.float64)
    for fitted, used in ((is_first, ~is_first), (~is_first, is_first)):
        x, y = controls[fitted], values[fitted]
        scale = np.sqrt(np.mean(x**2, axis=0))
        scale = np.where(scale > 0, scale, 1.0)
        z = (x - x.mean(axis=0)) / scale
        gram = z.T @ z + 1e-8 * len(z) * np.eye(z.shape[1])
        weights = np.linalg.solve(gram, z.T @ (y - y.mean())) / scale
        result[used] -= controls[used] @ weights
    return result


def baselined(values: Array, scores: Array, replicates: int = 1) -> Array:
    """(values - c) * scores with the optimal constant c = E[f S^2] / E[S^2] of the other half.

    Args:
        values: (n,).
        scores: (n, P).
        replicates: consecutive rows that must not be separated.
    """
    is_first = halves(len(values), replicates)
    if not is_first.any() or is_first.all():
        return (values - values.mean())[:, np.newaxis] * scores
    result = np.empty_like(scores)
    for fitted, used in ((is_first, ~is_first), (~is_first, is_first)):
        squares = scores[fitted] ** 2
        total = squares.sum(axis=0)
        constant = (values[fitted, np.newaxis] * squares).sum(axis=0)
        constant = np.where(total > 0, constant / np.where(total > 0, total, 1.0), 0.0)
        result[used] = (values[used, np.newaxis] - constant) * scores[used]
    return result


def mean_and_error(samples: Array, replicates: int = 1) -> tuple[Array, Array]:
    """Mean and standard error along the rows, of which a patient's are not independent."""
    grouped = samples.reshape(-1, replicates, *samples.shape[1:]).mean(axis=1)
    number = len(grouped)
    spread = grouped.std(axis=0, ddof=1) if number > 1 else np.full(grouped.shape[1:], np.inf)
    return grouped.mean(axis=0), spread / np.sqrt(number)
