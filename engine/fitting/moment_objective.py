"""Single-cell distributions against exact simulation: objectives that are random themselves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from engine.errors import InvalidInput
from engine.methods.direct import Direct
from engine.network.network import ReactionNetwork
from engine.optimise.space import Space
from engine.simulate import simulate

Array = Any


class Estimate(NamedTuple):
    """A random objective, estimated.

    Attributes:
        value: the objective.
        gradient: by the parameters (P,), linear scale.
        standard_error: of the value, from the number of simulated cells.
    """

    value: float
    gradient: np.ndarray
    standard_error: float


@dataclass(frozen=True, eq=False)
class MomentObjective:
    r"""Moment matching: means and variances of cells against those of exact simulations.

    .. math:: \frac{1}{2} \sum_m (s_m - d_m)^2 / (e_m^2 + E_m^2) - bias

    over the mean and variance of every species at every time; d_m and e_m are the data's moment
    and its standard error, s_m and E_m the simulation's. The bias 1/2 E_m^2 / (e_m^2 + E_m^2) that
    the simulation's own noise adds is subtracted, so the value does not depend on how many
    cells are simulated. Cells are taken to be independent, each seen once.

    The same key gives the same value, bit for bit; another key another estimate. The gradient is
    by central differences under the same key: with few cells it is noisy, so compare it
    with itself under other keys.

    Args:
        network: the network.
        space: parameters of the network, or species (their initial count).
        ts: times of the data, increasing, (T,).
        cells: for each species the counts of the cells, (n, T), NaN where there is none.
        num_cells: simulated cells; 10,000.
        method: any method of `simulate`.
        difference: half the step of the differences, a share of the parameter; 0.05.

    Example:
        >>> objective = MomentObjective(network, space, ts, {"X": counts})  # doctest: +SKIP
        >>> objective.value_and_gradient({"k": 2.0}, jax.random.key(0))  # doctest: +SKIP

    References:
        Hansen 1982, doi:10.2307/1912775; Wood 2010, doi:10.1038/nature09319.
    """

    network: ReactionNetwork
    space: Space
    ts: np.ndarray
    cells: Mapping[str, np.ndarray]
    num_cells: int = 10_000
    method: Any = field(default_factory=Direct)
    difference: float = 0.05

    def __post_init__(self) -> None:
        for name in self.space.names:
            self.network.require(name, "parameter", "compartment", "species", what="the fit")
        for name, counts in self.cells.items():
            self.network.require(name, "species", what="cells")
            if np.ndim(counts) != 2 or np.shape(counts)[1] != len(self.ts):
                raise InvalidInput(
                    f"cells of '{name}' have shape {np.shape(counts)}; give (cells, {len(self.ts)})"
                )
            if np.any(np.sum(np.isfinite(counts), axis=0) < 2):
                raise InvalidInput(f"cells of '{name}': give two or more at every time")
        if self.num_cells < 2 or not 0 < self.difference < 1:
            raise InvalidInput(
                f"num_cells={self.num_cells}, difference={self.difference}: give two or more cells "
                "and a difference between 0 and 1"
            )

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Moments of the data and their variances, (M,) each."""
        return _moments([np.asarray(c, np.float64) for c in self.cells.values()])

    def value(self, parameters: Mapping[str, float], key: Array) -> tuple[float, float]:
        """The objective and its standard error.

        Args:
            parameters: values by name, linear scale.
            key: of the simulations.
        """
        simulated, noise = self._simulated(parameters, key)
        observed, spread = self.data
        weight = 1.0 / np.maximum(noise + spread, 1e-300)
        away = simulated - observed
        value = 0.5 * float(np.sum(weight * (away**2 - noise)))
        variance = np.sum(weight**2 * (away**2 * noise + 0.5 * noise**2))
        return value, math.sqrt(float(variance))

    def value_and_gradient(self, parameters: Mapping[str, float], key: Array) -> Estimate:
        """The objective, its gradient and its standard error.

        Args:
            parameters: values by name, linear scale.
            key: of the simulations; all of them share it.
        """
        value, error = self.value(parameters, key)
        gradient = np.zeros(len(self.space.names))
        for i, name in enumerate(self.space.names):
            step = self.difference * max(abs(parameters[name]), 1e-12)
            if self.network.kind_of(name) == "species":
                step = max(round(step), 1)
            ends = [
                self.value({**parameters, name: parameters[name] + sign * step}, key)[0]
                for sign in (1, -1)
            ]
            gradient[i] = (ends[0] - ends[1]) / (2.0 * step)
        return Estimate(value, gradient, error)

    def _simulated(
        self, parameters: Mapping[str, float], key: Array
    ) -> tuple[np.ndarray, np.ndarray]:
        missing = [name for name in self.space.names if name not in parameters]
        if missing:
            raise InvalidInput(f"parameter '{missing[0]}' has no value; give it one")
        is_count = {n: self.network.kind_of(n) == "species" for n in self.space.names}
        # A population for every time: cells that are seen once are independent of each other.
        ensembles = simulate(
            self.network,
            self.method,
            self.ts,
            key=jax.random.fold_in(key, 0),
            num_patients=self.num_cells,
            params={n: parameters[n] for n, c in is_count.items() if not c},
            x0={n: parameters[n] for n, c in is_count.items() if c},
        )
        return _moments([np.asarray(ensembles[name], np.float64) for name in self.cells])


def _moments(cells: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances of each species at each time, and the variances of both."""
    moments, spreads = [], []
    for counts in cells:
        number = np.sum(np.isfinite(counts), axis=0)
        mean = np.nanmean(counts, axis=0)
        away = counts - mean
        variance = np.nansum(away**2, axis=0) / (number - 1)
        fourth = np.nanmean(away**4, axis=0)
        moments += [mean, variance]
        uncertain = (fourth - variance**2 * (number - 3) / (number - 1)) / number
        spreads += [variance / number, np.maximum(uncertain, 0.0)]
    return np.concatenate(moments), np.concatenate(spreads)
