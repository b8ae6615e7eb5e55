"""Tallies against the master equation: means, variances and distributions of path functionals."""

import numpy as np
import pytest

import engine
from engine import (
    Dose,
    Event,
    FiringCount,
    FirstPassage,
    Formula,
    Maximum,
    Minimum,
    Occupation,
    Regimen,
    TimeIntegral,
)
from tests import exact
from tests.simulation import network, run
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_continuous,
    check_distribution,
    check_means,
    check_proportion,
    check_variances,
    samples_needed,
    samples_needed_for_continuous,
)

Array = np.ndarray
NUM = 40_000
END = 4.0
WRONG = 1.02
LEVEL, FLOOR, BUSY = 9, 0, 5
BOX = (34, 17)
LOST = 1e-6
REACTIONS = ("birth", "pair", "split", "death")


def project(scale: float = 1.0) -> exact.FiniteStateProjection:
    """0 -> A, 2 A -> B, B -> 2 A, A -> 0 from A = 3, B = 2; the first rate scaled."""

    def propensity(x: Array, t: float) -> Array:
        a, b = x.T
        return np.stack([6.0 * scale + 0 * a, 0.1 * a * (a - 1), 0.5 * b, 0.8 * a], axis=1)

    return exact.FiniteStateProjection([[1, 0], [-2, 1], [2, -1], [-1, 0]], propensity, BOX, (3, 2))


RIGHT, OTHER = project(), project(WRONG)


@pytest.fixture(scope="module")
def ensemble(driver: str) -> engine.Ensemble:
    model = network(
        {"A": 3, "B": 2},
        [
            ("0 -> A", 6.0, "birth"),
            ("2 A -> B", 0.2, "pair"),
            ("B -> 2 A", 0.5, "split"),
            ("A -> 0", 0.8, "death"),
        ],
        assignment_rules={"total": "A + 2 * B"},
    )
    tallies = {
        "area": TimeIntegral("total - B"),
        "square": TimeIntegral("A * A"),
        "busy": Occupation(f"A >= {BUSY} and B > 0"),
        "passage": FirstPassage(f"A >= {LEVEL}"),
        "at_once": FirstPassage("B == 2"),
        "never": FirstPassage("A + B > 1000"),
        "top": Maximum("A"),
        "bottom": Minimum("A"),
        "high": Maximum("A - 2 * B"),
        **{name: FiringCount(name) for name in REACTIONS},
    }
    # Save times change the path, not the law; record nothing.
    return run(model, [1.3, END], NUM, seed=7, tallies=tallies, record=())


INTEGRALS = {
    "area": lambda x: x[:, 0] + x[:, 1],
    "square": lambda x: x[:, 0] ** 2,
    "busy": lambda x: ((x[:, 0] >= BUSY) & (x[:, 1] > 0)).astype(float),
}


@pytest.mark.parametrize("name", INTEGRALS)
def test_time_integrals(ensemble: engine.Ensemble, name: str) -> None:
    right, wrong = (fsp.time_integral([END], INTEGRALS[name]) for fsp in (RIGHT, OTHER))
    samples = ensemble.tallies[name]
    sd = np.sqrt(right.variance[0])
    assert right.lost[0] < LOST
    assert samples_needed(wrong.mean[0] - right.mean[0], sd) <= NUM
    assert_holds_and_twin_fails(
        lambda truth: check_means(samples, truth.mean[0], sd, slack=1e-4), right, wrong
    )
    result = check_variances(samples, right.variance[0], slack=1e-3 * right.variance[0])
    assert result, result.message
    assert not check_variances(samples, 1.1 * right.variance[0])


@pytest.mark.parametrize("position, name", list(enumerate(REACTIONS)))
def test_firing_counts(ensemble: engine.Ensemble, position: int, name: str) -> None:
    right, wrong = (fsp.firing_counts([END]) for fsp in (RIGHT, OTHER))
    samples = ensemble.tallies[name]
    assert samples.dtype.kind == "i"
    sd = np.sqrt(right.variance[0, position])
    assert samples_needed(wrong.mean[0, position] - right.mean[0, position], sd) <= NUM
    assert_holds_and_twin_fails(
        lambda truth: check_means(samples, truth.mean[0, position], sd, slack=1e-4), right, wrong
    )
    assert check_variances(samples, right.variance[0, position], slack=1e-3)


def test_firing_counts_add_up(ensemble: engine.Ensemble) -> None:
    total = sum(ensemble.tallies[name] for name in REACTIONS)
    np.testing.assert_array_equal(total, ensemble.num_events)


def test_first_passage(ensemble: engine.Ensemble) -> None:
    """A times's whole distribution, the atom at infinity included."""
    grid = np.linspace(0.0, END, 161)
    brackets = [fsp.first_passage_cdf(grid, lambda x: x[:, 0] >= LEVEL) for fsp in (RIGHT, OTHER)]
    samples = ensemble.tallies["passage"]
    assert brackets[0].lost.max() < LOST

    def check(bracket: exact.Bracket):
        def cdf(t: Array) -> Array:
            return np.where(np.isinf(t), 1.0, np.interp(t, grid, bracket.lower))

        # Linear interpolation of a smooth cdf on 160 intervals.
        return check_continuous(np.where(samples > END, np.inf, samples), cdf, slack=1e-4)

    distance = float(np.abs(brackets[0].lower - brackets[1].lower).max())
    distance -= 1e-4
    assert distance > 0
    right, wrong = brackets
    if samples_needed_for_continuous(distance) > NUM:  # 2% is too little for this one: 4%
        wrong = project(1.04).first_passage_cdf(grid, lambda x: x[:, 0] >= LEVEL)
        distance = float(np.abs(right.lower - wrong.lower).max()) - 1e-4
    assert samples_needed_for_continuous(distance) <= NUM
    assert_holds_and_twin_fails(check, right, wrong)
    assert check_proportion(np.isfinite(samples).sum(), NUM, right.lower[-1], slack=LOST)


def test_first_passage_at_once_and_never(ensemble: engine.Ensemble) -> None:
    assert not ensemble.tallies["at_once"].any()
    assert np.isinf(ensemble.tallies["never"]).all()


def survival_to_pmf(survival: Array) -> Array:
    """P(max = n) for n = 0.. from P(max >= n), n = 0.. ."""
    return survival - np.append(survival[1:], 0.0)


@pytest.mark.parametrize("name, sign", [("top", 1), ("bottom", -1)])
def test_extrema(ensemble: engine.Ensemble, name: str, sign: int) -> None:
    levels = sign * np.arange(0, 26 if sign > 0 else 4)
    samples = ensemble.tallies[name]

    def pmf(fsp: exact.FiniteStateProjection) -> Array:
        survival = fsp.maximum_survival([END], lambda x: sign * x[:, 0], levels).lower[0]
        if sign > 0:
            return survival_to_pmf(survival)
        return np.diff(np.append(0.0, survival))  # P(min <= n) rises with n

    wrong = pmf(project(1.1))
    assert_holds_and_twin_fails(
        lambda p: check_distribution(samples.astype(int), p, slack=LOST), pmf(RIGHT), wrong
    )
    start = 3
    assert np.all(sign * samples >= sign * start)


def test_extrema_bound_the_path() -> None:
    """The true peak is at least the largest saved point, and sometimes more."""
    model = network({"X": 10}, [("X -> 2 X", 1.0), ("X -> 0", 1.0)])
    tallies = {"top": Maximum("X"), "bottom": Minimum("X")}
    e = run(model, np.linspace(0, 3, 7), 500, tallies=tallies)
    assert np.all(e.tallies["top"] >= e["X"].max(axis=1))
    assert np.all(e.tallies["bottom"] <= e["X"].min(axis=1))
    assert np.any(e.tallies["top"] > e["X"].max(axis=1))


# Changes that are not reactions, and tallies of what moves by itself.


@pytest.fixture(scope="module")
def certain() -> engine.Ensemble:
    """Everything here is deterministic."""
    model = network(
        {"X": 5, "idle": 0, "Y": 0},
        [("0 -> idle", 0.0), ("0 -> Y", Formula("0 * D"))],
        variables={"v": 2.0},
        inputs=["D", "E"],
        assignment_rules={"twice": "2 * X + v", "moving": "3 * D"},
        events=[Event("set", "time >= 2.5", {"X": "40", "v": "7"})],
    )
    doses = [
        Dose(10, 0.0, into="X"),
        Dose(100, 1.0, into="X"),
        Dose(8.0, 0.0, into="D"),
        Dose(30.0, 1.0, into="E", duration=2.0),
    ]
    return run(
        model,
        [3.0, 4.0],
        3,
        regimen=Regimen(doses),
        inputs={"D": engine.OneCompartment(0.7, 2.0), "E": engine.OneCompartment(2.0, 1.0)},
        tallies={
            "area": TimeIntegral("X"),
            "rule": TimeIntegral("twice"),
            "top": Maximum("X"),
            "bottom": Minimum("X"),
            "over": Occupation("X > 20"),
            "passage": FirstPassage("X > 20"),
            "passage_event": FirstPassage("v > 5"),
            "drug": TimeIntegral("D"),
            "mixed": TimeIntegral("moving * X + v - time / 2"),
            "other": TimeIntegral("E"),
            "drug_top": Maximum("D"),
            "drug_bottom": Minimum("D"),
        },
    )


def test_doses_and_events_are_tallied(certain: engine.Ensemble) -> None:
    # X = 15 until 1, 115 until 2.5, then 40; v = 2 until 2.5, then 7.
    x_area, v_area = 15 * 1 + 115 * 1.5 + 40 * 1.5, 2 * 2.5 + 7 * 1.5
    expected = {
        "area": x_area,
        "rule": 2 * x_area + v_area,
        "top": 115,
        "bottom": 15,  # the dose at time 0 has been given: the path starts at 15
        "over": 3.0,
        "passage": 1.0,
        "passage_event": 2.5,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(certain.tallies[name], value, rtol=1e-6, err_msg=name)


def test_inputs_are_integrated_in_closed_form(certain: engine.Ensemble) -> None:
    """No event falls between the save times: nothing but the closed form can be right."""
    k = 0.35

    def area(a: float, b: float) -> float:
        return 4.0 * (np.exp(-k * a) - np.exp(-k * b)) / k

    drug = {"drug": area(0, 4), "drug_top": 4.0, "drug_bottom": 4.0 * np.exp(-4 * k)}
    x_times_d = 15 * area(0, 1) + 115 * area(1, 2.5) + 40 * area(2.5, 4)
    drug["mixed"] = 3 * x_times_d + (2 * 2.5 + 7 * 1.5) - 16 / 4
    # Infusion at 15 per time into volume 1, elimination 2: 7.5 (1 - e^{-2 t}) for 2, then decay.
    peak = 7.5 * (1 - np.exp(-4))
    drug["other"] = 7.5 * (2 - (1 - np.exp(-4)) / 2) + peak * (1 - np.exp(-2)) / 2
    for name, value in drug.items():
        np.testing.assert_allclose(certain.tallies[name], value, rtol=2e-6, err_msg=name)


def test_many_small_increments_do_not_vanish() -> None:
    """A million stretches of 1e-6 in float32: the compensated sum keeps them."""
    model = network({"X": 1000}, [("X -> X", 1000.0)])
    e = run(model, [1.0], 2, tallies={"area": TimeIntegral("X"), "n": FiringCount("r0")})
    assert e.tallies["n"].min() > 990_000
    np.testing.assert_allclose(e.tallies["area"], 1000.0, rtol=3e-7)


def test_tallies_need_not_see_species() -> None:
    model = network({"X": 3}, [("X -> 0", 1.0)])
    e = run(model, [2.0], 4, tallies={"time": TimeIntegral("1"), "clock": Maximum("time")})
    np.testing.assert_allclose(e.tallies["time"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(e.tallies["clock"], 2.0, rtol=1e-6)
