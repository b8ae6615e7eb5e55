"""Bias at a million trajectories, family-wise; ENGINE_BIAS_TRAJECTORIES asks for fewer or more."""

import dataclasses
import os
from typing import Any

import numpy as np
import pytest

from engine.gradient import CoupledDifference, MartingaleCritic, ScoreFunction
from engine.gradient import directions as directions_module
from engine.gradient import score_function as score_module
from engine.gradient.tallies import score
from engine.network.derivatives import ZERO
from engine.network.expressions import Number, call
from tests.gradient.biases import ESTIMATORS, family, family_bound, questions
from tests.gradient.problems import plant_conditional_terms

NUM = int(os.environ.get("ENGINE_BIAS_TRAJECTORIES", "1000000"))
QUESTIONS = questions()


@pytest.mark.full
@pytest.mark.parametrize(("name", "kind"), family())
def test_no_bias_is_seen(name: str, kind: str) -> None:
    scores = QUESTIONS[name].scores(ESTIMATORS[kind], NUM)
    print(name, kind, scores.round(2))
    assert np.all(np.abs(scores) <= family_bound()), scores


def worst(name: str, estimator: Any) -> float:
    return float(np.abs(QUESTIONS[name].scores(estimator, min(NUM, 200_000))).max())


@pytest.mark.full
def test_a_critic_without_a_fiftieth_of_its_second_term_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant_conditional_terms(monkeypatch, 0.98)
    assert worst("birth-death mean", MartingaleCritic()) > family_bound()


@pytest.mark.full
def test_a_score_without_a_twentieth_of_its_compensator_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(model: Any, direction: Any) -> Any:
        right = score(model, direction)
        return dataclasses.replace(right, integrand=call("mul", Number(0.95), right.integrand))

    monkeypatch.setattr(score_module, "score", wrong)
    assert worst("cascade mean", ScoreFunction(is_regressed=False)) > family_bound()


@pytest.mark.full
def test_a_warp_without_its_dilation_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = directions_module.warped

    def wrong(*arguments: Any) -> Any:
        found = right(*arguments)
        return (*found[:2], ZERO, found[3])

    monkeypatch.setattr(directions_module, "warped", wrong)
    assert worst("bistable, common", MartingaleCritic()) > family_bound()


@pytest.mark.full
def test_a_difference_that_is_too_wide_is_seen() -> None:
    assert worst("birth-death P", CoupledDifference(step=0.5)) > family_bound()
