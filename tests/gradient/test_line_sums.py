"""Firings and moments say of every path what its sums, added up event by event, do.

Both ways see the same paths, so that their estimates agree to rounding, whatever the outcome.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import pytest

import engine
from engine.gradient import (
    Gradient,
    MartingaleCritic,
    MeanFieldAdjoint,
    Outcome,
    critic,
    line_sums,
)
from engine.gradient.arguments import Arguments
from engine.gradient.critic_sums import CriticSums
from engine.gradient.line_sums import LineSums
from engine.kernel import runner
from engine.kernel.tallies import Tally
from engine.network.expressions import Symbol
from engine.network.network import ReactionNetwork
from tests.gradient.biases import cascade
from tests.gradient.problems import BIRTH_DEATH, CASES, TELEGRAPH
from tests.simulation import network

RTOL = 1e-3


@dataclass(frozen=True)
class Asked:
    """A gradient of a mean."""

    model: ReactionNetwork
    outcome: Outcome | Tally
    wrt: tuple[str, ...]
    horizon: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    def estimate(self) -> Gradient:
        return engine.gradient.estimate(
            self.model,
            MartingaleCritic(MeanFieldAdjoint(num_cells=6)),
            self.outcome,
            list(self.wrt),
            self.horizon,
            **{"key": jax.random.key(3), "num_patients": 200, **self.options},
        )


def saturated() -> ReactionNetwork:
    """A law that is no product of its parameter and counts alone, through an assignment rule."""
    return network(
        {"X": 5, "Y": 0},
        [
            ("0 -> X", engine.MassAction("k")),
            ("X -> 0", engine.MassAction("g")),
            ("0 -> Y", engine.Formula("most * share")),
            ("Y -> 0", engine.MassAction("d")),
        ],
        parameters={"k": 10.0, "g": 1.0, "most": 20.0, "half": 8.0, "d": 0.5},
        assignment_rules=[engine.AssignmentRule("share", "X / (half + X)")],
    )


def rarely() -> ReactionNetwork:
    """A reaction that is chosen on its own, at the end of a block."""
    return network(
        {"X": 50, "Y": 0},
        [
            ("0 -> X", engine.MassAction("k")),
            ("X -> 0", engine.MassAction("g")),
            ("X -> X + Y", engine.MassAction("slow")),
            ("Y -> 0", engine.MassAction("d")),
        ],
        parameters={"k": 2000.0, "g": 40.0, "slow": 0.01, "d": 1.0},
    )


DOSED = {
    "regimen": engine.Regimen([engine.Dose(40.0, 1.3, into="X"), engine.Dose(9, 2.2, into="X")])
}
LINEAR = cascade()
DIMERS, IN_DIMERS, _ = CASES["dimerisation mean"]
QUESTIONS = {
    "cascade": Asked(LINEAR.model, engine.FinalValue("C"), ("k", "s", "t", "a", "b", "c"), 6.0),
    "integral": Asked(BIRTH_DEATH.model, engine.TimeIntegral("X"), ("k", "g"), 5.0),
    "deaths": Asked(BIRTH_DEATH.model, engine.FiringCount(Symbol("death")), ("k", "g"), 5.0),
    "stops": Asked(BIRTH_DEATH.model, engine.FinalValue("X"), ("g",), [0.7, 2.0, 2.1, 6.0]),
    "doses": Asked(BIRTH_DEATH.model, engine.FinalValue("X"), ("k", "g"), 4.0, DOSED),
    "later": Asked(BIRTH_DEATH.model, engine.FinalValue("X"), ("k", "g"), 9.0, {"start": 5.0}),
    "dimers": Asked(DIMERS.model, IN_DIMERS, tuple(DIMERS.parameters), 2.0),
    "telegraph": Asked(TELEGRAPH.model, engine.FinalValue("m"), tuple(TELEGRAPH.parameters), 4.0),
    "saturated": Asked(saturated(), engine.FinalValue("Y"), ("most", "d", "k"), 6.0),
    "rare": Asked(rarely(), engine.FinalValue("Y"), ("slow", "d"), 4.0),
}


INFUSED = {"regimen": engine.Regimen(engine.Dose(400.0, 0.5, into="X", duration=2.5))}


def differ(first: Gradient, second: Gradient) -> bool:
    pairs = (
        (first.gradient, second.gradient),
        (first.standard_errors, second.standard_errors),
        (first.residual_variance_ratio, second.residual_variance_ratio),
    )
    return not all(np.allclose(a, b, rtol=RTOL) for a, b in pairs)


QUICK = ("deaths", "doses")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in QUESTIONS],
)
def test_moments_say_what_sums_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def spied(*arguments: Any) -> LineSums | None:
        made.append(right(*arguments))
        return made[-1]

    right = critic.line_sums
    monkeypatch.setattr(critic, "line_sums", spied)
    monkeypatch.setattr(CriticSums, "work", 1000)
    found = QUESTIONS[name].estimate()
    assert isinstance(made[0], LineSums)
    monkeypatch.setattr(critic, "line_sums", lambda *_: None)
    assert not differ(found, QUESTIONS[name].estimate())


def test_a_martingale_that_is_off_by_a_hundredth_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = LineSums.result

    def wrong(self: LineSums, words: np.ndarray) -> np.ndarray:
        sums = right(self, words)
        sums[:, len(self.scored)] *= 1.01
        return sums

    found = QUESTIONS["telegraph"].estimate()
    monkeypatch.setattr(LineSums, "result", wrong)
    assert differ(found, QUESTIONS["telegraph"].estimate())


def test_an_infusion_into_a_species_has_no_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts change without a firing; by moments the slope by `g` would be 18 errors off."""
    asked = Asked(BIRTH_DEATH.model, engine.FinalValue("X"), ("k", "g"), 4.0, INFUSED)
    found = asked.estimate()
    monkeypatch.setattr(critic, "line_sums", lambda *_: None)
    assert not differ(found, asked.estimate())
    monkeypatch.undo()
    monkeypatch.setattr(Arguments, "is_infused", False)
    assert differ(found, asked.estimate())


@pytest.mark.full
def test_where_too_much_fires_between_stops_the_sums_are_added_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what is expected, and, as patients may differ, by what has happened."""
    asked, made = QUESTIONS["deaths"], []

    def spied(*arguments: Any) -> LineSums | None:
        made.append(right(*arguments))
        return made[-1]

    right = critic.line_sums
    monkeypatch.setattr(critic, "line_sums", lambda *_: None)
    general = asked.estimate()
    monkeypatch.setattr(critic, "line_sums", spied)
    monkeypatch.setattr(line_sums, "MOST_FIRINGS", 5.0)
    runner._runner.cache_clear()
    assert not differ(asked.estimate(), general) and isinstance(made[0], LineSums)
    runner._runner.cache_clear()
    monkeypatch.setattr(line_sums, "MOST_EXPECTED", 5.0)
    assert not differ(asked.estimate(), general) and made[1] is None
