"""Reactions with a tiny share of the total: selected as often as they should, never lost."""

import numpy as np
from scipy import stats

from engine import FiringCount
from engine.methods.direct import RARE
from tests.simulation import network, run
from tests.statistics import assert_holds_and_twin_fails, check_distribution, check_poisson


def test_shares_on_both_sides_of_the_threshold() -> None:
    """Propensities from 1 to 2**-20 of the total in one network: each fires its Poisson number."""
    shares = 2.0 ** -np.array([1, 8, 11, 11.999, 12, 12.001, 13, 16, 20])
    fast = 4e4
    names = [f"r{i}" for i in range(len(shares))]
    model = network(
        {"X": 0}, [("0 -> X", float(fast * s), n) for n, s in zip(names, shares, strict=True)]
    )
    num, end = 600, 20.0
    e = run(model, [end], num, seed=2, tallies={n: FiringCount(n) for n in names})
    for name, share in zip(names, shares, strict=True):
        mean = fast * share * end * num
        assert check_poisson(float(e.tallies[name].sum()), mean), name
    # A rare one alone, to 2%: 2^-12.001 of the total fires 1.2e5 times.
    mean = fast * shares[5] * end * num
    assert_holds_and_twin_fails(
        lambda m: check_poisson(float(e.tallies["r5"].sum()), m), mean, 1.02 * mean
    )
    total = sum(e.tallies[name] for name in names)
    np.testing.assert_array_equal(total, e["X"][:, 0])
    np.testing.assert_array_equal(total, e.num_events)


def test_a_storm_of_one_in_a_billion() -> None:
    """Beside 1e9 of anything, 1 of another: the law of the rare count, not of the common one.

    A float32 cumulative sum would lose it. Catalytic pairs keep the fast one cheap: a burst of 2e5
    events has a chance of 2e-4 of the rare one, which 4e4 patients of few events cannot show; so
    the rare share is 1e-6 here, and the selection of 1e-9 is counted draw by draw in
    `test_random.py`.
    """
    model = network({"X": 0, "R": 0}, [("0 -> X", 1e6, "fast"), ("0 -> R", 1.0, "rare")])
    e = run(model, [1.0], 400, seed=3, record=("R",))
    pmf = stats.poisson.pmf(np.arange(30), 1.0)
    assert check_distribution(e["R"][:, 0], pmf)
    assert not check_distribution(e["R"][:, 0], stats.poisson.pmf(np.arange(30), 2.0))


def test_everything_becomes_rare_at_once() -> None:
    """The total falls by 1e6 within one event: the next reaction is found all the same."""
    model = network(
        {"A": 1, "B": 0, "C": 0, "D": 0},
        [("A -> B", 1e6), ("B -> C", 1.0), ("B -> D", 3.0), ("0 -> A", 0.0)],
    )
    assert RARE > 1e-6
    e = run(model, [0.3, 40.0], 20_000, seed=4)
    assert np.all(e["C"][:, 1] + e["D"][:, 1] == 1)
    assert_holds_and_twin_fails(
        lambda p: check_distribution(e["C"][:, 1], np.array([1 - p, p])), 0.25, 0.275
    )
    gone = 1 - np.exp(-4 * 0.3)
    done = e["C"][:, 0] + e["D"][:, 0]
    assert check_distribution(done, np.array([1 - gone, gone]))
