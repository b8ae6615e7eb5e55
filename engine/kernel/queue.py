"""SBML events in a lane: triggers, delays, priorities, persistence, rescue doses.

Between stops a lane only watches whether a trigger on counts has changed its truth; then it waits
for the end of its block, where everything here runs. Comparisons of time with a constant or a
variable ("atoms") become stops of the lane's clock, so that such events happen at exact times. At
the time of an atom a trigger takes its limit from the right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from engine.errors import InvalidInput
from engine.kernel import clock, random
from engine.kernel.status import Status
from engine.kinetics.evaluate import evaluate
from engine.kinetics.program import Program
from engine.network.events import Event
from engine.network.expressions import TIME, Call, Expression, Number, Symbol, call, symbols
from engine.network.network import ReactionNetwork

MAX_CASCADE = 1000


class Pending(NamedTuple):
    """Executions that are due later: Q slots of every lane.

    Attributes:
        event: which event, (Q, L) int32; -1 is an empty slot.
        high, low: execution time, (Q, L) float32 each.
        values: values computed when triggered, (A, Q, L) float32.
    """

    event: Array
    high: Array
    low: Array
    values: Array


class World(NamedTuple):
    """What executing an event changes."""

    counts: tuple[Array, ...]
    variables: tuple[Array, ...]
    amplitudes: tuple[Array, ...]


@dataclass(frozen=True)
class CompiledEvent:
    """An event with its parameter-only parts hoisted."""

    event: Event
    trigger: Expression
    assignments: Mapping[str, Expression]
    doses: Mapping[str, Expression]
    delay: Expression | None
    priority: Expression | None
    first_value: int
    is_watched: bool


class EventTable:
    """The events of a network, compiled against its program.

    Args:
        network: the network.
        program: collects the coefficients of triggers, delays and assignments.

    Raises:
        InvalidInput: a trigger that cannot be met at its exact time.
    """

    def __init__(self, network: ReactionNetwork, program: Program) -> None:
        self._network = network
        self._program = program
        self.atoms: list[Expression] = []
        self.events: list[CompiledEvent] = []
        self.num_values = 0
        for event in network.events:
            self.events.append(self._compiled(event))

    def __bool__(self) -> bool:
        return bool(self.events)

    def _compiled(self, event: Event) -> CompiledEvent:
        trigger = self._with_atoms(event.trigger, event.name)
        self._refuse_moving(trigger, event.name)
        hoist = self._program.hoist
        first = self.num_values
        assignments = {name: hoist(e) for name, e in event.assignments.items()}
        if event.uses_trigger_time_values:
            self.num_values += len(assignments)
        watched = {s.name for s in self._network.species} | self._species_rules()
        return CompiledEvent(
            event,
            hoist(trigger),
            assignments,
            {name: hoist(e) for name, e in event.doses.items()},
            None if event.delay is None else hoist(event.delay),
            None if event.priority is None else hoist(event.priority),
            first,
            bool(symbols(trigger) & watched),
        )

    def _species_rules(self) -> set[str]:
        dependent = {s.name for s in self._network.species}
        for name, rule in self._network.rules.items():
            if symbols(rule) & dependent:
                dependent.add(name)
        return dependent

    def _refuse_moving(self, trigger: Expression, name: str) -> None:
        moving = symbols(trigger) & self._program.moving
        if moving:
            raise InvalidInput(
                f"event '{name}': its trigger depends on '{min(moving)}' between events, where the "
                "exact method cannot find the moment it becomes true; compare time with a constant "
                "or a variable, or trigger on a count"
            )

    def _with_atoms(self, expression: Expression, name: str) -> Expression:
        """Comparisons of time with something fixed between stops, replaced by atom symbols."""
        if not isinstance(expression, Call):
            return expression
        if expression.function in ("lt", "le", "gt", "ge") and len(expression.arguments) == 2:
            slope, rest = _linear_in_time(call("sub", *expression.arguments))
            if slope and not symbols(rest) & self._moving_in_segment():
                root = call("div", call("neg", rest), Number(slope))
                atom = Symbol(f"_atom{self._atom_index(root)}")
                is_late = (expression.function in ("gt", "ge")) == (slope > 0)
                return atom if is_late else Call("not", (atom,))
        inner = tuple(self._with_atoms(a, name) for a in expression.arguments)
        return Call(expression.function, inner)

    def _moving_in_segment(self) -> set[str]:
        return self._species_rules() | set(self._program.moving)

    def _atom_index(self, root: Expression) -> int:
        hoisted = self._program.hoist(root)
        if hoisted not in self.atoms:
            self.atoms.append(hoisted)
        return self.atoms.index(hoisted)

    def atom_values(self, passed: tuple[Array, ...]) -> dict[str, Array]:
        """The atoms' truths by name, for an environment."""
        return {f"_atom{i}": value for i, value in enumerate(passed)}

    # In the lane.

    def start(self, num_lanes: int, queue_size: int) -> tuple[tuple[Array, ...], Pending]:
        """Truths just before time 0, and an empty queue."""
        truths = tuple(
            jnp.full((num_lanes,), compiled.event.is_initially_true) for compiled in self.events
        )
        size = queue_size if self.events else 0
        shape = (size, num_lanes)
        never = jnp.full(shape, jnp.inf, jnp.float32)
        empty = jnp.full(shape, -1, jnp.int32)
        values = jnp.zeros((self.num_values, *shape), jnp.float32)
        return truths, Pending(empty, never, jnp.zeros(shape, jnp.float32), values)

    def watched_changed(
        self, values: Mapping[str, Array], truths: tuple[Array, ...]
    ) -> Array | None:
        """Whether a trigger on counts differs from its truth at the segment's start."""
        changed: Array | None = None
        for compiled, truth in zip(self.events, truths, strict=True):
            if compiled.is_watched:
                differs = _truth(compiled.trigger, values) != truth
                changed = differs if changed is None else changed | differs
        return changed

    def roots(self, values: Mapping[str, Array], low: Mapping[str, Array]) -> list[clock.Time]:
        """Times of the atoms; a root that is a number or one coefficient keeps its low word."""
        return [exact_value(root, values, low) for root in self.atoms]

    def have_come(self, now: clock.Time, roots: list[clock.Time]) -> tuple[Array, ...]:
        """Whether each atom's time has come; one that depends on a variable is a float32."""
        variables = {v.name for v in self._network.variables}
        return tuple(
            clock.has_come(
                now,
                root,
                clock.SINGLE_ROUNDING if symbols(atom) & variables else clock.PAIR_ROUNDING,
            )
            for atom, root in zip(self.atoms, roots, strict=True)
        )

    def truths(self, values: Mapping[str, Array]) -> tuple[Array, ...]:
        """Every trigger's truth in an environment."""
        return tuple(_truth(compiled.trigger, values) for compiled in self.events)


def exact_value(
    expression: Expression, values: Mapping[str, Array], low: Mapping[str, Array]
) -> clock.Time:
    """A time: with its low word where it is a number or one coefficient."""
    high = jnp.asarray(evaluate(expression, values, jnp, jnp.float32))
    rest = low.get(expression.name) if isinstance(expression, Symbol) else None
    if isinstance(expression, Number):
        rest = jnp.asarray(clock.split(np.asarray(expression.value))[1])
    return clock.Time(high, jnp.zeros_like(high) if rest is None else rest)


def _truth(expression: Expression, values: Mapping[str, Array]) -> Array:
    value = jnp.asarray(evaluate(expression, values, jnp, jnp.float32))
    return value if value.dtype == bool else value != 0


def _linear_in_time(expression: Expression) -> tuple[float, Expression]:
    """(slope, rest) of slope * time + rest, the slope a number; (0, _) where it is not that."""
    nothing = Number(0.0)
    if expression == Symbol(TIME):
        return 1.0, nothing
    if TIME not in symbols(expression) or not isinstance(expression, Call):
        return 0.0, expression
    parts = [_linear_in_time(a) for a in expression.arguments]
    if any(TIME in symbols(rest) for _, rest in parts):
        return 0.0, expression
    match expression.function:
        case "add":
            return sum(s for s, _ in parts), call("add", *(rest for _, rest in parts))
        case "sub":
            return parts[0][0] - parts[1][0], call("sub", parts[0][1], parts[1][1])
        case "neg":
            return -parts[0][0], call("neg", parts[0][1])
        case "mul" if isinstance(expression.arguments[0], Number) and len(parts) == 2:
            factor = expression.arguments[0]
            return factor.value * parts[1][0], call("mul", factor, parts[1][1])
        case "div" if isinstance(expression.arguments[1], Number) and expression.arguments[1].value:
            divisor = expression.arguments[1]
            return parts[0][0] / divisor.value, call("div", parts[0][1], divisor)
    return 0.0, expression


def push(
    pending: Pending, event: int, is_new: Array, due: clock.Time, values: list[Array], first: int
) -> tuple[Pending, Array]:
    """Put an execution in each lane's first empty slot; returns where there was none."""
    empty = pending.event < 0
    slots = jnp.arange(pending.event.shape[0], dtype=jnp.int32)[:, None]
    first_empty = jnp.argmax(empty, axis=0).astype(jnp.int32)
    chosen = (first_empty[None, :] == slots) & is_new[None, :] & empty
    stored = pending.values
    for offset, value in enumerate(values):
        row = jnp.broadcast_to(value, is_new.shape)[None, :]
        stored = stored.at[first + offset].set(jnp.where(chosen, row, stored[first + offset]))
    updated = Pending(
        jnp.where(chosen, jnp.int32(event), pending.event),
        jnp.where(chosen, due.high[None, :], pending.high),
        jnp.where(chosen, due.low[None, :], pending.low),
        stored,
    )
    return updated, is_new & ~jnp.any(empty, axis=0)


def choose(
    pending: Pending,
    is_due: Array,
    priorities: list[Array],
    tie_key: tuple[Array, Array],
    turn: Array,
) -> Array:
    """One-hot (Q, L): of the due executions the one with the highest priority, ties at random."""
    slots = jnp.arange(pending.event.shape[0], dtype=jnp.uint32)[:, None]
    order = jnp.full(pending.event.shape, -jnp.inf, jnp.float32)
    for event, priority in enumerate(priorities):
        order = jnp.where(pending.event == event, priority[None, :], order)
    best = jnp.max(jnp.where(is_due, order, -jnp.inf), axis=0)
    is_best = is_due & (order == best[None, :])
    counter = jnp.broadcast_to(slots + turn.astype(jnp.uint32) * jnp.uint32(1024), order.shape)
    keys = (tie_key[0][None, :], tie_key[1][None, :])
    tie, _ = random.threefry(keys, (counter, jnp.zeros_like(counter)))
    ticket = jnp.where(is_best, tie >> jnp.uint32(1), jnp.uint32(0)).astype(jnp.int32)
    winner = jnp.argmax(jnp.where(is_best, ticket, jnp.int32(-1)), axis=0)
    return (slots.astype(jnp.int32) == winner.astype(jnp.int32)[None, :]) & is_due


LARGEST_REAL = 1e30


def as_count(value: Array, is_real: bool) -> tuple[Array, Array]:
    """A float as a count, and whether it is none: negative, fractional or beyond 2**24.

    A species that the method treats as a real number takes any finite number from 0 on.
    """
    if is_real:
        is_bad = ~((value >= 0) & (value < jnp.float32(LARGEST_REAL)))
        return jnp.where(is_bad, jnp.float32(0), value), is_bad
    nearest = jnp.round(value)
    # A few units in the last place: an expression of parameters may round.
    tolerance = jnp.maximum(jnp.float32(2.0**-21) * jnp.abs(value), jnp.float32(1e-5))
    is_whole = jnp.abs(value - nearest) <= tolerance
    is_bad = ~(is_whole & (nearest >= 0) & (nearest <= jnp.float32(2**24)))
    return jnp.where(is_bad, jnp.float32(0), nearest).astype(jnp.int32), is_bad


def combine(status: Array, is_bad: Array, reason: Status) -> Array:
    """The status with a reason where something went wrong first."""
    fresh = is_bad & (status == jnp.int32(Status.COMPLETE))
    return jnp.where(fresh, jnp.int32(reason), status)
