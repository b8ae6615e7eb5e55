r"""The mean of the worst share of patients: conditional value at risk, CVaR.

.. math:: CVaR = \min_t\; t + E[(X - t)^+] / s

with s the share (CVaR at the level 1 - s); the least t is the value at risk, the quantile above
which a share s lies. At it the derivative of CVaR is that of the expectation with t held; at any
other t the expectation is larger, so that a t from other trajectories errs towards caution, by
second order. (Rockafellar and Uryasev 2000, doi:10.21314/JOR.2000.038.)
"""

from dataclasses import replace

import numpy as np

from engine.errors import InvalidInput
from engine.gradient.outcome import Outcome

# Fewer patients in the tail say nothing about it.
FEWEST = 10


def value_at_risk(outcomes: np.ndarray, share: float) -> float:
    """The number above which a share of the outcomes lies.

    Raises:
        InvalidInput: a tail of fewer than ten outcomes.

    Example:
        >>> value_at_risk(np.arange(1000.0), 0.1)
        900.0
    """
    number = len(outcomes)
    if share * number < FEWEST:
        raise InvalidInput(
            f"worst={share:g} of {number} patients are fewer than {FEWEST}; simulate at least "
            f"{int(np.ceil(FEWEST / share))}, or bound a larger share"
        )
    return float(np.quantile(outcomes, 1.0 - share, method="higher"))


def beyond(outcomes: np.ndarray, threshold: float, share: float) -> np.ndarray:
    """t + (x - t)^+ / s of every outcome, whose mean is at least CVaR."""
    return np.asarray(threshold + np.maximum(outcomes - threshold, 0.0) / share)


def tail_outcome(outcome: Outcome, threshold: float, share: float) -> Outcome:
    """The outcome whose expectation is CVaR, with the threshold held."""
    return replace(
        outcome, function=lambda results: beyond(outcome.values(results), threshold, share)
    )


def crossed(outcomes: np.ndarray, share: float) -> np.ndarray:
    """t + (x - t)^+ / s of every outcome, with the threshold of the other half: its mean is CVaR.

    No outcome is weighed by a threshold that it helped to choose, so the mean is not biased
    downwards.
    """
    is_first = np.arange(len(outcomes)) % 2 == 0
    found = np.empty(len(outcomes))
    for fitted, used in ((is_first, ~is_first), (~is_first, is_first)):
        found[used] = beyond(outcomes[used], value_at_risk(outcomes[fitted], share), share)
    return found
