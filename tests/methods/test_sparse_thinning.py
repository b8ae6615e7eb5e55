"""The step for large networks where time or inputs move some of the laws between events."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

import engine
from engine import Dose, Formula, Regimen
from engine.dosing.pharmacokinetics import InfusionRate
from engine.methods import direct_sparse, sparse_laws, sparse_thinning
from tests.methods import test_direct_inputs as inputs
from tests.simulation import assert_same_on_other_lanes, network, run
from tests.statistics import (
    CheckResult,
    assert_holds_and_twin_fails,
    assert_twin_fails,
    check_distribution,
    check_means,
    check_variances,
)

Array = np.ndarray


# Every law and every form of dosing, against inhomogeneous Poisson laws.


# Each law is a form of its own, and costs seconds to compile.
QUICK = ("sine", "window", "quotient", "hill", "through_rules", "drug_oral", "drug_constant")
QUICK += ("drug_overlapping_infusions",)
OTHERS = tuple(name for name in inputs.LAWS if name not in QUICK)


def forced_to_be_driven(names: tuple[str, ...]) -> engine.Ensemble:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct_sparse, "MANY", 0)
        return inputs.driven(names)


@pytest.fixture(scope="module")
def driven() -> engine.Ensemble:
    return forced_to_be_driven(QUICK)


@pytest.fixture(scope="module")
def others() -> engine.Ensemble:
    return forced_to_be_driven((*OTHERS, "drug_oral"))


@pytest.fixture(scope="module")
def means() -> dict[str, Array]:
    laws = inputs.LAWS.items()
    return {n: inputs.arrivals(law.intensity, law.stops, inputs.DEATH) for n, law in laws}


@pytest.mark.parametrize("name", QUICK)
def test_laws(driven: engine.Ensemble, means: dict[str, Array], name: str) -> None:
    inputs.test_moments(driven, means, name)
    inputs.test_distribution(driven, means, name)


@pytest.mark.full
@pytest.mark.parametrize("name", OTHERS)
def test_the_other_laws(others: engine.Ensemble, means: dict[str, Array], name: str) -> None:
    inputs.test_moments(others, means, name)
    inputs.test_distribution(others, means, name)


def test_beside_them(driven: engine.Ensemble) -> None:
    inputs.test_constant_rates_beside_moving_ones(driven)
    inputs.test_a_death_rate_that_moves(driven)
    inputs.test_time_integral_of_inputs(driven)
    inputs.test_number_of_firings_is_poisson(driven)
    inputs.test_every_event_is_counted(driven)


def test_infusion_into_a_species(forced: None) -> None:
    """Its rate changes at stops only, so that it stands in the tree as it is."""
    model = network({"Z": 0, "Y": 9}, [("Y -> 0", 0.5)])
    dose = Dose(30.0, 0.5, into="Z", duration=2.0)
    found = run(model, [1.0, 2.0, 3.0], 6000, seed=5, regimen=Regimen([dose]))
    np.testing.assert_array_equal(found.num_steps[:5] >= found.num_events[:5], True)
    for column, mean in enumerate((7.5, 22.5, 30.0)):
        assert_holds_and_twin_fails(
            lambda m, c=column: check_distribution(
                found["Z"][:, c], stats.poisson.pmf(np.arange(150), m), slack=1e-6
            ),
            mean,
            1.08 * mean,
        )


# A large network: first-order conversions, some of them at a rate that an input moves.

DECAY = 1.5
SIZE = 200


def chain(num_moving: int) -> engine.ReactionNetwork:
    """400 conversions between 200 species, and a species that the input makes."""
    rates, reactions = rates_of(), []
    for j, rate in enumerate(rates):
        start, end = ends_of(j)
        equation = f"S{start} -> S{end}"
        is_moving = j < num_moving
        law = Formula(f"{rate} * drug * S{start}") if is_moving else float(rate)
        reactions.append((equation, law))
    reactions += [("0 -> X", Formula("40 * drug"), "make"), ("X -> 0", 0.8)]
    species = {**{f"S{i}": 10 * (i % 3) for i in range(SIZE)}, "X": 0}
    return network(species, reactions, inputs=["drug"])


def rates_of() -> Array:
    return np.random.default_rng(1).uniform(0.5, 2.0, 2 * SIZE)


def ends_of(j: int) -> tuple[int, int]:
    return j // 2, (j // 2 + (1 if j % 2 else 7)) % SIZE


def simulate_chain(num_moving: int, num: int, ts: list[float], **options: object):
    return run(
        chain(num_moving),
        ts,
        num,
        seed=6,
        inputs={"drug": engine.OneCompartment(DECAY, 1.0)},
        regimen=Regimen(Dose(2.0, 0.0, into="drug")),
        **options,
    )


def binomial_moments(num_moving: int, time: float, scale: float = 1.0) -> tuple[Array, Array]:
    """Every molecule moves on its own: counts are sums of binomials."""
    still, moving = np.zeros((2, SIZE, SIZE))
    for j, rate in enumerate(rates_of()):
        start, end = ends_of(j)
        table = moving if j < num_moving else still
        table[start, end] += rate * scale
        table[start, start] -= rate * scale

    def slope(t: float, p: Array) -> Array:
        return (p.reshape(SIZE, SIZE) @ (still + 2.0 * np.exp(-DECAY * t) * moving)).ravel()

    found = solve_ivp(slope, (0, time), np.eye(SIZE).ravel(), rtol=1e-7, atol=1e-9)
    p = found.y[:, -1].reshape(SIZE, SIZE)
    starts = 10.0 * (np.arange(SIZE) % 3)
    return starts @ p, starts @ (p * (1 - p))


@pytest.mark.full
@pytest.mark.parametrize("num_moving", [20, 400])
def test_a_large_network(num_moving: int) -> None:
    """Chosen by size: few laws that move, and nothing but laws that move."""
    found = simulate_chain(num_moving, 3000, [0.5])
    counts, x = found.counts[:, 0, :SIZE], found["X"][:, 0]
    mean, variance = binomial_moments(num_moving, 0.5)
    wrong, _ = binomial_moments(num_moving, 0.5, 1.05)
    assert_holds_and_twin_fails(lambda m: check_means(counts, m), mean, wrong)
    assert check_variances(counts, variance)
    assert np.all(counts.sum(axis=1) == counts[0].sum())
    born = 80 * (np.exp(-0.8 * 0.5) - np.exp(-DECAY * 0.5)) / (DECAY - 0.8)
    assert_holds_and_twin_fails(
        lambda m: check_distribution(x, stats.poisson.pmf(np.arange(120), m), slack=1e-6),
        born,
        1.07 * born,
    )
    # Windows are short beside what moves: few candidates are refused.
    assert found.num_steps.sum() < 1.3 * found.num_events.sum()


def test_twins_that_must_fail(forced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that is too low ends with a status; candidates that are all taken are seen."""

    def simulated(name: str, **options: object) -> engine.Ensemble:
        # What is compiled is kept by network, so that a twin needs a name of its own.
        model = network({"X": 0}, [("0 -> X", Formula("20 * drug"), name)], inputs=["drug"])
        drug = engine.OneCompartment(1.0, 1.0)
        dose = Regimen(Dose(2.0, 0.0, into="drug"))
        return run(model, [2.0], 4000, seed=7, inputs={"drug": drug}, regimen=dose, **options)

    mean = 40 * (1 - np.exp(-2.0))

    def check(found: engine.Ensemble) -> CheckResult:
        return check_means(found["X"][:, 0], mean, np.sqrt(mean))

    assert check(simulated("right"))
    with monkeypatch.context() as patch:
        patch.setattr(sparse_laws, "SLACK", 0.95)
        found = simulated("low", is_failure_raised=False)
        assert np.all(found.status == engine.Status.INVALID_PROPENSITY)
    with monkeypatch.context() as patch:
        patch.setattr(sparse_thinning, "is_accepted", lambda bits, a, bound: bound > 0)
        assert_twin_fails(check, simulated("all"))


# What it shares with the step for laws that stand still.


def everything() -> engine.ReactionNetwork:
    """Laws of time, of inputs that move and that stand still, of variables; a rule, events."""
    return network(
        {"X": 5, "Y": 0, "Z": 30, "R": 0},
        [
            ("0 -> X", Formula("20 * gain * effect")),
            ("X -> Y", Formula("0.8 * X / (1 + total / 50 + drug)")),
            ("2 Y -> X", 0.05),
            ("Y -> 0", Formula("rate * Y * (1 + sin(3 * time))")),
            ("X -> X + R", Formula("0.3 * level * X")),
            ("Z -> 0", Formula("gain * Z ^ 0.5")),
            *[("X + Z -> Z", 0.001)] * 30,
        ],
        parameters={"gain": 1.0},
        variables={"rate": 0.3},
        inputs=["drug", "level"],
        assignment_rules={"total": "X + Y", "effect": "drug / (1 + drug)"},
        events=[
            engine.Event("boost", "Y > 9", {"X": "X + 3"}, delay="0.2", is_persistent=False),
            engine.Event("late", "time >= 2", {"Z": "Z + 10", "rate": "0.6"}),
        ],
    )


def simulated(num: int = 100, **options: object) -> engine.Ensemble:
    doses = [
        *Regimen.repeated(6.0, into="Y", every=1.0, num_doses=3).doses,
        *Regimen.repeated(4.0, into="drug", every=1.3, num_doses=2).doses,
        Dose(3.0, 0.5, into="level", duration=1.5),
        Dose(10.0, 0.2, into="Z", duration=1.0),
    ]
    defaults = {
        "regimen": Regimen(doses),
        "inputs": {
            "drug": engine.OneCompartment(np.linspace(0.5, 2.0, num), 1.0, absorption=3.0),
            "level": InfusionRate(),
        },
        "tallies": {
            "area": engine.TimeIntegral("X * drug"),
            "top": engine.Maximum("X + Y"),
            "peak": engine.Maximum("X * drug"),
            "deaths": engine.FiringCount("r3"),
        },
        "params": {"gain": np.linspace(0.5, 2.0, num)},
    }
    return run(everything(), [0.0, 0.7, 4.0], num, seed=11, **defaults | options)


@pytest.mark.full
def test_lanes_and_blocks(forced: None) -> None:
    """Bit for bit the same for any number of lanes and steps."""
    base = simulated()
    assert len(np.unique(base.tallies["area"])) == 100
    assert_same_on_other_lanes(base, simulated)


@pytest.mark.full
def test_doses_events_and_tallies_as_in_the_dense_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two steps draw different paths of one law: their means agree to sampling error."""
    dense = simulated(4000)
    monkeypatch.setattr(direct_sparse, "MANY", 0)
    sparse = simulated(4000)
    patients = np.array_split(np.arange(4000), 2)
    pairs = [
        *((dense.counts[:, t, s], sparse.counts[:, t, s]) for t in (1, 2) for s in range(4)),
        *((dense.tallies[name], sparse.tallies[name]) for name in dense.tallies),
    ]
    for a, b in ((a[half], b[half]) for a, b in pairs for half in patients):
        # 24 comparisons of means and of spreads at 5 standard errors: a failure rate of 3e-5.
        assert abs(a.mean() - b.mean()) <= 5 * np.sqrt(a.var() / len(a) + b.var() / len(b))
        squares = [(x - x.mean()) ** 2 for x in (a, b)]
        error = np.sqrt(sum(x.var() / len(x) for x in squares))
        assert abs(a.var() - b.var()) <= 5 * error
    # A gain that is 5% lower is seen: the comparison can fail.
    wrong = simulated(4000, params={"gain": 0.95 * np.linspace(0.5, 2.0, 4000)})
    a, b = wrong.tallies["area"], sparse.tallies["area"]
    assert abs(a.mean() - b.mean()) > 5 * np.sqrt(a.var() / len(a) + b.var() / len(b))


def test_bounds_that_are_infinite_far_ahead(forced: None) -> None:
    """1 / (1 - t / 2) has no bound up to time 2; a window that ends before it has."""
    model = network({"X": 0}, [("0 -> X", Formula("1 / (1 - time / 2)"))])
    found = run(model, [1.9], 6000, seed=8)["X"][:, 0]
    mean = 2 * np.log(20)
    assert_holds_and_twin_fails(
        lambda m: check_distribution(found, stats.poisson.pmf(np.arange(60), m), slack=1e-6),
        mean,
        1.08 * mean,
    )


@pytest.mark.full
def test_nothing_left_to_happen_and_laws_that_break(forced: None) -> None:
    faded = network({"X": 3}, [("X -> 0", Formula("X * exp(-time) * 9"))])
    done = run(faded, [50.0, 1e6], 40)
    assert np.all(done.counts[:, 1] == 3 - done.num_events[:, None])
    assert done.num_steps.max() < 60
    for law in ("2 * (time + 1)", "0 * X - time"):
        broken = network({"X": 2}, [("X -> 0", Formula(law))])
        found = run(broken, [50.0], 8, is_failure_raised=False)
        assert np.all(found.status == engine.Status.INVALID_PROPENSITY), law
    spent = run(
        chain_of_one(), [50.0], 8, method=engine.Direct(max_events=20), is_failure_raised=False
    )
    assert np.all(spent.status == engine.Status.EVENT_BUDGET_SPENT)


def chain_of_one() -> engine.ReactionNetwork:
    return network({"X": 0}, [("0 -> X", Formula("10 + sin(time)"))])
