r"""Paths of the chemical Langevin equation and their tangents, by Euler-Maruyama on a moving grid.

.. math:: x_{k+1} = y_k + \sum_j v_j s_{kj} e_{kj}, \quad y_k = x_k + d_k, \quad
   e_{kj} = a_j(y_k) h_k + \sqrt{a_j(y_k) h_k} N_{kj}

with the s_kj of `engine.methods.langevin.Langevin`: 1 unless more of a species would be taken than
there is, and then the share that there is enough for, which is continuous in what it depends on.
All that a path is made of (parameters, initial counts, molecules given d_k, mean levels of inputs
over the steps, lengths of steps h_k) is a table of numbers, the course; a target moves the course,
and the tangent of the path is its derivative along that. The grid has an edge at every dose, so
that a dose time moves lengths of steps and nothing jumps: under fixed normal numbers N the path is
smooth in all of them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from engine.cohort import Cohort, prepare
from engine.dosing.dose import Dose
from engine.dosing.schedule import concentration
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.dose_targets import DoseAmount, DoseDuration, DoseRate, DoseTime
from engine.gradient.targets import InitialCount, Parameter, PharmacokineticParameter, Target
from engine.kernel.tallies import GAUSS, Tally, TimeIntegral
from engine.kinetics.drift import environment, net_changes
from engine.kinetics.evaluate import evaluate
from engine.methods.langevin import extent, limited, overdrawn
from engine.network.network import ReactionNetwork

# What has a course that is smooth in it.
SMOOTH = (
    Parameter,
    InitialCount,
    DoseAmount,
    DoseTime,
    DoseDuration,
    PharmacokineticParameter,
)
# Courses are float64, and so are differences of them: an error of about 1e-10.
RELATIVE_STEP = 1e-5


class Grid(NamedTuple):
    """Where the steps lie.

    Attributes:
        edges: the start, the times of doses and of ends of infusions, and the horizon, all from
            the start.
        numbers: of steps between two edges.
    """

    edges: np.ndarray
    numbers: np.ndarray


class Course(NamedTuple):
    """What a path is made of; K steps.

    Attributes:
        params: every parameter.
        start: counts at the start, (S,).
        given: molecules that doses add before every step and at the end, (K + 1, S).
        lengths: of the steps, (K,).
        times: of their beginnings and the end, (K + 1,).
        levels: of every input, its mean over the steps, and at the end, (K + 1,).
    """

    params: dict[str, Any]
    start: Any
    given: Any
    lengths: Any
    times: Any
    levels: dict[str, Any]


def cohort_of(arguments: Arguments) -> Cohort:
    """The patient, whose counts are real numbers."""
    return prepare(
        arguments.network,
        arguments.ts[-1:],
        1,
        1,
        None,
        arguments.params,
        arguments.x0,
        arguments.inputs,
        arguments.regimen,
        arguments.start,
        is_counting=False,
    )


def edges_of(cohort: Cohort) -> np.ndarray:
    """The edges of a `Grid`."""
    end = float(cohort.elapsed[-1])
    times = cohort.schedule.times[0]
    return np.unique(np.concatenate([[0.0, end], times[(times > 0) & (times < end)]]))


def grid_of(cohort: Cohort, dt: float) -> Grid:
    """Steps of at most dt between the edges."""
    edges = edges_of(cohort)
    return Grid(edges, np.maximum(np.ceil(np.diff(edges) / dt - 1e-9), 1).astype(int))


def moved_edges(cohort: Cohort, grid: Grid) -> np.ndarray:
    """The edges of a patient whose doses moved: each is still the one it was.

    Raises:
        InvalidInput: one came or went, or may have passed its neighbour.
    """
    edges = edges_of(cohort)
    is_same = len(edges) == len(grid.edges)
    if is_same:
        moves, gaps = edges - grid.edges, np.diff(grid.edges)
        is_same = bool(np.all(moves[:-1] < gaps) and np.all(-moves[1:] < gaps))
    if not is_same:
        raise InvalidInput("a dose meets another one, the start or the horizon")
    return edges


def course_of(arguments: Arguments, grid: Grid) -> Course:
    """The course of a patient with as many steps between its edges as the grid has.

    Raises:
        InvalidInput: see `moved_edges`.
    """
    cohort = cohort_of(arguments)
    edges, numbers = moved_edges(cohort, grid), grid.numbers
    parts = [np.linspace(a, b, n + 1) for a, b, n in zip(edges, edges[1:], numbers, strict=False)]
    times = np.concatenate([parts[0][:1], *(part[1:] for part in parts)])
    lengths = np.diff(times)
    schedule = cohort.schedule
    levels = {}
    for name in schedule.layout.names:
        points = [concentration(schedule, name, times[:-1] + g * lengths)[0] for g in GAUSS]
        last = concentration(schedule, name, times[-1:])[0]
        levels[name] = np.concatenate([(points[0] + points[1]) / 2, last])
    given = np.zeros((len(times), len(cohort.counts)))
    order = cohort.network.species_names
    for record, due in enumerate(schedule.times[0]):
        if due <= times[-1]:
            step = int(np.argmin(np.abs(times - due)))
            for place, name in enumerate(schedule.species):
                given[step, order.index(name)] += schedule.species_increments[0, record, place]
    return Course(
        {name: float(np.ravel(value)[0]) for name, value in cohort.params.items()},
        np.array([float(np.ravel(count)[0]) for count in cohort.counts]),
        given,
        lengths,
        cohort.start + times,
        levels,
    )


def _refuse_rates(arguments: Arguments, target: Target) -> None:
    """An infusion given by its rate lasts amount / rate, and its end moves with both.

    Raises:
        InvalidInput: its amount or rate is to be moved.
    """
    if not isinstance(target, DoseAmount | DoseRate):
        return
    for dose in arguments.doses(target.index):
        if isinstance(dose, Dose) and dose.rate is not None:
            raise InvalidInput(
                f"Pathwise(Langevin(...)) cannot do '{target.label}', an infusion of "
                f"rate={dose.rate:g} whose end moves with it; give "
                f"duration={dose.infusion_duration:g} instead and use DoseAmount or DoseDuration, "
                "or use engine.gradient.CoupledDifference()"
            )


def tangent(arguments: Arguments, target: Target, grid: Grid) -> Course:
    """How the course moves with a target.

    Raises:
        InvalidInput: a target without a tangent, or one that cannot be moved both ways.
    """
    _refuse_rates(arguments, target)
    if not isinstance(target, SMOOTH):
        raise InvalidInput(
            f"Pathwise(Langevin(...)) cannot do '{target.label}'; use Pathwise() or "
            "engine.gradient.CoupledDifference()"
        )
    value = float(np.ravel(target.value(arguments))[0])
    if isinstance(target, InitialCount | DoseAmount):
        # Linear, and whole where molecules are given: one step up is the tangent itself.
        step = float(np.ceil(max(1.0, 1e-3 * abs(value))))
        steps = (step, 0.0)
    else:
        step = RELATIVE_STEP * (abs(value) or 1.0)
        steps = (step, -step)
    try:
        ends = [course_of(target.moved(arguments, np.asarray(change)), grid) for change in steps]
    except InvalidInput as error:
        raise InvalidInput(
            f"Pathwise(Langevin(...)) cannot move '{target.label}' both ways ({error}); use "
            "engine.gradient.CoupledDifference()"
        ) from None
    width = steps[0] - steps[1]
    return Course(*jax.tree.map(lambda up, down: (up - down) / width, *ends))


def paths(dt: float, arguments: Arguments, targets: tuple[Target, ...], tally: Tally) -> Any:
    """A function of a key: the outcome of one path, its tangents (targets,), is a step too long.

    Raises:
        InvalidInput: see `tangent`.
    """
    one = arguments.with_patients(1, arguments.key)
    cohort = cohort_of(one)
    grid = grid_of(cohort, dt)
    course = _single(course_of(one, grid))
    each = [_single(tangent(one, target, grid)) for target in targets]
    tangents = jax.tree.map(lambda *parts: jnp.stack(parts), *each)
    outcome = _outcome(cohort.network, tally)
    shape = (int(grid.numbers.sum()), len(cohort.network.reactions))

    def path(key: Any) -> Any:
        noise = jax.random.normal(key, shape, jnp.float32)

        def of_course(course: Course) -> Any:
            return outcome(course, noise)

        def along(moved: Course) -> Any:
            return jax.jvp(of_course, (course,), (moved,), has_aux=True)

        return jax.vmap(along, out_axes=(None, 0, None))(tangents)

    return path


def _single(course: Course) -> Course:
    return Course(*jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), course))


def _outcome(network: ReactionNetwork, tally: Tally) -> Any:
    """A function of the course and its normal numbers (K, reactions).

    It gives the tally of the path, and whether a step was too long: its mean alone would have
    taken more of a species than there was.
    """
    values_of = environment(network)
    changes = net_changes(network).T
    zero = jnp.float32(0)

    def propensities(values: Any, dtype: Any) -> Any:
        found = jnp.stack([evaluate(r.propensity, values, jnp, dtype) for r in network.reactions])
        # As in the method, none is negative; at 0 a maximum has half a slope.
        return jnp.where(found < 0, zero, found)

    def seen(course: Course, x: Any, step: Any, time: Any) -> tuple[Any, Any]:
        levels = {name: level[step] for name, level in course.levels.items()}
        values = values_of(time, x, course.params, levels)
        return values, jnp.asarray(evaluate(tally.expression, values, jnp, x.dtype), x.dtype)

    def outcome(course: Course, noise: Any) -> Any:
        def advance(carry: Any, item: Any) -> Any:
            x, total, is_too_long = carry
            step, normal = item
            x, dt = x + course.given[step], course.lengths[step]
            values, reward = seen(course, x, step, course.times[step])
            rates = propensities(values, x.dtype)
            is_too_long = is_too_long | overdrawn(changes, [*x], [*(rates * dt)])
            moved = limited(changes, [*x], [*extent(rates, dt, normal)])
            return (jnp.stack(moved), total + reward * dt, is_too_long), None

        number = len(noise)
        items = (jnp.arange(number), noise)
        start = (course.start, zero, jnp.zeros((), bool))
        (x, total, is_too_long), _ = jax.lax.scan(advance, start, items)
        if isinstance(tally, TimeIntegral):
            return total, is_too_long
        final = seen(course, x + course.given[number], number, course.times[number])[1]
        return final, is_too_long

    return outcome
