"""An optimiser asks for the gradient again and again: new numbers must compile nothing."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.monitoring
import numpy as np
import pytest

import engine
from engine.gradient import (
    FittedCritic,
    MartingaleCritic,
    MeanFieldAdjoint,
    NetworkCritic,
    Outcome,
    Pathwise,
    TableCritic,
)
from engine.gradient.arguments import few_sizes
from engine.gradient.backward_regression import _separated
from tests.gradient.problems import BIRTH_DEATH, estimated
from tests.simulation import network

MEAN = Outcome(engine.FinalValue("X"))
HIGH = Outcome(engine.FinalValue("X"), lambda x: x > 14)


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """Grows by one with every program that XLA compiles."""
    seen: list[str] = []

    def listen(name: str, seconds: float, **more: Any) -> None:
        if "backend_compile" in name:
            seen.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
    ("estimator", "outcome"),
    [
        (MartingaleCritic(MeanFieldAdjoint()), MEAN),
        pytest.param(MartingaleCritic(FittedCritic(num_starts=300)), HIGH, marks=pytest.mark.full),
        pytest.param(MartingaleCritic(TableCritic(num_starts=300)), HIGH, marks=pytest.mark.full),
        pytest.param(MartingaleCritic(NetworkCritic(num_starts=300)), HIGH, marks=pytest.mark.full),
        (Pathwise(), MEAN),
    ],
    ids=["adjoint", "fitted", "table", "network", "pathwise"],
)
def test_a_second_learning_compiles_nothing(
    estimator: Any, outcome: Outcome, compiled: list[str]
) -> None:
    def gradient(birth: float, seed: int) -> np.ndarray:
        given = {"params": {"k": birth}, "seed": seed}
        return estimated(BIRTH_DEATH, estimator, outcome, ["k", "g"], 200, **given).gradient

    first = gradient(10.0, 0)
    del compiled[:]
    assert not np.array_equal(gradient(10.5, 1), first)
    assert not compiled


def test_what_is_compiled_once_still_knows_every_number() -> None:
    """The twin of the above: two networks that differ in numbers alone share their code."""

    def slope(factor: float, birth: float) -> float:
        model = network(
            {"X": 0},
            [("0 -> X", engine.Formula("factor * k")), ("X -> 0", 1.0)],
            parameters={"k": birth},
            variables=[engine.Variable("factor", factor)],
        )
        found = engine.gradient.estimate(
            model, Pathwise(), MEAN, "k", 3.0, key=jax.random.key(0), num_patients=1
        )
        assert found.value == pytest.approx(factor * birth * (1 - np.exp(-3.0)), rel=1e-4)
        return float(found.gradient[0])

    expected = 1 - np.exp(-3.0)
    assert slope(1.0, 10.0) == pytest.approx(expected, rel=1e-4)
    assert slope(2.0, 5.0) == pytest.approx(2 * expected, rel=1e-4)


def test_few_numbers_of_stops_are_compiled() -> None:
    sizes = [few_sizes(n) for n in range(1, 129)]
    assert sorted(set(sizes)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert all(n <= size <= max(1.5 * n, n + 1) for n, size in enumerate(sizes, start=1))


def test_stops_that_are_too_close_are_placed_elsewhere() -> None:
    found = _separated(np.array([1.0, 5.0, 5.0001, 9.0, 10.0]), 0.01, 0.0)
    assert np.allclose(found, [1.0, 3.0003, 5.0001, 9.0, 10.0], atol=1e-3)
