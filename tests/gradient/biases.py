"""Every estimator x small problem x kind of parameter, with the exact gradient of each.

One family: all scores together are held against one bound. The exact gradients are central
differences of the master equation (of the moment equations for the linear problems), whole
differences for initial counts, and means over two kinds of patients for population means.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from scipy.linalg import expm

import engine
from engine.gradient import (
    CoupledDifference,
    InitialCount,
    MartingaleCritic,
    NetworkCritic,
    Outcome,
    PopulationMean,
    ScoreFunction,
    TableCritic,
)
from engine.gradient.arguments import Arguments, stops_of
from tests.gradient import bistable, test_doses
from tests.gradient.problems import CASES, Case
from tests.simulation import network
from tests.statistics import normal_bound

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Question:
    """A gradient that is known.

    Attributes:
        scored: targets that have a score, by the name of their truth.
        paired: targets that only a coupled difference can do.
        truth: the exact gradient by name, computed when asked.
        shared: further arguments of `estimate`.
        spread: (parameter, value, factors) of a population of as many kinds of patients.
    """

    model: engine.ReactionNetwork
    outcome: Outcome
    horizon: float
    scored: Mapping[str, Any]
    truth: Callable[[], Mapping[str, float]]
    paired: Mapping[str, Any] = field(default_factory=dict)
    shared: Mapping[str, Any] = field(default_factory=dict)
    spread: tuple[str, float, tuple[float, ...]] | None = None

    def names(self, estimator: Any) -> list[str]:
        """The targets that an estimator is asked for."""
        is_paired = isinstance(estimator, CoupledDifference)
        return [*self.scored, *(self.paired if is_paired else ())]

    def estimated(self, estimator: Any, num: int, seed: int = 0) -> engine.gradient.Gradient:
        """The gradient from so many trajectories (pairs)."""
        targets = [{**self.scored, **self.paired}[name] for name in self.names(estimator)]
        shared = dict(self.shared)
        if self.spread is not None:
            name, value, factors = self.spread
            # Pairs of patients alike, so that both halves of a sample hold every kind.
            factor = np.asarray(factors)[np.arange(num) // 2 % len(factors)]
            shared["params"] = {**shared.get("params", {}), name: value * factor}
            targets = [PopulationMean(name, sensitivity=factor)]
        return engine.gradient.estimate(
            self.model,
            estimator,
            self.outcome,
            targets,
            self.horizon,
            key=jax.random.key(seed),
            num_patients=num,
            **shared,
        )

    def scores(self, estimator: Any, num: int, seed: int = 0) -> Array:
        """(estimate - truth) / standard error of every target."""
        found = self.estimated(estimator, num, seed)
        truth = self.truth()
        exact = np.array([truth[name] for name in self.names(estimator)])
        return np.asarray((found.gradient - exact) / found.standard_errors)


SPECIES = {"birth-death": "X", "telegraph": "m", "dimerisation": "P"}
SPREAD = (0.8, 1.2)


def _whole(case: Case, species: str) -> float:
    """Half the difference of one molecule more and one fewer; one more where there is none."""
    exact, _, function = case
    position = exact.model.species_names.index(species)
    wider = replace(exact, upper=tuple(n + 1 for n in exact.upper))
    steps = (1, -1) if exact.x0[position] else (1, 0)
    ends = []
    for step in steps:
        x0 = list(exact.x0)
        x0[position] += step
        ends.append(wider.value(function, x0=tuple(x0)))
    return (ends[0] - ends[1]) / (steps[0] - steps[1])


def _of_case(case: Case, species: str) -> Question:
    exact, outcome, function = case
    label = f"{species}(0)"
    # After 20 lifetimes a molecule of the start is seen once in 5e8 trajectories.
    is_early = exact.horizon < 10

    def truth() -> Mapping[str, float]:
        known = exact.gradient(function)
        return {**known, label: _whole(case, species)} if is_early else known

    return Question(
        exact.model,
        outcome,
        exact.horizon,
        {name: name for name in exact.parameters},
        truth,
        {label: InitialCount(species)} if is_early else {},
    )


def _population_of(case: Case) -> Question:
    exact, outcome, function = case
    name, value = next(iter(exact.parameters.items()))

    def truth() -> Mapping[str, float]:
        slopes = [
            factor
            * replace(exact, parameters={**exact.parameters, name: value * factor}).gradient(
                function
            )[name]
            for factor in SPREAD
        ]
        return {"mean": float(np.mean(slopes))}

    spread = (name, value, SPREAD)
    return Question(exact.model, outcome, exact.horizon, {"mean": name}, truth, spread=spread)


def _of_switch(constants: Mapping[str, float]) -> Question:
    exact = bistable.Truth(constants)

    def truth() -> Mapping[str, float]:
        known = {name: exact.slope(name) for name in bistable.TARGETS}
        ends = [bistable.Truth(constants, x0).probability() for x0 in (6, 4)]
        return {**known, "X(0)": (ends[0] - ends[1]) / 2}

    return Question(
        bistable.MODEL,
        bistable.OUTCOME,
        bistable.HORIZON,
        bistable.TARGETS,
        truth,
        {"X(0)": InitialCount("X")},
        {"params": dict(constants), **bistable.dosing()},
    )


def _population_of_switch() -> Question:
    factors, gain = (0.98, 1.02), bistable.COMMON["gain"]

    def truth() -> Mapping[str, float]:
        slopes = [
            factor * bistable.Truth({**bistable.COMMON, "gain": gain * factor}).slope("gain")
            for factor in factors
        ]
        return {"mean": float(np.mean(slopes))}

    return replace(
        _of_switch(bistable.COMMON),
        scored={"mean": "gain"},
        paired={},
        truth=truth,
        spread=("gain", gain, factors),
    )


def driven() -> Question:
    """A linear network driven by a drug with absorption and two compartments."""
    kinetics = test_doses.PK
    targets = {
        "amount": test_doses.DoseAmount(0),
        "time": test_doses.DoseTime(1),
        **{n: kinetics("drug", n) for n in ("clearance", "absorption", "peripheral_volume")},
    }
    inputs = {"drug": test_doses.PEAKED}

    def truth() -> Mapping[str, float]:
        arguments = Arguments(
            test_doses.DRIVEN,
            stops_of(test_doses.END),
            np.array([0, 1], np.uint32),
            inputs=inputs,
            regimen=test_doses.BOLUSES,
        )
        return {name: test_doses.slope(arguments, target) for name, target in targets.items()}

    shared = {"inputs": inputs, "regimen": test_doses.BOLUSES}
    outcome = Outcome(engine.FinalValue("X"))
    return Question(test_doses.DRIVEN, outcome, test_doses.END, targets, truth, shared=shared)


CASCADE = {"k": 5.0, "s": 2.0, "t": 1.5, "a": 1.0, "b": 0.7, "c": 0.5}
CASCADE_END = 10.0


def cascade() -> Question:
    """0 -> A, A -> A + B, B -> B + C, each lost at a rate of its own: linear."""
    laws = [
        ("0 -> A", "k"),
        ("A -> A + B", "s"),
        ("B -> B + C", "t"),
        ("A -> 0", "a"),
        ("B -> 0", "b"),
        ("C -> 0", "c"),
    ]
    reactions = [(equation, engine.MassAction(constant)) for equation, constant in laws]
    model = network({"A": 0, "B": 0, "C": 0}, reactions, parameters=CASCADE)

    def mean(rates: Mapping[str, float], start: float = 0.0) -> float:
        system = np.zeros((4, 4))
        system[0] = [-rates["a"], 0, 0, rates["k"]]
        system[1] = [rates["s"], -rates["b"], 0, 0]
        system[2] = [0, rates["t"], -rates["c"], 0]
        return float((expm(system * CASCADE_END) @ [start, 0, 0, 1])[2])

    def truth() -> Mapping[str, float]:
        step, known = 1e-5, {}
        for name, value in CASCADE.items():
            ends = [mean({**CASCADE, name: value * (1 + sign * step)}) for sign in (1, -1)]
            known[name] = (ends[0] - ends[1]) / (2 * step * value)
        return {**known, "A(0)": mean(CASCADE, 1.0) - mean(CASCADE)}

    outcome = Outcome(engine.FinalValue("C"))
    targets = {name: name for name in CASCADE}
    return Question(model, outcome, CASCADE_END, targets, truth, {"A(0)": InitialCount("A")})


def questions() -> dict[str, Question]:
    """Every problem, with its own kinds of parameters."""
    found = {name: _of_case(case, SPECIES[name.split()[0]]) for name, case in CASES.items()}
    for name in ("birth-death mean", "telegraph mean"):
        exact, *rest = CASES[name]
        early = (replace(exact, horizon=2.0), *rest)
        found[f"{name}, early"] = _of_case(early, SPECIES[name.split()[0]])
    found |= {
        f"{name}, population": _population_of(case) for name, case in CASES.items() if "P" in name
    }
    found["bistable, common"] = _of_switch(bistable.COMMON)
    found["bistable, rare"] = _of_switch(bistable.RARE)
    found["bistable, population"] = _population_of_switch()
    found["driven mean"] = driven()
    found["cascade mean"] = cascade()
    return found


ESTIMATORS: dict[str, Any] = {
    "score": ScoreFunction(is_squared=True),
    "critic": MartingaleCritic(),
    "coupled difference": CoupledDifference(),
    "table critic": MartingaleCritic(TableCritic()),
    "network critic": MartingaleCritic(NetworkCritic()),
}
# Where the two further critics are asked as well.
FITTED = ("birth-death P", "dimerisation P", "bistable, common", "bistable, rare")


def family() -> list[tuple[str, str]]:
    """All (problem, estimator)."""
    return [
        (name, kind)
        for name in questions()
        for kind in ESTIMATORS
        if kind in ("score", "critic", "coupled difference") or name in FITTED
    ]


def family_bound() -> float:
    """Bonferroni's bound of a score among all scores of the family."""
    known = questions()
    number = sum(len(known[name].names(ESTIMATORS[kind])) for name, kind in family())
    return normal_bound(number)
