"""From host arrays of patients to host arrays of results: compile once, run many chunks."""

import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.dosing.absolute import lane_doses
from engine.dosing.schedule import DosingSchedule
from engine.inputs.layout import InputLayout
from engine.kernel import clock, driver
from engine.kernel.machine import build
from engine.kernel.model import LaneModel
from engine.kernel.patients import Patients, Results
from engine.kernel.state import Stepper
from engine.kernel.tallies import Tally
from engine.network.network import ReactionNetwork


@dataclass(frozen=True)
class Chunk:
    """Some patients, as the host describes them: n rows.

    Args:
        key: two uint32 words.
        patient, replicate: identities, (n,) uint32.
        params: resolved parameters, each () or (n,) float64.
        counts: initial count of every species, each () or (n,).
        variables: initial value of every variable, each () or (n,).
        schedule: inputs and doses, shared or n rows.
        cells: numbers that change with the save interval, each (T,) or (1,); see `Patients.cells`.
    """

    key: np.ndarray
    patient: np.ndarray
    replicate: np.ndarray
    params: Mapping[str, np.ndarray]
    counts: list[np.ndarray]
    variables: list[np.ndarray]
    schedule: DosingSchedule
    cells: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came back for n rows.

    Attributes:
        counts: recorded species at the save times, (n, T, recorded) int32, -1 if not reached;
            float64, NaN if not reached, where the method has species as real numbers.
        floats: recorded variables and inputs, (n, T, F) float32; NaN if not reached.
        status, num_steps, num_events: (n,).
        final_counts: counts when the trajectory ended, (n, S).
        tallies: name -> (n,).
    """

    counts: np.ndarray
    floats: np.ndarray
    status: np.ndarray
    num_steps: np.ndarray
    num_events: np.ndarray
    final_counts: np.ndarray
    tallies: dict[str, np.ndarray]


class Runner:
    """Runs chunks of patients of one model with one method; safe to call from several threads.

    Args:
        model: the model.
        stepper: the method.
    """

    def __init__(self, model: LaneModel, stepper: Stepper) -> None:
        self.model, self.stepper = model, stepper
        self._function: Any = build(model, stepper)
        self._compiled: dict[Any, Any] = {}
        self._lock = threading.Lock()
        self._rescued = {name for event in model.network.events for name in event.doses}
        self.num_compilations = 0

    def run(self, chunk: Chunk, ts: np.ndarray, num_rows: int) -> Outcome:
        """Simulate a chunk, padded to `num_rows`: the compiler does not see its size."""
        try:
            patients = self._packed(chunk, ts, num_rows)
            results = self._executable(patients)(patients)
            return self._unpacked(results, len(chunk.patient), len(ts))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise MemoryError(
                f"the device has no room for {num_rows:,} trajectories at {len(ts):,} save times; "
                "save fewer times, record fewer species (record=[...]; () for tallies only), or "
                "simulate fewer patients at once"
            ) from None

    def _executable(self, patients: Patients) -> Any:
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(patients))
        with self._lock:
            if shapes not in self._compiled:
                self._compiled[shapes] = self._compile(patients)
                self.num_compilations += 1
            return self._compiled[shapes]

    def _compile(self, patients: Patients) -> Any:
        try:
            return self._function.lower(patients).compile()
        except Exception as error:  # Triton's own errors have no common class
            if self.stepper.driver is not driver.PALLAS:
                raise
            warnings.warn(
                f"{self.model.network.name}: the GPU kernel could not be compiled ({error}); "
                "XLA's own loop runs on the GPU in its place, several times slower",
                RuntimeWarning,
                stacklevel=2,
            )
        self.stepper = self.stepper._replace(driver=driver.without_kernel(driver.PALLAS))
        self._function = build(self.model, self.stepper)
        return self._function.lower(patients).compile()

    def _packed(self, chunk: Chunk, ts: np.ndarray, num_rows: int) -> Patients:
        def padded(values: np.ndarray, dtype: Any) -> jax.Array:
            array = np.asarray(values)
            if array.ndim:
                width = [(0, num_rows - len(array))] + [(0, 0)] * (array.ndim - 1)
                array = np.pad(array, width, mode="edge")
            return jnp.asarray(array.astype(dtype))

        def entries(table: np.ndarray) -> tuple[jax.Array, ...]:
            rows = (row[0] if table.shape[1] == 1 else row for row in table)
            return tuple(padded(row, np.float32) for row in rows)

        def shared_or_padded(table: np.ndarray, dtype: Any) -> jax.Array:
            return jnp.asarray(table.astype(dtype)) if len(table) == 1 else padded(table, dtype)

        program, schedule = self.model.program, _power_of_two_records(chunk.schedule)
        coefficients = program.coefficient_values(chunk.params)
        program.check_coefficients(coefficients)
        split = [clock.split(values) for values in coefficients]
        save_high, save_low = clock.split(np.append(ts, np.inf))
        doses = lane_doses(schedule, self._rescued)
        dose_high, dose_low = clock.split(doses.times)
        return Patients(
            jnp.int32(len(chunk.patient)),
            jnp.asarray(chunk.key, jnp.uint32),
            padded(chunk.patient, np.uint32),
            padded(chunk.replicate, np.uint32),
            tuple(
                padded(c, np.float32 if is_real else np.int32)
                for c, is_real in zip(chunk.counts, self.model.is_real, strict=True)
            ),
            tuple(padded(v, np.float32) for v in chunk.variables),
            tuple(padded(high, np.float32) for high, _ in split),
            tuple(padded(low, np.float32) for _, low in split) if self.model.events else (),
            entries(schedule.rates),
            entries(schedule.gains),
            entries(schedule.initial),
            jnp.asarray(save_high),
            jnp.asarray(save_low),
            shared_or_padded(dose_high, np.float32),
            shared_or_padded(dose_low, np.float32),
            shared_or_padded(doses.keep, np.float32),
            shared_or_padded(doses.increments, np.float32),
            shared_or_padded(doses.species_increments, np.int32),
            tuple(jnp.asarray(cell.astype(np.float32)) for cell in chunk.cells),
        )

    def _unpacked(self, results: Results, num_patients: int, num_times: int) -> Outcome:
        final = np.asarray(results.final)
        saved = np.asarray(results.saved)
        saved = saved.reshape(len(final), num_times, saved.shape[1])[:num_patients]
        final = final[:num_patients]
        num_recorded = len(self.model.recorded)
        num_species = len(self.model.network.species)
        is_counted = self.stepper.is_counting or self.model.is_counting
        num_events = final[:, 2] if is_counted else final[:, 1] - final[:, 3]
        is_real = self.model.is_real
        return Outcome(
            _numbers(saved[:, :, :num_recorded], [is_real[i] for i in self.model.recorded]),
            np.ascontiguousarray(saved[:, :, num_recorded:]).view(np.float32),
            final[:, 0],
            final[:, 1],
            np.maximum(num_events, 0),
            _numbers(final[:, 4 : 4 + num_species], is_real),
            self._tallies(final[:, 4 + num_species :]),
        )

    def _tallies(self, columns: np.ndarray) -> dict[str, np.ndarray]:
        result, first = {}, 0
        for name, tally in zip(self.model.tally_names, self.model.tallies, strict=True):
            width = tally.num_words
            words = np.ascontiguousarray(columns[:, first : first + width])
            result[name] = tally.result(words)
            first += width
        return result


def _numbers(words: np.ndarray, is_real: Sequence[bool]) -> np.ndarray:
    """Counts from 32-bit words: int32, or float64 where some species are real numbers."""
    if not any(is_real):
        return words
    floats = np.ascontiguousarray(words).view(np.float32)
    missing = np.where(words == -1, np.nan, words)
    return np.where(np.asarray(is_real), floats, missing).astype(np.float64)


def _power_of_two_records(schedule: DosingSchedule) -> DosingSchedule:
    """A dosing table of 2**k + 1 records, so that few different lengths are ever compiled."""
    doses = schedule.times.shape[1] - 1
    return schedule if doses < 1 else schedule.padded((1 << (doses - 1).bit_length()) + 1)


# Compiled models are shared by networks of the same structure: another cell type, another dose.


class _Request:
    """What a compiled model depends on, hashable; carries the objects that build it."""

    def __init__(
        self,
        network: ReactionNetwork,
        tallies: Mapping[str, Tally],
        layout: InputLayout,
        recorded: tuple[str, ...],
        dosed: tuple[str, ...],
        is_trough_saved: bool,
        stepper: Stepper,
    ) -> None:
        self.is_trough_saved = is_trough_saved
        self.network, self.tallies, self.layout = network, dict(tallies), layout
        self.recorded, self.dosed, self.stepper = recorded, dosed, stepper
        named = tuple(self.tallies.items())
        choices = (recorded, dosed, is_trough_saved)
        self._key = (network.structure, named, layout, choices, stepper)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Request) and self._key == other._key


@lru_cache(maxsize=64)
def _runner(request: _Request) -> Runner:
    model = LaneModel(
        request.network,
        request.tallies,
        request.layout,
        request.recorded,
        request.dosed,
        request.is_trough_saved,
        request.stepper.real,
    )
    return Runner(model, request.stepper)


def runner(
    network: ReactionNetwork,
    tallies: Mapping[str, Tally],
    layout: InputLayout,
    recorded: tuple[str, ...],
    dosed: tuple[str, ...],
    is_trough_saved: bool,
    stepper: Stepper,
) -> Runner:
    """The runner of a model, compiled at most once per structure."""
    return _runner(_Request(network, tallies, layout, recorded, dosed, is_trough_saved, stepper))
