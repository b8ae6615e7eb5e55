"""The accumulators of the estimators on the GPU driver: the sums of the loop, lowered for CUDA."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

import engine
from engine.gradient import FittedCritic, MeanFieldAdjoint, ScoreFunction
from engine.gradient.arguments import Arguments
from engine.gradient.coupling import coupled, pair_tallies
from engine.gradient.critic import Critic
from engine.gradient.estimate import problem_of
from engine.gradient.line_sums import LineSums
from engine.gradient.problem import Problem, directions_of
from engine.gradient.stretches import closely_stopped
from engine.gradient.tallies import LaneSums, RewardToGo, score
from engine.kernel import driver as drivers
from engine.kernel.tallies import TimeIntegral
from tests.gradient.biases import cascade, driven
from tests.gradient.problems import BIRTH_DEATH, CASES
from tests.kernel.test_driver import KERNEL_CALL, lowered_for_cuda

NUM = 150
Run = tuple[Arguments, dict[str, Any], tuple[np.ndarray, ...]]


def problem(asked: Any, outcome: Any, wrt: Any, horizon: float, **shared: Any) -> Problem:
    return problem_of(
        asked,
        ScoreFunction(),
        outcome,
        wrt,
        horizon,
        key=jax.random.key(2),
        num_patients=NUM,
        method=engine.Direct(lanes=64),
        **shared,
    )


def scored(made: Problem) -> Run:
    found = directions_of(made)
    martingales = tuple(score(found.arguments.network, one) for one in found.directions)
    return closely_stopped(found), {"sums": LaneSums(martingales=martingales)}, ()


def rewarded() -> Run:
    made = problem(BIRTH_DEATH.model, TimeIntegral("X"), ["k", "g"], 3.0)
    found = directions_of(made)
    martingales = tuple(score(found.arguments.network, one) for one in found.directions)
    return found.arguments, {"sums": RewardToGo(expression="X", martingales=martingales)}, ()


def criticised(made: Problem, critic: Critic) -> Run:
    found, learned = directions_of(made), critic.learn(made.arguments, made.outcome)
    stops = np.union1d(learned.stops, found.arguments.ts)
    arguments = closely_stopped(found, stops, learned.changes)
    sums, cells = learned.sums(arguments, found.directions)
    return arguments, {"sums": sums}, cells


def by_lines() -> Run:
    linear = cascade()
    made = problem(linear.model, linear.outcome, list(linear.scored.values()), 3.0)
    run = criticised(made, MeanFieldAdjoint(num_cells=5))
    assert isinstance(run[1]["sums"], LineSums)
    return run


def fitted() -> Run:
    made = problem(BIRTH_DEATH.model, CASES["birth-death P"][1], ["k", "g"], 3.0)
    return criticised(made, FittedCritic(num_cells=6, num_starts=200))


def under_a_drug() -> Problem:
    asked = driven()
    wrt = list(asked.scored.values())
    return problem(asked.model, asked.outcome, wrt, asked.horizon, **asked.shared)


def paired() -> Run:
    made = problem(BIRTH_DEATH.model, engine.FinalValue("X"), ["k", "g"], 3.0)
    target, step = made.targets[0], np.asarray(0.5)
    pair = coupled(*(target.moved(made.arguments, sign * step) for sign in (1, -1)))
    return pair, pair_tallies(made.arguments.network, made.outcome), ()


RUNS: dict[str, Callable[[], Run]] = {
    "score under a drug": lambda: scored(under_a_drug()),
    "reward to go": rewarded,
    "lines": by_lines,
    "critic under a drug": lambda: criticised(under_a_drug(), MeanFieldAdjoint(num_cells=5)),
    "fitted critic": fitted,
    "pair": paired,
}


@cache
def made_ready(name: str) -> Run:
    return RUNS[name]()


def simulated(name: str) -> engine.Ensemble:
    arguments, tallies, cells = made_ready(name)
    return arguments.run(tallies, cells, record=arguments.network.species_names)


@pytest.mark.parametrize(
    "name",
    [name if name == "lines" else pytest.param(name, marks=pytest.mark.full) for name in RUNS],
)
def test_the_kernel_adds_up_what_the_loop_does(name: str) -> None:
    loop = simulated(name)
    with drivers.using(drivers.INTERPRETED):
        kernel = simulated(name)
    # The two are compiled apart, and may contract products and sums otherwise: paths may part.
    same = np.all(loop.counts == kernel.counts, axis=(1, 2))
    assert same.mean() > 0.9
    for tally, sums in loop.tallies.items():
        size = np.abs(sums[same]).max(axis=0) + 1e-6
        assert np.all(np.abs(sums - kernel.tallies[tally])[same] < 2e-3 * size), tally


@pytest.mark.parametrize("name", RUNS)
def test_the_sums_lower_for_cuda(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made_ready(name)
    program = lowered_for_cuda(lambda: simulated(name), monkeypatch)
    assert program.count(KERNEL_CALL) == 1
