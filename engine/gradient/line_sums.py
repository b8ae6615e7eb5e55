r"""The sums of the martingale critic where the belief is a line in time between two stops.

There V(x, t) = sum_i lambda_i x_i with lambda_i = l_i + b_i tau, tau the time since the middle of
the cell. If parameters only scale reactions (see `combinations`) and nothing moves the rates
a_j = k_j s_j(x) between events, all that is wanted of the stretch between two stops, in which
nothing else changes the counts, follows from how often every reaction fired, N_j, and from two
moments of every shape s,

    S = int s dt        and        R = int s r dt,    r the time to go to the stop.

With v_ij the change of species i by reaction j, L = tau_end S - R, and Delta x_i = sum_j v_ij N_j,

    Lambda_j = N_j - k_j S,        B_j = k_j sum_i v_ij (l_i S + b_i L),
    M = sum_i (l_i Delta x_i + b_i (tau_begin Delta x_i + x_i (tau_end - tau_begin) - int x_i dt))
        - sum_j B_j,

the last by parts, with x_i at the stop. Reactions of one shape share its moments, and no step looks
at the belief: on a cascade of six reactions a step took 2.1 times as long with the sums of
`critic_sums`, 1.7 with these.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.gradient.combinations import Combined, fixed_names, scaling
from engine.gradient.directions import Direction
from engine.gradient.stretches import moves
from engine.kernel.model import cell_name
from engine.kernel.tallies import Interval, Jump, Observe, State, Stop
from engine.kinetics.hoisting import separated
from engine.network.derivatives import ONE, without_rules
from engine.network.expressions import TIME, Expression, Symbol
from engine.network.network import ReactionNetwork


@dataclass(frozen=True)
class Line:
    """What is believed of a molecule of a species: symbols of numbers of the cell.

    Attributes:
        species: its name.
        level: l.
        slope: b.
    """

    species: str
    level: Expression
    slope: Expression


@dataclass(frozen=True, eq=False)
class Lines:
    """A belief that is a line in every cell of time.

    Attributes:
        species: those that it looks at, S of them.
        levels: l of each in every cell, (S, cells).
        slopes: b of each, (S, cells).
        middles: of the cells, on a lane's clock, (cells,).
        events: expected in every cell, (cells,).
        counted: the reaction whose firings are the outcome, if they are.
    """

    species: tuple[str, ...]
    levels: np.ndarray
    slopes: np.ndarray
    middles: np.ndarray
    events: np.ndarray
    counted: str | None = None

    @property
    def cells(self) -> tuple[np.ndarray, ...]:
        """The numbers of every cell, as `of_species` and `middle` mention them."""
        return (*self.levels, *self.slopes, self.middles)

    @property
    def of_species(self) -> tuple[Line, ...]:
        """The line of every species."""
        number = len(self.species)
        return tuple(
            Line(name, Symbol(cell_name(i)), Symbol(cell_name(number + i)))
            for i, name in enumerate(self.species)
        )

    @property
    def middle(self) -> Expression:
        """The symbol of the middle."""
        return Symbol(cell_name(2 * len(self.species)))


@dataclass(frozen=True)
class Firing:
    """A reaction whose firings are counted.

    Attributes:
        name: of the reaction.
        scale: k_j.
        shape: s_j.
        changes: the species of the belief that it changes, and v_ij.
        is_outcome: whether its firings are the outcome.
    """

    name: str
    scale: Expression
    shape: Expression
    changes: tuple[tuple[str, int], ...]
    is_outcome: bool


# Moments of n steps in float32 are off by (n / 2^23)^2 / 24 of themselves, as increments are
# rounded to what the sum can tell apart: for n = 5e4 that is a thousandth of Lambda's deviation.
MOST_FIRINGS, MOST_EXPECTED = 50_000.0, 10_000.0

Look = Callable[[Expression], Array]


class Stretch(NamedTuple):
    """What happened between two stops.

    Attributes:
        fired: N of every reaction.
        areas: S of every shape.
        later: L of every shape that has one.
        elapsed: its length.
        begin: tau where it began.
    """

    fired: Mapping[str, Array]
    areas: Mapping[Expression, Array]
    later: Mapping[Expression, Array]
    elapsed: Array
    begin: Array


@dataclass(frozen=True)
class LineSums(Combined):
    """Firings and moments between two stops, and at a stop what they make of the sums.

    The sums are every Lambda_j that is wanted, M, and every B_j that is wanted, each a float32: at
    a stop they grow by what is small already. The moments are not, and are off by n^2 / 4e15 of
    themselves after n steps: where more fired than `MOST_FIRINGS`, M is no number.

    Args:
        firings: the reactions that are counted.
        shapes: s, none of them 1.
        timed: those whose second moment is needed too.
        lines: of the species of the belief.
        middle: symbol of the middle of the cell.
        scored: the reactions whose Lambda_j is wanted.
        expected: the reactions whose B_j is wanted.
    """

    firings: tuple[Firing, ...] = field(kw_only=True)
    shapes: tuple[Expression, ...] = field(kw_only=True)
    timed: tuple[Expression, ...] = field(kw_only=True)
    lines: tuple[Line, ...] = field(kw_only=True)
    middle: Expression = field(kw_only=True)
    scored: tuple[str, ...] = field(kw_only=True)
    expected: tuple[str, ...] = field(kw_only=True)

    # Nothing is added over a stretch of no length, nor where no reaction fired.
    is_additive = True

    @property
    def num_sums(self) -> int:
        """How many sums there are."""
        return len(self.scored) + 1 + len(self.expected)

    @property
    def work(self) -> int:
        """How many words a step changes."""
        return len(self.firings) + len(self.shapes) + len(self.timed)

    @property
    def num_words(self) -> int:  # type: ignore[override]
        """One for every sum, and what steps change."""
        return self.num_sums + self.work

    def expressions(self, network: ReactionNetwork) -> tuple[Expression, ...]:
        """Shapes, and what is looked at where a lane stops."""
        return tuple(self._parts)

    @property
    def _parts(self) -> dict[Expression, int]:
        lines = [part for i in self.lines for part in (Symbol(i.species), i.level, i.slope)]
        scales = [one.scale for one in self.firings]
        every = dict.fromkeys([*self.shapes, *scales, *lines, self.middle])
        return {part: position for position, part in enumerate(every)}

    def _look(self, values: Mapping[str, Array], observe: Observe) -> Look:
        """The value of an expression there."""
        position = self._parts
        return lambda part: observe(values, position[part])

    def is_looking(self, is_affine: bool) -> bool:
        """No: nothing that is observed moves between events."""
        return False

    def start(self, jump: Jump, observe: Observe) -> State:
        """Zero."""
        nothing = jnp.zeros_like(jump.time)
        fired = (jnp.zeros(jump.time.shape, jnp.int32),) * len(self.firings)
        moments = (nothing,) * (len(self.shapes) + len(self.timed))
        return (*(nothing,) * self.num_sums, *fired, *moments)

    def interval(self, state: State, interval: Interval, observe: Observe) -> State:
        """Add to the moments of every shape."""
        elapsed = interval.elapsed
        to_go = elapsed * (interval.left + jnp.float32(0.5) * elapsed)
        to_go = interval.share(jnp.where(elapsed > 0, to_go, jnp.float32(0)))
        look = self._look(interval.at(0.0), observe)
        gained = [
            *(look(shape) * elapsed for shape in self.shapes),
            *(look(shape) * to_go for shape in self.timed),
        ]
        first = self.num_words - len(gained)
        pairs = zip(state[first:], gained, strict=True)
        return (*state[:first], *(moment + gain for moment, gain in pairs))

    def jump(self, state: State, jump: Jump, observe: Observe) -> State:
        """Count the reaction that fired."""
        if jump.fired is None:
            return state
        result = list(state)
        for position, one in enumerate(self.firings, start=self.num_sums):
            result[position] = state[position] + jump.fired(one.name).astype(jnp.int32)
        return tuple(result)

    def settle(self, state: State, stop: Stop, observe: Observe) -> State:
        """Add what the stretch since the last stop comes to, and begin another."""
        sums, pending = state[: self.num_sums], state[self.num_sums :]
        gained = self._gained(pending, stop, self._look(stop.values, observe))
        settled = (total + gain for total, gain in zip(sums, gained, strict=True))
        return (*settled, *map(jnp.zeros_like, pending))

    def _gained(self, pending: State, stop: Stop, look: Look) -> list[Array]:
        """What every sum gained between two stops."""
        stretch = self._stretch(pending, stop, look)
        beliefs = {one.name: self._belief(one, stretch, look) for one in self.firings}
        scored = [one for one in self.firings if one.name in self.scored]
        martingale = self._telescoped(stretch, look) - sum(beliefs.values())
        num_fired = sum(stretch.fired.values())
        return [
            *(
                stretch.fired[one.name] - look(one.scale) * stretch.areas[one.shape]
                for one in scored
            ),
            jnp.where(num_fired > MOST_FIRINGS, jnp.float32(jnp.nan), martingale),
            *(beliefs[name] for name in self.expected),
        ]

    def _stretch(self, pending: State, stop: Stop, look: Look) -> Stretch:
        """The words that steps changed, by name."""
        words, elapsed = iter(pending), stop.elapsed
        fired = {one.name: next(words).astype(jnp.float32) for one in self.firings}
        areas: dict[Expression, Array] = {ONE: elapsed}
        areas |= {shape: next(words) for shape in self.shapes}
        to_go: dict[Expression, Array] = {ONE: jnp.float32(0.5) * elapsed * elapsed}
        to_go |= {shape: next(words) - stop.left * areas[shape] for shape in self.timed}
        end = stop.values[TIME] - look(self.middle)
        later = {shape: end * areas[shape] - moment for shape, moment in to_go.items()}
        return Stretch(fired, areas, later, elapsed, end - elapsed)

    def _belief(self, one: Firing, stretch: Stretch, look: Look) -> Array:
        """B of a reaction."""
        area = stretch.areas[one.shape]
        found = area if one.is_outcome else jnp.zeros_like(area)
        for line in self.lines:
            if change := dict(one.changes).get(line.species):
                moved = look(line.level) * area + look(line.slope) * stretch.later[one.shape]
                found = found + jnp.float32(change) * moved
        return look(one.scale) * found

    def _telescoped(self, stretch: Stretch, look: Look) -> Array:
        """What firings changed the belief and the outcome by."""
        found = jnp.zeros_like(stretch.elapsed)
        for one in self.firings:
            if one.is_outcome:
                found = found + stretch.fired[one.name]
        for line in self.lines:
            moved, count = jnp.zeros_like(found), Symbol(line.species)
            for one in self.firings:
                if change := dict(one.changes).get(line.species):
                    moved = moved + jnp.float32(change) * stretch.fired[one.name]
            beyond = look(count) * stretch.elapsed - stretch.areas[count]
            by_parts = look(line.slope) * (stretch.begin * moved + beyond)
            found = found + (look(line.level) * moved + by_parts)
        return found

    def result(self, words: np.ndarray) -> np.ndarray:
        """The sums, (n, num_sums) float64."""
        sums = np.ascontiguousarray(words[:, : self.num_sums])
        return sums.view(np.float32).astype(np.float64)


def line_sums(
    network: ReactionNetwork, lines: Lines, directions: Sequence[Direction]
) -> LineSums | None:
    """The tally for a belief of lines; None where a direction does not only scale reactions.

    Nor is there one where the time or an input moves a rate, or too much happens in a cell. Nothing
    but the network's reactions may change its counts between two stops.
    """
    if lines.events.max() > MOST_EXPECTED:
        return None
    factors = scaling(network, directions)
    if len(factors) < len(directions) or moves(network, ONE):
        return None
    weights = [factors[direction.label] for direction in directions]
    wanted = {name for one in weights for name in one}
    firings = [one for one in _firings(network, lines) if one.name in wanted or _is_believed(one)]
    scored = [one.name for one in firings if one.name in wanted]
    expected = [one.name for one in firings if one.name in wanted and _is_believed(one)]
    timed = dict.fromkeys(one.shape for one in firings if one.changes)
    shapes = dict.fromkeys([*timed, *(one.shape for one in firings), *map(Symbol, lines.species)])
    # M stands between the Lambda_j and the B_j.
    whole, first = len(scored), len(scored) + 1
    return LineSums(
        firings=tuple(firings),
        shapes=tuple(shape for shape in shapes if shape != ONE),
        timed=tuple(shape for shape in timed if shape != ONE),
        lines=lines.of_species,
        middle=lines.middle,
        scored=tuple(scored),
        expected=tuple(expected),
        combinations=(
            *(tuple((scored.index(name), w) for name, w in one.items()) for one in weights),
            ((whole, ONE),),
            *(
                tuple((first + expected.index(n), w) for n, w in one.items() if n in expected)
                for one in weights
            ),
        ),
    )


def _firings(network: ReactionNetwork, lines: Lines) -> list[Firing]:
    """Every reaction."""
    fixed, found = fixed_names(network), []
    for reaction in network.reactions:
        scale, shape = separated(without_rules(network.rules, reaction.propensity), fixed)
        moved = network.changes(reaction)
        changes = tuple((name, moved[name]) for name in lines.species if moved.get(name))
        is_outcome = reaction.name == lines.counted
        found.append(Firing(reaction.name, scale, shape, changes, is_outcome))
    return found


def _is_believed(firing: Firing) -> bool:
    """Whether the reaction changes the belief."""
    return bool(firing.changes) or firing.is_outcome
