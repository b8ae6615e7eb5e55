"""Sums of modes written out: an input, and its integral, a time after its state was taken."""

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray


def advance(state: ArrayLike, rates: ArrayLike, elapsed: ArrayLike) -> Array:
    """The state after time has passed: the level stays, A_m becomes A_m exp(-lambda_m t).

    Args:
        state: level and amplitudes, shape (1 + n_modes, ...).
        rates: decay rates, shape (n_modes, ...).
        elapsed: time t, broadcast against the trailing axes.
    """
    state = np.asarray(state, np.float64)
    modes = state[1:] * np.exp(-np.asarray(rates) * elapsed)
    return np.concatenate([np.broadcast_to(state[:1], (1, *modes.shape[1:])), modes])


def value(state: ArrayLike, rates: ArrayLike, elapsed: ArrayLike) -> Array:
    """level + sum_m A_m exp(-lambda_m t), a time `elapsed` after the state was taken.

    Args:
        state: level and amplitudes, shape (1 + n_modes, ...).
        rates: decay rates, shape (n_modes, ...).
        elapsed: time t, broadcast against the trailing axes.

    Returns:
        The input's value. Where modes of both signs cancel it is accurate to the rounding of the
        largest amplitude, so it can be below 0 by that much.

    Example:
        >>> value([[1.0], [4.0]], [[0.0]], 3.0)
        array([5.])
    """
    return np.asarray(advance(state, rates, elapsed).sum(axis=0))


def integral(state: ArrayLike, rates: ArrayLike, window: ArrayLike) -> Array:
    """The input's integral over the next `window` w.

    level w + sum_m A_m (1 - exp(-lambda_m w)) / lambda_m, where a mode that
    does not decay contributes A_m w. Shapes as in `value`.
    """
    state, rates = np.asarray(state, np.float64), np.asarray(rates, np.float64)
    window = np.asarray(window, np.float64)
    positive = np.where(rates > 0.0, rates, 1.0)
    weights = np.where(rates > 0.0, -np.expm1(-positive * window) / positive, window)
    return np.asarray(state[0] * window + (state[1:] * weights).sum(axis=0))
