"""Single-cell snapshots by their means and variances, whose law exact simulation tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.fitting.moment_objective import Estimate
from engine.gradient import Outcome, ScoreFunction, estimate
from engine.gradient.problem import Estimator
from engine.kernel.tallies import FinalValue
from engine.methods.direct import Direct
from engine.network.expressions import Symbol
from engine.network.network import ReactionNetwork
from engine.optimise.space import Space
from engine.simulate import simulate

Array = Any
_POWERS = np.arange(1, 5)


@dataclass(frozen=True, eq=False)
class SyntheticLikelihood:
    r"""The normal likelihood of summary statistics, their mean and covariance simulated.

    .. math:: -\log L = \sum_t \frac{1}{2} d_t^T \Sigma_t^{-1} d_t + \frac{1}{2} \log |2 \pi
       \Sigma_t|, \quad d_t = (\bar x_t - \mu_t, s_t^2 - v_t)

    over the mean and variance of every species in every snapshot of n cells. With the simulated
    central moments v, k_3, k_4 the statistics of n independent cells have the covariance

    .. math:: \Sigma = \frac{1}{n} \begin{pmatrix} v & k_3 \\ k_3 & k_4 - v^2 (n - 3) / (n - 1)
       \end{pmatrix}

    exactly. Cells are seen once. Several species of the same cells count as independent (a
    composite likelihood: the fit stays consistent, its intervals are too narrow where species go
    together). Against `MomentObjective` the widths follow the parameters too, and the gradient is
    that of `engine.gradient`: with f the likelihood as a function of the raw moments m_k it is

    .. math:: \sum_k \frac{\partial f}{\partial m_k} \frac{d m_k}{d \theta}
       = \frac{d}{d \theta} E\Big[\sum_k w_k x^k\Big], \quad w_k = \partial f / \partial m_k

    one expected outcome per species and time. Moments are estimated from num_cells cells, so the
    objective and its gradient are biased by O(n / num_cells); take num_cells a few times n.

    Args:
        network: the network.
        space: parameters of the network.
        ts: times of the snapshots, increasing, after 0, (T,).
        cells: for each species the counts in each snapshot, T arrays (n_t,).
        num_cells: simulated cells; 10,000.
        estimator: of the gradient; `ScoreFunction()` by default. `CoupledDifference()` does
            better where a cell fires thousands of times.
        method: the exact method with its limits.

    Raises:
        InvalidInput: an unknown name, a snapshot of fewer than four cells, or a number of snapshots
            that is not that of the times.

    Example:
        >>> objective = SyntheticLikelihood(network, space, ts, cells)  # doctest: +SKIP
        >>> objective.value_and_gradient({"k": 2.0}, jax.random.key(0))  # doctest: +SKIP

    References:
        Wood 2010, doi:10.1038/nature09319.
    """

    network: ReactionNetwork
    space: Space
    ts: np.ndarray
    cells: Mapping[str, Sequence[np.ndarray]]
    num_cells: int = 10_000
    estimator: Estimator = field(default_factory=ScoreFunction)
    method: Direct = field(default_factory=Direct)

    def __post_init__(self) -> None:
        for name in self.space.names:
            self.network.require(name, "parameter", "compartment", what="the fit")
        ts = np.asarray(self.ts, np.float64)
        if ts.ndim != 1 or not len(ts) or ts[0] <= 0 or np.any(np.diff(ts) <= 0):
            raise InvalidInput(f"ts {ts} of the snapshots must increase, from a time after 0")
        for name, snapshots in self.cells.items():
            self.network.require(name, "species", what="cells")
            if len(snapshots) != len(ts):
                raise InvalidInput(
                    f"cells of '{name}' are {len(snapshots)} snapshots, ts has {len(ts)} times"
                )
            if min(len(s) for s in snapshots) < 4:
                raise InvalidInput(f"cells of '{name}': give four or more in every snapshot")
        if self.num_cells < 4:
            raise InvalidInput(f"num_cells is {self.num_cells}; give four or more")

    @cached_property
    def _statistics(self) -> dict[str, np.ndarray]:
        """Number, mean and variance of each snapshot, (T, 3) a species."""
        return {
            name: np.array([(len(s), np.mean(s), np.var(s, ddof=1)) for s in snapshots])
            for name, snapshots in self.cells.items()
        }

    def value(self, parameters: Mapping[str, float], key: Array) -> tuple[float, float]:
        """The objective and its standard error; the same key gives the same, bit for bit.

        Args:
            parameters: values by name, linear scale.
            key: of the simulations.

        Raises:
            InvalidInput: a parameter without a value, or moments that have no law (all simulated
                cells alike).
        """
        return _total(self._terms(parameters, key))

    def value_and_gradient(self, parameters: Mapping[str, float], key: Array) -> Estimate:
        """The objective, its gradient and its standard error.

        The gradient has noise from its own simulations and from the moments; compare it with
        itself under other keys.

        Args:
            parameters: values by name, linear scale.
            key: of the simulations; moments and gradients have independent ones.

        Returns:
            The estimate; gradients by values on the linear scale.
        """
        terms = self._terms(parameters, key)
        gradient = np.zeros(len(self.space.names))
        for i, term in enumerate(terms):
            found = estimate(
                self.network,
                self.estimator,
                Outcome(FinalValue(Symbol(term.name)), term.along),
                list(self.space.names),
                term.time,
                key=jax.random.fold_in(key, i + 1),
                num_patients=self.num_cells,
                params=dict(parameters),
                method=self.method,
            )
            gradient += found.gradient
        value, error = _total(terms)
        return Estimate(value, gradient, error)

    def _terms(self, parameters: Mapping[str, float], key: Array) -> list["_Term"]:
        """Every species and time."""
        missing = [name for name in self.space.names if name not in parameters]
        if missing:
            raise InvalidInput(f"parameter '{missing[0]}' has no value; give it one")
        ensemble = simulate(
            self.network,
            self.method,
            self.ts,
            key=jax.random.fold_in(key, 0),
            num_patients=self.num_cells,
            params=dict(parameters),
        )
        return [
            _term(name, float(t), np.asarray(counts, np.float64), observed)
            for name, statistics in self._statistics.items()
            for t, counts, observed in zip(self.ts, ensemble[name].T, statistics, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class _Term:
    """A snapshot of one species: -log L and its slopes by the moments of (x - centre) / unit."""

    name: str
    time: float
    value: float
    weights: np.ndarray  # (4,)
    centre: float
    unit: float
    counts: np.ndarray  # simulated

    def along(self, x: np.ndarray) -> np.ndarray:
        """What each cell adds to the likelihood to first order, sum_k w_k x^k."""
        powers = ((np.asarray(x, np.float64) - self.centre) / self.unit)[..., None] ** _POWERS
        return np.asarray(powers @ self.weights)


def _total(terms: list[_Term]) -> tuple[float, float]:
    """The sum of the terms and its standard error; a simulated cell is seen at every time."""
    each = np.sum([term.along(term.counts) for term in terms], axis=0)
    return sum(term.value for term in terms), float(np.std(each, ddof=1) / len(each) ** 0.5)


def _term(name: str, t: float, counts: np.ndarray, observed: np.ndarray) -> _Term:
    # Powers of standardised counts keep their digits; any fixed centre and unit will do.
    centre, unit = float(np.mean(counts)), float(np.std(counts))
    if not unit > 0:
        raise InvalidInput(
            f"all simulated cells have {centre:g} of '{name}' at time {t:g}: its mean and variance "
            "have no law; leave out that time, or move the parameters"
        )
    moments = np.mean(((counts - centre) / unit)[:, None] ** _POWERS, axis=0)
    with jax.enable_x64(True):
        value, weights = jax.value_and_grad(_negative_log)(
            jnp.asarray(moments), *(jnp.asarray(v) for v in (centre, unit, *observed))
        )
    return _Term(name, t, float(value), np.asarray(weights), centre, unit, counts)


def _negative_log(
    moments: Array, centre: Array, unit: Array, n: Array, mean: Array, variance: Array
) -> Array:
    """-log density of a snapshot's mean and variance, given raw moments of (x - centre) / unit."""
    m1, m2, m3, m4 = moments
    v = m2 - m1**2
    third = m3 - 3.0 * m1 * m2 + 2.0 * m1**3
    fourth = m4 - 4.0 * m1 * m3 + 6.0 * m1**2 * m2 - 3.0 * m1**4
    a, b, c = v / n, third / n, (fourth - v**2 * (n - 3.0) / (n - 1.0)) / n
    away = (mean - centre) / unit - m1
    wide = variance / unit**2 - v
    determinant = a * c - b**2
    square = (c * away**2 - 2.0 * b * away * wide + a * wide**2) / determinant
    # In molecules: the mean scales with the unit, the variance with its square.
    return 0.5 * square + 0.5 * jnp.log(determinant) + jnp.log(2.0 * jnp.pi) + 3.0 * jnp.log(unit)
