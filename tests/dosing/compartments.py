"""The truth for dosing tests: compartment ODEs solved by SciPy, doses superposed one by one."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.integrate import solve_ivp

from engine.dosing.dose import Dose
from engine.dosing.regimen import Regimen


@dataclass(frozen=True)
class Body:
    """One patient: depot, central, peripheral amounts."""

    clearance: float = 1.3
    volume: float = 4.0
    exchange: float = 0.0
    peripheral: float = 1.0
    ka: float | None = None
    absorbed_over: float | None = None
    bioavailability: float = 1.0
    baseline: float = 0.0

    def rates(self, amounts: np.ndarray, infused: float) -> np.ndarray:
        depot, central, peripheral = amounts
        ka = self.ka or 0.0
        flow = self.exchange * (central / self.volume - peripheral / self.peripheral)
        into_depot, into_central = (infused, 0.0) if self.ka else (0.0, infused)
        return np.array(
            [
                into_depot - ka * depot,
                into_central + ka * depot - self.clearance / self.volume * central - flow,
                flow,
            ]
        )


def after_dose(body: Body, amount: float, duration: float | None, since: np.ndarray) -> np.ndarray:
    """Central concentration at times since one dose, 0 before it."""
    amount = amount * body.bioavailability
    duration = duration if duration is not None else body.absorbed_over
    start = np.zeros(3)
    if duration is None:
        start[0 if body.ka else 1] = amount
    horizon = max(float(since.max(initial=0.0)), 1e-3) + 1e-9
    stops = [0.0, horizon] if duration is None else [0.0, duration, max(horizon, duration * 1.001)]
    result = np.zeros(since.shape)
    for begin, end in pairwise(stops):
        infused = amount / duration if duration is not None and begin == 0.0 else 0.0
        solution = solve_ivp(
            lambda _, y, r=infused: body.rates(y, r),
            (begin, end),
            start,
            method="DOP853",
            rtol=1e-12,
            atol=1e-14 * max(amount, 1e-3),
            dense_output=True,
        )
        inside = (since >= begin) & (since <= end)
        result[inside] = solution.sol(since[inside])[1] / body.volume
        start = solution.y[:, -1]
    return result


def truth(body: Body, regimen: Regimen, ts: np.ndarray, num_past: int = 0) -> np.ndarray:
    """Concentration by superposition; a steady-state dose stands for `num_past` earlier ones."""
    total = np.full(ts.shape, body.baseline)
    for dose in regimen.expanded():
        assert isinstance(dose, Dose)
        since = [ts - dose.time]
        if dose.is_steady_state:
            # What was given before the steady-state dose is forgotten from then on.
            total = np.where(ts >= dose.time, body.baseline, total)
            past = np.arange(1, num_past + 1) * dose.interval
            since += [np.where(ts >= dose.time, ts - dose.time + p, -1.0) for p in past]
        stacked = np.stack(since)
        total = total + after_dose(body, dose.amount, dose.infusion_duration, stacked).sum(axis=0)
    return total
