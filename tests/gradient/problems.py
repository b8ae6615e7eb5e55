"""Small problems with exact gradients: central differences of the master equation's solution."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import pytest

import engine
from engine.gradient import Gradient, Outcome
from engine.gradient.combinations import Combined
from tests.exact import FiniteStateProjection
from tests.simulation import network
from tests.statistics import CheckResult, normal_bound

Array = np.ndarray
STEP = 1e-4  # of log parameters: an error of 1e-8 of the gradient


@dataclass(frozen=True, eq=False)
class Exact:
    """A network with its propensities once more, for the master equation.

    Attributes:
        model: the network.
        parameters: the numbers that are differentiated.
        propensity: (counts (n, S), parameters) -> (n, M).
        upper: the box.
        horizon: T.
    """

    model: engine.ReactionNetwork
    parameters: Mapping[str, float]
    stoichiometry: list[list[int]]
    propensity: Callable[[Array, Mapping[str, float]], Array]
    upper: tuple[int, ...]
    x0: tuple[int, ...]
    horizon: float
    is_integrated: bool = field(default=False)

    def fsp(self, parameters: Mapping[str, float], x0: tuple[int, ...]) -> FiniteStateProjection:
        def rates(x: Array, t: float) -> Array:
            return self.propensity(x, parameters)

        return FiniteStateProjection(self.stoichiometry, rates, self.upper, x0)

    def value(
        self,
        function: Callable[[Array], Array],
        parameters: Mapping[str, float] | None = None,
        x0: tuple[int, ...] | None = None,
    ) -> float:
        """E[function(counts at the horizon)]."""
        fsp = self.fsp(parameters or self.parameters, x0 or self.x0)
        found = fsp.distribution([self.horizon])
        return float(found.expectation(function(found.states))[0])

    def gradient(self, function: Callable[[Array], Array]) -> dict[str, float]:
        """Its derivative with respect to every parameter."""
        result = {}
        for name, value in self.parameters.items():
            ends = [
                self.value(function, {**self.parameters, name: value * np.exp(sign * STEP)})
                for sign in (1, -1)
            ]
            result[name] = (ends[0] - ends[1]) / (2 * STEP * value)
        return result


def plant_conditional_terms(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Have every critic take only a share of its second terms."""
    right = Combined.combined

    def wrong(self: Combined, *arguments: Any) -> Array:
        sums = right(self, *arguments)
        sums[:, sums.shape[1] // 2 + 1 :] *= share
        return sums

    monkeypatch.setattr(Combined, "combined", wrong)


def mass(**constants: float) -> dict[str, engine.MassAction]:
    return {name: engine.MassAction(name) for name in constants}


BIRTH_DEATH = Exact(
    network(
        {"X": 0},
        [("0 -> X", engine.MassAction("k"), "birth"), ("X -> 0", engine.MassAction("g"), "death")],
        parameters={"k": 10.0, "g": 1.0},
    ),
    {"k": 10.0, "g": 1.0},
    [[1], [-1]],
    lambda x, p: np.c_[p["k"] + 0 * x[:, 0], p["g"] * x[:, 0]],
    (60,),
    (0,),
    20.0,
)
TELEGRAPH = Exact(
    network(
        {"off": 1, "on": 0, "m": 0},
        [
            ("off -> on", engine.MassAction("on_rate")),
            ("on -> off", engine.MassAction("off_rate")),
            ("on -> on + m", engine.MassAction("k")),
            ("m -> 0", engine.MassAction("g")),
        ],
        parameters={"on_rate": 0.5, "off_rate": 0.5, "k": 20.0, "g": 1.0},
    ),
    {"on_rate": 0.5, "off_rate": 0.5, "k": 20.0, "g": 1.0},
    [[-1, 1, 0], [1, -1, 0], [0, 0, 1], [0, 0, -1]],
    lambda x, p: np.c_[
        p["on_rate"] * x[:, 0], p["off_rate"] * x[:, 1], p["k"] * x[:, 1], p["g"] * x[:, 2]
    ],
    (1, 1, 70),
    (1, 0, 0),
    20.0,
)
DIMERISATION = Exact(
    network(
        {"P": 100, "D": 0},
        [("2 P -> D", engine.MassAction("c")), ("D -> 2 P", engine.MassAction("d"))],
        parameters={"c": 0.02, "d": 1.0},
    ),
    {"c": 0.02, "d": 1.0},
    [[-2, 1], [2, -1]],
    lambda x, p: np.c_[p["c"] * x[:, 0] * (x[:, 0] - 1) / 2, p["d"] * x[:, 1]],
    (100, 50),
    (100, 0),
    5.0,
)

Case = tuple[Exact, Outcome, Callable[[Array], Array]]
CASES: dict[str, Case] = {
    "birth-death mean": (BIRTH_DEATH, Outcome(engine.FinalValue("X")), lambda x: x[:, 0]),
    "birth-death P": (
        BIRTH_DEATH,
        Outcome(engine.FinalValue("X"), lambda x: x > 14),
        lambda x: x[:, 0] > 14,
    ),
    "telegraph mean": (TELEGRAPH, Outcome(engine.FinalValue("m")), lambda x: x[:, 2]),
    "telegraph P": (
        TELEGRAPH,
        Outcome(engine.FinalValue("m"), lambda m: m > 20),
        lambda x: x[:, 2] > 20,
    ),
    "dimerisation mean": (DIMERISATION, Outcome(engine.FinalValue("D")), lambda x: x[:, 1]),
    "dimerisation P": (
        DIMERISATION,
        Outcome(engine.FinalValue("D"), lambda d: d > 28),
        lambda x: x[:, 1] > 28,
    ),
}


def estimated(
    case: Exact, estimator: Any, outcome: Any, wrt: Any, num: int, seed: int = 0, **more: Any
) -> Gradient:
    return engine.gradient.estimate(
        case.model,
        estimator,
        outcome,
        wrt,
        case.horizon,
        key=jax.random.key(seed),
        num_patients=num,
        **more,
    )


def check_gradient(found: Gradient, truth: Any, slack: Any = 0.0) -> CheckResult:
    """Scores |g - truth| / SE within a family-wise bound over the gradient's components."""
    truth = np.asarray([truth[n] for n in found.names] if isinstance(truth, dict) else truth)
    excess = np.maximum(np.abs(found.gradient - truth) - slack, 0.0)
    scores = excess / found.standard_errors
    bound = normal_bound(len(scores))
    text = f"gradient {found.gradient} exact {truth} z {scores}"
    return CheckResult(float(scores.max()), bound, scores, text)
