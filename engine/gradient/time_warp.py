"""The score of a dose's time: the time around it is stretched, so that nothing jumps."""

from dataclasses import replace

import numpy as np

from engine.dosing.dose import Dose
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.dose_targets import DoseTime
from engine.gradient.shadows import (
    COUPLED,
    SHADOW,
    also_dosed,
    dosed_input,
    refuse_event_doses,
    response_of,
    with_input,
    with_number,
)
from engine.inputs.modes import ModalResponse
from engine.network.expressions import TIME, Expression, Symbol, call, parse


def warped(
    arguments: Arguments, target: DoseTime, shadow: str
) -> tuple[Arguments, dict[str, Expression], Expression, tuple[float, float]]:
    """A dose at t_d moves with the time around it, stretched by a hat function h, h(t_d) = 1.

    In the moved time nothing jumps: rates are multiplied by 1 + e h', and a level that was u(t)
    becomes u(t + e h) for what was dosed before, u_d(t + e h - e) for the dose itself:
    u' = h du/dt - du_d/dt. The derivative du/dt of a sum of modes is one with the gains -rate gain.
    """
    name = dosed_input(arguments, target)
    refuse_event_doses(arguments.network, name, target.label)
    if arguments.start:
        raise InvalidInput(f"'{target.label}': simulate from time 0, not from start=")
    first, middle, last = surroundings(arguments, target)
    arguments = arguments.with_stops(first, middle, last)
    numbers = {f"{shadow}_on": first, f"{shadow}_at": middle, f"{shadow}_off": last}
    for number, value in numbers.items():
        arguments = with_number(arguments, number, value)
    on, at, off = (f"{shadow}_{part}" for part in ("on", "at", "off"))
    rising, falling = f"(time - {on}) / ({at} - {on})", f"({off} - time) / ({off} - {at})"
    # At a stop it is what it was before: quadrature looks at ends of stretches, not at beginnings.
    hat = parse(
        f"0 if time <= {on} else {rising} if time <= {at} else {falling} if time <= {off} else 0"
    )
    dilation = parse(
        f"0 if time <= {on} else 1 / ({at} - {on}) if time <= {at} "
        f"else -1 / ({off} - {at}) if time <= {off} else 0"
    )
    tangents: dict[str, Expression] = {TIME: hat}
    for one in [i.name for i in arguments.network.inputs if not i.name.startswith(SHADOW)]:
        response = response_of(arguments, one)
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
    gains = -response.rates * response.gains
    slope = replace(response, gains=gains, baseline=np.zeros(1), is_signed=True)
    return also_dosed(with_input(arguments, shadow, slope), name, shadow, index), Symbol(shadow)


def surroundings(arguments: Arguments, target: DoseTime) -> tuple[float, float, float]:
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
