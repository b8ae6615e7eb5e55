"""The state of the inputs after each record as numbers, in place of what the record adds.

A lane keeps its inputs' amplitudes in float32. Added up record by record they would drift: a
baseline of 0.001 is lost beside an infusion's plateau of 1e5, and a plateau that is added and
taken away again leaves a remainder for ever. The host knows every scheduled state in float64.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from engine.dosing.schedule import DosingSchedule
from engine.errors import InvalidInput
from engine.inputs.layout import decayed

# Below this share of its largest number an entry is a remainder of rounding.
NOTHING = 2.0**-44
# How much higher than what an infusion reaches its plateau may be: float32 keeps a thousandth of
# what is reached.
RESOLVED = 2.0**14


class LaneDoses(NamedTuple):
    """What a lane does at each record: amplitude = keep * amplitude + increment.

    Attributes:
        times: (R, D).
        keep, increments: (R, D, total); R is 1 where all patients are alike.
        species_increments: (R, D, dosed species).
    """

    times: np.ndarray
    keep: np.ndarray
    increments: np.ndarray
    species_increments: np.ndarray


def lane_doses(schedule: DosingSchedule, rescued: Collection[str]) -> LaneDoses:
    """A schedule's records, with absolute states for all inputs that only the schedule doses.

    Args:
        schedule: from `compile_schedule`.
        rescued: inputs that events inside the simulation dose too: their records stay increments.
    """
    owners = [schedule.layout.owner(entry) for entry in range(schedule.layout.total)]
    keep = np.asarray(schedule.keep, np.float64)[..., owners]
    increments = np.asarray(schedule.increments, np.float64)
    times = np.asarray(schedule.times, np.float64)
    fixed = [schedule.layout.names[owner] not in rescued for owner in owners]
    if times.shape[1] > 1 and any(fixed):
        keep, increments = _absolute(schedule, times, keep, increments, np.array(fixed))
    tables = (times, keep, increments, schedule.species_increments)
    rows = max(map(len, tables))
    return LaneDoses(*(np.broadcast_to(t, (rows, *t.shape[1:])) for t in tables))


def _absolute(
    schedule: DosingSchedule,
    times: np.ndarray,
    keep: np.ndarray,
    increments: np.ndarray,
    is_fixed: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    rates, state = schedule.rates, schedule.initial.T
    rows = max(map(len, (rates.T, state, times, keep, increments)))
    shape = (rows, times.shape[1], len(is_fixed))
    keep, increments = (
        np.array(np.broadcast_to(keep, shape)),
        np.array(np.broadcast_to(increments, shape)),
    )
    before, largest = np.zeros((len(times), 1)), np.abs(state)
    for record in range(times.shape[1]):
        due = times[:, record, np.newaxis]
        is_real = np.isfinite(due)
        elapsed = np.where(is_real, due - before, 0.0)
        left = decayed(schedule.layout, state.T, rates, elapsed.T).T
        if record:
            _check_resolved(schedule, state, left, is_real)
        state = left * keep[:, record] + increments[:, record]
        # What adding and taking away leaves in float64 is nothing.
        largest = np.maximum(largest, np.abs(state))
        state = np.where(np.abs(state) > NOTHING * largest, state, 0.0)
        before = np.where(is_real, due, before)
        increments[:, record] = np.where(is_fixed, state, increments[:, record])
        keep[:, record] = np.where(is_fixed, 0.0, keep[:, record])
    return keep, increments


def _check_resolved(
    schedule: DosingSchedule, state: np.ndarray, left: np.ndarray, is_real: np.ndarray
) -> None:
    """Refuse an infusion so short against the elimination that float32 loses it.

    Its course is plateau * (1 - exp(-rate t)): a difference of numbers that are all but equal.
    """
    for name, entries in schedule.layout.entries():
        places = slice(entries.start, entries.stop)
        plateau = np.abs(state[:, entries.start])
        reached = left[:, places].sum(axis=1)
        is_lost = is_real[:, 0] & (plateau > RESOLVED * np.abs(reached)) & (reached != 0.0)
        if len(entries) > 1 and is_lost.any() and name not in schedule.layout.signed:
            row = int(np.argmax(is_lost))
            raise InvalidInput(
                f"input '{name}': an infusion reaches {reached[row]:.3g} of its plateau of "
                f"{plateau[row]:.3g}, too little to be followed in single precision; give it as a "
                "bolus, or use engine.ODE()"
            )
