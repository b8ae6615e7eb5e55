"""The direct method against the master equation: every rate law, moments and distributions.

Independent small networks stand side by side in one large one, so that every reaction is also
chosen among many. Each is compared with its own master equation by means, variances and the whole
distribution; each comparison has a twin with a rate wrong by 2% (means) that must fail.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import engine
from engine import Formula, HillActivation, HillInhibition, MassAction, MichaelisMenten
from tests import exact
from tests.simulation import network, run
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_distribution,
    check_means,
    check_variances,
    samples_needed,
    samples_needed_for_distribution,
)

Array = np.ndarray
TS = np.array([0.7, 3.0])
NUM = 32_000
WRONG = 1.02
WRONG_SHAPE = 1.15  # distributions need more to be told apart
LOST = 1e-7  # most probability outside a box


@dataclass(frozen=True)
class Module:
    """A network of its own and its master equation.

    Attributes:
        species, reactions: its part of the large network.
        observed: the species that is compared.
        jumps, rates, upper: the master equation; `rates` takes the counts and a factor on the
            first reaction's rate, and the initial counts are those of `species`.
        is_shape_told: whether NUM samples tell the distribution from WRONG_SHAPE's.
    """

    species: dict[str, int]
    reactions: list[tuple]
    observed: str
    jumps: list[list[int]]
    rates: Callable[[Array, float], list[Array]]
    upper: tuple[int, ...]

    def truth(self, scale: float) -> exact.Distribution:
        fsp = exact.FiniteStateProjection(
            self.jumps,
            lambda x, t: np.stack(
                np.broadcast_arrays(*self.rates(x.T, scale), np.zeros(len(x)))[:-1], axis=1
            ),
            self.upper,
            tuple(self.species.values()),
        )
        return fsp.distribution(TS)

    @property
    def column(self) -> int:
        return list(self.species).index(self.observed)


def falling(x: Array, n: int) -> Array:
    """binomial(x, n)."""
    result = np.ones_like(x)
    for i in range(n):
        result = result * np.maximum(x - i, 0.0) / (i + 1)
    return result


MODULES = {
    "immigration_death": Module(
        {"I": 5},
        [("0 -> I", MassAction("k")), ("I -> 0", 0.4)],
        "I",
        [[1], [-1]],
        lambda x, s: [20.0 * s, 0.4 * x[0]],
        (110,),
    ),
    "birth_death": Module(
        {"L": 30},
        [("L -> 2 L", 0.5), ("L -> 0", 0.4)],
        "L",
        [[1], [-1]],
        lambda x, s: [0.5 * s * x[0], 0.4 * x[0]],
        (320,),
    ),
    "batch": Module(
        {"B": 0},
        [("0 -> 5 B", 8.0), ("B -> 0", 0.3)],
        "B",
        [[5], [-1]],
        lambda x, s: [8.0 * s, 0.3 * x[0]],
        (260,),
    ),
    "dimerisation": Module(
        {"P": 60, "P2": 0},
        [("2 P -> P2", MassAction("c")), ("P2 -> 2 P", 0.2)],
        "P2",
        [[-2, 1], [2, -1]],
        lambda x, s: [0.01 * s * falling(x[0], 2), 0.2 * x[1]],
        (60, 30),
    ),
    "three_at_once": Module(
        {"T": 40},
        [("3 T -> T", 1e-3), ("0 -> T", 4.0)],
        "T",
        [[-2], [1]],
        lambda x, s: [1e-3 * s * falling(x[0], 3), 4.0 + 0 * x[0]],
        (90,),
    ),
    "two_kinds": Module(
        {"U": 40, "V": 35, "W": 0},
        [("U + V -> W", 0.02), ("W -> U + V", 0.3)],
        "W",
        [[-1, -1, 1], [1, 1, -1]],
        lambda x, s: [0.02 * s * x[0] * x[1], 0.3 * x[2]],
        (40, 35, 35),
    ),
    "telegraph": Module(
        {"off": 1, "on": 0, "M": 0},
        [
            ("on -> on + M", 30.0),
            ("off -> on", 3.0),
            ("on -> off", 2.0),
            ("M -> 0", 0.5),
        ],
        "M",
        [[0, 0, 1], [-1, 1, 0], [1, -1, 0], [0, 0, -1]],
        lambda x, s: [30.0 * s * x[1], 3.0 * x[0], 2.0 * x[1], 0.5 * x[2]],
        (1, 1, 120),
    ),
    "michaelis_menten": Module(
        {"S": 50},
        [("S -> 0", MichaelisMenten("v_max", 10.0))],
        "S",
        [[-1]],
        lambda x, s: [12.0 * s * x[0] / (10.0 + x[0])],
        (50,),
    ),
    "hill_inhibition": Module(
        {"R": 0},
        [("0 -> R", HillInhibition(40.0, 15.0, 2, "R")), ("R -> 0", 0.3)],
        "R",
        [[1], [-1]],
        lambda x, s: [40.0 * s * 15.0**2 / (15.0**2 + x[0] ** 2), 0.3 * x[0]],
        (150,),
    ),
    "hill_activation": Module(
        {"A": 8},
        [("0 -> A", HillActivation(25.0, 12.0, 1.5, "A")), ("A -> 0", 0.3), ("0 -> A", 1.0)],
        "A",
        [[1], [-1], [1]],
        lambda x, s: [25.0 * s * x[0] ** 1.5 / (12.0**1.5 + x[0] ** 1.5), 0.3 * x[0], 1.0],
        (150,),
    ),
    "formula": Module(
        {"F": 20},
        [
            ("0 -> F", Formula("15 * exp(-F / 40) + sqrt(F)")),
            ("F -> 0", Formula("0.2 * F * log(1 + F) if F > 3 else 0.1 * F")),
        ],
        "F",
        [[1], [-1]],
        lambda x, s: [
            s * (15.0 * np.exp(-x[0] / 40.0) + np.sqrt(x[0])),
            np.where(x[0] > 3, 0.2 * x[0] * np.log1p(x[0]), 0.1 * x[0]),
        ],
        (140,),
    ),
    "rule": Module(
        {"Q": 30, "Q2": 0},
        # free = Q / (Q + Q2 + 5), share = free^2: a rule that mentions another rule.
        [("Q -> Q2", Formula("40 * share")), ("Q2 -> Q", Formula("0.3 * Q2"))],
        "Q2",
        [[-1, 1], [1, -1]],
        lambda x, s: [40.0 * s * (x[0] / (x[0] + x[1] + 5.0)) ** 2, 0.3 * x[1]],
        (30, 30),
    ),
    "compartments": Module(
        # A pair in a volume of 2, transport to one of 0.5, where the law is in concentrations.
        {"C": 30, "E": 0},
        [
            ("2 C -> E", Formula("0.1 * C * (C - 1) / big")),
            ("E -> 2 C", Formula("small * 0.8 * E")),
        ],
        "E",
        [[-2, 1], [2, -1]],
        lambda x, s: [0.1 * s * x[0] * (x[0] - 1) / 2.0, 0.5 * 0.8 * x[1]],
        (30, 15),
    ),
    "catalyst": Module(
        # A reactant that comes back, and a boundary species that never changes.
        {"K": 12},
        [("source + K -> K + K + sink", MassAction(0.01)), ("K -> 0", 0.6), ("source -> K", 0.1)],
        "K",
        [[1], [-1], [1]],
        lambda x, s: [0.01 * s * 50 * x[0], 0.6 * x[0], 0.1 * 50 + 0 * x[0]],
        (120,),
    ),
}


def whole() -> engine.ReactionNetwork:
    """All modules, and reactions that never fire."""
    species = [
        engine.Species(name, count)
        for module in MODULES.values()
        for name, count in module.species.items()
    ]
    species += [
        engine.Species("source", 50, is_boundary=True),
        engine.Species("sink", 0, is_boundary=True),
        engine.Species("empty", 0),
        engine.Species("waste", 0),
    ]
    reactions = [r for module in MODULES.values() for r in module.reactions]
    reactions += [("empty -> waste", 100.0), ("2 P + 61 T -> waste", 5.0), ("0 -> waste", 0.0)]
    return network(
        species,
        reactions,
        parameters={"k": 20.0, "c": "k / 2000", "v_max": 12.0},
        compartments={"big": 2.0, "small": 0.5},
        assignment_rules={"share": "free^2", "free": "Q / (Q + Q2 + 5)"},
    )


@pytest.fixture(scope="module")
def ensemble(driver: str) -> engine.Ensemble:
    return run(whole(), TS, NUM, seed=1)


@pytest.mark.parametrize("name", MODULES)
def test_module(ensemble: engine.Ensemble, name: str) -> None:
    module, column = MODULES[name], MODULES[name].column
    samples = np.asarray(ensemble[module.observed], np.float64)
    right, wrong = module.truth(1.0), module.truth(WRONG)
    assert right.lost.max() < LOST
    sd = np.sqrt(right.variances()[:, column])
    result = check_variances(
        samples, sd**2, right.central_moments(4)[:, column], slack=LOST * max(module.upper) ** 2
    )
    assert result, result.message
    effect = wrong.means()[:, column] - right.means()[:, column]
    assert samples_needed(effect, sd, num_comparisons=2) <= NUM
    assert_holds_and_twin_fails(
        lambda truth: check_means(
            samples, truth.means()[:, column], sd, slack=LOST * max(module.upper)
        ),
        right,
        wrong,
    )


@pytest.mark.parametrize("name", MODULES)
def test_distribution(ensemble: engine.Ensemble, name: str) -> None:
    module, column = MODULES[name], MODULES[name].column
    samples = ensemble[module.observed][:, -1]
    pmf, other = (module.truth(s).marginal(column)[-1] for s in (1.0, WRONG_SHAPE))
    assert samples_needed_for_distribution(pmf, other) <= NUM
    assert_holds_and_twin_fails(lambda p: check_distribution(samples, p, slack=LOST), pmf, other)


def test_joint_distribution(ensemble: engine.Ensemble) -> None:
    """The covariance of gene state and messenger, and of modules that share nothing (zero)."""
    truth = MODULES["telegraph"].truth(1.0)
    means, covariances = truth.means(), truth.covariances()
    samples = (np.asarray(ensemble[name], np.float64) for name in ("on", "M"))
    on, m = (x - means[:, k] for k, x in enumerate(samples, 1))
    # In units in which both save times weigh alike: the last alone tells 10% in 3 of 4 seeds.
    size = np.sqrt(covariances[:, 1, 1] * covariances[:, 2, 2])
    products, covariance = on * m / size, covariances[:, 1, 2] / size
    assert check_means(products, covariance)
    assert_holds_and_twin_fails(
        lambda c: check_means(products.sum(axis=1), c), covariance.sum(), 1.1 * covariance.sum()
    )
    m = m[:, -1]
    for other in ("I", "P2", "Q2"):
        x = ensemble[other][:, -1].astype(float)
        assert check_means((x - x.mean()) * (m - m.mean()), 0.0)


def test_what_is_conserved(ensemble: engine.Ensemble) -> None:
    e = ensemble
    np.testing.assert_array_equal(e["P"] + 2 * e["P2"], 60)
    np.testing.assert_array_equal(e["U"] + e["W"], 40)
    np.testing.assert_array_equal(e["V"] + e["W"], 35)
    np.testing.assert_array_equal(e["on"] + e["off"], 1)
    np.testing.assert_array_equal(e["Q"] + e["Q2"], 30)
    np.testing.assert_array_equal(e["C"] + 2 * e["E"], 30)
    assert e.counts.min() == 0
    for name, count in {"source": 50, "sink": 0, "empty": 0, "waste": 0}.items():
        np.testing.assert_array_equal(e[name], count)


def test_rules_are_recorded(ensemble: engine.Ensemble) -> None:
    free = ensemble["Q"] / (ensemble["Q"] + ensemble["Q2"] + 5.0)
    np.testing.assert_allclose(ensemble["free"], free)
    np.testing.assert_allclose(ensemble["share"], free**2)


# Nothing left to happen.


def test_absorbing_states() -> None:
    """Every trajectory ends in a state without propensity, and none is lost on the way."""
    model = network({"X": 20, "Y": 3}, [("X -> 0", 5.0), ("2 Y -> 0", 5.0)])
    e = run(model, [0.05, 20.0, 1e6, 1e30], 20_000, seed=2)
    assert np.all(e.is_complete)
    np.testing.assert_array_equal(e["X"][:, 1:], 0)
    np.testing.assert_array_equal(e["Y"][:, 1:], 1)
    np.testing.assert_array_equal(e.num_events, 21)
    survival = np.exp(-0.25)
    assert_holds_and_twin_fails(
        lambda p: check_means(e["X"][:, 0], 20 * p, np.sqrt(20 * p * (1 - p))),
        survival,
        np.exp(-0.25 * WRONG**3),
    )


def test_rates_that_are_zero_per_patient() -> None:
    rates = np.where(np.arange(200) % 2, 3.0, 0.0)
    model = network({"X": 0}, [("0 -> X", MassAction("k"))], parameters={"k": 1.0})
    e = run(model, [1.0, 50.0], 200, params={"k": rates})
    np.testing.assert_array_equal(e["X"][::2], 0)
    assert e["X"][1::2, -1].min() > 90 and np.all(e.is_complete)


def test_initial_counts_and_parameters_per_patient() -> None:
    """Patients of one cohort, each against its own closed form."""
    death = np.repeat([0.2, 1.0, 3.0], 4000)
    start = np.tile([0, 10, 200, 1000], 3000)
    model = network(
        {"X": 0},
        [("0 -> X", MassAction("k")), ("X -> 0", MassAction("d"))],
        parameters={"k": 10.0, "d": 1.0},
    )
    e = run(model, [0.5], 12_000, seed=3, params={"d": death}, x0={"X": start})
    for d in (0.2, 1.0, 3.0):
        for x0 in (0, 10, 200, 1000):
            chosen = e["X"][(death == d) & (start == x0)]
            truth = exact.immigration_death_moments(x0, 10.0, d, [0.5])
            assert check_means(chosen, truth.mean, np.sqrt(truth.variance), num_comparisons=24)
            assert check_variances(chosen, truth.variance, num_comparisons=24)
    chosen = e["X"][(death == 1.0) & (start == 1000)]
    wrong = exact.immigration_death_moments(1000, 10.0, WRONG, [0.5])
    assert not check_means(chosen, wrong.mean, np.sqrt(wrong.variance), num_comparisons=24)
