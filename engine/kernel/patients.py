"""A chunk of patients as arrays, and what a chunk returns."""

from typing import NamedTuple

from jax import Array


class Patients(NamedTuple):
    """P rows, of which the first `num_valid` are patients and the rest padding.

    Attributes:
        num_valid: number of patients, int32 scalar.
        key: the run's key, two uint32 words.
        patient, replicate: identities for the random streams, (P,) uint32.
        counts: initial count of every species, each () or (P,) int32.
        variables: initial value of every variable, each () or (P,) float32.
        coefficients: each () or (P,) float32.
        low_words: for each coefficient what float32 left out, () or (P,); used for event times.
        rates, gains, initial_amplitudes: per entry of the input layout, each () or (P,).
        save_high, save_low: save times, (T + 1,), the last +inf.
        dose_high, dose_low: dosing times, (R, D + 1), R either 1 or P, the last +inf.
        dose_keep: (R, D + 1, total) factor on the amplitudes before a dose; 0 where the increment
            is the whole state.
        dose_increments: (R, D + 1, total) added to the amplitudes.
        dose_counts: (R, D + 1, dosed species) molecules added.
        cells: numbers that tallies need and that change with the save interval, each (T,): the
            t-th holds until the t-th save time; or (1,): it always does.
    """

    num_valid: Array
    key: Array
    patient: Array
    replicate: Array
    counts: tuple[Array, ...]
    variables: tuple[Array, ...]
    coefficients: tuple[Array, ...]
    low_words: tuple[Array, ...]
    rates: tuple[Array, ...]
    gains: tuple[Array, ...]
    initial_amplitudes: tuple[Array, ...]
    save_high: Array
    save_low: Array
    dose_high: Array
    dose_low: Array
    dose_keep: Array
    dose_increments: Array
    dose_counts: Array
    cells: tuple[Array, ...] = ()


class Results(NamedTuple):
    """What the machine writes, packed into int32 rows so that one scatter writes a row.

    Attributes:
        saved: (P * T, W) recorded counts, then recorded floats as bits; -1 and NaN bits where a
            trajectory did not get there.
        final: (P, V) status, steps, events, stops, final counts, tallies as bits.
    """

    saved: Array
    final: Array


class Rows(NamedTuple):
    """Rows to be written into a table of results.

    Attributes:
        position: (..., L) int32, where each lane's row goes; the table's length where it has none.
        values: (..., L, width) int32.
    """

    position: Array
    values: Array


class Written(NamedTuple):
    """What some visits to the stops add to the results.

    Attributes:
        saved: counts and floats at save times, of every visit.
        ended: rows of the trajectories that ended at one of them, (L,) int32; the number of rows
            where none did.
    """

    saved: Rows
    ended: Array
