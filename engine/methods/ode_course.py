"""The rate equations of a patient to whom things happen: events, troughs and tallies on the way.

The path is cut into stretches that end where something happens: a dose, a waiting execution, a
comparison of time, the horizon; and, found by a root search on the solver's interpolation, where a
comparison of the state or the slope of a maximum's expression changes sign. A stretch in which one
is found is solved again up to it, so that the state there is the solver's and not interpolated,
and one Newton step in time takes out what the interpolation was off.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import optimistix
from jax import lax

from engine.kernel.status import Status
from engine.kernel.tallies import Tally
from engine.kinetics.drift import state_names
from engine.methods.conditions import Atoms
from engine.methods.ode_events import Events, Fixed, Moment, fail, number
from engine.methods.ode_tallies import Tallies, WithIntegrals, integrands
from engine.methods.rate_equations import (
    Entries,
    Plan,
    Rows,
    Tolerances,
    controller_of,
    input_levels,
    solver_of,
)
from engine.network.network import ReactionNetwork

Array = Any
MAX_STOPS = 100_000


@dataclass(frozen=True)
class Task:
    """What is solved: everything but numbers."""

    method: Tolerances
    network: ReactionNetwork
    inputs: Entries
    tallies: tuple[Tally, ...]
    is_trough_saved: bool


class Course(NamedTuple):
    """One patient on the way.

    Attributes:
        moment: the state after everything that happened at its time.
        dose: index of the next dose.
        rises: whether each turning expression rises, (X,) bool.
        values: what is saved, (T, Y).
        tallies: (K,).
        target: where a change of sign was found ahead; infinite while searching.
        changed: what changes its sign at the target, (A + X,) bool.
        num_stops: stretches solved.
    """

    moment: Moment
    dose: Array
    rises: Array
    values: Array
    tallies: Array
    target: Array
    changed: Array
    num_stops: Array


@partial(jax.jit, static_argnums=0)
def solve_chunk(task: Task, ts: Array, rows: Rows) -> tuple[Array, Array, Array]:
    """The saved values (N, T, Y), statuses (N,) and tallies (N, K) of a chunk of patients."""
    return jax.vmap(partial(_solve_patient, task, ts))(rows)


def _solve_patient(task: Task, ts: Array, rows: Rows) -> tuple[Array, Array, Array]:
    path = _Path(task, ts, rows)

    def is_going(course: Course) -> Array:
        is_sound = course.moment.status == int(Status.COMPLETE)
        return is_sound & (course.moment.time < ts[-1]) & (course.num_stops < MAX_STOPS)

    course = lax.while_loop(is_going, path.stretch, path.start())
    moment = fail(course.moment, course.num_stops >= MAX_STOPS, Status.SOLVER_FAILED)
    is_finite = jnp.all(jnp.isfinite(course.values))
    moment = fail(moment, ~is_finite, Status.SOLVER_FAILED)
    num = len(state_names(task.network))
    tallies = path.tallies.finish(course.tallies, course.moment.y[num:])
    return course.values, moment.status, tallies


class _Path:
    """The functions of a patient's path; numbers are traced, the rest is fixed."""

    def __init__(self, task: Task, ts: Array, rows: Rows) -> None:
        self.task, self.ts, self.rows = task, ts, rows
        self.plan = _without_null_dose(rows.plan)
        self.fixed = Fixed(rows.params, rows.plan.gains)
        atoms = Atoms(task.network)
        self.events = Events(task.network, task.inputs, atoms)
        self.tallies = Tallies(task.tallies, atoms)
        self.num_atoms = len(atoms.moving)
        self.derivative = WithIntegrals(integrands(task.tallies))(task.network)

    def start(self) -> Course:
        """Time 0, after what happens there."""
        rows, events = self.rows, self.task.network.events
        moment = Moment(
            jnp.asarray(0.0),
            rows.y0,
            rows.plan.initial,
            jnp.zeros(self.num_atoms, bool),
            jnp.asarray([event.is_initially_true for event in events], bool),
            self.events.empty_queue(),
            jnp.asarray(int(Status.COMPLETE)),
        )
        moment = moment._replace(
            signs=self.events.initial_signs(self.events.values(self.fixed, moment))
        )
        course = Course(
            moment,
            jnp.asarray(0),
            jnp.zeros(len(self.tallies.turning), bool),
            jnp.broadcast_to(rows.y0, (len(self.ts), len(rows.y0))),
            self.tallies.start(),
            jnp.asarray(jnp.inf),
            jnp.zeros(self.num_atoms + len(self.tallies.turning), bool),
            jnp.asarray(0),
        )
        course = self._happen(course, is_first=True)
        return course._replace(rises=self._slopes(course.moment) >= 0)

    def stretch(self, course: Course) -> Course:
        """Solve to the next stop, or find that something changes its sign before it."""
        moment = course.moment
        stop = jnp.minimum(self.ts[-1], self.plan.times[course.dose])
        stop = jnp.minimum(stop, self.events.next_time(self.fixed, moment))
        stop = jnp.minimum(stop, course.target)
        margins = self._margins(moment, moment.signs, course.rises)
        # What has just changed its sign may still be a rounding error short of it. It is asked to
        # go further than where it starts, or it would hide all other changes.
        floor = jnp.minimum(margins - 1.0, 0.0)
        solution = self._solved(course, stop, floor)
        saved, end = solution.ys[0], solution.ys[1][0]
        course = course._replace(num_stops=course.num_stops + 1)
        arrived = self._arrived(course, stop, end, saved)
        # Not `solution.result`: it also tells of the search for a change of sign, even another
        # patient's.
        reached = solution.ts[1][0] >= stop - 1e-9 * (stop - moment.time)
        is_failed = ~reached | ~jnp.all(jnp.isfinite(end))
        if not course.changed.shape[0]:
            return arrived._replace(moment=fail(arrived.moment, is_failed, Status.SOLVER_FAILED))
        is_found = solution.event_mask
        here = self._moved(moment, solution.ts[1][0], end)
        left = self._margins(here, moment.signs, course.rises) - floor
        # Two that change within the tolerance of each other change together.
        found = course._replace(target=here.time, changed=left <= jnp.min(left) + 0.5)
        course = jax.tree.map(partial(jnp.where, is_found), found, arrived)
        is_failed = is_failed & ~is_found
        return course._replace(moment=fail(course.moment, is_failed, Status.SOLVER_FAILED))

    def _solved(self, course: Course, stop: Array, floor: Array) -> Any:
        """Diffrax's solution to the stop, or to where a margin is used up before it."""
        moment, plan = course.moment, self.plan

        def field(t: Array, y: Array, args: Course) -> Array:
            del args
            elapsed = t - moment.time
            levels = input_levels(self.task.inputs, plan.rates, moment.amplitudes, elapsed)
            return self.derivative(t, y, self.rows.params, levels)

        def margin(t: Array, y: Array, args: Course, **_: Any) -> Array:
            here = self._moved(args.moment, t, y)
            margins = self._margins(here, args.moment.signs, args.rises)
            return jnp.where(jnp.isinf(args.target), jnp.min(margins - floor), 1.0)

        # 200 halvings leave nothing of a step; the result of the search itself is not looked at.
        search: Any = optimistix.Bisection(1e-14, 1e-14, flip=True)  # type: ignore[call-arg]
        event = diffrax.Event(margin, search, direction=False)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver_of(self.task.method, self.task.network),
            moment.time,
            stop,
            None,
            moment.y,
            args=course,
            saveat=diffrax.SaveAt(
                subs=[
                    diffrax.SubSaveAt(ts=jnp.clip(self.ts, moment.time, stop)),
                    diffrax.SubSaveAt(t1=True),
                ]
            ),
            stepsize_controller=controller_of(self.task.method, self.ts),
            max_steps=self.task.method.max_steps,
            throw=False,
            event=event if course.changed.shape[0] else None,
        )

    def _moved(self, moment: Moment, time: Array, y: Array) -> Moment:
        """The moment at a later time of its stretch."""
        decay = jnp.exp(-self.plan.rates * (time - moment.time))
        return moment._replace(time=time, y=y, amplitudes=moment.amplitudes * decay)

    def _margins(self, here: Moment, signs: Array, rises: Array) -> Array:
        """What is left before each moving atom or slope is beyond its change of sign, (A + X,).

        In units of the tolerance, and 1 at the change itself: rounding around it is no change.
        """
        method, values = self.task.method, self.events.values(self.fixed, here)
        margins = []
        for index, atom in enumerate(self.events.atoms.moving):
            left, right = number(atom.left, values), number(atom.right, values)
            slack = method.atol + method.rtol * (jnp.abs(left) + jnp.abs(right))
            is_above = signs[index] if atom.is_upper else ~signs[index]
            margins.append(jnp.where(is_above, left - right, right - left) / slack + 1.0)
        slopes = self._slopes(here)
        for index, expression in enumerate(self.tallies.turning):
            slack = method.atol + method.rtol * jnp.abs(number(expression, values))
            slope = jnp.where(rises[index], slopes[index], -slopes[index])
            # A slope that changes the expression by less than the tolerance is none.
            margins.append(slope * self.ts[-1] / slack + 1.0)
        return jnp.stack(margins) if margins else jnp.zeros(0)

    def _flow(self, here: Moment) -> tuple[Array, Array]:
        """Time derivatives of the state and of the amplitudes."""
        none = jnp.zeros_like(here.amplitudes)
        levels = input_levels(self.task.inputs, none, here.amplitudes, 0.0)
        dy = self.derivative(here.time, here.y, self.rows.params, levels)
        return dy, -self.plan.rates * here.amplitudes

    def _slopes(self, here: Moment) -> Array:
        """Time derivatives of the turning expressions, (X,)."""
        expressions = self.tallies.turning
        if not expressions:
            return jnp.zeros(0)

        def observed(time: Array, y: Array, amplitudes: Array) -> Array:
            now = here._replace(time=time, y=y, amplitudes=amplitudes)
            values = self.events.values(self.fixed, now)
            return jnp.stack([number(expression, values) for expression in expressions])

        at = (here.time, here.y, here.amplitudes)
        return jax.jvp(observed, at, (jnp.asarray(1.0), *self._flow(here)))[1]

    def _polished(self, course: Course, here: Moment) -> Moment:
        """At a comparison's change of sign: one Newton step in time, along the flow."""
        if not self.num_atoms:
            return here
        dy, d_amplitudes = self._flow(here)

        def difference(time: Array, y: Array, amplitudes: Array) -> Array:
            now = here._replace(time=time, y=y, amplitudes=amplitudes)
            found = self.events.differences(self.events.values(self.fixed, now))
            changed = course.changed[: self.num_atoms]
            return jnp.where(jnp.any(changed), found[jnp.argmax(changed)], 0.0)

        at, along = (here.time, here.y, here.amplitudes), (jnp.asarray(1.0), dy, d_amplitudes)
        value, slope = jax.jvp(difference, at, along)
        step = -value / jnp.where(slope == 0, 1.0, slope)
        # Beyond a thousandth of the stretch a tangent says nothing: the path only touches there.
        is_small = jnp.abs(step) <= 1e-3 * (here.time - course.moment.time)
        step = jnp.where(is_small & ~jnp.isinf(course.target) & (slope != 0), step, 0.0)
        return self._moved(here, here.time + step, here.y + step * dy)

    def _arrived(self, course: Course, stop: Array, y: Array, saved: Array) -> Course:
        """At a stop: save, account for the stretch, and let happen what happens there."""
        before = course.moment
        is_saved = (self.ts > before.time) & (self.ts <= stop)
        values = jnp.where(is_saved[:, None], saved, course.values)
        here = self._polished(course, self._moved(before, stop, y))
        at_start = self.events.with_atoms(before, self.events.values(self.fixed, before))
        tallies = self.tallies.stretch(course.tallies, at_start, here.time - before.time)
        is_changed = course.changed & ~jnp.isinf(course.target)
        course = course._replace(
            moment=here._replace(signs=here.signs ^ is_changed[: self.num_atoms]),
            rises=course.rises ^ is_changed[self.num_atoms :],
            values=values,
            tallies=tallies,
            target=jnp.asarray(jnp.inf),
        )
        return self._happen(course)

    def _happen(self, course: Course, is_first: bool = False) -> Course:
        """Doses, then events, looked at by the tallies before (but at time 0) and after."""
        start = course.moment
        if not is_first:
            course = course._replace(tallies=self._looked(course))
        due, index = self.plan.times[course.dose], course.dose
        is_due = due <= start.time
        dosed = start._replace(
            y=start.y + jnp.where(is_due, self.plan.state_increments[index], 0.0),
            amplitudes=jnp.where(
                is_due,
                start.amplitudes * self.plan.keep[index] + self.plan.increments[index],
                start.amplitudes,
            ),
        )
        moment = self.events.jumped(self.fixed, start, dosed)
        moment = self.events.happen(self.fixed, moment)
        slopes = self._slopes(moment)
        is_same = slopes == self._slopes(start)
        course = course._replace(
            moment=moment,
            dose=index + is_due.astype(index.dtype),
            rises=jnp.where(is_same, course.rises, slopes >= 0),
        )
        if not self.task.is_trough_saved:
            is_here = self.ts == moment.time
            course = course._replace(
                values=jnp.where(is_here[:, None], moment.y[None, :], course.values)
            )
        return course._replace(tallies=self._looked(course))

    def _looked(self, course: Course) -> Array:
        values = self.events.values(self.fixed, course.moment)
        return self.tallies.look(
            course.tallies, self.events.with_atoms(course.moment, values), course.moment.time
        )


def _without_null_dose(plan: Plan) -> Plan:
    """The plan's own doses and one more that never comes."""

    def longer(array: Array, value: float) -> Array:
        return jnp.concatenate([array[1:], jnp.full((1, *array.shape[1:]), value)])

    return plan._replace(
        times=longer(plan.times, jnp.inf),
        keep=longer(plan.keep, 1.0),
        increments=longer(plan.increments, 0.0),
        state_increments=longer(plan.state_increments, 0.0),
    )
