"""A bistable positive feedback held down by two doses of a drug: does it switch on before T?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import engine
from engine.gradient import DoseAmount, DoseTime, Outcome, PharmacokineticParameter
from tests.exact import FiniteStateProjection
from tests.simulation import network

HORIZON, SWITCHED, K = 20.0, 60, 50.0
COMMON = {"basal": 13.5, "gain": 84.0, "g": 1.0}
RARE = {"basal": 12.0, "gain": 74.0, "g": 1.0}
NUMBERS = {"first": 1.0, "second": 1.0, "elimination": 0.3, "time": 8.0}

MODEL = network(
    {"X": 5},
    [
        (
            "0 -> X",
            engine.Formula("(basal + gain * (X / K)^2 / (1 + (X / K)^2)) / (1 + drug)"),
            "make",
        ),
        ("X -> 0", engine.MassAction("g"), "decay"),
    ],
    parameters={**COMMON, "K": K},
    inputs=["drug"],
)
OUTCOME = Outcome(engine.FirstPassage(f"X >= {SWITCHED}"), lambda t: t < np.inf)
# Labels of the exact gradient and what they are to the engine.
TARGETS = {
    "gain": "gain",
    "first": DoseAmount(0),
    "second": DoseAmount(1),
    "elimination": PharmacokineticParameter("drug", "clearance"),
    "time": DoseTime(1),
}


def dosing(**numbers: float) -> dict[str, object]:
    """Pharmacokinetics (volume 1) and the two doses."""
    n = {**NUMBERS, **numbers}
    doses = [
        engine.Dose(n["first"], 0.0, into="drug"),
        engine.Dose(n["second"], n["time"], into="drug"),
    ]
    return {
        "inputs": {"drug": engine.OneCompartment(clearance=n["elimination"], volume=1.0)},
        "regimen": engine.Regimen(doses),
    }


@dataclass(frozen=True)
class Truth:
    """P(switched before T) by the master equation, for constants such as `COMMON`."""

    constants: Mapping[str, float]
    x0: int = 5

    def probability(self, **changed: float) -> float:
        n = {**self.constants, **NUMBERS, **changed}

        def rates(x: np.ndarray, t: float) -> np.ndarray:
            c = n["first"] * np.exp(-n["elimination"] * t)
            if t >= n["time"]:
                c += n["second"] * np.exp(-n["elimination"] * (t - n["time"]))
            u = (x[:, 0] / K) ** 2
            made = (n["basal"] + n["gain"] * u / (1 + u)) / (1 + c)
            return np.c_[made, n["g"] * x[:, 0]]

        fsp = FiniteStateProjection(
            [[1], [-1]], rates, (SWITCHED,), (self.x0,), breakpoints=(n["time"],)
        )
        found = fsp.first_passage_cdf([HORIZON], lambda x: x[:, 0] >= SWITCHED)
        return float(found.lower[0])

    def slope(self, name: str) -> float:
        value = {**self.constants, **NUMBERS}[name]
        step = 1e-3 * value
        up, down = (self.probability(**{name: value + s * step}) for s in (1, -1))
        return (up - down) / (2 * step)
