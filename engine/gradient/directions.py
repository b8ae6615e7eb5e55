"""Directions: how every rate changes with a target, as expressions for the lanes.

The rate a_j(x, u(t), t, p) changes by a_j' = sum_s (da_j/ds) s' over the symbols s with a tangent:
a parameter itself (and those that are expressions of it), an input's level u, the time. What an
input's level changes by comes from *shadow inputs*, other drugs in the same kernel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.dosing.dose import Dose, Reset
from engine.dosing.pharmacokinetics import ZeroOrder
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.targets import (
    DoseAmount,
    DoseTime,
    Parameter,
    PharmacokineticParameter,
    PopulationMean,
    Target,
)
from engine.inputs.modes import ModalResponse
from engine.network.derivatives import (
    ONE,
    ZERO,
    derivative,
    logarithmic_derivative,
    without_rules,
)
from engine.network.expressions import TIME, Expression, Symbol, call, parse, substitute, symbols
from engine.network.network import ReactionNetwork
from engine.network.quantities import Input
from engine.network.quantities import Parameter as NetworkParameter

# Pharmacokinetic parameters: a level's tangent is the difference of two levels this far apart on
# the log scale. The error is 1e-5 of the level from the step and from float32 alike.
SHADOW_STEP = 5e-3
SHADOW = "_shadow"
COUPLED = "use engine.gradient.CoupledDifference()"


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
                arguments, tangents = _unit_dose(arguments, target, f"{SHADOW}{index}")
            case PharmacokineticParameter():
                arguments, tangents = _pharmacokinetic(arguments, target, f"{SHADOW}{index}")
            case DoseTime():
                arguments, tangents, dilation, span = _warped(arguments, target, f"{SHADOW}{index}")
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


# Shadow inputs.


def _with_input(arguments: Arguments, name: str, response: Any) -> Arguments:
    network = replace(arguments.network, inputs=(*arguments.network.inputs, Input(name)))
    return replace(arguments, network=network, inputs={**arguments.inputs, name: response})


def _with_number(arguments: Arguments, name: str, value: Any) -> Arguments:
    parameters = (*arguments.network.parameters, NetworkParameter(name, ONE))
    network = replace(arguments.network, parameters=parameters)
    return replace(arguments, network=network, params={**arguments.params, name: value})


def _also_dosed(
    arguments: Arguments, source: str, into: str, index: int | None = None, amount: Any = None
) -> Arguments:
    """The doses into `source` (or one of them) given into a shadow as well."""
    regimens = []
    for regimen in arguments.regimens:
        doses = list(regimen.doses)
        for position, dose in enumerate(regimen.doses):
            if isinstance(dose, Reset) or dose.into != source or index not in (None, position):
                continue
            changes = {} if amount is None else {"amount": amount}
            doses.append(replace(dose, into=into, **changes))
        regimens.append(Regimen(tuple(doses)))
    return arguments.with_regimens(regimens)


def _refuse_event_doses(network: ReactionNetwork, name: str, label: str) -> None:
    for event in network.events:
        if name in event.doses:
            raise InvalidInput(
                f"'{label}': event '{event.name}' doses '{name}', which its score does not "
                f"follow; {COUPLED}"
            )


def _dosed_input(arguments: Arguments, target: DoseAmount | DoseTime) -> str:
    """The one input that the dose goes into."""
    doses = [dose for dose in arguments.doses(target.index) if isinstance(dose, Dose)]
    names = {dose.into for dose in doses}
    name = names.pop()
    if names:
        raise InvalidInput(f"'{target.label}' goes into different inputs for different patients")
    if arguments.network.kind_of(name) != "input":
        raise InvalidInput(
            f"'{target.label}' is of molecules given into species '{name}', a whole number "
            f"without a score; {COUPLED}"
        )
    if any(dose.rate is not None for dose in doses):
        raise InvalidInput(
            f"'{target.label}' is infused at a given rate, so that its end moves with the amount; "
            "give duration= in place of rate="
        )
    return name


def _unit_dose(
    arguments: Arguments, target: DoseAmount, shadow: str
) -> tuple[Arguments, dict[str, Expression]]:
    """Levels are linear in a dose: its tangent is the level after a unit of it alone."""
    name = _dosed_input(arguments, target)
    response = _response(arguments, name)
    arguments = _with_input(arguments, shadow, replace(response, baseline=np.zeros(1)))
    arguments = _also_dosed(arguments, name, shadow, target.index, amount=1.0)
    return arguments, {name: Symbol(shadow)}


def _response(arguments: Arguments, name: str) -> ModalResponse:
    if name not in arguments.inputs:
        raise InvalidInput(f"input '{name}' has no pharmacokinetics; give inputs={{'{name}': ...}}")
    return replace(arguments.inputs[name].response(arguments.num_patients), like=name)


def _pharmacokinetic(
    arguments: Arguments, target: PharmacokineticParameter, shadow: str
) -> tuple[Arguments, dict[str, Expression]]:
    """A central difference of two levels, exact to 1e-5 of the level."""
    name, value = target.input, target.value(arguments)
    _refuse_event_doses(arguments.network, name, target.label)
    if isinstance(getattr(arguments.inputs[name], target.name), ZeroOrder):
        raise InvalidInput(f"'{target.label}' moves the end of the absorption; {COUPLED}")
    if np.any(value == 0.0):
        raise InvalidInput(f"'{target.label}' is 0 and has no relative step; {COUPLED}")
    # Levels are linear in these two, and a bioavailability must not exceed 1.
    is_linear = target.name in ("bioavailability", "baseline")
    up, down = (0.0, 0.5) if is_linear else (SHADOW_STEP, SHADOW_STEP)
    higher, lower, scale = f"{shadow}_up", f"{shadow}_down", f"{shadow}_scale"
    pairs = ((higher, up), (lower, -down))
    for one, relative in pairs:
        moved = target.moved(arguments, relative * value).inputs[name]
        arguments = _also_dosed(_with_input(arguments, one, moved), name, one)
    arguments = _with_number(arguments, scale, 1.0 / ((up + down) * value))
    difference = call("sub", Symbol(higher), Symbol(lower))
    return arguments, {name: call("mul", Symbol(scale), difference)}


# The time warp.


def _warped(
    arguments: Arguments, target: DoseTime, shadow: str
) -> tuple[Arguments, dict[str, Expression], Expression, tuple[float, float]]:
    """A dose at t_d moves with the time around it, stretched by a hat function h, h(t_d) = 1.

    In the moved time nothing jumps: rates are multiplied by 1 + e h', and a level that was u(t)
    becomes u(t + e h) for what was dosed before, u_d(t + e h - e) for the dose itself:
    u' = h du/dt - du_d/dt. The derivative du/dt of a sum of modes is q - l u, l the fastest rate
    and q a shadow input with the gains (l - rate) gain, which is never negative.
    """
    name = _dosed_input(arguments, target)
    _refuse_event_doses(arguments.network, name, target.label)
    if arguments.start:
        raise InvalidInput(f"'{target.label}': simulate from time 0, not from start=")
    first, middle, last = _hat(arguments, target)
    arguments = arguments.with_stops(first, middle, last)
    numbers = {f"{shadow}_on": first, f"{shadow}_at": middle, f"{shadow}_off": last}
    for number, value in numbers.items():
        arguments = _with_number(arguments, number, value)
    on, at, off = (f"{shadow}_{part}" for part in ("on", "at", "off"))
    rising, falling = f"(time - {on}) / ({at} - {on})", f"({off} - time) / ({off} - {at})"
    hat = parse(
        f"0 if time < {on} else {rising} if time < {at} else {falling} if time < {off} else 0"
    )
    dilation = parse(
        f"0 if time < {on} else 1 / ({at} - {on}) if time < {at} "
        f"else -1 / ({off} - {at}) if time < {off} else 0"
    )
    tangents: dict[str, Expression] = {TIME: hat}
    for one in [i.name for i in arguments.network.inputs if not i.name.startswith(SHADOW)]:
        response = _response(arguments, one)
        if response.num_modes == 0:
            continue
        arguments, slope = _slope(arguments, one, response, f"{shadow}_{one}", None, target)
        tangents[one] = call("mul", hat, slope)
        if one == name:
            arguments, own = _slope(
                arguments, one, response, f"{shadow}_{one}_own", target.index, target
            )
            tangents[one] = call("sub", tangents[one], own)
    return arguments, tangents, dilation, (first, last)


def _slope(
    arguments: Arguments,
    name: str,
    response: ModalResponse,
    shadow: str,
    index: int | None,
    target: DoseTime,
) -> tuple[Arguments, Expression]:
    """The time derivative of a level (of one dose's share, with an index) between doses."""
    for regimen in arguments.regimens:
        for dose in regimen.expanded():
            if not isinstance(dose, Dose) or dose.into != name:
                continue
            if dose.infusion_duration or response.duration is not None:
                raise InvalidInput(
                    f"'{target.label}': '{name}' is infused, and an infusion's end has no "
                    f"time-warp score; {COUPLED}"
                )
    fastest = response.rates.max(axis=0)
    bare = replace(response, baseline=np.zeros(1))
    level = f"{shadow}_level"
    arguments = _also_dosed(_with_input(arguments, level, bare), name, level, index)
    rate = f"{shadow}_rate"
    arguments = _with_number(arguments, rate, fastest[0] if fastest.size == 1 else fastest)
    falling = call("mul", Symbol(rate), Symbol(level))
    if response.num_modes == 1:
        return arguments, call("neg", falling)
    slower = replace(bare, gains=(fastest - response.rates) * response.gains)
    rising = f"{shadow}_source"
    arguments = _also_dosed(_with_input(arguments, rising, slower), name, rising, index)
    return arguments, call("sub", Symbol(rising), falling)


def _hat(arguments: Arguments, target: DoseTime) -> tuple[float, float, float]:
    """Where the hat begins, stands highest and ends: no other dose lies under it."""
    times = set(np.unique(target.value(arguments)))
    if len(times) > 1:
        raise InvalidInput(f"'{target.label}' differs between patients; {COUPLED}")
    middle = float(times.pop())
    others = [0.0, arguments.horizon]
    for regimen in arguments.regimens:
        for position, dose in enumerate(regimen.doses):
            if isinstance(dose, Dose) and dose.into.startswith(SHADOW):
                continue
            if position == target.index and isinstance(dose, Dose) and dose.additional:
                raise InvalidInput(f"'{target.label}' is repeated; give each repetition on its own")
            if position != target.index:
                others += [one.time for one in Regimen((dose,)).expanded()]
    if any(time == middle for time in others):
        raise InvalidInput(
            f"'{target.label}' is {middle:g}, the time of another dose, the start or the horizon, "
            f"and has no time-warp score; {COUPLED}"
        )
    first = max(time for time in others if time < middle)
    last = min((time for time in others if time > middle), default=middle)
    if last <= middle:
        raise InvalidInput(f"'{target.label}' is {middle:g}, after the horizon")
    if target.reach is not None:
        if not target.reach > 0:
            raise InvalidInput(f"reach={target.reach!r} of '{target.label}' must be positive")
        first, last = max(first, middle - target.reach), min(last, middle + target.reach)
    return first, middle, last


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
