"""The stochastic SBML suite (Evans et al. 2008, doi:10.1093/bioinformatics/btm566).

Every case of the sample is simulated and compared, at every time, with the published means and
standard deviations: by the suite's own rule and by computed bounds that the whole file exceeds
with probability 2e-5. The sum over the save times has the power to see a rate wrong by 2%, and
every case does. The cases that are not in the sample are written out here and checked against
closed forms and the master equation.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import engine
from tests import exact
from tests.network import sbml_text as sbml
from tests.simulation import run
from tests.statistics import (
    FAILURE_RATE,
    assert_holds_and_twin_fails,
    check_means,
    check_variances,
    samples_needed,
    score_dsmts,
)

Array = np.ndarray
TS = np.arange(51.0)
ROUNDING = 5.1e-6  # of the numbers in the files: five decimals or more
NUM_CASES = 22
NUM = {"00004": 12_000, "00028": 12_000}  # where 10,000 do not show a rate wrong by 2%
WRONG = 1.02
# Two families, pointwise and sums, of half the failure rate each; the first has, for every
# species of every case, a mean and a variance at 50 times.
NUM_POINTS = 34 * 2 * 50
POINTWISE = {"num_comparisons": NUM_POINTS, "failure_rate": FAILURE_RATE / 2}
SUMS = {"num_comparisons": NUM_CASES, "failure_rate": FAILURE_RATE / 2}
# The suite's rule has no family-wise rate: at its ranges one mean in 370 is outside by chance, and
# neighbours in time go together. It is applied to a case as a share; the bounds are the test.
MOST_OUTSIDE = 0.10


class Truth(NamedTuple):
    """Name and mean at TS of the species whose sum sees a wrong first rate."""

    species: str
    mean: Array


def birth_death(x0: int, birth: float, death: float) -> Callable[[float], Truth]:
    return lambda scale: Truth("X", exact.birth_death_moments(x0, birth * scale, death, TS).mean)


def immigration(x0: int, rate: float, death: float) -> Callable[[float], Truth]:
    return lambda scale: Truth("X", exact.immigration_death_moments(x0, rate * scale, death, TS)[0])


def batch(rate: float, size: int, death: float) -> Callable[[float], Truth]:
    return lambda scale: Truth(
        "X", exact.batch_immigration_moments(rate * scale, size, death, TS)[0]
    )


def reset_at(time: float, count: int) -> Callable[[float], Truth]:
    """Immigration at 1, death at 0.1, and X := count at a time."""

    def truth(scale: float) -> Truth:
        before = exact.immigration_death_moments(0, scale, 0.1, TS).mean
        after = exact.immigration_death_moments(count, scale, 0.1, np.maximum(TS - time, 0.0)).mean
        return Truth("X", np.where(time <= TS, after, before))

    return truth


def dimers(total: int, k1: float, k2: float, reset: float = np.inf) -> Callable[[float], Truth]:
    def truth(scale: float) -> Truth:
        fsp = dimerisation(total, k1 * scale, k2)
        since = np.where(reset <= TS, TS - reset, TS)
        order = np.argsort(since, kind="stable")
        mean = np.empty(TS.size)
        mean[order] = fsp.distribution(since[order]).means()[:, 1]
        return Truth("P2", mean)

    return truth


def dimerisation(total: int, k1: float, k2: float) -> exact.FiniteStateProjection:
    return exact.FiniteStateProjection(
        [[-2, 1], [2, -1]],
        lambda x, t: np.stack([k1 * x[:, 0] * (x[:, 0] - 1) / 2, k2 * x[:, 1]], axis=1),
        (total, total // 2),
        (total, 0),
    )


BASIC = birth_death(100, 0.1, 0.11)
CASES: dict[str, Callable[[float], Truth]] = {
    **dict.fromkeys(
        ("00001", "00002", "00006", "00008", "00010", "00012", "00017", "00019"), BASIC
    ),
    "00003": birth_death(100, 1.0, 1.1),
    "00004": birth_death(10, 0.1, 0.11),
    "00005": birth_death(10_000, 0.1, 0.11),
    "00020": immigration(0, 1.0, 0.1),
    "00022": immigration(0, 5.0, 0.1),
    "00024": immigration(0, 10.0, 0.1),
    "00027": immigration(0, 1.0, 0.1),
    "00028": reset_at(25.0, 50),
    "00030": dimers(100, 0.001, 0.01),
    "00031": dimers(1000, 0.0002, 0.004),
    "00032": dimers(100, 0.001, 0.01, reset=25.0),
    "00034": dimers(100, 0.001, 0.01),
    "00037": batch(1.0, 5, 0.2),
    "00038": batch(1.0, 10, 0.4),
}

# Where more than one method or driver is tested by default.
QUICK = ("00005", "00020", "00031", "00037")


@dataclass(frozen=True)
class Published:
    """Means and standard deviations of a case, (T,) for each name."""

    mean: dict[str, Array]
    sd: dict[str, Array]


def published(folder: Path) -> Published:
    with (folder / f"{folder.name}-results.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    np.testing.assert_array_equal(columns.pop("time"), TS)
    names = [name.removesuffix("-mean") for name in columns if name.endswith("-mean")]
    return Published(
        {name: columns[f"{name}-mean"] for name in names},
        {name: columns[f"{name}-sd"] for name in names},
    )


def check_case(shared: Path, case: str, num: int) -> None:
    folder = shared / "dsmts" / case
    (path,) = folder.glob("*-sbml-*.xml")
    given = published(folder)
    ensemble = run(engine.read_sbml(path), TS, num, seed=100 + int(case))
    for name, mean in given.mean.items():
        samples = np.asarray(ensemble[name], np.float64)
        assert samples.shape == (num, TS.size)
        assert np.all(np.abs(samples[:, 0] - mean[0]) <= ROUNDING)
        samples, mean, sd = samples[:, 1:], mean[1:], given.sd[name][1:]
        result = check_means(samples, mean, sd, slack=ROUNDING, **POINTWISE)
        assert result, f"{name}: {result.message}"
        slack = 2 * sd * ROUNDING + ROUNDING**2
        result = check_variances(samples, sd**2, slack=slack, **POINTWISE)
        assert result, f"{name}: {result.message}"
        score = score_dsmts(samples, mean, sd, slack=ROUNDING)
        assert score.num_outside_mean <= MOST_OUTSIDE * score.num_points, (name, score)
        assert score.num_outside_sd <= MOST_OUTSIDE * score.num_points, (name, score)
    name, truth = CASES[case](1.0)
    np.testing.assert_allclose(given.mean[name], truth, atol=ROUNDING, rtol=1e-6)
    wrong = CASES[case](WRONG).mean
    sums = np.asarray(ensemble[name], np.float64).sum(axis=1)
    needed = samples_needed(wrong.sum() - truth.sum(), sums.std(), **SUMS)
    assert num >= needed, f"{needed} trajectories are needed to see a rate wrong by 2%"
    assert_holds_and_twin_fails(
        lambda mean: check_means(sums, mean.sum(), slack=TS.size * ROUNDING, **SUMS),
        given.mean[name],
        wrong,
    )


@pytest.mark.parametrize("case", CASES)
def test_case(shared: Path, case: str) -> None:
    check_case(shared, case, NUM.get(case, 10_000))


KERNEL = [
    *(pytest.param("interpreted", c, marks=() if c in QUICK else pytest.mark.full) for c in CASES),
    *(pytest.param("pallas", c, marks=pytest.mark.gpu) for c in CASES),
]


@pytest.mark.parametrize("driver, case", KERNEL, indirect=["driver"])
def test_case_in_the_kernel(shared: Path, driver: str, case: str) -> None:
    check_case(shared, case, NUM.get(case, 10_000))


@pytest.mark.full
@pytest.mark.parametrize("case", CASES)
def test_case_at_100_000(shared: Path, case: str) -> None:
    check_case(shared, case, 100_000)


def test_the_whole_sample_is_run(shared: Path) -> None:
    assert {p.name for p in (shared / "dsmts").iterdir() if p.is_dir()} == set(CASES)
    assert len(CASES) == NUM_CASES


# Cases that are not in the sample, as files of our own.

NUM_OWN = 10_000
NUM_LARGE = 1000  # patients in which the large rate of case 23 is not 0
OWN_TS = np.array([0.0, 1.0, 7.0, 22.5, 30.0, 50.0])
OWN = {"num_comparisons": 200}  # shared by the comparisons of the file below


def own_document(version: tuple[int, int] = (3, 2)) -> str:
    """Independent cases side by side in one file: the numbers are the suite's."""
    level = version[0]

    def reaction(name: str, reactants: str, products: str, law: str) -> str:
        return sbml.reaction(name, reactants, products, law, level=level)

    # 11: a concentration in a volume of 2 (a published law in concentration: rate Lambda [X]).
    # 18: a volume of 0.5 in the law. 7: a sink that fills. 13, 15: laws written in odd ways.
    # 23: a large rate. 26: a constant boundary sink. 39: batches of 100. 35: a dimer without P.
    parts = {
        "compartments": sbml.compartment("two", 2.0) + sbml.compartment("half", 0.5),
        "species": sbml.species("X11", "two", initialAmount=100)
        + sbml.species("X18", "half", amounts=True, initialAmount=100)
        + sbml.species("X7", "half", amounts=True, initialAmount=100)
        + sbml.species("Sink7", "half", amounts=True)
        + sbml.species("X13", "two", amounts=True, initialAmount=100)
        + sbml.species("X15", "two", amounts=True, initialAmount=100)
        + sbml.species("X23", "two", amounts=True)
        + sbml.species("Sink26", "two", amounts=True, boundaryCondition="true", constant="true")
        + sbml.species("X39", "two", amounts=True)
        + sbml.species("D35", "two", amounts=True),
        "parameters": sbml.parameter("Lambda", 0.1)
        + sbml.parameter("Mu", 0.11)
        + sbml.parameter("k1", 0.001)
        + sbml.parameter("k2", 0.01)
        + sbml.parameter("Alpha23", 1000.0),
        "reactions": reaction("b11", "X11", "2 X11", "Lambda * X11")
        + reaction("d11", "X11", "", "Mu * X11")
        + reaction("b18", "X18", "2 X18", "half * Lambda * X18")
        + reaction("d18", "X18", "", "half * Mu * X18")
        + reaction("b7", "X7", "2 X7", "Lambda * X7")
        + reaction("d7", "X7", "Sink7", "Mu * X7")
        + reaction("b13", "X13", "2 X13", "2 * Lambda * X13 * 0.5")
        + reaction("d13", "X13", "", "Mu * X13")
        + reaction("b15", "X15", "2 X15", "Lambda * (X15 / 2) / 0.5")
        + reaction("d15", "X15", "", "Mu * X15")
        + reaction("i23", "", "X23", "Alpha23")
        + reaction("d23", "X23", "Sink26", "0.1 * X23")
        + reaction("i39", "", "100 X39", "1")
        + reaction("d39", "X39", "", "4 * X39")
        + reaction("f35", "", "D35", "k1 * (100 - 2 * D35) * (100 - 2 * D35 - 1) / 2")
        + reaction("b35", "D35", "", "k2 * D35"),
    }
    if level == 2:
        return sbml.document(version, "", units=sbml.unit("substance", "item"), **parts)
    return sbml.document(version, **parts)


def own_truths(scale: float) -> dict[str, tuple[Array, Array]]:
    """Mean and variance at OWN_TS of every species, every first rate scaled."""
    moments = exact.birth_death_moments
    basic = moments(100, 0.1 * scale, 0.11, OWN_TS)
    # A volume of 2: [X] = x / 2, so half the rate; 0.5 in the law does the same.
    slow = moments(100, 0.05 * scale, 0.055, OWN_TS)
    births = np.array([[1, 0], [-1, 1]])
    mean, covariance = exact.affine_moments(
        births, [0.0, 0.0], [[0.1 * scale, 0.0], [0.11, 0.0]], [100.0, 0.0], OWN_TS
    )
    dimer = dimerisation(100, 0.001 * scale, 0.01).distribution(OWN_TS)
    return {
        "X11": slow,
        "X18": slow,
        "X7": basic,
        "Sink7": (mean[:, 1], covariance[:, 1, 1]),
        "X13": basic,
        "X15": basic,
        "X23": exact.immigration_death_moments(0, 1000.0 * scale, 0.1, OWN_TS),
        "X39": exact.batch_immigration_moments(scale, 100, 4.0, OWN_TS),
        "D35": (dimer.means()[:, 1], dimer.variances()[:, 1]),
        "Sink26": (np.zeros(OWN_TS.size), np.zeros(OWN_TS.size)),
    }


@pytest.fixture(scope="module")
def own(driver: str, tmp_path_factory: pytest.TempPathFactory) -> engine.Ensemble:
    model = sbml.read(tmp_path_factory.mktemp("own"), own_document())
    alpha = np.where(np.arange(NUM_OWN) < NUM_LARGE, 1000.0, 0.0)
    return run(model, OWN_TS, NUM_OWN, seed=11, params={"Alpha23": alpha})


@pytest.mark.parametrize("name", sorted(own_truths(1.0)))
def test_own_case(own: engine.Ensemble, name: str) -> None:
    samples = np.asarray(own[name], np.float64)
    if name == "X23":
        assert not samples[NUM_LARGE:].any()
        samples = samples[:NUM_LARGE]
    mean, variance = own_truths(1.0)[name]
    variance = np.maximum(variance, 0.0)
    result = check_variances(samples, variance, slack=1e-9, **OWN)
    assert result, result.message
    if name == "Sink26":
        assert not samples.any()
        return
    wrong = own_truths(WRONG)[name][0]
    if name in ("X39", "D35"):  # these vary more than 2% can show here
        wrong = own_truths(1.2)[name][0]
    sd = np.sqrt(variance)
    assert len(samples) >= samples_needed((wrong - mean)[1:], sd[1:], **OWN)
    assert_holds_and_twin_fails(
        lambda truth: check_means(samples, truth, sd, slack=1e-9, **OWN), mean, wrong
    )


@pytest.mark.parametrize("version", sorted(sbml.NAMESPACES))
def test_every_level_reads_the_same(tmp_path: Path, version: tuple[int, int]) -> None:
    newest = sbml.read(tmp_path, own_document())
    model = sbml.read(tmp_path, own_document(version))
    assert model.structure == newest.structure
    assert model.initial_values == newest.initial_values
    assert model.parameter_values == newest.parameter_values


# State events (33) and a time event off the save grid (29).


@pytest.fixture(scope="module")
def with_events(driver: str, tmp_path_factory: pytest.TempPathFactory) -> engine.Ensemble:
    text = sbml.document(
        species=sbml.species("P", amounts=True, initialAmount=100)
        + sbml.species("P2", amounts=True)
        + sbml.species("X", amounts=True),
        reactions=sbml.reaction("f", "2 P", "P2", "0.001 * P * (P - 1) / 2")
        + sbml.reaction("b", "P2", "2 P", "0.01 * P2")
        + sbml.reaction("i", "", "X", "1")
        + sbml.reaction("d", "X", "", "0.1 * X"),
        events=sbml.event("reset33", "P2 > 30", {"P": "100", "P2": "0"})
        + sbml.event("reset29", "time >= 22.5", {"X": "20"}),
    )
    model = sbml.read(tmp_path_factory.mktemp("events"), text)
    return run(model, TS, 20_000, seed=33)


def reset_above(scale: float) -> exact.FiniteStateProjection:
    """Dimerisation that starts again when P2 passes 30: the jump from 30 leads to (100, 0)."""

    def propensity(x: Array, t: float) -> Array:
        forward = 0.001 * scale * x[:, 0] * (x[:, 0] - 1) / 2
        is_last = x[:, 1] == 30
        return np.stack([forward * ~is_last, 0.01 * x[:, 1], forward * is_last], axis=1)

    return exact.FiniteStateProjection(
        [[-2, 1], [2, -1], [60, -30]], propensity, (100, 30), (100, 0)
    )


def test_state_event(with_events: engine.Ensemble) -> None:
    samples = np.asarray(with_events["P2"], np.float64)
    assert samples.max() == 30  # never above, at any save time
    np.testing.assert_array_equal(with_events["P"] + 2 * with_events["P2"], 100)
    right, wrong = (reset_above(scale).distribution(TS) for scale in (1.0, WRONG))
    result = check_variances(samples[:, 1:], right.variances()[1:, 1], slack=1e-6)
    assert result, result.message
    sd = np.sqrt(right.variances()[1:, 1])
    effect = wrong.means()[1:, 1] - right.means()[1:, 1]
    assert len(samples) >= samples_needed(effect, sd, num_comparisons=sd.size)
    assert_holds_and_twin_fails(
        lambda truth: check_means(samples[:, 1:], truth.means()[1:, 1], sd, slack=1e-6),
        right,
        wrong,
    )


def test_event_off_the_save_grid(with_events: engine.Ensemble) -> None:
    samples = np.asarray(with_events["X"], np.float64)[:, 1:]
    variance = np.where(
        TS >= 22.5,
        exact.immigration_death_moments(20, 1.0, 0.1, np.maximum(TS - 22.5, 0.0)).variance,
        exact.immigration_death_moments(0, 1.0, 0.1, TS).variance,
    )[1:]
    assert check_variances(samples, variance), check_variances(samples, variance).message
    right, wrong = (reset_at(22.5, 20)(scale).mean[1:] for scale in (1.0, WRONG))
    assert len(samples) >= samples_needed(wrong - right, np.sqrt(variance), num_comparisons=50)
    assert_holds_and_twin_fails(
        lambda truth: check_means(samples, truth, np.sqrt(variance)), right, wrong
    )
    # An event half a time unit late is seen too.
    late = reset_at(23.0, 20)(1.0).mean[1:]
    assert not check_means(samples, late, np.sqrt(variance))


# Approximate methods: within 2% of the published means and standard deviations, at every time.

APPROXIMATE = {"tau_leaping": engine.TauLeaping(), "hybrid": engine.Hybrid(is_noisy=True)}
RATIO = 0.02


def check_within_two_percent(shared: Path, case: str, method: str, num: int) -> None:
    folder = shared / "dsmts" / case
    (path,) = folder.glob("*-sbml-*.xml")
    given = published(folder)
    model = engine.read_sbml(path)
    ensemble = run(model, TS, num, seed=int(case), method=APPROXIMATE[method])
    for name, mean in given.mean.items():
        samples, sd = np.asarray(ensemble[name], np.float64), given.sd[name]
        # Chance: 4.5 standard errors of a mean, and of a standard deviation of a skewed count.
        by_chance = 4.5 * sd / np.sqrt(num)
        assert np.all(np.abs(samples.mean(axis=0) - mean) <= RATIO * mean + by_chance + ROUNDING)
        fourth = np.mean((samples - samples.mean(axis=0)) ** 4, axis=0)
        spread = np.sqrt(np.maximum(fourth - sd**4, 0) / num) / np.maximum(2 * sd, 1e-9)
        off = np.abs(samples.std(axis=0) - sd)
        assert np.all(off <= RATIO * sd + 4.5 * spread + ROUNDING)


# Two cases by the hybrid method; all of them, at more trajectories, in the fuller suite.
@pytest.mark.parametrize(
    ("case", "method"),
    [(case, "tau_leaping") for case in QUICK] + [(case, "hybrid") for case in ("00020", "00031")],
)
def test_approximate_methods(shared: Path, case: str, method: str) -> None:
    check_within_two_percent(shared, case, method, 10_000)


@pytest.mark.full
@pytest.mark.parametrize("method", APPROXIMATE)
@pytest.mark.parametrize("case", CASES)
def test_approximate_methods_at_100_000(shared: Path, case: str, method: str) -> None:
    check_within_two_percent(shared, case, method, 100_000)
