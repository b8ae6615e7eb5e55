"""What each record does to the state of the inputs, filled for all patients at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from engine.dosing.records import DoseTable, Timeline
from engine.errors import InvalidInput
from engine.inputs.modes import ModalResponse
from engine.inputs.tangent import ModalTangent

Array = np.ndarray
_SLAB = 2_000_000  # numbers handled at once, to bound the memory beside the result
# Counts are 32-bit integers; a bolus must not wrap one around unseen.
LARGEST_BOLUS = 2.0**31 - 2.0**22


def absorb(
    doses: DoseTable, names: Sequence[str], responses: Sequence[ModalResponse | ModalTangent]
) -> DoseTable:
    """Check that each input can take its doses, and make zero-order absorption an infusion.

    Args:
        doses: with positions of inputs as targets (-1 for other targets).
        names: of the inputs.
        responses: of the inputs.

    Raises:
        InvalidInput: a dose that its input cannot take, naming the input.
    """
    duration = doses.duration.copy()
    for i, (name, response) in enumerate(zip(names, responses, strict=True)):
        mine = doses.target == i
        if not mine.any():
            continue
        if response.num_modes == 0 and not response.direct.any():
            raise InvalidInput(
                f"input '{name}' is a constant level and takes no doses; dose another"
            )
        if response.duration is not None:
            if doses.is_infusion[mine].any():
                raise InvalidInput(
                    f"input '{name}' has zero-order absorption and takes boluses only; "
                    "drop rate= and duration= of the dose, or give another absorption"
                )
            lasting = response.duration
            duration[mine] = lasting[doses.row[mine]] if lasting.size > 1 else lasting[0]
        if np.any(mine & (~np.isnan(duration) | doses.is_steady_state)):
            response.require_cleared(f"input '{name}'")
    absorbed = replace(doses, duration=duration)
    _check_steady_states(absorbed, names)
    return absorbed


def _check_steady_states(doses: DoseTable, names: Sequence[str]) -> None:
    steady = doses.where(doses.is_steady_state & (doses.target >= 0))
    with np.errstate(invalid="ignore"):
        is_overlapping = steady.duration > steady.interval
    if is_overlapping.any():
        first = int(np.argmax(is_overlapping))
        raise InvalidInput(
            f"input '{names[steady.target[first]]}': a steady-state dose lasts "
            f"{steady.duration[first]:g}, longer than its interval {steady.interval[first]:g}"
        )
    places = np.stack([steady.row, steady.target, steady.time])
    if np.unique(places, axis=1).shape[1] < steady.time.size:
        raise InvalidInput(
            "two steady-state doses into one input at one time; combine them into one"
        )


def fill_keep(doses: DoseTable, timeline: Timeline, num_inputs: int) -> Array:
    """Factors of each input's state: 0 at a reset and at its steady-state doses, otherwise 1."""
    keep = np.ones((*timeline.times.shape, num_inputs))
    cells = keep.reshape(timeline.times.size, num_inputs)
    cells[timeline.reset] = 0.0
    steady = doses.is_steady_state & (doses.target >= 0)
    cells[timeline.start[steady], doses.target[steady]] = 0.0
    return keep


def fill_increments(
    responses: Sequence[ModalResponse | ModalTangent],
    doses: DoseTable,
    timeline: Timeline,
    keep: Array,
) -> Array:
    """What each record adds to the flat state, shape (R, D, total).

    Rows of the timeline are patients, or a single one shared by patients whose responses may
    still differ; then R comes from the responses.
    """
    num_rows, num_records, _ = keep.shape
    num_columns = max((r.num_rows for r in responses), default=1) if num_rows == 1 else 1
    total = sum(1 + r.num_modes for r in responses)
    flat = np.zeros((num_columns, num_rows * num_records, total))
    offset = 0
    for i, response in enumerate(responses):
        part = flat[:, :, offset : offset + 1 + response.num_modes]
        offset += 1 + response.num_modes
        wiped = np.flatnonzero(keep[:, :, i].ravel() == 0.0)
        local = response if num_rows == 1 else response.rows(wiped // num_records)
        part[:, wiped, 0] = local.baseline[:, np.newaxis] if num_rows == 1 else local.baseline
        mine = doses.target == i
        cells = timeline.start[mine], timeline.end[mine]
        _add_doses(part, response, doses.where(mine), *cells, is_shared=num_rows == 1)
    return flat.reshape(num_rows * num_columns, num_records, total)


def _add_doses(
    part: Array,
    response: ModalResponse | ModalTangent,
    doses: DoseTable,
    start: Array,
    end: Array,
    *,
    is_shared: bool,
) -> None:
    """Add the doses of one input into `part`, shape (columns, cells, 1 + n_modes)."""
    lasting, steady = doses.is_infusion, doses.is_steady_state
    rate = np.divide(
        doses.amount,
        doses.duration,
        out=np.zeros(lasting.size),
        where=lasting & (doses.duration > 0),
    )
    columns = (doses.amount, rate, doses.duration, doses.interval)
    kinds: tuple[tuple[Array, Array, Callable[..., Array]], ...] = (
        (~lasting & ~steady, start, lambda r, amount, *_: r.bolus(amount)),
        (lasting & ~steady, start, lambda r, _, rate, *__: r.infusion(rate)),
        (end >= 0, end, lambda r, _, rate, *__: -r.infusion(rate)),
        (~lasting & steady, start, lambda r, amount, _, __, every: r.steady_bolus(amount, every)),
        (lasting & steady, start, lambda r, _, *rest: r.steady_infusion(*rest)),
    )
    for chosen, cells, effect in kinds:
        which = np.flatnonzero(chosen)
        for piece in np.array_split(which, 1 + which.size * part.shape[0] // _SLAB):
            if piece.size == 0:
                continue
            if is_shared:
                state = effect(response, *(c[piece, np.newaxis] for c in columns))
                for j, cell in enumerate(cells[piece]):  # few, each of all patients
                    part[:, cell, :] += state[:, j].T
            else:
                state = effect(response.rows(doses.row[piece]), *(c[piece] for c in columns))
                for k, added in enumerate(state):
                    np.add.at(part[0, :, k], cells[piece], added)


def fill_species(
    doses: DoseTable, timeline: Timeline, species_of: Array, species: Sequence[str]
) -> Array:
    """Molecules that each record adds to the species, int64, shape (R, D, len(species)).

    Raises:
        InvalidInput: a part of a molecule, or a steady state.
    """
    added = np.zeros((*timeline.times.shape, len(species)), np.int64)
    mine = species_of >= 0
    chosen, which = doses.where(mine), species_of[mine]
    for is_bad, problem in (
        (chosen.is_steady_state, "a steady state is of a drug, not of a species; dose an input"),
        (chosen.amount != np.floor(chosen.amount), "a bolus is whole molecules; round the amount"),
        (chosen.amount >= LARGEST_BOLUS, "that many molecules cannot be counted; give fewer"),
    ):
        if is_bad.any():
            first = int(np.argmax(is_bad))
            name = species[which[first]]
            raise InvalidInput(f"dose of {chosen.amount[first]:g} into species '{name}': {problem}")
    cells = added.reshape(timeline.times.size, len(species))
    np.add.at(cells, (timeline.start[mine], which), chosen.amount.astype(np.int64))
    if np.any(cells >= LARGEST_BOLUS):
        name = species[int(np.argmax(np.any(cells >= LARGEST_BOLUS, axis=0)))]
        raise InvalidInput(
            f"doses into species '{name}' add up to {cells.max():g} molecules at one time, which "
            "cannot be counted; give fewer"
        )
    return added
