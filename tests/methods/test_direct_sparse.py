"""The step for large networks, forced on small ones that have an exact answer, and on 1,000."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

import engine
from engine.kinetics.program import Program
from engine.kinetics.templates import templates_of
from engine.methods import direct_sparse, propensity_tree, sparse_arrays, sparse_tables
from tests import test_truth
from tests.kernel import test_rare
from tests.simulation import assert_same_on_other_lanes, network, run
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_distribution,
    check_means,
    check_variances,
)

BITS = 44


def chain(num: int, wrong: float = 1.0) -> tuple[engine.ReactionNetwork, np.ndarray]:
    """First-order conversions between num / 2 species, num reactions; and their generator."""
    size, rng = num // 2, np.random.default_rng(1)
    rates, generator = rng.uniform(0.5, 2.0, num), np.zeros((size, size))
    reactions = []
    for j, rate in enumerate(rates):
        start, end = j // 2, (j // 2 + (1 if j % 2 else 7)) % size
        reactions.append((f"S{start} -> S{end}", float(rate)))
        generator[start, end] += rate * wrong
        generator[start, start] -= rate * wrong
    return network({f"S{i}": 10 * (i % 3) for i in range(size)}, reactions), generator


def binomial_moments(generator: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of counts that start at 0, 10, 20, 0, ...: sums of binomials."""
    starts = 10.0 * (np.arange(len(generator)) % 3)
    p = linalg.expm(generator * time)
    return starts @ p, starts @ (p * (1 - p))


def test_placing_by_a_loop_and_by_a_scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    table, rng = jnp.zeros((5, 4), jnp.float32), np.random.default_rng(2)
    places = [jnp.asarray(p, jnp.int32) for p in ([0, 4, 2, 2], [3, 0, 1, 2])]
    values = jnp.asarray(rng.normal(size=4), jnp.float32)
    by_loop = sparse_arrays.placed(table, places, values)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    by_scatter = sparse_arrays.placed(table, places, values)
    assert np.count_nonzero(by_loop) == 4
    np.testing.assert_array_equal(by_loop, by_scatter)


def test_the_master_equation(forced: None) -> None:
    model = network(
        {"A": 3, "B": 2},
        [("0 -> A", 6.0), ("2 A -> B", 0.2), ("B -> 2 A", 0.5), ("A -> 0", 0.8)],
    )
    found = run(model, test_truth.TS, 20_000, seed=5)

    def pmf(scale: float) -> np.ndarray:
        return test_truth.project(scale).distribution(test_truth.TS).marginal(0)[-1]

    assert_holds_and_twin_fails(
        lambda p: check_distribution(found["A"][:, -1], p), pmf(1.0), pmf(1.05)
    )


def test_a_thousand_reactions() -> None:
    """Chosen by size, against the exact moments of 500 species."""
    model, right = chain(1000)
    found = run(model, [0.5], 2000, seed=6).counts[:, 0]
    mean, variance = binomial_moments(right, 0.5)
    wrong = binomial_moments(chain(1000, 1.02)[1], 0.5)[0]
    assert_holds_and_twin_fails(lambda m: check_means(found, m), mean, wrong * 1.02)
    assert check_variances(found, variance).is_ok
    assert np.all(found.sum(axis=1) == found[0].sum())


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(test_rare.test_shares_on_both_sides_of_the_threshold, marks=pytest.mark.full),
        test_rare.test_everything_becomes_rare_at_once,
    ],
)
def test_rare_reactions(forced: None, check: Callable[[], None]) -> None:
    check()


def selected(propensities: list[float], numbers: np.ndarray) -> np.ndarray:
    """The reaction that each 44-bit number selects."""
    model = network({"X": 0}, [("0 -> X", 1.0)] * len(propensities))
    tables = sparse_tables.tables_of(Program(model, {}))
    count = len(numbers)
    tree = propensity_tree.blank(tables, count)
    one = propensity_tree.replaced(
        tables, propensity_tree.blank(tables, 1), jnp.int32(0), jnp.float32(propensities)
    )
    tree = propensity_tree.Tree(
        jnp.append(jnp.tile(one.leaves[:-1], count), jnp.float32(0)),
        jnp.broadcast_to(one.nodes, tree.nodes.shape),
    )
    bits = jnp.asarray((numbers >> 12).astype(np.uint32))
    extra = jnp.asarray((numbers & 0xFFF).astype(np.uint32))
    share = propensity_tree.share_of(bits, extra)
    chosen, _ = propensity_tree.descend(jnp.asarray(True), tables, tree, share)
    return np.asarray(chosen)


@pytest.mark.parametrize(
    "place", [1, *(pytest.param(place, marks=pytest.mark.full) for place in (20, 40))]
)
def test_one_in_a_billion_is_selected_by_its_share_of_the_numbers(place: int) -> None:
    """Count the 44-bit numbers that select a reaction with 1e-9 of the total, 48 beside it."""
    size, rare = 48, 4.8e-8
    propensities = [1.0] * size + [0.0] * 3
    propensities[place] = rare
    width = rare / (size - 1 + rare) * 2**BITS
    # The reactions before it end at k / 47, but for one that was left out to be the last.
    starts = np.arange(size + 1) / (size - 1 + rare) * 2**BITS
    offsets = np.arange(-3, 8) * width / 4
    numbers = np.clip((starts[:, None] + offsets).ravel(), 0, 2**BITS - 1).astype(np.int64)
    hits = numbers[selected(propensities, numbers) == place]
    assert len(hits), "never selected"
    inside = int(hits[0])

    def edge(low: int, high: int, is_upper: bool) -> int:
        while high - low > 1:
            middle = (low + high) // 2
            is_hit = selected(propensities, np.array([middle]))[0] == place
            low, high = (middle, high) if is_hit == is_upper else (low, middle)
        return high

    far = int(4 * width)
    found = edge(inside, inside + far, True) - edge(max(inside - far, 0), inside, False)
    assert abs(found / width - 1) < 1e-3


def everything() -> engine.ReactionNetwork:
    """Mass action, a formula, a guard, an event on counts, one at a time with a delay, a rule."""
    return network(
        {"X": 5, "Y": 0, "Z": 30, "R": 0},
        [
            ("0 -> X", 20.0),
            ("X -> Y", engine.Formula("0.8 * X / (1 + total / 50)")),
            ("2 Y -> X", 0.05),
            ("Y -> 0", 0.3),
            ("X -> X + R", 1e-5),
            ("Z -> 0", engine.Formula("gain * Z ^ 0.5")),
            *[("X + Z -> Z", 0.001)] * 30,
        ],
        parameters={"gain": 1.0},
        assignment_rules={"total": "X + Y"},
        events=[
            engine.Event("boost", "Y > 9", {"X": "X + 3"}, delay="0.2", is_persistent=False),
            engine.Event("late", "time >= 2", {"Z": "Z + 10"}),
        ],
    )


def simulated(num: int = 100, **options: object) -> engine.Ensemble:
    defaults = {
        "regimen": engine.Regimen.repeated(6.0, into="Y", every=1.0, num_doses=3),
        "tallies": {
            "area": engine.TimeIntegral("X * Y"),
            "top": engine.Maximum("X + Y"),
            "deaths": engine.FiringCount("r3"),
        },
        "params": {"gain": np.linspace(0.5, 2.0, num)},
    }
    return run(everything(), [0.0, 0.7, 4.0], num, seed=11, **defaults | options)


def test_lanes_and_blocks(forced: None) -> None:
    """Bit for bit the same for any number of lanes and steps."""
    base = simulated()
    assert base.counts[:, -1, 2].min() >= 0 and len(np.unique(base.tallies["area"])) == 100
    assert_same_on_other_lanes(base, simulated)


def test_doses_events_and_tallies_as_in_the_dense_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two steps draw different paths of one law: their means agree to sampling error."""
    dense = simulated(4000)
    monkeypatch.setattr(direct_sparse, "MANY", 0)
    sparse = simulated(4000)
    for a, b in [
        *((dense.counts[:, t, s], sparse.counts[:, t, s]) for t in (1, 2) for s in (0, 1, 2)),
        *((dense.tallies[name], sparse.tallies[name]) for name in dense.tallies),
    ]:
        spread = np.sqrt(a.var() / len(a) + b.var() / len(b))
        # 9 comparisons at 5 standard errors: a failure rate of 6e-6.
        assert abs(a.mean() - b.mean()) <= 5 * spread


def test_nothing_left_to_happen_and_laws_that_break(forced: None) -> None:
    done = run(network({"X": 3}, [("X -> 0", 1.0)]), [50.0, 1e6], 40)
    assert np.all(done.counts == 0) and np.all(done.num_events == 3)
    broken = network({"X": 2}, [("X -> 0", engine.Formula("2.0"))])
    found = run(broken, [50.0], 8, is_failure_raised=False)
    assert {s.name for s in map(engine.Status, found.status)} == {"INVALID_PROPENSITY"}


def test_chosen_by_size() -> None:
    """Large networks take the sparse step, whether their laws move between events or not."""
    large, _ = chain(1000)
    small, _ = chain(100)
    moving = network(
        {"X": 0},
        [("0 -> X", 1.0)] * 999 + [("0 -> X", engine.Formula("drug"))],
        inputs=["drug"],
    )
    steppers = [engine.Direct().stepper(model, 100) for model in (large, small, moving)]
    assert [stepper.is_elementwise for stepper in steppers] == [False, True, False]


def test_the_program_grows_with_the_forms_of_the_laws_and_not_with_the_reactions() -> None:
    for num in (100, 1000):
        assert len(templates_of(Program(chain(num)[0], {})).templates) == 1
    assert len(templates_of(Program(everything(), {})).templates) == 3
    # Numbers written into the laws do not tell them apart, exponents do.
    laws = [engine.Formula(f"X * {j + 2} / (X ^ 2 + {j + 0.5})") for j in range(50)]
    written = network({"X": 1}, [("X -> 0", law) for law in laws])
    assert len(templates_of(Program(written, {})).templates) == 1
    powers = network({"X": 1}, [("X -> 0", engine.Formula(f"X ^ {j + 2}")) for j in range(3)])
    assert len(templates_of(Program(powers, {})).templates) == 3
