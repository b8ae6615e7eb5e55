"""Events of one patient on a continuous path: what triggers, waits and executes at one moment."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from engine.kernel.status import Status
from engine.kinetics.drift import environment, state_names
from engine.kinetics.evaluate import evaluate
from engine.methods.conditions import Atom, Atoms
from engine.methods.rate_equations import Entries, input_levels
from engine.network.events import Event
from engine.network.expressions import TIME, Expression
from engine.network.network import ReactionNetwork

Array = Any
QUEUE = 32  # executions that may wait at once
MAX_CASCADE = 1000  # executions at one time


class Fixed(NamedTuple):
    """What jumps do not change: one patient's numbers."""

    params: dict[str, Array]
    gains: Array  # what a unit bolus adds to each amplitude, (total,)


class Pending(NamedTuple):
    """Executions that wait: a slot each, (QUEUE,); event -1 is an empty slot."""

    event: Array
    due: Array
    values: Array  # computed when triggered, (QUEUE, largest number of assignments)


class Moment(NamedTuple):
    """Everything that a jump may change, at one time.

    Attributes:
        time: when.
        y: the state, and behind it what the method integrates besides.
        amplitudes: the inputs' levels and modes, as they are at `time`.
        signs: truth of each moving atom, (A,) bool.
        truths: truth of each trigger, (E,) bool.
        pending: executions that wait.
        status: of `Status`.
    """

    time: Array
    y: Array
    amplitudes: Array
    signs: Array
    truths: Array
    pending: Pending
    status: Array


class Events:
    """The events of a network and the atoms of their triggers, as functions of a `Moment`.

    Args:
        network: the network.
        inputs: where its inputs lie in the amplitudes.
        atoms: collects the triggers' atoms; others may add theirs before it is used.
    """

    def __init__(self, network: ReactionNetwork, inputs: Entries, atoms: Atoms) -> None:
        self.network, self.inputs, self.atoms = network, inputs, atoms
        self.names = state_names(network)
        self.triggers = [
            atoms.rewrite(event.trigger, f"event '{event.name}': its trigger")
            for event in network.events
        ]
        self._environment = environment(network)
        self._width = max((len(e.assignments) for e in network.events), default=0)

    def empty_queue(self) -> Pending:
        """Nothing waits."""
        nothing = jnp.full(QUEUE, -1), jnp.full(QUEUE, jnp.inf)
        return Pending(*nothing, jnp.zeros((QUEUE, self._width)))

    def values(self, fixed: Fixed, moment: Moment) -> dict[str, Array]:
        """What every name means now."""
        levels = input_levels(
            self.inputs, jnp.zeros_like(moment.amplitudes), moment.amplitudes, 0.0
        )
        state = moment.y[: len(self.names)]
        return self._environment(moment.time, state, fixed.params, levels)

    def differences(self, values: Mapping[str, Array]) -> Array:
        """Left minus right side of every moving atom, (A,)."""
        found = [number(atom.difference, values) for atom in self.atoms.moving]
        return jnp.stack(found) if found else jnp.zeros(0)

    def initial_signs(self, values: Mapping[str, Array]) -> Array:
        """Truth of every moving atom by its own comparison, (A,)."""
        found = [truth(atom.whole, values) for atom in self.atoms.moving]
        return jnp.stack(found) if found else jnp.zeros(0, bool)

    def next_time(self, fixed: Fixed, moment: Moment) -> Array:
        """The next moment of a timed atom or a waiting execution."""
        values = self.values(fixed, moment)
        roots = [_root(atom, values)[0] for atom in self.atoms.timed]
        times = jnp.stack([*roots, jnp.asarray(jnp.inf)])
        due = jnp.where(moment.pending.event >= 0, moment.pending.due, jnp.inf)
        ahead = jnp.where(times > moment.time, times, jnp.inf)
        return jnp.minimum(jnp.min(ahead), jnp.min(due))

    def with_atoms(self, moment: Moment, values: Mapping[str, Array]) -> dict[str, Array]:
        """The values with the truth of every atom."""
        found = dict(values)
        for atom in self.atoms.fixed:
            found[atom.name] = truth(atom.whole, values)
        for atom in self.atoms.timed:
            root, is_rising = _root(atom, values)
            # At its moment a timed atom takes its limit from the right.
            is_late = jnp.where(is_rising, moment.time >= root, moment.time < root)
            still = truth(atom.whole, values)
            is_above = is_late if atom.is_upper else ~is_late
            found[atom.name] = jnp.where(jnp.isfinite(root), is_above, still)
        for index, atom in enumerate(self.atoms.moving):
            found[atom.name] = moment.signs[index]
        return found

    def jumped(self, fixed: Fixed, before: Moment, after: Moment) -> Moment:
        """After a jump: a moving atom that jumped is compared anew, others keep their truth.

        One that has just been found at its root would otherwise be decided by rounding.
        """
        old = self.differences(self.values(fixed, before))
        values = self.values(fixed, after)
        is_same = self.differences(values) == old
        return after._replace(signs=jnp.where(is_same, after.signs, self.initial_signs(values)))

    def happen(self, fixed: Fixed, moment: Moment) -> Moment:
        """Queue what has just triggered and execute what is due, until nothing is."""
        if not self.network.events:
            return moment

        def is_going(state: tuple[Moment, Array, Array]) -> Array:
            _, is_busy, turn = state
            return is_busy & (turn < MAX_CASCADE)

        def turn(state: tuple[Moment, Array, Array]) -> tuple[Moment, Array, Array]:
            moment, is_busy = self._turn(fixed, state[0])
            return moment, is_busy, state[2] + 1

        begin = (moment, jnp.asarray(True), jnp.asarray(0))
        moment, is_busy, _ = lax.while_loop(is_going, turn, begin)
        return fail(moment, is_busy, Status.EVENT_CASCADE)

    def _turn(self, fixed: Fixed, moment: Moment) -> tuple[Moment, Array]:
        values = self.with_atoms(moment, self.values(fixed, moment))
        truths = jnp.stack([truth(trigger, values) for trigger in self.triggers])
        pending = moment.pending
        for index, event in enumerate(self.network.events):
            if not event.is_persistent:
                is_cancelled = (pending.event == index) & ~truths[index]
                pending = pending._replace(event=jnp.where(is_cancelled, -1, pending.event))
            is_new = truths[index] & ~moment.truths[index]
            moment = fail(moment, is_new & jnp.all(pending.event >= 0), Status.EVENT_QUEUE_OVERFLOW)
            pending = self._queued(index, event, is_new, moment.time, values, pending)
        chosen, is_any = self._chosen(pending, moment.time, values)
        moment = moment._replace(truths=truths, pending=pending)
        after = self._executed(fixed, moment, chosen, is_any, values)
        emptied = pending.event.at[chosen].set(jnp.where(is_any, -1, pending.event[chosen]))
        after = after._replace(pending=pending._replace(event=emptied))
        return self.jumped(fixed, moment, after), is_any

    def _queued(
        self,
        index: int,
        event: Event,
        is_new: Array,
        time: Array,
        values: Mapping[str, Array],
        pending: Pending,
    ) -> Pending:
        """The queue with one more execution in its first empty slot, where there is one."""
        slot = jnp.argmax(pending.event < 0)
        is_put = is_new & (pending.event[slot] < 0)
        delay = 0.0 if event.delay is None else jnp.maximum(number(event.delay, values), 0.0)
        stored = pending.values[slot]
        for place, expression in enumerate(event.assignments.values()):
            stored = stored.at[place].set(number(expression, values))
        return Pending(
            pending.event.at[slot].set(jnp.where(is_put, index, pending.event[slot])),
            pending.due.at[slot].set(jnp.where(is_put, time + delay, pending.due[slot])),
            pending.values.at[slot].set(jnp.where(is_put, stored, pending.values[slot])),
        )

    def _chosen(
        self, pending: Pending, time: Array, values: Mapping[str, Array]
    ) -> tuple[Array, Array]:
        """The slot that executes next: highest priority, then the network's order of events."""
        none = jnp.asarray(-jnp.inf)
        priorities = jnp.stack(
            [
                none if event.priority is None else number(event.priority, values)
                for event in self.network.events
            ]
        )
        is_due = (pending.event >= 0) & (pending.due <= time)
        priority = priorities[jnp.maximum(pending.event, 0)]
        best = jnp.max(jnp.where(is_due, priority, -jnp.inf))
        order = pending.event * QUEUE + jnp.arange(QUEUE)
        is_best = is_due & (priority == best)
        last = len(self.network.events) * QUEUE
        return jnp.argmin(jnp.where(is_best, order, last)), jnp.any(is_due)

    def _executed(
        self, fixed: Fixed, moment: Moment, slot: Array, is_any: Array, values: Mapping[str, Array]
    ) -> Moment:
        y, amplitudes = moment.y, moment.amplitudes
        places = {name: (start, end) for name, start, end in self.inputs}
        for index, event in enumerate(self.network.events):
            is_here = is_any & (moment.pending.event[slot] == index)
            for place, (target, expression) in enumerate(event.assignments.items()):
                value = number(expression, values)
                if event.uses_trigger_time_values:
                    value = moment.pending.values[slot, place]
                position = self.names.index(target)
                y = y.at[position].set(jnp.where(is_here, value, y[position]))
            for target, expression in event.doses.items():
                amount = jnp.where(is_here, number(expression, values), 0.0)
                if target in self.names:
                    y = y.at[self.names.index(target)].add(amount)
                    continue
                start, end = places[target]
                amplitudes = amplitudes.at[start:end].add(amount * fixed.gains[start:end])
        return moment._replace(y=y, amplitudes=amplitudes)


def fail(moment: Moment, is_failed: Array, status: Status) -> Moment:
    """The moment with a reason for the patient to end, unless there is one already."""
    is_first = is_failed & (moment.status == int(Status.COMPLETE))
    return moment._replace(status=jnp.where(is_first, int(status), moment.status))


def _root(atom: Atom, values: Mapping[str, Array]) -> tuple[Array, Array]:
    """When a timed atom's difference is 0, and whether it rises; infinite where it never is."""

    def difference(time: Array) -> Array:
        return number(atom.difference, {**values, TIME: time})

    rest, slope = jax.jvp(difference, (jnp.asarray(0.0),), (jnp.asarray(1.0),))
    return jnp.where(slope == 0, jnp.inf, -rest / jnp.where(slope == 0, 1.0, slope)), slope > 0


def number(expression: Expression, values: Mapping[str, Array]) -> Array:
    """A scalar float64."""
    return jnp.asarray(evaluate(expression, values, jnp, jnp.float64)).astype(jnp.float64)


def truth(expression: Expression, values: Mapping[str, Array]) -> Array:
    """A scalar boolean."""
    found = jnp.asarray(evaluate(expression, values, jnp, jnp.float64))
    return found if found.dtype == bool else found != 0
