"""The mean field of a trial: what an occupancy is a fraction of, and what theory expects."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from engine.dosing.pharmacokinetics import ConstantLevel
from engine.dosing.schedule import compile_schedule, concentration
from engine.methods.ode import ODE
from engine.simulate import simulate
from engine.therapy.molecules import WILD_TYPE
from engine.trial.biology import biology_of
from engine.trial.spec import TrialSpec
from engine.trial.work import typical_covariates

# The doses of the model's regression targets: EC50 by linear interpolation in log10 dose.
DOSES = np.logspace(-3.5, 2.5, 21)
REFERENCE_MINUTES = 60.0


@dataclass(frozen=True)
class Reference:
    """Rate equations of the typical patient's cells.

    Attributes:
        maximum: active complexes per cell of each cell type after 60 minutes at a held 316 nM of
            the wild type: what occupancies are fractions of.
        ec50: nM of the trial's molecule at which a cell type is half of its own maximum after 60
            minutes at a held concentration.
        concentration: the typical patient's mean in the window in each arm, nM.
        occupancy: arm -> cell type -> at the window's end, with that concentration held.
    """

    maximum: dict[str, float]
    ec50: dict[str, float]
    concentration: dict[str, float]
    occupancy: dict[str, dict[str, float]]

    def hyperbola(self, arm: str, cell_type: str) -> float:
        """C / (C + EC50), the simplest expectation."""
        level = self.concentration[arm]
        return level / (level + self.ec50[cell_type])

    def contents(self) -> dict[str, Any]:
        """As plain dictionaries."""
        return asdict(self)


def compute_reference(spec: TrialSpec) -> Reference:
    """Solve the rate equations of the typical patient's cells, all in one cohort."""
    typical = typical_covariates(spec)
    levels = {arm.name: _mean_concentration(spec, i, typical) for i, arm in enumerate(spec.arms)}
    held = np.concatenate([DOSES[-1:], DOSES, list(levels.values())])
    num_types = len(spec.cells.types)
    affinities = _affinities(spec, len(held))
    ts = sorted({REFERENCE_MINUTES, spec.window.duration})
    active = _solve(spec, np.tile(held, num_types), affinities, typical, ts)
    active = active.reshape(num_types, len(held), len(ts))
    after_hour = active[:, :, ts.index(REFERENCE_MINUTES)]
    at_end = active[:, 1 + len(DOSES) :, ts.index(spec.window.duration)]
    types = spec.cells.types
    maximum = {name: float(after_hour[i, 0]) for i, name in enumerate(types)}
    curves = after_hour[:, 1 : 1 + len(DOSES)]
    return Reference(
        maximum,
        {name: _half_point(curves[i]) for i, name in enumerate(types)},
        levels,
        {
            arm: {name: float(at_end[i, j]) / maximum[name] for i, name in enumerate(types)}
            for j, arm in enumerate(levels)
        },
    )


def _half_point(curve: np.ndarray) -> float:
    rising = curve[: int(np.argmax(curve)) + 1]
    return float(10 ** np.interp(rising[-1] / 2, rising, np.log10(DOSES[: len(rising)])))


def _mean_concentration(spec: TrialSpec, arm: int, typical: Mapping[str, np.ndarray]) -> float:
    biology, molecule, given = biology_of(spec), spec.molecule.molecule(), spec.arms[arm]
    network = biology.network(spec.cells.types[0], molecule)
    pk = biology.pharmacokinetics(given.route, molecule, typical)
    regimen = biology.regimens(given, biology.amounts(given, molecule, typical["body_surface"]))
    _, schedule = compile_schedule(network, {biology.drug: pk}, regimen, 1)
    times = spec.window.times()
    levels = concentration(schedule, biology.drug, times)[0]
    return float(np.trapezoid(levels, times) / spec.window.duration)


def _affinities(spec: TrialSpec, num_levels: int) -> dict[str, np.ndarray]:
    """Per row of one cell type: the wild type in the first, the trial's molecule in the others."""
    molecule = spec.molecule.molecule()
    result = {}
    for name in ("kd_alpha", "kd_beta_gamma"):
        values = np.full(num_levels, getattr(molecule, name))
        values[0] = getattr(WILD_TYPE, name)
        result[name] = np.tile(values, len(spec.cells.types))
    return result


def _solve(
    spec: TrialSpec,
    held: np.ndarray,
    affinities: Mapping[str, np.ndarray],
    typical: Mapping[str, np.ndarray],
    ts: Sequence[float],
) -> np.ndarray:
    """The observable of every cell type at every held concentration, (rows, T)."""
    biology, types = biology_of(spec), spec.cells.types
    each = len(held) // len(types)
    of_types = [biology.parameters(name, typical) for name in types]
    receptors = {name: np.repeat([one[name][0] for one in of_types], each) for name in of_types[0]}
    ensemble = simulate(
        biology.network(types[0], WILD_TYPE),
        # 1e-6 of a cell's thousands of molecules: far below what one cell's noise would show.
        ODE(rtol=1e-6, atol=1e-5),
        ts,
        key=jax.random.key(0),
        num_patients=len(held),
        params={**affinities, **receptors},
        inputs={biology.drug: ConstantLevel(held)},
    )
    return ensemble[biology.observable]
