"""Each fitted critic against the exact slopes of the bistable switch, and its own refusals."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

import engine
from engine.gradient import (
    FittedCritic,
    Gradient,
    MartingaleCritic,
    NetworkCritic,
    Outcome,
    ScoreFunction,
    TableCritic,
)
from engine.gradient.critic import Critic, LearnedCritic, absorbing_condition
from engine.gradient.critic_sums import BELIEF
from engine.gradient.polynomials import fit_logistic
from engine.network.expressions import Number, call, substitute
from tests.gradient.bistable import COMMON, HORIZON, MODEL, OUTCOME, RARE, TARGETS, dosing
from tests.gradient.problems import (
    BIRTH_DEATH,
    CASES,
    TELEGRAPH,
    check_gradient,
    estimated,
    plant_conditional_terms,
)
from tests.gradient.test_doses import SLOPES

CRITICS: list[Critic] = [FittedCritic(), TableCritic(), NetworkCritic()]
NAMES = [type(one).__name__ for one in CRITICS]


def switching(estimator: Any, constants: dict[str, float], seed: int = 1) -> Any:
    return engine.gradient.estimate(
        MODEL,
        estimator,
        OUTCOME,
        list(TARGETS.values()),
        HORIZON,
        key=jax.random.key(seed),
        num_patients=10_000,
        params=constants,
        **dosing(),
    )


PASSAGE = Outcome(engine.FirstPassage("X >= 16"), np.isfinite)


INFUSED = {"regimen": engine.Regimen(engine.Dose(20.0, 1.0, into="X", duration=10.0))}


@pytest.mark.parametrize(
    ("outcome", "options"),
    [
        (CASES["birth-death P"][1], {}),
        pytest.param(PASSAGE, {}, marks=pytest.mark.full),
        pytest.param(CASES["birth-death P"][1], INFUSED, marks=pytest.mark.full),
    ],
    ids=["final value", "first passage", "infused"],
)
def test_a_belief_kept_from_event_to_event_is_the_belief(
    outcome: Outcome, options: dict[str, Any]
) -> None:
    """As one that is looked at before every event; twin: one that starts every cell elsewhere."""

    def by(critic: Critic | None) -> Gradient:
        return estimated(BIRTH_DEATH, MartingaleCritic(critic), outcome, ["k", "g"], 500, **options)

    kept = by(FittedCritic(num_cells=8, num_starts=500)).critic
    assert isinstance(kept, LearnedCritic) and kept.belief is not None
    before = {BELIEF.name: kept.belief}
    changes = {name: substitute(one, before) for name, one in kept.changes.items()}
    known, found = by(replace(kept, belief=None, changes=changes)), by(kept)
    off = by(replace(kept, belief=call("mul", Number(1.05), kept.belief)))
    for part in ("gradient", "standard_errors"):
        np.testing.assert_allclose(getattr(found, part), getattr(known, part), rtol=1e-3)
    assert not np.allclose(off.standard_errors, known.standard_errors, rtol=1e-3)


@pytest.mark.full
@pytest.mark.parametrize("critic", CRITICS, ids=NAMES)
def test_a_first_passage_varies_ten_times_less(critic: Critic) -> None:
    score = switching(ScoreFunction(is_regressed=False), COMMON)
    found = switching(MartingaleCritic(critic), COMMON)
    truth = np.array(list(SLOPES.values()))
    assert check_gradient(found, truth)
    assert not check_gradient(found, 1.2 * truth)
    ratios = (score.standard_errors / found.standard_errors) ** 2
    assert np.exp(np.log(ratios).mean()) > 10


@pytest.mark.full
@pytest.mark.parametrize("critic", CRITICS, ids=NAMES)
def test_a_last_cell_without_the_outcome_does_not_spoil_the_others(critic: Critic) -> None:
    assert switching(MartingaleCritic(critic), RARE).residual_variance_ratio < 0.25


@pytest.mark.parametrize(
    "critic",
    [
        TableCritic(num_starts=2000, num_levels=24),
        pytest.param(NetworkCritic(num_starts=1000, num_cells=16), marks=pytest.mark.full),
    ],
    ids=NAMES[1:],
)
def test_a_threshold(critic: Critic, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome(engine.FinalValue("X"), lambda x: x > 14)
    truth = BIRTH_DEATH.gradient(lambda x: x[:, 0] > 14)
    found = estimated(BIRTH_DEATH, MartingaleCritic(critic), outcome, ["k", "g"], 8000)
    assert check_gradient(found, truth)
    assert found.residual_variance_ratio < 0.2
    plant_conditional_terms(monkeypatch, 0.85)
    again = estimated(BIRTH_DEATH, MartingaleCritic(critic), outcome, ["k", "g"], 8000)
    assert not check_gradient(again, truth)


@pytest.mark.full
@pytest.mark.parametrize("critic", CRITICS[1:], ids=NAMES[1:])
def test_two_species_and_a_mean(critic: Critic) -> None:
    found = estimated(
        TELEGRAPH,
        MartingaleCritic(critic),
        engine.FinalValue("m"),
        list(TELEGRAPH.parameters),
        8000,
    )
    assert check_gradient(found, TELEGRAPH.gradient(lambda x: x[:, 2]))
    assert found.residual_variance_ratio < 0.1


def test_a_flat_start_does_not_stop_newton() -> None:
    x = np.linspace(-2, 2, 400)
    design = np.stack([np.ones_like(x), x], axis=1)
    truth = np.array([-1.0, 2.0])
    targets = 1 / (1 + np.exp(-design @ truth))
    for start in (None, np.array([-30.0, 0.0]), np.array([0.0, 1.0])):
        assert np.allclose(fit_logistic(design, targets, start), truth, atol=1e-3)


def test_an_extremum_that_no_pilot_reaches_is_named() -> None:
    outcome = Outcome(engine.Maximum("X"), lambda peak: peak > 1e6)
    with pytest.raises(engine.InvalidInput, match="never reached"):
        absorbing_condition(outcome, np.arange(10.0))


def test_bad_options_are_named() -> None:
    with pytest.raises(engine.InvalidInput, match="name one species, or two"):
        TableCritic(species=("X", "X"))
    with pytest.raises(engine.InvalidInput, match="at least 2"):
        TableCritic(num_levels=1)
    with pytest.raises(engine.InvalidInput, match="num_units=0"):
        NetworkCritic(num_units=0)
    with pytest.raises(engine.InvalidInput, match="not a species"):
        estimated(
            BIRTH_DEATH,
            MartingaleCritic(TableCritic(species=("Y",))),
            Outcome(engine.FinalValue("X"), lambda x: x > 14),
            "k",
            100,
        )
