"""Directions: how every rate changes with a target, as expressions for the lanes.

The rate a_j(x, u(t), t, p) changes by a_j' = sum_s (da_j/ds) s' over the symbols s with a tangent:
a parameter itself (and those that are expressions of it), an input's level u, the time. What an
input's level changes by comes from *shadow inputs*, other drugs in the same kernel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.dose_targets import (
    DoseAmount,
    DoseDuration,
    DoseRate,
    DoseTime,
    IndividualDoses,
)
from engine.gradient.shadows import (
    COUPLED,
    SHADOW,
    individual_doses,
    infusion_length,
    pharmacokinetic,
    unit_dose,
)
from engine.gradient.targets import Parameter, PharmacokineticParameter, PopulationMean, Target
from engine.gradient.time_warp import warped
from engine.network.derivatives import ONE, ZERO, derivative, logarithmic_derivative, without_rules
from engine.network.expressions import Expression, call, substitute, symbols
from engine.network.network import ReactionNetwork


@dataclass(frozen=True)
class Direction:
    """What changes with one target.

    Attributes:
        label: the name of the target.
        tangents: symbol -> derivative of its value.
        dilation: by how much the time runs faster, per unit of the target.
        span: the times between which the dilation is not 0.
    """

    label: str
    tangents: Mapping[str, Expression]
    dilation: Expression = ZERO
    span: tuple[float, float] | None = None

    def slope(self, rate: Expression) -> Expression:
        """The derivative of a rate."""
        changed = derivative(rate, self.tangents)
        return (
            changed
            if self.dilation == ZERO
            else call("add", changed, call("mul", self.dilation, rate))
        )

    def relative_slope(self, rate: Expression) -> Expression:
        """The derivative of a rate's logarithm."""
        return call("add", logarithmic_derivative(rate, self.tangents), self.dilation)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Arguments with the shadow inputs that the directions need."""

    arguments: Arguments
    directions: tuple[Direction, ...]


def prepared(arguments: Arguments, targets: tuple[Target, ...]) -> Prepared:
    """The directions of the targets, and the arguments under which they can be evaluated.

    Raises:
        InvalidInput: a target without a score, naming it and what to use.
    """
    directions = []
    for index, target in enumerate(targets):
        target.value(arguments)
        span: tuple[float, float] | None = None
        dilation: Expression = ZERO
        match target:
            case Parameter(name=name) | PopulationMean(name=name):
                _refuse_elsewhere(arguments, name)
                tangents: dict[str, Expression] = {name: ONE}
            case DoseAmount():
                arguments, tangents = unit_dose(arguments, target, f"{SHADOW}{index}")
            case PharmacokineticParameter():
                arguments, tangents = pharmacokinetic(arguments, target, f"{SHADOW}{index}")
            case DoseDuration() | DoseRate():
                arguments, tangents = infusion_length(arguments, target, f"{SHADOW}{index}")
            case IndividualDoses():
                arguments, tangents = individual_doses(arguments, target, f"{SHADOW}{index}")
            case DoseTime():
                arguments, tangents, dilation, span = warped(arguments, target, f"{SHADOW}{index}")
            case _:
                raise InvalidInput(
                    f"'{target.label}' is a whole number and has no score; {COUPLED}"
                )
        directions.append(Direction(target.label, tangents, dilation, span))
    closed = tuple(_closed(arguments, direction) for direction in directions)
    found = Prepared(arguments, closed)
    for target, direction in zip(targets, closed, strict=True):
        _refuse_vanishing(found, target, direction)
    return found


def _closed(arguments: Arguments, direction: Direction) -> Direction:
    """The direction with the parameters and rules that follow from what changes."""
    network, tangents = arguments.network, dict(direction.tangents)
    pending = {
        p.name: p.value
        for p in network.parameters
        if p.name not in arguments.params and p.name not in tangents
    }
    # Parameters may stand in any order; a chain is at most as long as there are of them.
    for _ in range(len(pending)):
        for name, expression in pending.items():
            change = derivative(expression, tangents)
            if change != ZERO:
                tangents[name] = change
    for name, rule in network.rules.items():
        change = derivative(rule, tangents)
        if change != ZERO:
            tangents[name] = change
    return replace(direction, tangents=tangents)


def _refuse_elsewhere(arguments: Arguments, name: str) -> None:
    """A parameter of events or initial counts changes the path in ways that have no score."""
    network = arguments.network
    affected = {name}
    for _ in network.parameters:
        affected |= {
            p.name
            for p in network.parameters
            if p.name not in arguments.params and symbols(p.value) & affected
        }
    affected |= {target for target, rule in network.rules.items() if symbols(rule) & affected}
    for event in network.events:
        given = [event.trigger, *event.assignments.values(), *event.doses.values()]
        given += [e for e in (event.delay, event.priority) if e is not None]
        if any(symbols(expression) & affected for expression in given):
            raise InvalidInput(
                f"parameter '{name}' appears in event '{event.name}', through which it has no "
                f"score; {COUPLED}"
            )
    for species, initial in network.initial_expressions.items():
        if species not in arguments.x0 and symbols(initial) & affected:
            raise InvalidInput(
                f"parameter '{name}' sets the initial value of '{species}', through which it has "
                f"no score; {COUPLED}"
            )


def _refuse_vanishing(found: Prepared, target: Target, direction: Direction) -> None:
    """Where a rate is zero but its derivative is not, no firing can tell."""
    network = found.arguments.network
    zeros: dict[str, Expression] = {
        p.name: ZERO for p in network.parameters if np.any(found.arguments.parameter(p.name) == 0.0)
    }
    if isinstance(target, DoseAmount) and np.any(target.value(found.arguments) == 0.0):
        zeros[next(iter(direction.tangents))] = ZERO
    if not zeros:
        return
    for reaction in network.reactions:
        rate = _with_zeros(network, reaction.propensity, zeros)
        slope = _with_zeros(network, direction.slope(reaction.propensity), zeros)
        if rate == ZERO and slope != ZERO:
            raise InvalidInput(
                f"'{target.label}' is 0: reaction '{reaction.name}' then never fires though its "
                f"rate would grow, and the score would be silently wrong; {COUPLED}, or move the "
                "value off 0"
            )


def _with_zeros(
    network: ReactionNetwork, expression: Expression, zeros: Mapping[str, Expression]
) -> Expression:
    return substitute(without_rules(network.rules, expression), zeros)
