"""Populations in two stages: individual estimates, then the law they come from."""

from dataclasses import dataclass

import numpy as np

from engine.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class PopulationFit:
    """A normal law of individual parameters, on the transformed scale.

    Attributes:
        mean: (P,).
        covariance: between individuals, (P, P).
        individuals: each individual's parameters given the population, (N, P).
        mean_errors: standard errors of the mean, (P,).
        num_iterations: of the expectation-maximisation.
        is_converged: whether it settled.
    """

    mean: np.ndarray
    covariance: np.ndarray
    individuals: np.ndarray
    mean_errors: np.ndarray
    num_iterations: int
    is_converged: bool


def two_stage(
    estimates: np.ndarray,
    covariances: np.ndarray,
    *,
    max_iterations: int = 5_000,
    tolerance: float = 1e-10,
) -> PopulationFit:
    r"""The global two-stage method: maximum likelihood of the population's mean and covariance.

    .. math:: \hat\theta_i \sim N(\theta_i, C_i), \quad \theta_i \sim N(\mu, \Omega)

    Estimates are weighed by their own uncertainty, which the plain mean and covariance of
    estimates would count as variability between individuals.

    Args:
        estimates: of each individual, transformed scale, (N, P).
        covariances: of each estimate, such as `FisherInformation.covariance`, (N, P, P).
        max_iterations: of the expectation-maximisation.
        tolerance: relative change of mean and covariance at the end.

    Returns:
        The population.

    Raises:
        InvalidInput: wrong shapes, fewer than 2 individuals, or a covariance that is not finite.

    Example:
        >>> found = two_stage(np.array([[0.0], [2.0]]), np.full((2, 1, 1), 0.25))
        >>> found.mean.round(6).tolist(), found.covariance.round(4).tolist()
        ([1.0], [[0.75]])

    References:
        Steimer et al. 1984, doi:10.1007/BF01060035.
    """
    estimates = np.asarray(estimates, np.float64)
    covariances = np.asarray(covariances, np.float64)
    if estimates.ndim != 2 or covariances.shape != (*estimates.shape, estimates.shape[-1]):
        raise InvalidInput(
            f"estimates have shape {estimates.shape} and covariances {covariances.shape}; "
            "give (N, P) and (N, P, P)"
        )
    if len(estimates) < 2:
        raise InvalidInput("one individual is no population; give two or more")
    good = np.isfinite(estimates).all(axis=1) & np.isfinite(covariances).all(axis=(1, 2))
    if not good.all():
        raise InvalidInput(
            f"individual {int(np.argmin(good))} has an estimate or covariance that is not finite; "
            "leave it out, or give its parameters a prior"
        )
    mean, spread = estimates.mean(axis=0), np.cov(estimates.T).reshape(2 * [estimates.shape[1]])
    is_converged, num_iterations = False, 0
    while num_iterations < max_iterations and not is_converged:
        num_iterations += 1
        gains = spread[None] @ np.linalg.pinv(spread[None] + covariances, hermitian=True)
        away = (estimates - mean)[..., None]
        individuals = mean + (gains @ away)[..., 0]
        left = spread[None] - gains @ spread[None]
        new_mean = individuals.mean(axis=0)
        apart = individuals - new_mean
        new_spread = (left + apart[:, :, None] * apart[:, None, :]).mean(axis=0)
        change = max(
            np.abs(new_mean - mean).max(initial=0.0),
            np.abs(new_spread - spread).max(initial=0.0),
        )
        mean, spread = new_mean, 0.5 * (new_spread + new_spread.T)
        size = 1.0 + np.abs(mean).max() + np.abs(spread).max()
        is_converged = bool(change <= tolerance * size)
    information = np.linalg.pinv(spread[None] + covariances, hermitian=True).sum(axis=0)
    errors = np.sqrt(np.maximum(np.diag(np.linalg.pinv(information, hermitian=True)), 0.0))
    return PopulationFit(mean, spread, individuals, errors, num_iterations, is_converged)
