"""Compile pharmacokinetics and regimens to the table that a kernel lane walks through.

A lane holds, for every input, one level and its amplitudes, flattened input after input. Between
records the amplitudes decay; at the record with time t the lane does

    state = state * keep (of the entry's input) + increments;   counts += species_increments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engine.dosing.dose import Dose, Reset
from engine.dosing.increments import absorb, fill_increments, fill_keep, fill_species
from engine.dosing.pharmacokinetics import InfusionRate, Pharmacokinetics
from engine.dosing.records import DoseTable, Resets, lay_out, tabulate, tile
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput
from engine.inputs.layout import InputLayout, decayed
from engine.inputs.modes import ModalResponse
from engine.inputs.tangent import ModalTangent
from engine.network.network import ReactionNetwork, hint
from engine.network.quantities import Input
from engine.network.rate_laws import Formula
from engine.network.reactions import Reaction

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class DosingSchedule:
    """Everything the inputs do in time, per patient, as arrays.

    R is the number of patients, or 1 where they are all alike, **for each array on its own**:
    with a shared regimen and individual pharmacokinetics `times` has R = 1 and `increments`
    R = N. D is the largest number of records of a patient plus one, so every row of `times` ends
    with +inf. Arrays are float64 unless stated. Sums of amplitudes of both signs can be below 0 by
    rounding: a kernel clamps the value at 0 of an input that is not signed.

    Args:
        layout: where the inputs lie in the flat state: [level_0, A_00, A_01, ..., level_1, ...].
        rates: decay rate of each entry, 0 for levels, shape (total, R); of a tangent the change of
            its input's.
        initial: state at time 0, before any dose: baselines in the levels, shape (total, R).
        gains: what a unit bolus adds to each entry, shape (total, R), for doses given by events
            inside a simulation; 0 for levels.
        is_bolus_exact: for each input, whether `gains` is all there is to a bolus; false with
            zero-order absorption, a constant level or an infusion rate: refuse such events.
        species: species that receive boluses.
        times: times of the records, strictly increasing, padded with +inf, shape (R, D).
        keep: factor of each input's entries at a record, 1 or (reset, steady state) 0,
            shape (R, D, num_inputs).
        increments: what each record then adds to the state, shape (R, D, total).
        species_increments: molecules each record adds, int64, shape (R, D, len(species)).
    """

    layout: InputLayout
    rates: Array
    initial: Array
    gains: Array
    is_bolus_exact: tuple[bool, ...]
    species: tuple[str, ...]
    times: Array
    keep: Array
    increments: Array
    species_increments: Array

    def rows(self, indices: ArrayLike) -> "DosingSchedule":
        """The schedule of some patients, by position; arrays shared by all stay shared."""
        taken: dict[str, Any] = {}
        for name, axis in _PATIENT_AXES.items():
            array = getattr(self, name)
            taken[name] = array if array.shape[axis] == 1 else array.take(indices, axis)
        return replace(self, **taken)

    def padded(self, num_records: int) -> "DosingSchedule":
        """The same schedule with D = num_records, to keep shapes equal between regimens."""
        more = num_records - self.times.shape[1]
        if more < 0:
            raise InvalidInput(f"the schedule has {self.times.shape[1]} records, not {num_records}")
        fills = {"times": np.inf, "keep": 1.0, "increments": 0.0, "species_increments": 0}
        longer: dict[str, Any] = {}
        for name, fill in fills.items():
            array = getattr(self, name)
            widths = [(0, more if axis == 1 else 0) for axis in range(array.ndim)]
            longer[name] = np.pad(array, widths, constant_values=fill)
        return replace(self, **longer)


_PATIENT_AXES = {
    "rates": 1,
    "initial": 1,
    "gains": 1,
    "times": 0,
    "keep": 0,
    "increments": 0,
    "species_increments": 0,
}


def compile_schedule(
    network: ReactionNetwork,
    inputs: Mapping[str, Pharmacokinetics],
    regimen: Regimen | Sequence[Regimen] | None,
    num_patients: int,
    save_times: ArrayLike | None = None,
) -> tuple[ReactionNetwork, DosingSchedule]:
    """Turn pharmacokinetics and regimens into a `DosingSchedule`.

    An infusion into a species S becomes an input `infusion_into_S` (a level, no modes) that
    drives a reaction `0 -> S`, exact like any other: the returned network has both.

    Args:
        network: the network whose inputs and species are dosed.
        inputs: pharmacokinetics of every input of the network, by name: `OneCompartment`,
            `TwoCompartment`, `ConstantLevel`, or a `ModalResponse` of your own.
        regimen: one for all patients, a sequence with one per patient, or None for no doses.
        num_patients: N.
        save_times: times of their own; a dose within rounding of one of them is at it.

    Returns:
        The network, extended where species are infused, and the schedule.

    Raises:
        InvalidInput: an input without pharmacokinetics, an unknown target, a dose that the
            target cannot take, another number of regimens than patients.

    Example:
        >>> from engine.dosing.dose import Dose
        >>> from engine.dosing.pharmacokinetics import OneCompartment
        >>> network = ReactionNetwork(
        ...     species={"X": 0}, inputs=["drug"], reactions=[Reaction("0 -> X", Formula("drug"))]
        ... )
        >>> drug = OneCompartment(clearance=1.0, volume=2.0)
        >>> regimen = Regimen(Dose(10.0, into="drug"))
        >>> _, schedule = compile_schedule(network, {"drug": drug}, regimen, num_patients=1)
        >>> concentration(schedule, "drug", [0.0]).tolist()
        [[5.0]]
    """
    _check_inputs(network, inputs)
    regimens, is_shared = _regimens(regimen, num_patients)
    targets, doses, resets = tabulate(regimens)
    for target in targets:
        network.require(target, "input", "species", what="dose")
    infused = [
        target
        for i, target in enumerate(targets)
        if network.kind_of(target) == "species" and doses.where(doses.target == i).is_infusion.any()
    ]
    network, pharmacokinetics = _with_infusions(network, inputs, infused)
    responses = {name: _response(name, pk, num_patients) for name, pk in pharmacokinetics.items()}
    if is_shared and any(
        name in targets and response.duration is not None and response.num_rows > 1
        for name, response in responses.items()
    ):
        doses, resets = tile(doses, resets, num_patients)
        is_shared = False
    num_rows = 1 if is_shared else num_patients
    return network, _fill(network, responses, targets, doses, resets, num_rows, save_times)


def _check_inputs(network: ReactionNetwork, inputs: Mapping[str, Pharmacokinetics]) -> None:
    names = [i.name for i in network.inputs]
    for name in inputs:
        network.require(name, "input", what="inputs=")
    for name in names:
        if name not in inputs:
            raise InvalidInput(
                f"input '{name}' of {network.name} has no pharmacokinetics; give "
                f"inputs={{'{name}': OneCompartment(...)}} or ConstantLevel(...)"
            )


def _regimens(
    regimen: Regimen | Sequence[Regimen] | None, num_patients: int
) -> tuple[Sequence[Regimen], bool]:
    """One regimen for all (and true), or one per patient (and false)."""
    if regimen is None or isinstance(regimen, Regimen):
        return (regimen or Regimen(),), True
    if isinstance(regimen, Dose | Reset):
        raise InvalidInput(f"regimen={regimen!r} is a single dose; give Regimen([{regimen!r}])")
    regimens = tuple(regimen)
    for position, one in enumerate(regimens):
        if not isinstance(one, Regimen):
            raise InvalidInput(f"regimen {position} is {one!r}; give Regimen([Dose(...), ...])")
    if len(regimens) != num_patients:
        raise InvalidInput(
            f"{len(regimens)} regimens for {num_patients} patients; give one, or one per patient"
        )
    if all(one is regimens[0] or one == regimens[0] for one in regimens):
        return regimens[:1], True
    return regimens, False


def _response(
    name: str, pharmacokinetics: Pharmacokinetics, num_patients: int
) -> ModalResponse | ModalTangent:
    try:
        return pharmacokinetics.response(num_patients)
    except AttributeError:
        raise InvalidInput(
            f"input '{name}' is {pharmacokinetics!r}; give OneCompartment(...), "
            "TwoCompartment(...) or ConstantLevel(...)"
        ) from None
    except InvalidInput as error:
        raise InvalidInput(f"input '{name}': {error}") from None


def _with_infusions(
    network: ReactionNetwork, inputs: Mapping[str, Pharmacokinetics], infused: Sequence[str]
) -> tuple[ReactionNetwork, dict[str, Pharmacokinetics]]:
    """The network with an input and a reaction for each infused species, and all inputs' PK."""
    species = {s.name: s for s in network.species}
    pharmacokinetics = {i.name: inputs[i.name] for i in network.inputs}
    added = []
    for name in infused:
        one = species[name]
        if one.is_boundary or one.is_constant or one.is_continuous:
            raise InvalidInput(
                f"dose: no infusion into species '{name}', which no reaction changes (it is "
                "boundary, constant or continuous); make it an ordinary species"
            )
        rate = f"infusion_into_{name}"
        pharmacokinetics[rate] = InfusionRate()
        added.append(Reaction(f"0 -> {name}", Formula(rate), name=rate, description="infusion"))
    if not added:
        return network, pharmacokinetics
    extended = replace(
        network,
        inputs=(*network.inputs, *(Input(r.name, "molecules per time") for r in added)),
        reactions=(*network.reactions, *added),
    )
    return extended, pharmacokinetics


def _layout(responses: Mapping[str, ModalResponse | ModalTangent]) -> InputLayout:
    """Where the inputs stand, and which have the same decay rates."""
    names = tuple(responses)
    for name, response in responses.items():
        if isinstance(response, ModalTangent) and response.like not in names:
            raise InvalidInput(f"input '{name}' is the tangent of '{response.like}', which is none")
    return InputLayout(
        names,
        tuple(r.num_modes for r in responses.values()),
        tuple(names.index(_first_like(name, responses)) for name in names),
        frozenset(name for name, r in responses.items() if isinstance(r, ModalTangent)),
        frozenset(name for name, r in responses.items() if r.is_signed),
    )


def _first_like(name: str, responses: Mapping[str, ModalResponse | ModalTangent]) -> str:
    """The input that one says it decays like, or the first whose rates are the same.

    The two systems of a coupled pair have the same drugs: lanes need their exponentials once.
    """
    own = responses[name]
    if own.like is not None:
        return own.like if own.like in responses else name
    standing = (n for n, other in responses.items() if isinstance(other, ModalResponse))
    same = (n for n in standing if np.array_equal(responses[n].rates, own.rates))
    return next(same, name)


def _decay_rates(response: ModalResponse | ModalTangent) -> Array:
    """The rates as they stand in a schedule, the level's first."""
    rates = response.slopes if isinstance(response, ModalTangent) else response.rates
    return np.concatenate([np.zeros((1, rates.shape[1])), rates])


def _fill(
    network: ReactionNetwork,
    responses: Mapping[str, ModalResponse | ModalTangent],
    targets: Sequence[str],
    doses: DoseTable,
    resets: Resets,
    num_rows: int,
    save_times: ArrayLike | None,
) -> DosingSchedule:
    names, parts = tuple(responses), tuple(responses.values())
    is_species = np.array([network.kind_of(t) == "species" for t in targets], bool)[doses.target]
    is_molecules = is_species & ~doses.is_infusion
    dosed = tuple(t for i, t in enumerate(targets) if is_molecules[doses.target == i].any())
    for one in network.species:
        if one.is_constant and one.name in dosed:
            raise InvalidInput(
                f"dose: species '{one.name}' is constant; make it an ordinary species"
            )
    input_of = [_position(names, t if t in names else f"infusion_into_{t}") for t in targets]
    species_of = np.array([_position(dosed, t) for t in targets], np.int64)[doses.target]
    species_of = np.where(is_molecules, species_of, -1)
    target = np.where(is_molecules, -1, np.array(input_of, np.int64)[doses.target])
    _check_infused(names, doses, target, is_species)
    doses = absorb(replace(doses, target=target), names, parts)
    timeline = lay_out(
        doses, resets, num_rows, None if save_times is None else np.asarray(save_times)
    )
    keep = fill_keep(doses, timeline, len(names))
    return DosingSchedule(
        layout=_layout(responses),
        rates=_flat([_decay_rates(part) for part in parts]),
        initial=_flat([part.start() for part in parts]),
        gains=_flat([_unit_bolus(part) for part in parts]),
        is_bolus_exact=tuple(part.is_bolus_exact for part in parts),
        species=dosed,
        times=timeline.times,
        keep=keep,
        increments=fill_increments(parts, doses, timeline, keep),
        species_increments=fill_species(doses, timeline, species_of, dosed),
    )


def _position(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else -1


def _check_infused(
    names: Sequence[str], doses: DoseTable, target: Array, is_species: Array
) -> None:
    is_bad = is_species & doses.is_infusion & doses.is_steady_state
    if is_bad.any():
        name = names[target[int(np.argmax(is_bad))]].removeprefix("infusion_into_")
        raise InvalidInput(
            f"dose into species '{name}': a steady state is of a drug, not of a species; "
            "dose an input"
        )


def _unit_bolus(response: ModalResponse | ModalTangent) -> Array:
    if response.num_modes == 0:
        return np.zeros((1, 1))
    return response.bolus(1.0)


def _flat(parts: Sequence[Array]) -> Array:
    """The inputs' (1 + n_modes, R) arrays as one (total, R)."""
    num_rows = max((part.shape[1] for part in parts), default=1)
    full = [np.broadcast_to(part, (part.shape[0], num_rows)) for part in parts]
    return np.concatenate([np.zeros((0, num_rows)), *full])


def concentration(schedule: DosingSchedule, name: str, ts: ArrayLike) -> Array:
    """An input's value at given times, in closed form: for plots and as a reference.

    Args:
        schedule: from `compile_schedule`.
        name: the input.
        ts: times, not negative, shape (T,); at the time of a dose the value is after the dose.

    Returns:
        Values in the input's unit, shape (R, T), R = 1 where all patients are alike.

    Raises:
        InvalidInput: an unknown input or a time before 0.
    """
    layout = schedule.layout
    if name not in layout.names:
        raise InvalidInput(f"'{name}' is not an input of this schedule{hint(name, layout.names)}")
    mine = list(dict(layout.entries())[name])
    entries = list(dict.fromkeys([*mine, *(layout.sources[entry] for entry in mine)]))
    owners = [layout.owner(entry) for entry in entries]
    ts = np.atleast_1d(np.asarray(ts, np.float64))
    if np.any(~(ts >= 0.0)):
        raise InvalidInput("ts has a time before 0; concentrations start at 0")
    rates, state = schedule.rates, schedule.initial[entries]  # R grows by broadcasting
    now = np.zeros((schedule.times.shape[0], 1))
    result = np.zeros((1, ts.size))
    for record in range(schedule.times.shape[1]):
        due = schedule.times[:, record, np.newaxis]  # (R, 1)
        since = np.maximum(ts - now, 0.0)
        later = decayed(layout, state[..., np.newaxis], rates[..., np.newaxis], since, entries)
        result = np.where(ts >= now, later[: len(mine)].sum(axis=0), result)
        due = np.where(np.isfinite(due), due, now)  # padding changes nothing, and takes no time
        state = decayed(layout, state, rates, (due - now)[:, 0], entries)
        added = schedule.increments[:, record][:, entries]
        state = state * schedule.keep[:, record, owners].T + added.T
        now = due
    # Modes of both signs cancel to rounding error where nothing is left; a level is not negative.
    return result if name in layout.signed else np.asarray(np.maximum(result, 0.0))
