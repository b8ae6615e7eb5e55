"""A network made ready for a lane kernel: coefficients, propensities, net changes, guards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from engine.errors import InvalidInput
from engine.kinetics.evaluate import evaluate
from engine.kinetics.hoisting import Coefficients, is_affine, is_nonnegative, vanishes_below
from engine.kinetics.intervals import bounds, unboundable
from engine.network.expressions import TIME, Expression, substitute, symbols
from engine.network.network import ReactionNetwork

Array = Any


@dataclass(frozen=True)
class Guard:
    """What cannot be proved of a rate law and is therefore checked at every step.

    Attributes:
        is_signed: the law may become negative.
        required: (species, molecules needed) that the law does not provably respect.
    """

    is_signed: bool
    required: tuple[tuple[str, int], ...]


class Program:
    """The array functions of a network, with parameters as traced arrays.

    Args:
        network: the network.
        observables: further expressions that the kernel evaluates (tallies), by name.
        still: inputs that change at a lane's stops only (a constant level, an infusion rate).
    """

    def __init__(
        self,
        network: ReactionNetwork,
        observables: Mapping[str, Expression],
        still: frozenset[str] = frozenset(),
    ) -> None:
        self.network = network
        self.still = still
        self._constants = _constant_names(network)
        self._coefficients = Coefficients(frozenset(self._constants))
        hoist = self._coefficients.hoist
        self.rules = {
            name: hoist(rule) for name, rule in network.rules.items() if name not in self._constants
        }
        self.laws = tuple(hoist(r.propensity) for r in network.reactions)
        self.observables = {name: hoist(e) for name, e in observables.items()}

    def hoist(self, expression: Expression) -> Expression:
        """Register one more expression (a trigger, an assignment) before coefficients are read."""
        return self._coefficients.hoist(expression)

    @cached_property
    def net_changes(self) -> np.ndarray:
        """Net change of every species by every reaction, int64 (M, S)."""
        names = self.network.species_names
        table = np.zeros((len(self.network.reactions), len(names)), np.int64)
        for row, reaction in zip(table, self.network.reactions, strict=True):
            for name, change in self.network.changes(reaction).items():
                row[names.index(name)] = change
        return table

    @cached_property
    def moving(self) -> frozenset[str]:
        """Names that change between events: time, inputs, and the rules that depend on them."""
        moving = {TIME, *(i.name for i in self.network.inputs if i.name not in self.still)}
        for name, rule in self.rules.items():
            if symbols(rule) & moving:
                moving.add(name)
        return frozenset(moving)

    @cached_property
    def guards(self) -> tuple[Guard, ...]:
        """For every reaction, what its rate law does not prove."""
        counts = frozenset(s.name for s in self.network.species if not s.is_continuous)
        signed = frozenset(v.name for v in self.network.variables)
        guards = []
        for reaction, law in zip(self.network.reactions, self.laws, strict=True):
            whole = self.without_rules(law)
            changed = self.network.changes(reaction)
            required = tuple(
                (name, -changed[name])
                for name in reaction.reactants
                if changed.get(name, 0) < 0
                and not vanishes_below(whole, name, -changed[name], counts, signed)
            )
            is_signed = not is_nonnegative(whole, counts, signed)
            guards.append(Guard(is_signed, required))
        return tuple(guards)

    def without_rules(self, expression: Expression) -> Expression:
        """An expression with the assignment rules' expressions in place of their names."""
        for name in reversed(self.rules):
            if name in symbols(expression):
                expression = substitute(expression, {name: self.rules[name]})
        return expression

    def is_affine(self, expression: Expression) -> bool:
        """Whether an expression is affine in time and the inputs jointly, all else fixed."""
        return is_affine(self.without_rules(expression), self.moving)

    def check_boundable(self) -> None:
        """Refuse by name a law whose dependence on time or an input has no computable bound."""
        for reaction, law in zip(self.network.reactions, self.laws, strict=True):
            function = unboundable(self.without_rules(law), self.moving)
            if function:
                raise InvalidInput(
                    f"reaction '{reaction.name}': its rate law applies '{function}' to time or an "
                    "input, which the exact method cannot bound; rewrite it with + - * / ^ exp log "
                    "min max piecewise sin cos"
                )

    # Coefficients: on the host, in float64.

    @property
    def coefficient_expressions(self) -> tuple[Expression, ...]:
        """The parameter-only expressions, in the order of the coefficient arrays."""
        return tuple(self._coefficients.expressions)

    def coefficient_values(self, params: Mapping[str, Array]) -> list[np.ndarray]:
        """Every coefficient in float64, scalar or (N,), from resolved parameters."""
        values = {name: np.asarray(value, np.float64) for name, value in params.items()}
        with np.errstate(all="ignore"):
            for name, rule in self.network.rules.items():
                if name in self._constants:
                    values[name] = evaluate(rule, values, np, np.float64)
            expressions = self.coefficient_expressions
            found = [evaluate(e, values, np, np.float64) for e in expressions]
        return [np.asarray(value, np.float64) for value in found]

    def check_coefficients(self, values: Sequence[np.ndarray]) -> None:
        """Refuse coefficients that are not finite, negative in a law, or lost in float32."""
        owners = self._coefficient_owners
        for index, (expression, value) in enumerate(
            zip(self.coefficient_expressions, values, strict=True)
        ):
            owner = owners.get(f"_c{index}")
            where = f"reaction '{owner}': " if owner else ""
            if not np.all(np.isfinite(value)):
                raise InvalidInput(
                    f"{where}'{expression}' is not finite{_culprit(value, np.isfinite)}"
                )
            if owner and np.any(value < 0):
                culprit = _culprit(value, lambda v: v >= 0)
                raise InvalidInput(
                    f"{where}'{expression}' is negative{culprit}; a rate cannot be negative"
                )
            with np.errstate(over="ignore", under="ignore"):
                small = value.astype(np.float32)
            lost = (value != 0) & ((small == 0) | ~np.isfinite(small))
            if np.any(lost):
                raise InvalidInput(
                    f"{where}'{expression}' = {value[lost].flat[0]:g} is outside float32; "
                    "choose another unit of time or volume"
                )

    @cached_property
    def _coefficient_owners(self) -> dict[str, str]:
        """Coefficients that must be >= 0 for the law that uses them to be a propensity."""
        owners: dict[str, str] = {}
        laws = zip(self.network.reactions, self.laws, self.guards, strict=True)
        for reaction, law, guard in laws:
            if not guard.is_signed:
                for name in symbols(self.without_rules(law)):
                    owners.setdefault(name, reaction.name)
        return owners

    # On the device, elementwise over lanes.

    def environment(self, base: Mapping[str, Array], xp: Any, dtype: Any) -> dict[str, Array]:
        """`base` (species, variables, inputs, time, coefficients) with the rules' values added."""
        values = dict(base)
        for name, rule in self.rules.items():
            values[name] = evaluate(rule, values, xp, dtype)
        return values

    def fixed_environment(self, base: Mapping[str, Array], xp: Any, dtype: Any) -> dict[str, Array]:
        """`base` with the values of the rules that do not move between events."""
        values = dict(base)
        for name, rule in self.rules.items():
            if name not in self.moving:
                values[name] = evaluate(rule, values, xp, dtype)
        return values

    def propensities(self, values: Mapping[str, Array], xp: Any, dtype: Any) -> list[Array]:
        """Every reaction's propensity; NaN marks a law that broke its guard."""
        return [
            guarded(evaluate(law, values, xp, dtype), guard, values, xp, dtype)
            for law, guard in zip(self.laws, self.guards, strict=True)
        ]

    def real_propensities(
        self, values: Mapping[str, Array], real: frozenset[str], xp: Any, dtype: Any
    ) -> list[Array]:
        """Propensities where some species are real numbers, 0 where a law is negative.

        Between whole numbers x (x - 1) / 2 is negative below 1, and having less than a reaction
        takes is no mistake; for the species that are counts the guards stay.
        """
        result = []
        for law, guard in zip(self.laws, self.guards, strict=True):
            a = xp.maximum(evaluate(law, values, xp, dtype), xp.asarray(0.0, dtype))
            for name, needed in guard.required:
                if name not in real:
                    is_short = (values[name] < needed) & (a > 0)
                    a = xp.where(is_short, xp.asarray(xp.nan, dtype), a)
            result.append(a)
        return result

    def upper_bounds(
        self,
        values: Mapping[str, Array],
        moving: Mapping[str, tuple[Array, Array]],
        xp: Any,
        dtype: Any,
    ) -> list[Array]:
        """Upper bound of every propensity while the symbols of `moving` range in intervals."""
        intervals = dict(moving)
        for name, rule in self.rules.items():
            if name in self.moving:
                intervals[name] = bounds(rule, values, intervals, xp, dtype)
        uppers = [bounds(law, values, intervals, xp, dtype)[1] for law in self.laws]
        zero = xp.asarray(0.0, dtype)
        return [xp.maximum(upper, zero) for upper in uppers]


def guarded(a: Array, guard: Guard, values: Mapping[str, Array], xp: Any, dtype: Any) -> Array:
    """A propensity, NaN where its law broke what its guard asks for."""
    for name, needed in guard.required:
        is_short = (values[name] < needed) & (a > 0)
        a = xp.where(is_short, xp.asarray(xp.nan, dtype), a)
    if guard.is_signed:
        a = xp.where(a >= 0, a, xp.asarray(xp.nan, dtype))
    return a


def _constant_names(network: ReactionNetwork) -> set[str]:
    constants = {p.name for p in network.parameters} | {c.name for c in network.compartments}
    for name, rule in network.rules.items():
        if symbols(rule) <= constants:
            constants.add(name)
    return constants


def _culprit(value: np.ndarray, is_good: Any) -> str:
    """Where in an array of patients the first bad value stands."""
    bad = np.flatnonzero(~is_good(value))
    first = value.flat[bad[0]]
    return f" ({first:g})" if value.ndim == 0 else f" ({first:g} for patient row {bad[0]})"
