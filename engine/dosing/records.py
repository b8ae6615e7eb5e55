"""Doses as columns, and the distinct moments at which a patient's schedule acts."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter

import numpy as np

from engine.dosing.dose import Reset
from engine.dosing.regimen import Regimen
from engine.errors import InvalidInput

Array = np.ndarray
_NUMBERS = attrgetter(
    "time", "amount", "rate", "duration", "interval", "additional", "is_steady_state"
)


@dataclass(frozen=True, eq=False)
class DoseTable:
    """Elementary doses, one an entry of each column.

    Args:
        row: patient, or 0 where all share a regimen.
        target: position in `targets`.
        time: when the dose, or its infusion, starts.
        amount: how much.
        duration: of the infusion; NaN for a bolus.
        interval: of a steady-state dose; NaN for others.
        is_steady_state: the dose sets the state to the periodic one.
    """

    row: Array
    target: Array
    time: Array
    amount: Array
    duration: Array
    interval: Array
    is_steady_state: Array

    @property
    def is_infusion(self) -> Array:
        """Which doses last."""
        return ~np.isnan(self.duration)

    def where(self, chosen: Array) -> "DoseTable":
        """The entries chosen by a mask or by indices."""
        return replace(self, **{f.name: getattr(self, f.name)[chosen] for f in fields(self)})


@dataclass(frozen=True, eq=False)
class Resets:
    """Resets of all inputs: patient (or 0 where shared) and time of each."""

    row: Array
    time: Array


def tabulate(regimens: Sequence[Regimen]) -> tuple[tuple[str, ...], DoseTable, Resets]:
    """The doses of all regimens, one regimen a row, repetitions written out.

    Returns:
        The targets, the doses and the resets.
    """
    rows: list[int] = []
    names: list[str] = []
    numbers: list[tuple[float, ...]] = []
    resets: list[tuple[int, float]] = []
    for row, regimen in enumerate(regimens):
        for dose in regimen.doses:
            if isinstance(dose, Reset):
                resets.append((row, dose.time))
                continue
            rows.append(row)
            names.append(dose.into)
            numbers.append(_NUMBERS(dose))
    targets = tuple(dict.fromkeys(names))
    position = {name: i for i, name in enumerate(targets)}
    columns = np.array(numbers, np.float64).reshape(-1, 7).T  # None becomes NaN
    time, amount, rate, duration, interval, additional, is_steady = columns
    once = DoseTable(
        row=np.array(rows, np.int64),
        target=np.array([position[name] for name in names], np.int64),
        time=time,
        amount=amount,
        duration=np.where(np.isnan(rate), duration, amount / np.where(np.isnan(rate), 1.0, rate)),
        interval=interval,
        is_steady_state=is_steady > 0.0,
    )
    reset_row, reset_time = np.array(resets, np.float64).reshape(-1, 2).T
    return targets, _repeat(once, additional), Resets(reset_row.astype(np.int64), reset_time)


def tile(doses: DoseTable, resets: Resets, num_rows: int) -> tuple[DoseTable, Resets]:
    """The one regimen of all patients written out for each of them."""
    columns = {f.name: np.tile(getattr(doses, f.name), num_rows) for f in fields(doses)}
    columns["row"] = np.repeat(np.arange(num_rows), doses.row.size)
    reset_row = np.repeat(np.arange(num_rows), resets.row.size)
    return DoseTable(**columns), Resets(reset_row, np.tile(resets.time, num_rows))


def _repeat(doses: DoseTable, additional: Array) -> DoseTable:
    counts = additional.astype(np.int64) + 1
    source = np.repeat(np.arange(counts.size), counts)
    copy = np.arange(source.size) - np.repeat(np.cumsum(counts) - counts, counts)
    repeated = doses.where(source)
    shift = np.where(copy > 0, copy * np.nan_to_num(repeated.interval), 0.0)
    is_steady = repeated.is_steady_state & (copy == 0)
    return replace(
        repeated,
        time=repeated.time + shift,
        interval=np.where(is_steady, repeated.interval, np.nan),
        is_steady_state=is_steady,
    )


@dataclass(frozen=True, eq=False)
class Timeline:
    """The distinct moments of each row and where the doses fall among them.

    A *cell* is row * num_records + record.

    Args:
        times: shape (rows, num_records), increasing, the last (at least) +inf.
        start: cell at which each dose starts.
        end: cell at which each infusion ends; -1 for a bolus and for an infusion that a reset or
            a steady-state dose of the same target cut short.
        reset: cell of each reset.
    """

    times: Array
    start: Array
    end: Array
    reset: Array


# Times this close, relatively, are the same to a lane, whose clock keeps 48 bits.
SAME_TIME = 2.0**-47


def lay_out(
    doses: DoseTable, resets: Resets, num_rows: int, save_times: Array | None = None
) -> Timeline:
    """Merge what happens to a patient at one time into one record.

    Times that differ by rounding (0.3 and 3 * 0.1) are one time, a save time's if one is among
    them: a dose at a save time is seen there, however either was computed.
    """
    lasting = doses.is_infusion
    ends = doses.time[lasting] + doses.duration[lasting]
    if np.any((ends <= doses.time[lasting]) & (doses.amount[lasting] > 0.0)):
        raise InvalidInput("an infusion is too short for its start and end to differ; give a bolus")
    instants, ranks = np.unique(
        np.concatenate([doses.time, ends, resets.time]), return_inverse=True
    )
    instants, ranks = _one_time(instants, ranks, save_times)
    rows = np.concatenate([doses.row, doses.row[lasting], resets.row])
    keys = rows * instants.size + ranks  # ordered by row, then time, and exact
    start, end, reset = np.split(keys, [doses.time.size, doses.time.size + ends.size])
    is_cut = _is_cut_short(doses, start, end, reset)
    happens = np.concatenate([np.ones(start.size, bool), ~is_cut, np.ones(reset.size, bool)])
    moments, place = np.unique(keys[happens], return_inverse=True)
    moment_row, moment_rank = np.divmod(moments, max(instants.size, 1))
    record = np.arange(moments.size) - np.searchsorted(moment_row, moment_row)
    num_records = int(record.max(initial=-1)) + 2
    times = np.full((num_rows, num_records), np.inf)
    times[moment_row, record] = instants[moment_rank]
    cells = np.full(keys.size, -1)
    cells[happens] = (moment_row * num_records + record)[place]
    end_cells = np.full(start.size, -1)
    end_cells[lasting] = cells[start.size : start.size + end.size]
    return Timeline(times, cells[: start.size], end_cells, cells[start.size + end.size :])


def _one_time(instants: Array, ranks: Array, save_times: Array | None) -> tuple[Array, Array]:
    """Clusters of times that differ by rounding only; ranks point into the clusters."""
    grid = np.zeros(0) if save_times is None else np.asarray(save_times, np.float64)
    every = np.concatenate([grid, instants])
    order = np.argsort(every, kind="stable")  # at equal times the save time comes first
    ordered = every[order]
    is_new = np.append(True, np.diff(ordered) > SAME_TIME * ordered[1:])[: ordered.size]
    cluster = np.cumsum(is_new) - 1
    of = np.empty(every.size, np.int64)
    of[order] = cluster
    times = ordered[is_new]
    times[of[: grid.size]] = grid
    used, place = np.unique(of[grid.size :], return_inverse=True)
    return times[used], place[ranks]


def _is_cut_short(doses: DoseTable, start: Array, end: Array, reset: Array) -> Array:
    """Which infusions are stopped by a reset, or a steady-state dose, after their start."""
    target = doses.target[doses.is_infusion]
    begin = start[doses.is_infusion]
    is_cut = np.zeros(end.size, bool)
    for one in np.unique(target):
        wipes = np.concatenate([reset, start[doses.is_steady_state & (doses.target == one)]])
        if wipes.size == 0:
            continue
        wipes = np.sort(wipes)
        mine = target == one
        following = np.searchsorted(wipes, begin[mine], side="right")
        after = np.append(wipes, np.iinfo(np.int64).max)[following]
        is_cut[mine] = after <= end[mine]
    return is_cut
