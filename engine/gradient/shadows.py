"""Shadow inputs: levels of other drugs in the same kernel, from which an input's tangent is made.

Levels are linear in what is given: the tangent of a level by an amount, a duration or a rate is a
level again, after other doses. By a pharmacokinetic parameter it is a `ModalTangent`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.dosing.dose import Dose, Reset
from engine.dosing.pharmacokinetics import ZeroOrder
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.dose_targets import DoseAmount, DoseDuration, DoseRate, IndividualDoses
from engine.gradient.targets import PharmacokineticParameter
from engine.inputs.modes import ModalResponse
from engine.inputs.tangent import ModalTangent
from engine.network.derivatives import ONE
from engine.network.expressions import Expression, Symbol, call
from engine.network.network import ReactionNetwork
from engine.network.quantities import Input
from engine.network.quantities import Parameter as NetworkParameter

# How far the two responses lie apart whose difference is a tangent, as shares of the number: their
# difference is right to 1e-10 of it, in float64.
SHADOW_STEP = 1e-5
SHADOW = "_shadow"
COUPLED = "use engine.gradient.CoupledDifference()"


def with_input(arguments: Arguments, name: str, response: Any) -> Arguments:
    """The arguments with an input more."""
    network = replace(arguments.network, inputs=(*arguments.network.inputs, Input(name)))
    return replace(arguments, network=network, inputs={**arguments.inputs, name: response})


def with_number(arguments: Arguments, name: str, value: Any) -> Arguments:
    """The arguments with a parameter more."""
    parameters = (*arguments.network.parameters, NetworkParameter(name, ONE))
    network = replace(arguments.network, parameters=parameters)
    return replace(arguments, network=network, params={**arguments.params, name: value})


def also_dosed(arguments: Arguments, source: str, into: str, index: int | None = None) -> Arguments:
    """The doses into `source` (or one of them) given into a shadow as well."""
    number = max(len(regimen.doses) for regimen in arguments.regimens)
    indices = range(number) if index is None else (index,)
    return _also(arguments, source, into, indices, lambda _, dose: dose)


def _also(
    arguments: Arguments,
    source: str,
    into: str,
    indices: Sequence[int],
    changed: Callable[[int, Dose], Dose],
) -> Arguments:
    """Some of the doses into `source`, changed, given into a shadow as well."""
    regimens = []
    for row, regimen in enumerate(arguments.regimens):
        doses = list(regimen.doses)
        for position in indices:
            dose = regimen.doses[position] if position < len(regimen.doses) else None
            if isinstance(dose, Dose) and dose.into == source:
                doses.append(replace(changed(row, dose), into=into))
        regimens.append(Regimen(tuple(doses)))
    return arguments.with_regimens(regimens)


def refuse_event_doses(network: ReactionNetwork, name: str, label: str) -> None:
    """Doses that events give are none of the regimen's."""
    for event in network.events:
        if name in event.doses:
            raise InvalidInput(
                f"'{label}': event '{event.name}' doses '{name}', which its score does not "
                f"follow; {COUPLED}"
            )


def dosed_input(arguments: Arguments, target: Any, index: int | None = None) -> str:
    """The one input that the dose of a target goes into."""
    place = target.index if index is None else index
    doses = [dose for dose in arguments.doses(place) if isinstance(dose, Dose)]
    names = {dose.into for dose in doses}
    name = names.pop()
    if names:
        raise InvalidInput(f"'{target.label}' goes into different inputs for different patients")
    if arguments.network.kind_of(name) != "input":
        raise InvalidInput(
            f"'{target.label}' is of molecules given into species '{name}', a whole number "
            f"without a score; {COUPLED}"
        )
    return name


def unit_dose(
    arguments: Arguments, target: DoseAmount, shadow: str
) -> tuple[Arguments, dict[str, Expression]]:
    """Levels are linear in a dose: its tangent is the level after a unit of it alone.

    Infused at a given rate the dose's end moves with its amount, and nothing else: the tangent is
    the level after a unit bolus at the end.
    """
    name = dosed_input(arguments, target)
    arguments = _with_bare(arguments, name, shadow)

    def unit(_: int, dose: Dose) -> Dose:
        return replace(dose, amount=1.0) if dose.rate is None else _bolus_at_end(dose, 1.0)

    return _also(arguments, name, shadow, (target.index,), unit), {name: Symbol(shadow)}


def infusion_length(
    arguments: Arguments, target: DoseDuration | DoseRate, shadow: str
) -> tuple[Arguments, dict[str, Expression]]:
    """An infusion's level less the level after a bolus of its amount at its end, over its length.

    By the duration D: (bolus - level) / D; by the rate r = A / D: (level - bolus) / r.
    """
    name = dosed_input(arguments, target)
    if any(
        dose.is_steady_state for dose in arguments.doses(target.index) if isinstance(dose, Dose)
    ):
        raise InvalidInput(f"'{target.label}' is of a steady state; {COUPLED}")
    bolus, level, scale = f"{shadow}_bolus", f"{shadow}_level", f"{shadow}_scale"
    for one in (bolus, level):
        arguments = _with_bare(arguments, name, one)
    indices = (target.index,)
    arguments = _also(
        arguments, name, bolus, indices, lambda _, dose: _bolus_at_end(dose, dose.amount)
    )
    arguments = _also(arguments, name, level, indices, lambda _, dose: dose)
    arguments = with_number(arguments, scale, 1.0 / target.value(arguments))
    first, second = (bolus, level) if isinstance(target, DoseDuration) else (level, bolus)
    difference = call("sub", Symbol(first), Symbol(second))
    return arguments, {name: call("mul", Symbol(scale), difference)}


def individual_doses(
    arguments: Arguments, target: IndividualDoses, shadow: str
) -> tuple[Arguments, dict[str, Expression]]:
    """The level after the amounts by which a patient's doses move, times the patient's factor."""
    names = {dosed_input(arguments, target, index) for index in target.doses}
    name = names.pop()
    if names:
        raise InvalidInput(f"'{target.label}' is of doses into different inputs; name one of them")
    amounts, factor = np.asarray(target.amounts, np.float64), f"{shadow}_factor"
    arguments = _with_bare(arguments, name, shadow)
    for index, column in zip(target.doses, amounts.T, strict=True):
        arguments = _also(arguments, name, shadow, (index,), _with_amounts(column))
    factors = np.asarray(target.factors, np.float64)
    arguments = with_number(arguments, factor, factors)
    return arguments, {name: call("mul", Symbol(factor), Symbol(shadow))}


def _with_amounts(amounts: np.ndarray) -> Callable[[int, Dose], Dose]:
    return lambda row, dose: replace(dose, amount=float(amounts[row]))


def _with_bare(arguments: Arguments, name: str, shadow: str) -> Arguments:
    """With a shadow of an input's response that no dose reaches yet."""
    response = replace(response_of(arguments, name), baseline=np.zeros(1))
    return with_input(arguments, shadow, response)


def _bolus_at_end(dose: Dose, amount: float) -> Dose:
    end = dose.time + (dose.infusion_duration or 0.0)
    return replace(dose, amount=amount, time=end, rate=None, duration=None)


def response_of(arguments: Arguments, name: str) -> ModalResponse:
    """The response of an input, or its name where there is none."""
    if name not in arguments.inputs:
        raise InvalidInput(f"input '{name}' has no pharmacokinetics; give inputs={{'{name}': ...}}")
    return replace(arguments.inputs[name].response(arguments.num_patients), like=name)


def pharmacokinetic(
    arguments: Arguments, target: PharmacokineticParameter, shadow: str
) -> tuple[Arguments, dict[str, Expression]]:
    """The tangent of a level by a number that its modes depend on."""
    name, value = target.input, target.value(arguments)
    refuse_event_doses(arguments.network, name, target.label)
    if isinstance(getattr(arguments.inputs[name], target.name), ZeroOrder):
        raise InvalidInput(f"'{target.label}' moves the end of the absorption; {COUPLED}")
    if np.any(value == 0.0):
        raise InvalidInput(f"'{target.label}' is 0 and has no relative step; {COUPLED}")
    # Levels are linear in these two, and a bioavailability must not exceed 1.
    is_linear = target.name in ("bioavailability", "baseline")
    up, down = (0.0, 0.5) if is_linear else (SHADOW_STEP, SHADOW_STEP)
    higher, lower = (
        response_of(target.moved(arguments, relative * value), name) for relative in (up, -down)
    )
    if higher.duration is not None and np.any(higher.duration != lower.duration):
        raise InvalidInput(f"'{target.label}' moves the end of the absorption; {COUPLED}")
    scale = np.atleast_1d(1.0 / ((up + down) * value))
    arguments = with_input(arguments, shadow, ModalTangent(higher, lower, scale, name))
    return also_dosed(arguments, name, shadow), {name: Symbol(shadow)}


def without_shadows(arguments: Arguments) -> Arguments:
    """The arguments as they were before shadow inputs came to them, and their doses."""
    network = arguments.network
    inputs = tuple(one for one in network.inputs if not one.name.startswith(SHADOW))
    regimens = [
        Regimen(tuple(d for d in regimen.doses if not _is_of_shadow(d)))
        for regimen in arguments.regimens
    ]
    return replace(
        arguments.with_regimens(regimens),
        network=replace(network, inputs=inputs),
        inputs={one.name: arguments.inputs[one.name] for one in inputs},
    )


def _is_of_shadow(dose: Dose | Reset) -> bool:
    return isinstance(dose, Dose) and dose.into.startswith(SHADOW)
