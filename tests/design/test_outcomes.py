"""Benefit and risk of one system are seen on the same trajectories, simulated once."""

from dataclasses import replace

import numpy as np
import pytest

import engine
from engine.design.outcomes import Gradients, gradient_problem, gradients, outcomes
from engine.design.problem import TherapyProblem, patients_key
from engine.design.spec import DesignSpec
from engine.gradient import Gradient, Outcome, ScoreFunction
from engine.gradient.arguments import Arguments
from engine.gradient.problem import SameOutcome
from engine.population.variability import LogNormal
from tests.design.test_design import contents, problem
from tests.simulation import network

DOSE, NUMBER = np.array([90.0]), 500


def two_systems() -> TherapyProblem:
    """The same problem with networks that are equal but not the same."""
    again = network(
        {"X": 0},
        [("0 -> X", engine.Formula("drug")), ("X -> 0", 0.3)],
        inputs=["drug"],
    )
    given = problem()
    return replace(given, risk=replace(given.risk, network=again))


def found(posed: TherapyProblem, estimator: object = None) -> Gradients:
    how = estimator or ScoreFunction()
    return gradients(posed, (how, how), DOSE, patients_key(1, "test"), "n", NUMBER)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The tallies of every simulation."""
    made, run = [], Arguments.run

    def counted(self: Arguments, tallies: dict[str, object], *more: object) -> engine.Ensemble:
        made.append(tuple(tallies))
        return run(self, tallies, *more)

    monkeypatch.setattr(Arguments, "run", counted)
    return made


def test_one_system_is_simulated_once(runs: list[tuple[str, ...]]) -> None:
    posed, key = problem(), patients_key(1, "test")
    benefit, risk = outcomes(posed, [posed.benefit, posed.risk], DOSE, key, "n", NUMBER)
    assert len(runs) == 1
    # The risk is that of the very molecules that are the benefit.
    assert np.array_equal(risk, benefit > 30)
    (alone,) = outcomes(posed, [posed.risk], DOSE, key, "n", NUMBER)
    assert np.array_equal(alone, risk)
    apart = two_systems()
    benefit, risk = outcomes(apart, [apart.benefit, apart.risk], DOSE, key, "n", NUMBER)
    assert len(runs) == 4
    assert not np.array_equal(risk, benefit > 30)


def test_the_joint_gradients_are_the_separate_ones(runs: list[tuple[str, ...]]) -> None:
    posed, key = problem(), patients_key(1, "test")
    both = found(posed)
    assert len(runs) == 1 and both.num_trajectories == NUMBER
    for criterion, one in ((posed.benefit, both.benefit), (posed.risk, both.risk)):
        alone = ScoreFunction().estimate(gradient_problem(posed, criterion, DOSE, key, "n", NUMBER))
        assert isinstance(one, Gradient)
        assert one.value == alone.value
        assert one.gradient == pytest.approx(alone.gradient, rel=1e-4)
        assert one.standard_errors == pytest.approx(alone.standard_errors, rel=1e-4)
    apart = found(two_systems())
    assert apart.num_trajectories == 2 * NUMBER
    assert isinstance(apart.risk, Gradient) and isinstance(both.risk, Gradient)
    assert apart.risk.value != both.risk.value


def test_a_tail_and_its_threshold(runs: list[tuple[str, ...]]) -> None:
    """The threshold needs a run of its own, with other noise."""
    given = problem()
    risk = replace(given.risk, outcome=given.benefit.outcome, worst=0.2)
    both = found(replace(given, risk=risk))
    assert len(runs) == 2
    assert isinstance(both.risk, Gradient) and isinstance(both.benefit, Gradient)
    assert both.risk.value > both.benefit.value


def test_who_differs_makes_two_systems() -> None:
    given = problem()
    law = {"death": LogNormal(0.3, cv=0.2)}
    assert given.is_one_system and given.num_systems == 1
    assert two_systems().num_systems == 2
    assert not replace(given, risk=replace(given.risk, population=law)).is_one_system


def test_what_happens_to_nobody() -> None:
    """A risk that nobody has is flat; a benefit that nobody has is said."""
    given = problem()
    never = Outcome(engine.FinalValue("X"), lambda x: x > 1e6)
    both = found(replace(given, risk=replace(given.risk, outcome=never)))
    assert isinstance(both.risk, Gradient) and both.risk.gradient.tolist() == [0.0]
    assert isinstance(both.benefit, Gradient)
    both = found(replace(given, benefit=replace(given.benefit, outcome=never)))
    assert isinstance(both.benefit, SameOutcome) and isinstance(both.risk, Gradient)


def test_criteria_of_a_file_share_their_system() -> None:
    assert DesignSpec.parsed(contents(), "design").problem().is_one_system
