"""The paths of one experimental condition: values at time 0, stretches between jumps, events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.fitting.solver import HUGE, Solver
from engine.fitting.switches import Switches, differences
from engine.kinetics.evaluate import evaluate
from engine.kinetics.levelled import Levelled
from engine.network.expressions import TIME, Expression, Number, call, symbols
from engine.network.sbml_rates import RateModel, in_order

Array = Any
FLOAT = jnp.float64
# No state of a model is as large; beyond it a path has exploded.
WILD = 1e30


class Given(NamedTuple):
    """What a condition says instead of the model: leading axis the names of `Dynamics.open`."""

    values: Array  # (K,)
    is_given: Array  # (K,) bool


@dataclass(frozen=True, eq=False)
class Dynamics:
    """A rate model as traceable functions of one condition.

    Args:
        model: the equations.
        open: names that some condition or parameter overrides.
        solver: tolerances.
        always_zero: constants that are 0 whatever the parameters.
    """

    model: RateModel
    open: tuple[str, ...]
    solver: Solver
    always_zero: frozenset[str] = frozenset()

    @cached_property
    def switches(self) -> Switches:
        """The conditions on time; filled by the extracted expressions."""
        constants = set(self.model.constants)
        timed: dict[str, Expression] = {}
        for name, rule in self.model.rules.items():
            if symbols(rule) <= constants | timed.keys() | {TIME}:
                timed[name] = rule
        return Switches(constants, timed)

    @cached_property
    def _extracted(self) -> dict[str, Any]:
        """Laws, rules, rate rules and triggers without comparisons of time."""
        model, extract = self.model, self.switches.extract
        triggers = []
        for event in model.events:
            trigger = extract(event.trigger)
            allowed = {*self.switches.atoms.values(), *model.constants}
            if not symbols(trigger) <= allowed:
                raise InvalidInput(
                    f"event '{event.name}' waits for a condition on the state ({event.trigger}), "
                    "which is not read; only events at times are"
                )
            triggers.append(trigger)
        return {
            "laws": [extract(law) for law in model.laws],
            "rules": {name: extract(rule) for name, rule in model.rules.items()},
            "rate_rules": {name: extract(rule) for name, rule in model.rate_rules.items()},
            "triggers": triggers,
        }

    def check(self) -> None:
        """Raise unless every law, rule and event can be integrated."""
        self._extracted  # noqa: B018
        self._start_order  # noqa: B018

    @cached_property
    def _start_order(self) -> dict[str, Expression]:
        """Definitions at time 0 (rules among them), each after those it mentions."""
        return in_order({**self.model.start, **self.model.rules})

    def start(self, given: Given) -> tuple[Array, dict[str, Array]]:
        """States (S,) at time 0 and the value of every constant of a condition."""
        model = self.model
        position = {name: i for i, name in enumerate(self.open)}
        zero = jnp.zeros((), FLOAT)
        values: dict[str, Array] = {TIME: zero}
        for name in position.keys() - self._start_order.keys():
            values[name] = given.values[position[name]]
        for name, expression in self._start_order.items():
            if not symbols(expression) <= values.keys():
                continue  # a name without a value: `problem` refuses it where it is used
            value = evaluate(expression, values, jnp, FLOAT)
            value = value.astype(FLOAT)
            if name in position:
                i = position[name]
                value = jnp.where(given.is_given[i], given.values[i], value)
            values[name] = value
        constants = {name: values[name] for name in model.constants if name in values}
        return jnp.stack([values.get(name, zero) for name in model.states]), constants

    def environment(
        self, t: Array, x: Array, constants: Mapping[str, Array], atoms: Mapping[str, Array]
    ) -> dict[str, Array]:
        """What every name means within a stretch."""
        values = {**constants, **atoms, TIME: jnp.asarray(t, FLOAT)}
        values |= {name: x[i] for i, name in enumerate(self.model.states)}
        for name, rule in self._extracted["rules"].items():
            values[name] = _number(rule, values)
        return values

    def derivative(
        self, t: Array, x: Array, constants: Mapping[str, Array], atoms: Mapping[str, Array]
    ) -> Array:
        """The right-hand side dx/dt, (S,), and 0 for a state beyond all bounds.

        It is finite with finite derivatives everywhere: a trial step may leave the finite numbers,
        and the linear solves of forward sensitivities stop the program where they meet them. A path
        that ends beyond the bounds is reported as failed.
        """
        return self._field(t, x, self._known(constants, atoms))

    def _known(self, constants: Mapping[str, Array], atoms: Mapping[str, Array]) -> Array:
        """What does not change within a stretch as one vector, for `_field`."""
        given = {**constants, **atoms}
        zero = jnp.zeros((), FLOAT)
        return jnp.stack([jnp.asarray(given.get(n, zero), FLOAT) for n in self._known_names])

    def _field(self, t: Array, x: Array, known: Array) -> Array:
        return self._jitted_field(jnp.asarray(t, FLOAT), x, known)

    @cached_property
    def _jitted_field(self) -> Callable[[Array, Array, Array], Array]:
        """The field, which the solver's many mentions of it then trace once."""

        def field(t: Array, x: Array, known: Array) -> Array:
            is_wild = ~jnp.all(jnp.abs(x) < WILD)
            slopes = self._slopes(t, jnp.where(is_wild, 1.0, x), known)
            return jnp.where(is_wild, 0.0, slopes)

        return jax.jit(field)

    def _slopes(self, t: Array, x: Array, known: Array) -> Array:
        program, matrix = self._program
        values = program(jnp.concatenate([known, t[None], x]))
        rates, volumes = jnp.split(values, [matrix.shape[1]])
        slopes = jnp.dot(matrix, finite_slope(rates), precision="highest") / volumes
        found = finite_slope(slopes)
        # Where a law has no value every step is refused, and the path fails.
        return jnp.where(jnp.all(jnp.isfinite(found)), found, HUGE)

    @cached_property
    def _known_names(self) -> tuple[str, ...]:
        self._extracted  # noqa: B018  (fills the switches)
        return (*self.model.constants, *self.switches.atoms.values())

    @cached_property
    def _program(self) -> tuple[Levelled, np.ndarray]:
        """Rates (R,) and volumes (S,) of the known, time and states; the matrix (S, R) of rates."""
        model, extracted = self.model, self._extracted
        rates = list(extracted["laws"])
        entries: list[tuple[int, int, float]] = []
        for i, name in enumerate(model.states):
            if name in extracted["rate_rules"]:
                entries.append((i, len(rates), 1.0))
                rates.append(extracted["rate_rules"][name])
                continue
            for j, number in model.changes[name]:
                if isinstance(number, Number):
                    entries.append((i, j, number.value))
                else:
                    entries.append((i, len(rates), 1.0))
                    rates.append(call("mul", number, extracted["laws"][j]))
        matrix = np.zeros((len(model.states), len(rates)))
        for i, j, weight in entries:
            matrix[i, j] += weight
        is_rated = [name in extracted["rate_rules"] for name in model.states]
        volumes = [
            Number(1.0) if rated else model.volumes[name]
            for name, rated in zip(model.states, is_rated, strict=True)
        ]
        names = (*self._known_names, TIME, *model.states)
        return Levelled([*rates, *volumes], names, extracted["rules"]), matrix

    def atoms(self, t: Array, constants: Mapping[str, Array]) -> dict[str, Array]:
        """The truth (0 or 1) of every comparison of time at a time."""
        self._extracted  # noqa: B018  (fills the switches)
        values = {**constants, TIME: t}
        return {
            name: evaluate(condition, values, jnp, FLOAT).astype(FLOAT)
            for condition, name in self.switches.atoms.items()
        }

    def jumps(self, constants: Mapping[str, Array], end: Array) -> Array:
        """Sorted times in [0, end] at which a comparison of time may change, (J,)."""
        self._extracted  # noqa: B018  (fills the switches)
        zero, one = jnp.zeros((), FLOAT), jnp.ones((), FLOAT)
        times = []
        for condition in self.switches.atoms:
            for difference in differences(condition):
                at_zero = _number(difference, {**constants, TIME: zero})
                slope = _number(difference, {**constants, TIME: one}) - at_zero
                is_moving = slope != 0
                time = -at_zero / jnp.where(is_moving, slope, 1.0)
                times.append(jnp.where(is_moving, jnp.clip(time, 0.0, end), end))
        return jnp.sort(jnp.stack(times)) if times else jnp.zeros(0, FLOAT)

    def path(
        self, x0: Array, constants: Mapping[str, Array], ts: Array, adjoint: Any
    ) -> tuple[Array, Array]:
        """The states at increasing times ts, (T, S), and whether the solver succeeded."""
        jumps, end = self.jumps(constants, ts[-1]), ts[-1]
        num_jumps = len(jumps)
        starts = jnp.concatenate([jnp.zeros(1, FLOAT), jumps])
        ends = jnp.concatenate([jumps, end[None]])
        was_true = jnp.asarray([e.is_initially_true for e in self.model.events], bool)

        def stretch(carry: tuple[Array, ...], bounds: tuple[Array, Array]) -> tuple[tuple, None]:
            x, was_true, values, is_ok = carry
            # Solvers see times that do not move: through its step sizes the derivative by a time
            # of change would explode. That it moves is a shift along the path to first order.
            a, b = jax.lax.stop_gradient(bounds)
            atoms = self.atoms(0.5 * (a + b), constants)
            x, was_true = self._happen(bounds[0], x, was_true, constants, atoms)
            known = self._known(constants, atoms)
            if num_jumps:
                x = x - self._field(a, x, known) * (bounds[0] - a)
            saved, is_done = self._integrated(a, b, x, known, ts, adjoint)
            last = saved[-1]
            if num_jumps:
                last = last + self._field(b, last, known) * (bounds[1] - b)
            values = jnp.where((ts >= a)[:, None], saved[:-1], values)
            return (last, was_true, values, is_ok & is_done), None

        nothing = jnp.zeros((len(ts), len(x0)), FLOAT)
        carry = (x0, was_true, nothing, jnp.asarray(True))
        if num_jumps:
            (_, _, values, is_ok), _ = jax.lax.scan(stretch, carry, (starts, ends))
        else:
            (_, _, values, is_ok), _ = stretch(carry, (starts[0], ends[0]))
        return values, is_ok & jnp.all(jnp.abs(values) < WILD)

    def _integrated(
        self,
        a: Array,
        b: Array,
        x: Array,
        known: Array,
        ts: Array,
        adjoint: Any,
    ) -> tuple[Array, Array]:
        """One stretch: the states at ts within it and at its end, (T + 1, S)."""

        def field(t: Array, x: Array, known: Array) -> Array:
            return self._field(t, x, known)

        # Times outside the stretch are saved by another one; those inside do not move with it.
        stops, inside = jax.lax.stop_gradient((ts, jnp.clip(ts, a, b)))
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            self.solver.stepper(),
            a,
            b,
            None,
            x,
            args=known,
            saveat=diffrax.SaveAt(ts=inside, t1=True),
            stepsize_controller=diffrax.ClipStepSizeController(
                self.solver.controller(), step_ts=stops
            ),
            max_steps=self.solver.max_steps + 4 * len(ts),
            throw=False,
            adjoint=adjoint,
        )
        return solution.ys, solution.result == diffrax.RESULTS.successful

    def _happen(
        self,
        t: Array,
        x: Array,
        was_true: Array,
        constants: Mapping[str, Array],
        atoms: Mapping[str, Array],
    ) -> tuple[Array, Array]:
        """Events at the beginning of a stretch."""
        if not self.model.events:
            return x, was_true
        values = self.environment(t, x, constants, atoms)
        triggers = [_number(one, values) != 0 for one in self._extracted["triggers"]]
        is_true = jnp.stack(triggers)
        for i, event in enumerate(self.model.events):
            fires = is_true[i] & ~was_true[i]
            for target, expression in event.assignments.items():
                position = self.model.states.index(target)
                new = jnp.where(fires, _number(expression, values), x[position])
                x = x.at[position].set(new)
        return x, is_true


@jax.custom_jvp
def finite_slope(value: Array) -> Array:
    """The value, with derivatives that are 0 where they are not finite.

    A derivative that is not finite belongs to a removable case, such as that of x^h by h at
    x = 0, which is 0 times log 0 in floating point and 0 in truth.
    """
    return value


@finite_slope.defjvp
def _finite_slope_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (value,), (tangent,) = primals, tangents
    return finite_slope(value), jnp.where(jnp.isfinite(tangent), tangent, 0.0)


def _number(expression: Expression, values: Mapping[str, Array]) -> Array:
    """A float64 scalar, also where the expression is a comparison."""
    return jnp.asarray(evaluate(expression, values, jnp, FLOAT)).astype(FLOAT)
