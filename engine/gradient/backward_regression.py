r"""Backward regression: beliefs fitted cell by cell from trajectories that start everywhere.

In every cell a few thousand lanes start at states that a pilot visited and at states beyond them,
run to the middle of the next cell, and carry back what is believed there:

.. math:: V_k(x) = E[V_{k+1}(x_{k+1}) | x_k = x], \qquad V_K = f

(fitted value iteration; Munos & Szepesvari 2008, JMLR 9:815). Every critic that is fitted says what
form its belief has; all cells together cost one trajectory for every start.
"""

from dataclasses import replace

import numpy as np

from engine.dosing.dose import Dose
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments, another_key
from engine.gradient.belief import Belief
from engine.gradient.critic import (
    LearnedCritic,
    absorbing_condition,
    central,
    dose_times,
)
from engine.gradient.critic_sums import BELIEF
from engine.gradient.outcome import Outcome
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


class BackwardRegression:
    """One backward regression, for a typical patient.

    Args:
        name: of the critic, for messages.
        num_cells: cells in time, half of them graded towards the horizon.
        num_starts: trajectories that start in each cell.
        arguments: what is simulated.
        outcome: what is believed in.

    Attributes:
        visited: counts of pilot trajectories at the middle of every cell, (n, cells, S).
        is_probability: whether the outcome is 0 or 1.

    Raises:
        InvalidInput: laws that mention the time, or an outcome that is a function of an integral.
    """

    def __init__(
        self, name: str, num_cells: int, num_starts: int, arguments: Arguments, outcome: Outcome
    ) -> None:
        typical = replace(central(arguments), method=arguments.method)
        self.name, self.num_cells, self.outcome = name, num_cells, outcome
        self.network = typical.network
        _refuse_time(name, self.network)
        kinds = (TimeIntegral, Occupation, FiringCount)
        self.accrued: Tally | None = outcome.tally if isinstance(outcome.tally, kinds) else None
        if self.accrued is not None and outcome.function is not None:
            raise InvalidInput(
                f"{name}() follows the mean of a time integral or count, not a function of "
                "it; use engine.gradient.ScoreFunction(), or MeanFieldAdjoint()"
            )
        self.typical = typical
        self.params = resolve_parameters(self.network, typical.params)
        self.generator = np.random.default_rng([int(word) for word in typical.key])
        self.many = typical.with_patients(num_starts, another_key(typical.key, 1))
        self.vectors = np.array(
            [
                [self.network.changes(r).get(s, 0) for s in self.network.species_names]
                for r in self.network.reactions
            ]
        )
        self._pilot()

    def _pilot(self) -> None:
        """Where trajectories go: the counts at the middle of every cell."""
        few = replace(self.many, ts=np.array([self.typical.horizon]))
        found = few.run({"outcome": self.outcome.tally}, record=())
        rate = max(float(np.mean(found.num_events)), 1.0)
        start, end = self.typical.start, self.typical.horizon
        finest = FINEST_SHARE / rate
        half = self.num_cells // 2
        graded = end - (end - start) * np.geomspace(1.0, min(finest, 0.5), half + 1)
        even = np.linspace(start, end, self.num_cells - half + 1)
        stops = np.concatenate([graded[1:], even[1:], dose_times(self.typical), self.typical.ts])
        self.stops = _separated(np.unique(stops), (end - start) * finest / 2, start)
        edges = np.concatenate([[start], self.stops])
        self.middles = (edges[1:] + edges[:-1]) / 2
        path = replace(self.many, ts=np.append(self.middles, end))
        ensemble = path.run({"outcome": self.outcome.tally}, record=self.network.species_names)
        self.visited = ensemble.counts[:, :-1]
        self.results = ensemble.tallies["outcome"]
        self.condition = absorbing_condition(self.outcome, self.results)
        if self.condition is not None:
            self.is_probability = True
        elif self.accrued is None:
            values = self.outcome.values(self.results)
            self.is_probability = self.outcome.function is not None and bool(
                np.all((values == 0) | (values == 1))
            )
        else:
            self.is_probability = False

    def learned(self, belief: Belief) -> LearnedCritic:
        """Regress from the last cell to the first."""
        coefficients: list[np.ndarray] = []
        for k in range(len(self.stops) - 1, -1, -1):
            starts = self._starts(k)
            following = coefficients[-1] if coefficients else None
            targets = self._targets(k, starts, belief, following)
            coefficients.append(belief.fitted(starts, targets, following))
        table = np.stack(coefficients[::-1], axis=1)  # (coefficients, cells)
        believed = belief.expression(self.network.species_names)
        # What counts firings changes by more than the belief does.
        is_carried = not isinstance(self.accrued, FiringCount)
        return LearnedCritic(
            self.stops,
            self._changes(believed, BELIEF if is_carried else believed),
            tuple(belief.cells(table)),
            self.condition,
            3 * len(self.visited),
            belief.kind,
            believed if is_carried else None,
        )

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
                f"{self.name}(): the outcome looks at '{min(missing)}', which is not a count; use "
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

    def _targets(
        self, k: int, starts: np.ndarray, belief: Belief, following: np.ndarray | None
    ) -> np.ndarray:
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
            targets = belief.values(following, final)
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

    def _changes(self, belief: Expression, before: Expression) -> dict[str, Expression]:
        """The change by every reaction, of a belief that was `before`."""
        changes: dict[str, Expression] = {}
        for reaction in self.network.reactions:
            moved = self.network.changes(reaction)
            after = shifted(belief, moved)
            if self.condition is not None:
                after = call("piecewise", Number(1.0), shifted(self.condition, moved), after)
            change = call("sub", after, before)
            is_counted = isinstance(self.accrued, FiringCount) and reaction.name == str(
                self.accrued.expression
            )
            if is_counted:
                change = call("add", change, Number(1.0))
            if is_counted or after != belief:
                changes[reaction.name] = change
        return changes


def _refuse_time(name: str, network: ReactionNetwork) -> None:
    for reaction in network.reactions:
        if TIME in symbols(reaction.propensity):
            raise InvalidInput(
                f"{name}(): reaction '{reaction.name}' mentions 'time', and trajectories "
                "cannot start later; use engine.gradient.MeanFieldAdjoint() or ScoreFunction()"
            )


def _separated(stops: np.ndarray, least: float, start: float) -> np.ndarray:
    """As many stops, none of them close to the one before: such ones cut long cells instead."""
    kept = [stops[-1]]
    for stop in stops[-2::-1]:
        if kept[-1] - stop > least:
            kept.append(stop)
    found = np.array(kept[::-1])
    while len(found) < len(stops):
        edges = np.append(start, found)
        longest = int(np.argmax(np.diff(edges)))
        found = np.insert(found, longest, (edges[longest] + edges[longest + 1]) / 2)
    return found


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
