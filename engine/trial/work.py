"""The work of a trial: units that do not depend on each other, and one unit's simulation."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from engine.dosing.schedule import compile_schedule, concentration
from engine.ensemble import Ensemble
from engine.errors import InvalidInput
from engine.kernel.status import Status
from engine.kernel.tallies import Maximum, TimeIntegral
from engine.methods.direct import Direct
from engine.network.expressions import parse
from engine.population.streams import noise_key
from engine.population.variability import Constant, sample
from engine.simulate import simulate
from engine.trial.biology import biology_of
from engine.trial.spec import TrialSpec

# Trajectories of a unit: one chunk of the runner, so that every unit shares its compiled code.
UNIT_ROWS = 128


@dataclass(frozen=True)
class Unit:
    """One cell type of some patients in one arm, all by position.

    Args:
        arm: position in the trial's arms.
        cell_type: position in the trial's cell types.
        first: first patient.
        last: one past the last patient.
    """

    arm: int
    cell_type: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """A name for its file."""
        return f"arm{self.arm}-cell{self.cell_type}-patient{self.first}"


@dataclass(frozen=True, eq=False)
class UnitResult:
    """What the cells of a unit did; n patients, c cells of each, T save times.

    Attributes:
        end, mean, peak: of the observable at the window's end, averaged over the window's time
            and at its highest, (n, c); NaN where a trajectory failed.
        status, num_events: of each trajectory, (n, c); no events where it failed.
        drug: mean of the drug's concentration over the window (trapezoidal rule), (n,).
        seconds: wall time.
        failures: what the engine says about the first trajectory that failed.
        observable: its course, (n, c, T) float32, NaN where a trajectory failed.
        concentration: the drug's course, (n, T) float32.
    """

    end: np.ndarray
    mean: np.ndarray
    peak: np.ndarray
    status: np.ndarray
    num_events: np.ndarray
    drug: np.ndarray
    seconds: float
    failures: tuple[str, ...]
    observable: np.ndarray
    concentration: np.ndarray


def patients_per_unit(spec: TrialSpec) -> int:
    """Patients of a unit: as equal as can be, and never more rows than a chunk if possible."""
    total = spec.population.num_patients
    most = max(UNIT_ROWS // spec.cells.per_patient, 1)
    return -(-total // -(-total // most))


def plan(spec: TrialSpec) -> list[Unit]:
    """All units, the patients of one chunk in all arms before the next chunk.

    High doses make the most events, and go first so that no core waits for the last unit.
    """
    total, size = spec.population.num_patients, patients_per_unit(spec)
    by_dose = sorted(range(len(spec.arms)), key=lambda arm: -spec.arms[arm].dose)
    return [
        Unit(arm, cell_type, first, min(first + size, total))
        for first in range(0, total, size)
        for arm in by_dose
        for cell_type in range(len(spec.cells.types))
    ]


def covariates_of(spec: TrialSpec, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Who the patients are: every covariate of the model, (n,); the same in every arm.

    Raises:
        InvalidInput: a drawn number that is not positive, naming covariate and patient.
    """
    known = biology_of(spec).covariates
    given = {name: one.law() for name, one in spec.population.covariates.items()}
    typical = {name: Constant(value) for name, (_, value) in known.items()}
    drawn = sample({**typical, **given}, jax.random.key(spec.seed), ids)
    for name, values in drawn.items():
        bad = np.flatnonzero(~(values > 0))
        if len(bad):
            raise InvalidInput(
                f"population.covariates.{name}: patient {ids[bad[0]]} has {values[bad[0]]:g}; "
                "give a distribution of positive numbers, such as log_normal"
            )
    return drawn


def typical_covariates(spec: TrialSpec) -> dict[str, np.ndarray]:
    """Every covariate at its median, (1,)."""
    known = biology_of(spec).covariates
    typical = {name: np.array([value]) for name, (_, value) in known.items()}
    half = np.array([0.5])
    return typical | {n: one.law().quantile(half) for n, one in spec.population.covariates.items()}


def simulate_unit(spec: TrialSpec, unit: Unit, patients: Mapping[str, np.ndarray]) -> UnitResult:
    """Simulate a unit exactly.

    Args:
        spec: the trial.
        unit: which part of it.
        patients: covariates of all patients of the trial, (N,) each.

    Returns:
        Its endpoints and trajectories; failed trajectories are data (`status`), not raised.
    """
    began = time.perf_counter()
    biology, molecule = biology_of(spec), spec.molecule.molecule()
    arm, cell_type = spec.arms[unit.arm], spec.cells.types[unit.cell_type]
    mine = {name: values[unit.first : unit.last] for name, values in patients.items()}
    number = unit.last - unit.first
    network = biology.network(cell_type, molecule)
    inputs = {biology.drug: biology.pharmacokinetics(arm.route, molecule, mine)}
    regimen = biology.regimens(arm, biology.amounts(arm, molecule, mine["body_surface"]))
    ensemble = simulate(
        network,
        Direct(max_events=spec.limits.max_events),
        spec.window.times(),
        key=noise_key(jax.random.key(spec.seed), arm.name, cell_type),
        num_patients=number,
        patient_ids=np.arange(unit.first, unit.last),
        num_replicates=spec.cells.per_patient,
        params=biology.parameters(cell_type, mine),
        inputs=inputs,
        regimen=regimen,
        tallies={
            "area": TimeIntegral(parse(biology.observable)),
            "peak": Maximum(parse(biology.observable)),
        },
        record=biology.recorded,
        start=spec.window.start,
        is_failure_raised=False,
    )
    # In closed form: the levels that a lane carries are rounded along its own path.
    _, schedule = compile_schedule(network, inputs, regimen, number)
    levels = concentration(schedule, biology.drug, spec.window.times())
    return _measured(spec, unit, ensemble, levels, began)


def _measured(
    spec: TrialSpec, unit: Unit, ensemble: Ensemble, levels: np.ndarray, began: float
) -> UnitResult:
    biology = biology_of(spec)
    shape = (unit.last - unit.first, spec.cells.per_patient)
    is_complete = ensemble.is_complete
    course = np.where(is_complete[:, np.newaxis], ensemble[biology.observable], np.nan)

    def by_patient(values: np.ndarray) -> np.ndarray:
        return np.where(is_complete, values, np.nan).reshape(shape)

    return UnitResult(
        end=by_patient(course[:, -1]),
        mean=by_patient(ensemble.tallies["area"] / spec.window.duration),
        peak=by_patient(ensemble.tallies["peak"]),
        status=ensemble.status.reshape(shape),
        # A trajectory that fails stops at the end of a block of steps, so its number is no fact.
        num_events=np.where(is_complete, ensemble.num_events, 0).reshape(shape),
        drug=np.trapezoid(levels, spec.window.times(), axis=1) / spec.window.duration,
        seconds=time.perf_counter() - began,
        failures=ensemble.failures,
        observable=course.reshape(*shape, -1).astype(np.float32),
        concentration=levels.astype(np.float32),
    )


def status_text(cell_type: str, statuses: np.ndarray) -> str:
    """What happened to a patient's cells of one type; empty where all are complete."""
    parts = []
    for status in np.unique(statuses[statuses != Status.COMPLETE]):
        count = int((statuses == status).sum())
        parts.append(f"{cell_type}: {Status(status).name} ({count} of {len(statuses)} cells)")
    return "; ".join(parts)
