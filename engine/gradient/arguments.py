"""What is simulated when a gradient is estimated, as one value that targets can change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np

from engine.cohort import Cohort, prepare, save_times
from engine.dosing.dose import Dose, Reset
from engine.dosing.pharmacokinetics import Pharmacokinetics
from engine.dosing.regimen import Regimen
from engine.ensemble import Ensemble, concatenate, raise_failures
from engine.errors import InvalidInput
from engine.execute import lane_tasks
from engine.inputs.modes import ModalResponse
from engine.inputs.tangent import ModalTangent
from engine.kernel.tallies import Tally
from engine.kinetics.drift import resolve_parameters
from engine.methods.direct import Direct
from engine.network.network import ReactionNetwork
from engine.simulate import in_order, num_workers


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of a simulation; the fields mean what they do in `engine.simulate`.

    Attributes:
        ts: stops of the trajectories, (T,); the last is the horizon.
        key: two uint32 words.
        method: the exact method.
    """

    network: ReactionNetwork
    ts: np.ndarray
    key: np.ndarray
    num_patients: int = 1
    num_replicates: int = 1
    patient_ids: np.ndarray | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    x0: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Pharmacokinetics] = field(default_factory=dict)
    regimen: Regimen | Sequence[Regimen] = field(default_factory=Regimen)
    start: float = 0.0
    method: Direct = field(default_factory=Direct)

    @property
    def horizon(self) -> float:
        """When the trajectories end."""
        return float(self.ts[-1])

    @property
    def regimens(self) -> tuple[Regimen, ...]:
        """One regimen, shared, or one per patient."""
        return (self.regimen,) if isinstance(self.regimen, Regimen) else tuple(self.regimen)

    @property
    def is_infused(self) -> bool:
        """Whether anything is infused into a species, whose count then changes without a firing."""
        species = frozenset(self.network.species_names)
        return any(
            isinstance(one, Dose) and one.into in species and one.infusion_duration is not None
            for regimen in self.regimens
            for one in regimen.doses
        )

    def with_regimens(self, regimens: Sequence[Regimen]) -> "Arguments":
        """The same with other regimens, of which there are as many as before."""
        return replace(self, regimen=regimens[0] if len(regimens) == 1 else tuple(regimens))

    def doses(self, index: int) -> list[Dose | Reset]:
        """The dose at a position of every regimen.

        Raises:
            InvalidInput: a regimen has no dose there.
        """
        found = []
        for regimen in self.regimens:
            if not 0 <= index < len(regimen.doses) or isinstance(regimen.doses[index], Reset):
                raise InvalidInput(
                    f"there is no dose {index} in a regimen of {len(regimen.doses)}; doses are "
                    "counted from 0 in the order of Regimen([...])"
                )
            found.append(regimen.doses[index])
        return found

    def parameter(self, name: str) -> np.ndarray:
        """A parameter's value, () or (num_patients,)."""
        return np.asarray(resolve_parameters(self.network, self.params)[name], np.float64)

    def of_trajectories(self, values: np.ndarray | float) -> np.ndarray:
        """Numbers of all patients (scalar) or of each as those of trajectories, patient-major."""
        each = np.asarray(values)
        return each if each.ndim == 0 else np.repeat(each, self.num_replicates)

    def with_stops(self, *times: float) -> "Arguments":
        """The same with stops at more times (those inside of the simulated time)."""
        inside = [t for t in times if self.start < t < self.horizon]
        return replace(self, ts=np.union1d(self.ts, np.asarray(inside, np.float64)))

    def with_patients(self, num_patients: int, key: np.ndarray) -> "Arguments":
        """The first patients (or more, taken round), with fresh randomness, for a pilot."""
        rows = np.arange(num_patients) % self.num_patients

        def taken(values: Mapping[str, Any]) -> dict[str, Any]:
            return {n: v if np.ndim(v) == 0 else np.asarray(v)[rows] for n, v in values.items()}

        few = replace(
            self,
            num_patients=num_patients,
            num_replicates=1,
            patient_ids=None,
            key=key,
            params=taken(self.params),
            x0=taken(self.x0),
            inputs={name: _of_patients(pk, rows) for name, pk in self.inputs.items()},
        )
        if isinstance(self.regimen, Regimen):
            return few
        return replace(few, regimen=[self.regimen[int(row)] for row in rows])

    def cohort(self) -> Cohort:
        """The rows, resolved to numbers.

        Raises:
            InvalidInput: see `engine.simulate`.
        """
        return prepare(
            self.network,
            self.ts,
            self.num_patients,
            self.num_replicates,
            self.patient_ids,
            self.params,
            self.x0,
            self.inputs,
            self.regimen,
            self.start,
        )

    def run(
        self,
        tallies: Mapping[str, Tally],
        cells: tuple[np.ndarray, ...] = (),
        record: Sequence[str] = (),
    ) -> Ensemble:
        """Simulate exactly.

        Args:
            tallies: what the lanes accumulate.
            cells: numbers that the tallies need, one per stop, each (T,), or (1,) for all stops.
            record: species to save at the stops.

        Raises:
            SimulationFailed: a trajectory did not reach the horizon.
        """
        cohort = self.cohort()
        tasks = lane_tasks(
            self.method, cohort, self.key, tallies, record, False, num_workers(), cells
        )
        ensemble = concatenate(list(in_order(tasks, cohort, None)))
        raise_failures(ensemble)
        return ensemble


def _of_patients(part: Any, rows: np.ndarray) -> Any:
    """Pharmacokinetics of some patients; numbers shared by all stay shared."""
    if isinstance(part, ModalResponse | ModalTangent):
        return part.rows(rows)
    if not is_dataclass(part):
        return part
    found: dict[str, Any] = {}
    for one in fields(part):
        value = getattr(part, one.name)
        if is_dataclass(value):
            found[one.name] = _of_patients(value, rows)
        elif isinstance(value, np.ndarray):
            found[one.name] = value if value.size == 1 else value[rows]
    return replace(part, **found)  # type: ignore[type-var]


def stops_of(horizon: float | Sequence[float] | np.ndarray) -> np.ndarray:
    """The horizon, or increasing times of which the last is the horizon, as (T,)."""
    return save_times(np.atleast_1d(np.asarray(horizon, np.float64)))


def few_sizes(number: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: few numbers of stops are ever compiled."""
    power = 1
    while 2 * power < number:
        power *= 2
    return number if number <= 2 else next(n for n in (3 * power // 2, 2 * power) if n >= number)


def another_key(key: np.ndarray, number: int) -> np.ndarray:
    """A key for other randomness: a pilot, a fit; deterministic in the key and the number."""
    mixed = np.random.SeedSequence([int(key[0]), int(key[1]), number]).generate_state(2)
    return np.asarray(mixed, np.uint32)
