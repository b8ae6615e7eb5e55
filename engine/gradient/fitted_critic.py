r"""A critic fitted backwards in time, from trajectories that start everywhere.

In every cell a few thousand lanes start at states that a pilot visited and at states beyond them,
run to the middle of the next cell, and carry back what is believed there:

.. math:: V_k(x) = E[V_{k+1}(x_{k+1}) | x_k = x], \qquad V_K = f

(fitted value iteration; Munos & Szepesvari 2008, JMLR 9:815). For a probability the belief is the
logistic function of a polynomial in the counts, otherwise the polynomial itself. All cells together
cost one trajectory for every start.
"""

from dataclasses import dataclass, replace

import numpy as np

from engine.dosing.dose import Dose
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments, another_key
from engine.gradient.critic import (
    Critic,
    LearnedCritic,
    absorbing_condition,
    central,
    dose_times,
)
from engine.gradient.outcome import Outcome
from engine.gradient.polynomials import Basis, fit_least_squares, fit_logistic
from engine.kernel.model import cell_name
from engine.kernel.tallies import (
    FinalValue,
    FiringCount,
    FirstPassage,
    Occupation,
    Tally,
    TimeIntegral,
)
from engine.kinetics.drift import resolve_parameters
from engine.kinetics.evaluate import evaluate
from engine.network.derivatives import shifted
from engine.network.expressions import TIME, Expression, Number, call, symbols
from engine.network.network import ReactionNetwork

# How far the last cell's length is below the mean time between events.
FINEST_SHARE = 0.1


@dataclass(frozen=True)
class FittedCritic(Critic):
    """Polynomial or logistic belief by backward regression.

    For a function of a `FinalValue`, a threshold on a `Maximum` or `Minimum`, a `FirstPassage`
    before the horizon, or the mean of a `TimeIntegral`, an `Occupation` or a `FiringCount`. Use for
    thresholds in networks of a few species. Cannot do networks whose laws mention the time.

    Args:
        num_cells: cells in time, half of them graded towards the horizon; default 24.
        num_starts: trajectories that start in each cell; default 4000.
        degree: of the polynomial; default 4 with one species, 3 with two, 2 with more, and 2 where
            the belief is the polynomial itself.

    References:
        Munos & Szepesvari 2008, JMLR 9:815.
    """

    num_cells: int = 24
    num_starts: int = 4000
    degree: int | None = None

    def learn(self, arguments: Arguments, outcome: Outcome) -> LearnedCritic:
        """Pilot, starts, and regressions from the horizon back."""
        fit = _Fit(self, replace(central(arguments), method=arguments.method), outcome)
        return fit.learned()


class _Fit:
    """One backward regression."""

    def __init__(self, options: FittedCritic, typical: Arguments, outcome: Outcome) -> None:
        self.options, self.outcome = options, outcome
        self.network = typical.network
        _refuse_time(self.network)
        kinds = (TimeIntegral, Occupation, FiringCount)
        self.accrued: Tally | None = outcome.tally if isinstance(outcome.tally, kinds) else None
        if self.accrued is not None and outcome.function is not None:
            raise InvalidInput(
                "FittedCritic() follows the mean of a time integral or count, not a function of "
                "it; use engine.gradient.ScoreFunction(), or MeanFieldAdjoint()"
            )
        self.typical = typical
        self.params = resolve_parameters(self.network, typical.params)
        self.generator = np.random.default_rng([int(word) for word in typical.key])
        number = options.num_starts
        self.many = typical.with_patients(number, another_key(typical.key, 1))
        self.vectors = np.array(
            [
                [self.network.changes(r).get(s, 0) for s in self.network.species_names]
                for r in self.network.reactions
            ]
        )
        self._pilot()
        degree = options.degree or (None if self.is_logistic else 2)
        self.basis = Basis.of(self.visited.reshape(-1, self.visited.shape[2]), degree)

    def _pilot(self) -> None:
        """Where trajectories go: the counts at the middle of every cell."""
        few = replace(self.many, ts=np.array([self.typical.horizon]))
        found = few.run({"outcome": self.outcome.tally}, record=())
        rate = max(float(np.mean(found.num_events)), 1.0)
        start, end = self.typical.start, self.typical.horizon
        finest = FINEST_SHARE / rate
        half = self.options.num_cells // 2
        graded = end - (end - start) * np.geomspace(1.0, min(finest, 0.5), half + 1)
        even = np.linspace(start, end, self.options.num_cells - half + 1)
        stops = np.concatenate([graded[1:], even[1:], dose_times(self.typical), self.typical.ts])
        self.stops = _separated(np.unique(stops), (end - start) * finest / 2)
        edges = np.concatenate([[start], self.stops])
        self.middles = (edges[1:] + edges[:-1]) / 2
        path = replace(self.many, ts=np.append(self.middles, end))
        ensemble = path.run({"outcome": self.outcome.tally}, record=self.network.species_names)
        self.visited = ensemble.counts[:, :-1]
        self.results = ensemble.tallies["outcome"]
        self.condition = absorbing_condition(self.outcome, self.results)
        if self.condition is not None:
            self.is_logistic = True
        elif self.accrued is None:
            values = self.outcome.values(self.results)
            self.is_logistic = self.outcome.function is not None and bool(
                np.all((values == 0) | (values == 1))
            )
        else:
            self.is_logistic = False

    def learned(self) -> LearnedCritic:
        """Regress from the last cell to the first."""
        coefficients: list[np.ndarray] = []
        following: np.ndarray | None = None
        for k in range(len(self.stops) - 1, -1, -1):
            starts = self._starts(k)
            targets = self._targets(k, starts, following)
            design = self.basis.design(starts)
            fit = fit_logistic if self.is_logistic else fit_least_squares
            following = fit(design, targets, following)
            coefficients.append(following)
        table = np.stack(coefficients[::-1], axis=1)  # (monomials, cells)
        cells = [*table, *(np.full(len(self.stops), v) for v in self.basis.numbers)]
        changes = self._changes()
        kind = "fitted logistic" if self.is_logistic else "fitted polynomial"
        return LearnedCritic(
            self.stops, changes, tuple(cells), self.condition, 3 * len(self.visited), kind
        )

    def _belief(self, coefficients: np.ndarray, counts: np.ndarray) -> np.ndarray:
        value = self.basis.design(counts) @ coefficients
        return 1.0 / (1.0 + np.exp(-np.clip(value, -500, 500))) if self.is_logistic else value

    def _is_over(self, counts: np.ndarray) -> np.ndarray:
        if self.condition is None:
            return np.zeros(len(counts), bool)
        return np.asarray(self._on_counts(self.condition, counts)) != 0

    def _on_counts(self, expression: Expression, counts: np.ndarray) -> np.ndarray:
        values = {
            n: c.astype(np.float64)
            for n, c in zip(self.network.species_names, counts.T, strict=True)
        }
        values |= self.params
        for name, rule in self.network.rules.items():
            if symbols(rule) <= values.keys():
                values[name] = evaluate(rule, values, np, np.float64)
        missing = symbols(expression) - values.keys()
        if missing:
            raise InvalidInput(
                f"FittedCritic(): the outcome looks at '{min(missing)}', which is not a count; use "
                "engine.gradient.ScoreFunction()"
            )
        found = evaluate(expression, values, np, np.float64)
        return np.broadcast_to(np.asarray(found), (len(counts),))

    def _starts(self, k: int) -> np.ndarray:
        """Half where the pilot was at that time, half further out along the reactions."""
        number = len(self.visited)
        here = self.visited[:, k]
        wander = self.visited[self.generator.permutation(number), :]
        anywhere = wander[np.arange(number), self.generator.integers(0, wander.shape[1], number)]
        vectors = self.vectors
        spread = np.maximum(self.visited.reshape(-1, here.shape[1]).std(axis=0), 1.0)
        for _ in range(2):
            chosen = self.generator.integers(0, len(vectors), number)
            step = vectors[chosen]
            size = np.max(np.abs(step) / spread, axis=1)
            reach = 2.0 / np.where(size > 0, size, 1.0)
            times = np.rint(reach * np.abs(self.generator.standard_normal(number)))
            moved = anywhere + times[:, np.newaxis].astype(np.int64) * step
            is_fine = np.all(moved >= 0, axis=1)
            anywhere = np.where(is_fine[:, np.newaxis], moved, anywhere)
        if self.condition is not None:
            anywhere = self._towards(anywhere, vectors)
        half = number // 2
        starts = np.concatenate([here[:half], anywhere[half:]])
        is_over = self._is_over(starts)
        return np.where(is_over[:, np.newaxis], here[self.generator.permutation(number)], starts)

    def _towards(self, counts: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Some states moved along one reaction to anywhere before the condition holds."""
        assert self.condition is not None
        for vector in vectors:
            if not np.any(vector):
                continue
            longest = np.zeros(len(counts), np.int64)
            for reach in 2 ** np.arange(20):
                moved = counts + reach * vector
                is_fine = np.all(moved >= 0, axis=1) & ~self._is_over(moved)
                longest = np.where(is_fine, reach, longest)
            is_bounded = longest < 2**19
            share = self.generator.random(len(counts))
            times = np.where(is_bounded, np.rint(2 * longest * share), 0).astype(np.int64)
            moved = counts + times[:, np.newaxis] * vector
            is_fine = np.all(moved >= 0, axis=1) & ~self._is_over(moved)
            is_taken = is_fine & (self.generator.random(len(counts)) < 0.5)
            counts = np.where(is_taken[:, np.newaxis], moved, counts)
        return counts

    def _targets(self, k: int, starts: np.ndarray, following: np.ndarray | None) -> np.ndarray:
        """What is believed, or known, where the trajectories of a cell end."""
        is_last = k == len(self.stops) - 1
        end = self.typical.horizon if is_last else self.middles[k + 1]
        tallies: dict[str, Tally] = {}
        if self.condition is not None:
            tallies["passage"] = FirstPassage(self.condition)
        if self.accrued is not None:
            tallies["accrued"] = self.accrued
        counts = {n: starts[:, i] for i, n in enumerate(self.network.species_names)}
        begun = replace(
            self.many,
            start=float(self.middles[k]),
            ts=np.array([end]),
            x0=counts,
            key=another_key(self.typical.key, 1000 + k),
        ).with_regimens(_later(self.many, float(self.middles[k])))
        ensemble = begun.run(tallies, record=self.network.species_names)
        final = ensemble.counts[:, -1]
        if following is None or is_last:
            targets = self._known(final)
        else:
            targets = self._belief(following, final)
        if self.condition is not None:
            targets = np.where(np.isfinite(ensemble.tallies["passage"]), 1.0, targets)
        if self.accrued is not None:
            targets = targets + ensemble.tallies["accrued"]
        return np.asarray(targets)

    def _known(self, counts: np.ndarray) -> np.ndarray:
        """The outcome of a trajectory that has reached the horizon without it being decided."""
        if self.condition is not None or self.accrued is not None:
            return np.zeros(len(counts))
        assert isinstance(self.outcome.tally, FinalValue)
        return self.outcome.values(self._on_counts(self.outcome.tally.expression, counts))

    def _changes(self) -> dict[str, Expression]:
        """The change of the belief by every reaction, as an expression."""
        number = len(self.basis.exponents)
        names = self.network.species_names
        belief = self.basis.expression(names, [cell_name(i) for i in range(number)], number)
        if self.is_logistic:
            one = Number(1.0)
            belief = call("div", one, call("add", one, call("exp", call("neg", belief))))
        changes: dict[str, Expression] = {}
        for reaction in self.network.reactions:
            moved = self.network.changes(reaction)
            after = shifted(belief, moved)
            if self.condition is not None:
                after = call("piecewise", Number(1.0), shifted(self.condition, moved), after)
            change = call("sub", after, belief)
            is_counted = isinstance(self.accrued, FiringCount) and reaction.name == str(
                self.accrued.expression
            )
            if is_counted:
                change = call("add", change, Number(1.0))
            if is_counted or after != belief:
                changes[reaction.name] = change
        return changes


def _refuse_time(network: ReactionNetwork) -> None:
    for reaction in network.reactions:
        if TIME in symbols(reaction.propensity):
            raise InvalidInput(
                f"FittedCritic(): reaction '{reaction.name}' mentions 'time', and trajectories "
                "cannot start later; use engine.gradient.MeanFieldAdjoint() or ScoreFunction()"
            )


def _separated(stops: np.ndarray, least: float) -> np.ndarray:
    """Stops without those that lie almost on the one before; the last stays."""
    kept = [stops[-1]]
    for stop in stops[-2::-1]:
        if kept[-1] - stop > least:
            kept.append(stop)
    return np.array(kept[::-1])


def _later(arguments: Arguments, start: float) -> list[Regimen]:
    """Regimens without the molecules that went into species before a start: counts hold them."""
    kind_of = arguments.network.kind_of
    return [
        Regimen(
            tuple(
                one
                for one in regimen.expanded()
                if not isinstance(one, Dose) or kind_of(one.into) != "species" or one.time >= start
            )
        )
        for regimen in arguments.regimens
    ]
