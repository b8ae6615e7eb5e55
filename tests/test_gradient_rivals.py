"""The rows of stochastix in the referee of gradients, where it is installed."""

from collections.abc import Iterator

import jax
import numpy as np
import pytest

from benchmarks import gradient_rivals
from tests.gradient.problems import CASES, Case
from tests.statistics import normal_bound


def problem(case: Case, truth: list[float]) -> dict:
    exact, outcome, _ = case
    return {
        "network": exact.model,
        "outcome": outcome,
        "wrt": list(exact.parameters),
        "horizon": exact.horizon,
        "truth": truth,
    }


@pytest.fixture(autouse=True)
def jax_as_users_have_it() -> Iterator[None]:
    """The promotion rules of JAX itself: stochastix is not written for the strict ones."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.full
def test_a_score_is_near_the_truth_and_a_step_has_no_path_derivative() -> None:
    pytest.importorskip("stochastix")
    mean = gradient_rivals.rows(problem(CASES["birth-death mean"], [1.0, -10.0]), 0.0)
    row = mean["stochastix REINFORCE"]()
    assert row["names"] == ["k", "g"]
    assert row["num_patients"] == 2 * gradient_rivals.BATCH
    assert np.max(np.abs(row["z"])) < normal_bound(2)
    wrong = gradient_rivals.compared(row, np.array([5.0, -50.0]))
    assert np.max(np.abs(wrong["z"])) > normal_bound(2)
    high = gradient_rivals.rows(problem(CASES["birth-death P"], [0.02, -0.2]), 0.0)
    assert "refused" in high["stochastix DifferentiableDirect"]()
