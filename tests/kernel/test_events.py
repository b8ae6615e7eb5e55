"""SBML events in the kernel: when they fire, in which order, with which values."""

import numpy as np
import pytest
from scipy import stats

import engine
from engine import Dose, Event, Formula, MassAction, Regimen, Status
from tests import exact
from tests.simulation import network, run, still
from tests.statistics import (
    assert_holds_and_twin_fails,
    check_continuous,
    check_distribution,
    check_means,
    check_proportion,
    check_variances,
)

Array = np.ndarray


def quiet(species: list[str], events: list[Event], **parts: object) -> engine.ReactionNetwork:
    """Nothing but events changes the species."""
    return engine.ReactionNetwork(
        {**dict.fromkeys(species, 0), "idle": 0}, **still(events=events, **parts)
    )


# Deterministic: what happens when. Each species has its events to itself.

TIMED = [
    Event("on_grid", "time >= 1", {"on_grid": "1"}),
    Event("strict", "time > 1", {"strict": "1"}),  # from the right: at 1 as well
    Event("off_grid", "time >= 0.777", {"off_grid": "1"}),
    Event("decimal", "time >= 0.3", {"decimal": "1"}),
    Event("by_parameter", "3 * time - late >= 0", {"by_parameter": "1"}),
    Event("reversed_sides", "1 <= time", {"reversed_sides": "1"}),
    Event("falls", "time < 1", {"falls": "1"}, is_initially_true=False),
    Event("falls_seen", "time < 1", {"falls_seen": "1"}, is_initially_true=True),
    Event("at_zero", "time >= 0", {"at_zero": "1"}, is_initially_true=False),
    Event("not_at_zero", "time >= 0", {"not_at_zero": "1"}, is_initially_true=True),
    Event("state_at_zero", "untouched < 1", {"state_at_zero": "1"}, is_initially_true=False),
    Event("window_end", "not (time > 0.5 and time < 1.5)", {"window_end": "1"}),
    Event("either", "time >= 1.25 or time < 0.25", {"either": "either + 1"}),
    Event("delayed", "time >= 1", {"delayed": "1"}, delay="0.3"),
    Event("delayed_parameter", "time >= 1", {"delayed_parameter": "1"}, delay="late / 10"),
    Event("again", "time >= next", {"again": "again + 1", "next": "next + 0.1"}),
    Event("persists", "time >= 0.2 and time < 0.4", {"persists": "1"}, delay="0.5"),
    Event(
        "cancelled",
        "time >= 0.2 and time < 0.4",
        {"cancelled": "1"},
        delay="0.5",
        is_persistent=False,
    ),
]
FIRED = {  # first save time at which the new value stands, None for never
    "on_grid": 1.0,
    "strict": 1.0,
    "off_grid": 0.9,
    "decimal": 0.3,
    "by_parameter": 1.0,
    "reversed_sides": 1.0,
    "falls": 0.0,
    "falls_seen": None,
    "at_zero": 0.0,
    "not_at_zero": None,
    "state_at_zero": 0.0,
    "window_end": 1.5,
    "delayed": 1.3,
    "delayed_parameter": 1.3,
    "persists": 0.7,
    "cancelled": None,
}
TS = np.array([0.0, 0.3, 0.5, 0.7, 0.77, 0.9, 1.0, 1.3, 1.5, 2.0])


@pytest.fixture(scope="module")
def timed() -> engine.Ensemble:
    model = quiet(
        [*FIRED, "either", "again", "untouched"],
        TIMED,
        parameters={"late": 3.0},
        variables={"next": 0.1},
    )
    return run(model, TS, 2)


@pytest.mark.parametrize("name", FIRED)
def test_time_triggers(timed: engine.Ensemble, name: str) -> None:
    when = np.inf if FIRED[name] is None else FIRED[name]
    np.testing.assert_array_equal(timed[name][0], (when <= TS).astype(int))
    np.testing.assert_array_equal(timed[name][0], timed[name][1])


def test_a_trigger_of_two_times(timed: engine.Ensemble) -> None:
    """True before 0.25 (initially true: silent) and again from 1.25."""
    np.testing.assert_array_equal(timed["either"][0], (TS >= 1.25).astype(int))


def test_a_trigger_that_moves_on(timed: engine.Ensemble) -> None:
    """`time >= next`, next := next + 0.1, from 0.1: at every save time all that is due."""
    expected = np.floor(TS / 0.1 + 1e-6)
    np.testing.assert_array_equal(timed["again"][0], expected)


ORDERED = [
    # From 0 at time 1: high first (x -> 2 x + 1), then low (x -> x + 10): 11, not 21.
    Event("low", "time >= 1", {"a": "a + 10"}, priority="1", uses_trigger_time_values=False),
    Event("high", "time >= 1", {"a": "2 * a + 1"}, priority="2", uses_trigger_time_values=False),
    # Without a priority last.
    Event("none", "time >= 2", {"b": "b + 10"}, uses_trigger_time_values=False),
    Event("some", "time >= 2", {"b": "2 * b + 1"}, priority="-5", uses_trigger_time_values=False),
    # A priority is computed when its turn comes: the first to go raises that of the last.
    Event("c1", "time >= 3", {"c": "10 * c + 1", "boost": "5"}, priority="9"),
    Event("c2", "time >= 3", {"c": "10 * c + 2"}, priority="2", uses_trigger_time_values=False),
    Event("c3", "time >= 3", {"c": "10 * c + 3"}, priority="boost", uses_trigger_time_values=False),
    # One that cancels another which is due at the same time.
    Event("killer", "time >= 4", {"flag": "1"}, priority="2"),
    Event("victim", "time >= 4 and flag < 1", {"d": "1"}, priority="1", is_persistent=False),
    Event("survivor", "time >= 4 and flag < 1", {"e": "1"}, priority="1", is_persistent=True),
    # A chain at one time: f1 makes f2 true, f2 makes f3 true.
    Event("f3", "f >= 2", {"f": "3"}),
    Event("f2", "f >= 1", {"f": "2"}),
    Event("f1", "time >= 5", {"f": "1"}),
    # Values of the trigger's time and of the execution's.
    Event("then", "time >= 6", {"g": "source"}, delay="1"),
    Event("now", "time >= 6", {"h": "source"}, delay="1", uses_trigger_time_values=False),
    Event("change", "time >= 6.5", {"source": "7"}),
    # Two values in one event are both from before it.
    Event("swap", "time >= 8", {"p": "q", "q": "p"}),
    # The same event pending three times, its trigger going up and down.
    Event("pulse", "rem(k, 2) > 0", {"n": "n + 1"}, delay="0.5", uses_trigger_time_values=False),
    Event("up", "time >= tick", {"k": "k + 1", "tick": "tick + 0.0625"}),
]


def test_order_and_values() -> None:
    names = ["a", "b", "c", "d", "e", "f", "g", "h", "n", "k"]
    model = engine.ReactionNetwork(
        {**dict.fromkeys(names, 0), "source": 3, "p": 1, "q": 2, "idle": 0},
        **still(events=ORDERED, variables={"boost": 0.0, "flag": 0.0, "tick": 9.0}),
    )
    e = run(model, [8.5, 9.4, 9.6, 9.8, 10.0], 3)
    expected = dict(a=11, b=11, c=132, d=0, e=1, f=3, g=3, h=7, p=2, q=1, source=7)
    for name, value in expected.items():
        np.testing.assert_array_equal(e[name][:, -1], value, err_msg=name)
    np.testing.assert_array_equal(e["k"][0], [0, 7, 10, 13, 17])
    # Odd k begins at 9, 9.125, 9.25, ...; each is executed half a time unit later.
    np.testing.assert_array_equal(e["n"][0], [0, 0, 1, 3, 5])


def test_ties_are_ordered_at_random() -> None:
    """All six orders of three equal events are equally likely, two of four slots used."""
    events = [
        Event(f"e{i}", "time >= 1", {"x": f"10 * x + {i}"}, uses_trigger_time_values=False)
        for i in (1, 2, 3)
    ]
    events += [
        Event(
            f"f{i}",
            "time >= 1",
            {"y": f"10 * y + {i}"},
            priority="3",
            delay="0.5",
            uses_trigger_time_values=False,
        )
        for i in (1, 2)
    ]
    e = run(quiet(["x", "y"], events), [2.0], 12_000, seed=3)
    orders, seen = np.unique(e["x"], return_counts=True)
    np.testing.assert_array_equal(orders, [123, 132, 213, 231, 312, 321])
    codes = np.searchsorted(orders, e["x"][:, 0])
    assert_holds_and_twin_fails(
        lambda p: check_distribution(codes, p),
        np.full(6, 1 / 6),
        np.array([1, 1, 1, 1, 1, 1.35]) / 6.35,
    )
    assert seen.sum() == 12_000
    first = int(np.sum(e["y"] == 12))
    assert first + int(np.sum(e["y"] == 21)) == 12_000
    assert_holds_and_twin_fails(lambda p: check_proportion(first, 12_000, p), 0.5, 0.53)


# State triggers: exact in distribution.


def test_state_trigger_renews() -> None:
    """X counts to 8 at rate 10 and is set back: renewals with Gamma(8, 10) between them."""
    model = network(
        {"X": 0, "N": 0},
        [("0 -> X", 10.0)],
        events=[Event("reset", "X >= 8", {"X": "0", "N": "N + 1"})],
    )
    end, num = 3.0, 20_000
    e = run(model, [1.1, end], num, seed=8, tallies={"first": engine.FirstPassage("N >= 1")})
    assert e["X"].max() == 7
    arrivals = 8 * e["N"][:, 1] + e["X"][:, 1]  # the Poisson process underneath
    counts = np.arange(120)
    assert_holds_and_twin_fails(
        lambda m: check_distribution(arrivals, stats.poisson.pmf(counts, m)),
        10.0 * end,
        10.0 * end * 1.05,
    )
    first = e.tallies["first"]

    def check(rate: float):
        gamma = stats.gamma(8, scale=1 / rate)
        return check_continuous(first, lambda t: np.where(np.isinf(t), 1.0, gamma.cdf(t)))

    # A Gamma(8) time moves by 5% when the rate does; the cdf by 0.05.
    assert_holds_and_twin_fails(check, 10.0, 10.5)


def test_state_trigger_with_delay() -> None:
    """X := 0 a time 0.5 after X reaches 5; arrivals go on until then."""
    model = network(
        {"X": 0, "N": 0, "seen": 0},
        [("0 -> X", 10.0)],
        events=[
            Event("late", "X >= 5", {"N": "X"}, delay="0.5", uses_trigger_time_values=False),
            Event("then", "X >= 5", {"seen": "X"}, delay="0.5"),
        ],
    )
    e = run(model, [20.0], 8000, seed=9)
    np.testing.assert_array_equal(e["seen"], 5)
    pmf = np.concatenate([np.zeros(5), stats.poisson.pmf(np.arange(60), 5.0)])
    other = np.concatenate([np.zeros(5), stats.poisson.pmf(np.arange(60), 5.0 * 1.08)])
    assert_holds_and_twin_fails(lambda p: check_distribution(e["N"][:, 0], p), pmf, other)


def test_events_among_rare_reactions() -> None:
    """Triggers on a species whose reactions are 1e-5 of the total, beside a fast one."""
    model = network(
        {"R": 0, "F": 0, "N": 0},
        [("0 -> R", 1.0), ("0 -> F", 3e4)],
        events=[Event("reset", "R >= 2", {"R": "0", "N": "N + 1"})],
    )
    e = run(model, [1.0, 2.0], 1000, seed=10)
    total = 2 * e["N"][:, 1] + e["R"][:, 1]
    assert_holds_and_twin_fails(
        lambda m: check_distribution(total, stats.poisson.pmf(np.arange(40), m)), 2.0, 2.5
    )
    assert e["R"].max() == 1
    assert check_means(e["F"][:, 1], 6e4, np.sqrt(6e4))


def test_variables_in_rate_laws() -> None:
    """An event doubles a rate at 0.9: immigration-death in two phases."""
    model = network(
        {"X": 0},
        [("0 -> X", MassAction("k")), ("X -> 0", 0.5)],
        variables={"k": 10.0},
        events=[Event("up", "time >= 0.9", {"k": "2 * k"})],
    )
    num = 12_000
    e = run(model, [0.8, 2.0], num, seed=11)

    def mean(factor: float) -> float:
        return exact.inhomogeneous_immigration_death_moments(
            lambda s: 20.0 * factor if s >= 0.9 else 10.0, 0.5, 2.0, breakpoints=(0.9,)
        ).mean

    assert_holds_and_twin_fails(
        lambda m: check_means(e["X"][:, 1], m, np.sqrt(m)), mean(1.0), mean(1.03)
    )
    assert check_variances(e["X"][:, 1], mean(1.0))
    np.testing.assert_array_equal(e["k"], np.broadcast_to([[10.0, 20.0]], (num, 2)))


def test_a_trigger_on_a_rule_and_on_an_infusion() -> None:
    """Levels that move at stops only may be watched; rules of counts always."""
    model = network(
        {"X": 0, "n": 0, "m": 0},
        [("0 -> X", 20.0)],
        inputs=["pump"],
        assignment_rules={"big": "X >= 10"},
        events=[
            Event("rule", "big", {"n": "X"}),
            Event("pump_on", "pump > 1", {"m": "m + 1"}),
        ],
    )
    e = run(
        model,
        [0.4, 6.0],
        200,
        inputs={"pump": engine.dosing.pharmacokinetics.InfusionRate()},
        regimen=Regimen(
            [Dose(2.0, 0.5, into="pump", duration=1.0), Dose(9.0, 2.0, into="pump", duration=3.0)]
        ),
    )
    np.testing.assert_array_equal(e["n"][:, 1], 10)
    np.testing.assert_array_equal(e["m"][0], [0, 2])


# Rescue doses.


def test_rescue_dose() -> None:
    """A drug given when X reaches 6 kills the survivors: the phases are independent.

    X arrives at rate 8 until then (no death); the drug, given once, adds deaths at k D(t). With
    the time of rescue recorded, what is left after it is a sum over arrivals before and after.
    """
    ka, ke, volume, amount, kill = 2.0, 0.7, 2.0, 6.0, 0.5
    model = network(
        {"X": 0},
        [("0 -> X", 8.0), ("X -> 0", Formula("kill * D * X"))],
        parameters={"kill": kill},
        variables={"given": 0.0},
        inputs=["D"],
        events=[Event("rescue", "X >= 6", {"given": "1"}, doses={"D": f"{amount} * (1 - given)"})],
    )
    num, end = 8000, 3.0
    e = run(
        model,
        [end],
        num,
        seed=12,
        inputs={"D": engine.OneCompartment(ke * volume, volume, absorption=ka)},
        tallies={"when": engine.FirstPassage("given > 0"), "auc": engine.TimeIntegral("D")},
    )
    when = e.tallies["when"]

    def area(a: Array, b: Array) -> Array:
        """int_a^b of the concentration, times since the dose."""
        scale = amount / volume * ka / (ka - ke)
        one = (np.exp(-ke * a) - np.exp(-ke * b)) / ke
        two = (np.exp(-ka * a) - np.exp(-ka * b)) / ka
        return scale * (one - two)

    # Every patient's exposure is what follows from its own time of rescue.
    since = np.where(np.isfinite(when), end - when, 0.0)
    np.testing.assert_allclose(e.tallies["auc"], area(0.0 * since, since), rtol=2e-5, atol=2e-5)
    gamma = stats.gamma(6, scale=1 / 8.0)
    assert_holds_and_twin_fails(
        lambda rate: check_continuous(
            np.where(when > end, np.inf, when),
            lambda t: np.where(np.isinf(t), 1.0, stats.gamma(6, scale=1 / rate).cdf(t)),
        ),
        8.0,
        8.5,
    )
    assert gamma.cdf(end) > 0.999
    # Given when, X(end) has mean 6 p(0) + 8 int p(s) ds, p(s) = exp(-kill area(s, end)).
    chosen = np.isfinite(when)
    nodes, weights = np.polynomial.legendre.leggauss(40)

    def residual(wrong: float) -> Array:
        tau = since[chosen]
        s = tau[:, None] * (nodes + 1) / 2
        alive = np.exp(-wrong * kill * area(s, tau[:, None]))
        later = 8.0 * (alive * weights).sum(axis=1) * tau / 2
        return e["X"][chosen, 0] - 6 * np.exp(-wrong * kill * area(0.0 * tau, tau)) - later

    assert_holds_and_twin_fails(lambda w: check_means(residual(w), 0.0), 1.0, 1.05)


def test_rescue_into_a_species() -> None:
    model = network(
        {"X": 0, "R": 0},
        [("0 -> X", 10.0)],
        events=[
            Event("give", "X >= 3", doses={"R": "2 * X + 1"}),
            Event("t", "time >= 9", doses={"R": "5"}),
        ],
    )
    e = run(model, [8.0, 9.0], 50)
    np.testing.assert_array_equal(e["R"], np.broadcast_to([[7, 12]], (50, 2)))


# Failures are a status.


def failing(events: list[Event], method: engine.Direct | None = None, **parts: object) -> Array:
    model = network({"X": 0, "Y": 0}, [("0 -> X", 10.0)], events=events, **parts)
    e = run(model, [0.5, 2.0, 10.0], 4, method=method, is_failure_raised=False)
    assert np.all(e["X"][:, 0] >= 0)  # the save times before it are kept
    assert np.all(e["X"][:, -1] == -1)
    assert len(np.unique(e.status)) == 1
    with pytest.raises(engine.SimulationFailed, match="patient 0, 1, 2, 3"):
        run(model, [0.5, 2.0, 10.0], 4, method=method)
    return e.status


def test_cascade_without_end() -> None:
    events = [
        Event("a", "time >= 1", {"Y": "1"}),
        Event("b", "Y > 0.5", {"Y": "0"}),
        Event("c", "Y < 0.5", {"Y": "1"}),
    ]
    assert failing(events)[0] == Status.EVENT_CASCADE


def test_long_cascade_that_ends() -> None:
    events = [Event("a", "time >= 1 and rem(Y, 2) < 1 and Y < 500", {"Y": "Y + 1"})]
    events += [Event("b", "time >= 1 and rem(Y, 2) > 0 and Y < 500", {"Y": "Y + 1"})]
    model = network({"X": 0, "Y": 0}, [("0 -> X", 10.0)], events=events)
    e = run(model, [0.5, 2.0], 2)
    np.testing.assert_array_equal(e["Y"], [[0, 500], [0, 500]])


def test_queue_overflow() -> None:
    events = [Event("a", "rem(X, 2) > 0", {"Y": "Y + 1"}, delay="50")]
    assert failing(events, engine.Direct(queue_size=4))[0] == Status.EVENT_QUEUE_OVERFLOW


def test_assignments_that_are_no_counts() -> None:
    values = np.array([2.5, -1.0, 60000.5, 1e9, np.inf, 3.0])
    model = network(
        {"X": 0, "Y": 0},
        [("0 -> X", 10.0)],
        events=[Event("a", "time >= 1", {"Y": "value / (X - X + divisor)"})],
        parameters={"value": 0.0, "divisor": 1.0},
    )
    params = {"value": np.where(np.isinf(values), 1.0, values), "divisor": 1.0 * ~np.isinf(values)}
    e = run(model, [0.5, 2.0], values.size, params=params, is_failure_raised=False)
    np.testing.assert_array_equal(e.status, [Status.INVALID_ASSIGNMENT] * 5 + [Status.COMPLETE])
    np.testing.assert_array_equal(e["Y"], [[0, -1]] * 5 + [[0, 3]])
    with pytest.raises(engine.SimulationFailed, match="patient 0, 1, 2, 3, 4 an event assigned"):
        run(model, [0.5, 2.0], values.size, params=params)


@pytest.mark.full
def test_delays_and_variables_that_are_no_numbers() -> None:
    """A negative or undefined delay, and a variable set to NaN, end the lane with a status."""
    for delay, value, status in (
        ("0.5", "2", Status.COMPLETE),
        ("v - 2", "2", Status.INVALID_ASSIGNMENT),
        ("log(v - 2)", "2", Status.INVALID_ASSIGNMENT),
        ("0.5", "log(v - 2)", Status.INVALID_ASSIGNMENT),
    ):
        model = network(
            {"X": 0},
            [("0 -> X", 1.0)],
            variables={"v": 1.0},
            events=[Event("late", "time >= 1", {"v": value}, delay=delay)],
        )
        assert run(model, [3.0], 1, is_failure_raised=False).status[0] == status


def test_assignments_round_what_floating_point_left() -> None:
    """0.1 * 30 is not 3 in float32; whole numbers of parameters still are."""
    events = [Event("a", "time >= 1", {"Y": "share * 30", "X": "floor(7.9)"})]
    model = network({"X": 0, "Y": 0}, [("0 -> Y", 0.0)], events=events, parameters={"share": 0.1})
    np.testing.assert_array_equal(run(model, [2.0]).counts, [[[7, 3]]])


def test_a_failed_lane_is_left_alone() -> None:
    """Neither doses nor events nor saves follow a failure; tallies and others go on."""
    model = network(
        {"X": 5, "Y": 0},
        [("X -> 0", Formula("v * 20"))],  # does not vanish without X
        variables={"v": 1.0},
        events=[Event("late", "time >= 5", {"Y": "1"})],
    )
    e = run(
        model,
        [0.001, 4.0, 6.0],
        3,
        x0={"X": [5, 100_000, 5]},
        regimen=Regimen(Dose(50, 4.0, into="X")),
        is_failure_raised=False,
    )
    np.testing.assert_array_equal(e.status, [3, 0, 3])
    np.testing.assert_array_equal(e.counts[[0, 2], 1:], -1)
    np.testing.assert_array_equal(e["Y"][1], [0, 0, 1])
    assert "reaction 'r0'" in e.failures[0] and "X=0" in e.failures[0]


# What cannot be met at its exact time is refused by name.


@pytest.mark.parametrize(
    "trigger, named",
    [
        ("D > 3", "'D'"),
        ("X * time > 3", "'time'"),
        ("sin(time) > 0.5", "'time'"),
        ("time > X", "'time'"),
        ("level > 3", "'level'"),
    ],
)
def test_moving_triggers_are_refused(trigger: str, named: str) -> None:
    model = network(
        {"X": 0},
        [("0 -> X", 1.0)],
        inputs=["D"],
        assignment_rules={"level": "2 * D"},
        events=[Event("e", trigger, {"X": "0"})],
    )
    with pytest.raises(engine.InvalidInput, match=f"event 'e'.*{named}"):
        run(model, [1.0], inputs={"D": engine.OneCompartment(1.0, 1.0)})


def test_rescue_into_what_takes_no_bolus_is_refused() -> None:
    model = network(
        {"X": 0},
        [("0 -> X", Formula("D"))],
        inputs=["D"],
        events=[Event("e", "X > 3", doses={"D": "1"})],
    )
    for level in (engine.ConstantLevel(1.0), engine.OneCompartment(1, 1, engine.ZeroOrder(2.0))):
        with pytest.raises(engine.InvalidInput, match="event 'e' doses 'D'"):
            run(model, [1.0], inputs={"D": level})
