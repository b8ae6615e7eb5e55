"""A schedule as seen by trajectories that begin after time 0."""

from dataclasses import replace

import numpy as np

from engine.dosing.schedule import DosingSchedule
from engine.errors import InvalidInput
from engine.inputs.layout import decayed

Array = np.ndarray
_INFUSION = "infusion_into_"


def starting_at(schedule: DosingSchedule, start: float) -> DosingSchedule:
    """The schedule for trajectories that begin at `start`, from where it counts its times.

    Records before `start` have only shaped the inputs: the amplitudes are advanced through them in
    closed form. A record at `start` itself is still due.

    Args:
        schedule: from `compile_schedule`.
        start: where the trajectories begin, not negative.

    Returns:
        A schedule whose time 0 is `start`.

    Raises:
        InvalidInput: a dose or an infusion into a species before `start`.
    """
    if start == 0.0:
        return schedule
    passed = (schedule.times < start).sum(axis=1)
    _refuse_species(schedule, start)
    is_shared = len(schedule.times) == 1
    # Past the end stands the last record, which is at +inf and adds nothing.
    last = schedule.times.shape[1] - 1
    left = np.arange(last + 1 - int(passed.min()))
    columns = np.minimum(passed[:, np.newaxis] + left, last)

    def remaining(table: Array) -> Array:
        if is_shared:
            return table[:, columns[0]]
        return table[np.arange(len(table))[:, np.newaxis], columns]

    return replace(
        schedule,
        initial=_state_at(schedule, passed, start),
        times=remaining(schedule.times) - start,
        keep=remaining(schedule.keep),
        increments=remaining(schedule.increments),
        species_increments=remaining(schedule.species_increments),
    )


def _state_at(schedule: DosingSchedule, passed: Array, start: float) -> Array:
    """The flat state (total, R) at `start`, after the records that have passed."""
    layout, rates = schedule.layout, schedule.rates
    owner = np.repeat(np.arange(len(layout.names)), [1 + n for n in layout.num_modes])
    state, now = schedule.initial, np.zeros(len(schedule.times))
    for record in range(int(passed.max())):
        is_due = record < passed
        due = np.where(is_due, schedule.times[:, record], now)
        state = decayed(layout, state, rates, due - now)
        given = state * schedule.keep[:, record, owner].T + schedule.increments[:, record].T
        state, now = np.where(is_due, given, state), due
    return decayed(layout, state, rates, start - now)


def _refuse_species(schedule: DosingSchedule, start: float) -> None:
    is_past = schedule.times < start
    for i, name in enumerate(schedule.species):
        if np.any(is_past & (schedule.species_increments[..., i] != 0)):
            _refuse(f"dose into species '{name}'", start)
    for name, places in schedule.layout.entries():
        is_given = schedule.increments[..., places.start] != 0
        if name.startswith(_INFUSION) and np.any(is_past & is_given):
            _refuse(f"infusion into species '{name.removeprefix(_INFUSION)}'", start)


def _refuse(what: str, start: float) -> None:
    raise InvalidInput(
        f"{what} before start={start:g}, from where the initial counts hold; give it at or after "
        "start, or start earlier"
    )
