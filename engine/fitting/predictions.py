"""Predictions of a fit at rows of data: intervals, and residuals by group."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from engine.errors import InvalidInput
from engine.fitting.condition_objective import ConditionObjective
from engine.fitting.fisher import FisherInformation
from engine.fitting.measurements import Measurements
from engine.optimise.likelihoods import Laplace, LogNormal


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a fit says about N rows.

    Attributes:
        values: the observable, (N,); the median of a measurement.
        lower: lower end of the interval of a new measurement, (N,).
        upper: upper end, (N,).
        covariance: of new measurements, (N, N), of their logarithms under log-normal noise: what
            the parameters' uncertainty makes them share, and the noise of each.
    """

    values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    covariance: np.ndarray

    def where(self, is_kept: np.ndarray) -> "Prediction":
        """The rows that are kept, (N,) booleans."""
        covariance = self.covariance[np.ix_(is_kept, is_kept)]
        return Prediction(
            self.values[is_kept], self.lower[is_kept], self.upper[is_kept], covariance
        )

    def coverage(self, measured: np.ndarray) -> float:
        """The share of measurements, (N,), inside their intervals."""
        return float(np.mean((measured >= self.lower) & (measured <= self.upper)))


def predict_rows(
    objective: ConditionObjective, information: FisherInformation, level: float = 0.95
) -> Prediction:
    r"""Predict the rows of an objective with intervals for new measurements.

    .. math:: h(y) \pm z_{(1 + level) / 2} \sqrt{h'(y)^2 j^T C j + \sigma^2}

    with h the logarithm under log-normal noise and the identity under normal noise, j the slopes
    of the prediction by the parameters and C their covariance (the delta method).

    Args:
        objective: the fit's objective, or `objective.on(rows)` for rows that were held out.
        information: of the fit at its optimum; parameters at a bound count as known.
        level: probability of the interval, 0.95.

    Returns:
        The predictions. Where a parameter that is not determined matters, the interval is infinite.

    Raises:
        InvalidInput: Laplace noise, a level outside (0, 1), equations that could not be solved.

    Example:
        >>> predict_rows(objective.on(held_out), information).lower  # doctest: +SKIP
    """
    if isinstance(objective.likelihood, Laplace):
        raise InvalidInput("intervals are for normal and log-normal noise; the fit's is Laplace")
    if not 0.0 < level < 1.0:
        raise InvalidInput(f"level is {level:g}; give a probability between 0 and 1")
    with jax.enable_x64(True):
        found = jax.jit(objective.with_slopes)(jnp.asarray(information.point, jnp.float64))
    (values, scales), (slopes, _), is_ok = jax.tree.map(np.asarray, found)
    if not is_ok:
        raise InvalidInput("the rate equations could not be solved at this point of the fit")
    is_log = isinstance(objective.likelihood, LogNormal)
    if is_log:
        slopes = slopes / values[:, None]
    covariance = _covariance(slopes, information) + np.diag(scales**2)
    z = NormalDist().inv_cdf(0.5 + 0.5 * level)
    reach = z * np.sqrt(np.diag(covariance))
    centre = np.log(values) if is_log else values
    lower, upper = (np.exp(e) if is_log else e for e in (centre - reach, centre + reach))
    return Prediction(values, lower, upper, covariance)


def residual_table(
    data: Measurements, predicted: np.ndarray, labels: Sequence[str], *, is_log: bool = True
) -> pd.DataFrame:
    """Residuals of groups of rows: how large, how biased, how much of the variance they leave.

    Args:
        data: the measurements.
        predicted: of each row, (N,).
        labels: names of labels that make the groups; none for one line of all rows.
        is_log: residuals log(measured / predicted) rather than measured - predicted.

    Returns:
        A row per group: the labels, `rows`, `rms` and `bias` (mean) of the residuals, and
        `r_squared` = 1 - sum r^2 / sum (m - mean m)^2 within the group, on the same scale.

    Example:
        >>> data = Measurements([0.0, 0.0], [1.0, 3.0], labels={"cell": ["NK", "NK"]})
        >>> residual_table(data, [1.0, 2.0], ["cell"], is_log=False)["r_squared"].tolist()
        [0.5]
    """
    predicted = np.asarray(predicted, np.float64)
    if predicted.shape != data.values.shape:
        raise InvalidInput(f"predicted has shape {predicted.shape}; give ({len(data)},)")
    measured = data.values
    if is_log:
        measured, predicted = np.log(measured), np.log(predicted)
    levels = np.array(list(data.levels(labels))) if labels else np.full(len(data), "all")
    lines = []
    for level in sorted(set(levels)):
        here = levels == level
        first = int(np.argmax(here))
        away = measured[here] - predicted[here]
        total = float(np.sum((measured[here] - measured[here].mean()) ** 2))
        lines.append(
            {
                **{name: data.labels[name][first] for name in labels},
                "rows": int(here.sum()),
                "rms": float(np.sqrt(np.mean(away**2))),
                "bias": float(away.mean()),
                "r_squared": 1.0 - float(np.sum(away**2)) / total if total > 0 else np.nan,
            }
        )
    return pd.DataFrame(lines)


def _covariance(slopes: np.ndarray, information: FisherInformation) -> np.ndarray:
    """J C J^T, (N, N), infinite on the diagonal where an undetermined direction matters."""
    known = np.nan_to_num(information.covariance, nan=0.0, posinf=0.0)
    found = slopes @ known @ slopes.T
    is_open = np.isinf(information.standard_errors)
    rows = np.flatnonzero(np.any(slopes[:, is_open] != 0.0, axis=1))
    found[rows, rows] = np.inf
    return found
