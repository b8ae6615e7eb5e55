"""A PEtab problem's tables as plain arrays: parameters, conditions, measurements.

Reference: Schmiester et al. 2021, doi:10.1371/journal.pcbi.1008646 (PEtab, version 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from engine.network.expressions import Expression, Number
from engine.network.sbml_rates import RateModel

SCALES = ("lin", "log", "log10")
NOISES = ("normal", "laplace")


@dataclass(frozen=True)
class Prior:
    """A prior of one parameter, as PEtab names it.

    Args:
        kind: "normal", "parameterScaleNormal", "laplace", "uniform", ...
        values: its two numbers.
    """

    kind: str
    values: tuple[float, float]


@dataclass(frozen=True, eq=False)
class ParameterTable:
    """The parameters in the order of the file, P of them.

    Args:
        names: identifiers.
        nominal: values on the linear scale, (P,).
        lower: bounds on the linear scale, (P,).
        upper: bounds on the linear scale, (P,).
        scales: "lin", "log" or "log10" for each.
        is_estimated: (P,) bool.
        priors: objective priors by name.
        frame: the table itself.
    """

    names: tuple[str, ...]
    nominal: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    scales: tuple[str, ...]
    is_estimated: np.ndarray
    priors: Mapping[str, Prior]
    frame: Any


@dataclass(frozen=True, eq=False)
class Observable:
    """An observable: its formulas and where its measurements are.

    Args:
        name: identifier.
        formula: what is observed.
        noise: the standard deviation (normal) or scale (laplace) on the transformed scale.
        transformation: "lin", "log" or "log10".
        distribution: "normal" or "laplace".
        rows: positions of its measurements, (M,).
        placeholders: for each placeholder of its formulas positions in the pool, (M,).
    """

    name: str
    formula: Expression
    noise: Expression
    transformation: str
    distribution: str
    rows: np.ndarray
    placeholders: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Conditions:
    """Overrides of `names` in lanes: positions in the pool, and whether there is one.

    Args:
        index: (lanes, K) positions in the pool.
        is_given: (lanes, K) bool.
        is_reset: (lanes, K) bool: given by the condition table itself, not by a parameter's name.
    """

    index: np.ndarray
    is_given: np.ndarray
    is_reset: np.ndarray


@dataclass(frozen=True, eq=False)
class Lanes:
    """What is simulated: a lane for each distinct pair of conditions, L of them.

    Args:
        open: names of the model that a condition or a parameter overrides, K of them.
        before: overrides of each pre-equilibration.
        after: overrides of each lane.
        before_of: for each lane its pre-equilibration, -1 for none, (L,).
        names: what each lane is called.
        times: save times of each lane, padded with the last, (L, T).
        of_row: lane of each measurement, (N,).
        time_of_row: position of its time in `times`, -1 for the steady state, (N,).
    """

    open: tuple[str, ...]
    before: Conditions
    after: Conditions
    before_of: np.ndarray
    names: tuple[str, ...]
    times: np.ndarray
    of_row: np.ndarray
    time_of_row: np.ndarray

    @property
    def has_end(self) -> bool:
        """Whether a measurement is of the steady state."""
        return bool(np.any(self.time_of_row < 0))

    @property
    def has_rest(self) -> bool:
        """Whether some state is at rest: before a condition, or where it is measured."""
        return self.has_end or len(self.before.index) > 0


@dataclass(frozen=True, eq=False)
class Tables:
    """Everything a problem's files say.

    The pool is the P parameters and behind them the numbers that tables mention.

    Args:
        model: the equations.
        parameters: the parameter table.
        numbers: the numbers in the pool.
        lanes: the conditions, and where each measurement is found in them.
        measurements: (N,).
        observables: formulas.
        frame: the measurement table.
        name: of the problem.
    """

    model: RateModel
    parameters: ParameterTable
    numbers: np.ndarray
    lanes: Lanes
    measurements: np.ndarray
    observables: tuple[Observable, ...]
    frame: Any
    name: str

    @cached_property
    def always_zero(self) -> Mapping[str, frozenset[str]]:
        """Constants that are 0 in every condition whatever the estimated parameters.

        Each with the parameters of the table that are fixed at 0 and make it so.
        """
        parameters = self.parameters
        is_fixed_at_zero = ~parameters.is_estimated & (parameters.nominal == 0)
        is_zero = np.concatenate([is_fixed_at_zero, np.asarray(self.numbers) == 0])
        by_file = {n for n in self.model.constants if self.model.start.get(n) == Number(0.0)}
        found = dict.fromkeys(by_file - set(self.lanes.open), frozenset[str]())
        conditions = [c for c in (self.lanes.before, self.lanes.after) if len(c.index)]
        for k, name in enumerate(self.lanes.open):
            is_given = np.concatenate([c.is_given[:, k] for c in conditions])
            index = np.concatenate([c.index[:, k] for c in conditions])
            is_so = np.where(is_given, is_zero[index], name in by_file)
            if name in self.model.constants and np.all(is_so):
                used = {int(i) for i in index[is_given] if i < len(parameters.names)}
                found[name] = frozenset(parameters.names[i] for i in used)
        return found
