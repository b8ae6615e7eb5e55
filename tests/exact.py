"""The truth: closed forms and the chemical master equation, float64, NumPy and SciPy only.

A count at time t is described by its `Moments`, by a pmf (an array indexed by the count), or by
the whole master equation on a box of counts, `FiniteStateProjection`. Times start at 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, linalg, sparse, stats
from scipy.sparse.linalg import expm_multiply

Array = NDArray[np.float64]
Observable = Callable[[Array], ArrayLike]  # counts (n, S) -> a value a state (n,)
MAX_BOX = 50_000_000  # states


class Moments(NamedTuple):
    """Mean and variance, arrays of one shape."""

    mean: Array
    variance: Array


class Tally(NamedTuple):
    """Mean and variance of a path functional, and the probability that left the box."""

    mean: Array
    variance: Array
    lost: Array


class Bracket(NamedTuple):
    """A probability known to lie in [lower, lower + lost]."""

    lower: Array
    lost: Array


def _edges(start: float, stop: float, breakpoints: Sequence[float]) -> list[tuple[float, float]]:
    """The intervals between start, the breakpoints inside, and stop."""
    edges = [start, *sorted(b for b in breakpoints if start < b < stop), stop]
    return list(itertools.pairwise(edges))


def _growth(rate: float, t: ArrayLike) -> Array:
    """Integral of e^{rate s} over [0, t]: expm1(rate t) / rate, and t where the rate is 0."""
    t = np.asarray(t, np.float64)
    return np.expm1(rate * t) / rate if rate else t.copy()


def birth_death_moments(x0: int, birth: float, death: float, t: ArrayLike) -> Moments:
    """Linear birth-death X -> 2X, X -> 0: mean x0 e^{rt}, r = birth - death.

    The variance is x0 (birth + death) e^{rt} (e^{rt} - 1) / r, and 2 x0 birth t at r = 0.
    """
    rate = birth - death
    mean = x0 * np.exp(rate * np.asarray(t, np.float64))
    return Moments(mean, (birth + death) * mean * _growth(rate, t))


def birth_death_extinction_cdf(x0: int, birth: float, death: float, t: ArrayLike) -> Array:
    """P(extinct by t) of linear birth-death: (death g / (1 + birth g))^x0, g = (e^{rt} - 1) / r."""
    growth = _growth(birth - death, t)
    return np.asarray((death * growth / (1.0 + birth * growth)) ** x0)


def immigration_death_moments(x0: int, immigration: float, death: float, t: ArrayLike) -> Moments:
    """0 -> X at rate k, X -> 0: Binomial(x0, p) survivors and Poisson(k (1 - p) / death) arrivals.

    p = e^{-death t}; mean x0 p + k (1 - p) / death, variance x0 p (1 - p) + k (1 - p) / death.
    """
    survival = np.exp(-death * np.asarray(t, np.float64))
    arrived = immigration * _growth(-death, t)
    return Moments(x0 * survival + arrived, x0 * survival * (1.0 - survival) + arrived)


def immigration_death_pmf(
    x0: int, immigration: float, death: float, t: float, max_count: int
) -> Array:
    """P(X = n), n = 0..max_count: the Binomial convolved with the Poisson of the moments above."""
    n = np.arange(max_count + 1)
    survivors = stats.binom.pmf(n, x0, np.exp(-death * t))
    arrived = stats.poisson.pmf(n, float(immigration * _growth(-death, t)))
    return np.convolve(survivors, arrived)[: max_count + 1]


def batch_immigration_moments(rate: float, batch: int, death: float, t: ArrayLike) -> Moments:
    """0 -> batch X at the given rate, X -> 0, from X = 0.

    mean = a b (1 - e^{-Mt}) / M;  variance = mean + a b (b - 1) (1 - e^{-2Mt}) / (2M).
    """
    mean = rate * batch * _growth(-death, t)
    return Moments(mean, mean + rate * batch * (batch - 1) * _growth(-2.0 * death, t))


def inhomogeneous_poisson_mean(
    rate: float, amplitudes: ArrayLike, decays: ArrayLike, t: ArrayLike
) -> Array:
    """Mean (and variance) of a Poisson count with intensity rate sum_m A_m e^{-l_m t}.

    rate sum_m A_m (1 - e^{-l_m t}) / l_m, shape of t.
    """
    modes = zip(np.atleast_1d(amplitudes), np.atleast_1d(decays), strict=True)
    return rate * np.sum([float(a) * _growth(-float(decay), t) for a, decay in modes], axis=0)


def inhomogeneous_immigration_death_moments(
    intensity: Callable[[float], float],
    death: float,
    t: float,
    *,
    x0: int = 0,
    breakpoints: Sequence[float] = (),
) -> Moments:
    """0 -> X at rate k(s), X -> 0: arrivals are Poisson of int_0^t k(s) e^{-death (t-s)} ds.

    From x0 = 0 the count itself is Poisson. Adaptive quadrature to 1e-12 between the breakpoints
    (times at which k jumps).
    """
    arrived = sum(
        integrate.quad(
            lambda s: intensity(s) * np.exp(-death * (t - s)), a, b, epsabs=0.0, epsrel=1e-12
        )[0]
        for a, b in _edges(0.0, t, breakpoints)
    )
    alive = np.exp(-death * t)
    return Moments(x0 * alive + arrived, x0 * alive * (1.0 - alive) + arrived)


def affine_moments(
    stoichiometry: ArrayLike, constant: ArrayLike, linear: ArrayLike, x0: ArrayLike, ts: ArrayLike
) -> tuple[Array, Array]:
    """Means (T, S) and covariances (T, S, S) for affine propensities a(x) = c + K x, exact.

    dm/dt = V'(c + K m);  dC/dt = A C + C A' + V' diag(c + K m) V,  A = V'K, solved as one linear
    system by the matrix exponential. V is (M, S), c is (M,), K is (M, S), x0 is (S,), ts is (T,).
    """
    v, c = np.asarray(stoichiometry, np.float64), np.asarray(constant, np.float64)
    k, start = np.asarray(linear, np.float64), np.asarray(x0, np.float64)
    drift, num, eye = v.T @ k, v.shape[1], np.eye(v.shape[1])
    noise = np.stack([np.outer(row, row).ravel() for row in v], axis=1)
    system = np.zeros((1 + num + num**2,) * 2)
    means, covariances = slice(1, 1 + num), slice(1 + num, None)
    system[means, 0], system[means, means] = v.T @ c, drift
    system[covariances, 0], system[covariances, means] = noise @ c, noise @ k
    system[covariances, covariances] = np.kron(drift, eye) + np.kron(eye, drift)
    initial = np.concatenate([[1.0], start, np.zeros(num**2)])
    solved = np.stack([linalg.expm(system * t) @ initial for t in np.atleast_1d(ts)])
    return solved[:, means], solved[:, covariances].reshape(-1, num, num)


@dataclass(frozen=True, eq=False)
class Distribution:
    """The distribution of the counts at each time, on the states of a box.

    Sums run over the box and are not renormalised: with lost mass q and an observable of size B
    outside the box an expectation is low by up to q B, so keep the loss below the test's slack.
    """

    ts: Array  # times, (T,)
    states: NDArray[np.int64]  # counts, (n, S)
    probabilities: Array  # (T, n)
    lost: Array  # probability that left the box, (T,)

    def expectation(self, values: ArrayLike) -> Array:
        """E[f(X_t)] for f given on the states, shape (n, ...): returns (T, ...)."""
        return np.tensordot(self.probabilities, np.asarray(values, np.float64), axes=1)

    def means(self) -> Array:
        """E[X_t], shape (T, S)."""
        return self.expectation(self.states)

    def central_moments(self, order: int) -> Array:
        """E[(X_t - E X_t)^order] of each species, shape (T, S)."""
        centred = self.states[None] - self.means()[:, None]
        return np.einsum("tn,tns->ts", self.probabilities, centred**order)

    def variances(self) -> Array:
        """Var X_t, shape (T, S)."""
        return self.central_moments(2)

    def covariances(self) -> Array:
        """Cov(X_t), shape (T, S, S)."""
        centred = self.states[None] - self.means()[:, None]
        return np.einsum("tn,tni,tnj->tij", self.probabilities, centred, centred, optimize=True)

    def marginal(self, species: int) -> Array:
        """P(X_s(t) = k), k = 0..largest count on the states: shape (T, largest + 1)."""
        counts = self.states[:, species]
        pmf = np.zeros((len(self.ts), counts.max() + 1))
        np.add.at(pmf.T, counts, self.probabilities.T)
        return pmf


@dataclass(frozen=True, eq=False)
class FiniteStateProjection:
    r"""The chemical master equation dp/dt = G p on a box of counts, the lost mass in a sink.

    The states are those reached from x0 by the net changes inside 0 <= x <= upper, so that a
    conserved system costs what it needs. A jump over `upper` goes to an absorbing sink, whose
    probability is returned as `lost` (Munsky & Khammash 2006, doi:10.1063/1.2145882).

    Path functionals A = int f(X) ds + sum_j w_j N_j are exact by an augmented system: with
    m(x) = E[A 1{X = x}], and F_w moving mass along the reactions with weight w,
    dm/dt = G m + f p + F_w p  and  dE[A^2]/dt = sum_x 2 f m + sum_j a_j (2 w_j m + w_j^2 p).

    Attributes:
        stoichiometry: net changes, shape (M, S), integers.
        propensity: (counts (n, S) float, t) -> (n, M), at least 0, and 0 where a count would
            become negative.
        upper: the largest count of each species, shape (S,).
        x0: initial counts, shape (S,).
        breakpoints: None (default): the propensities do not depend on time, and the solution is
            `expm_multiply`. A tuple, perhaps empty: they do, and jump at these times only (to
            the value after the jump); the solution is DOP853 at rtol 1e-10 between them.

    Example:
        >>> fsp = FiniteStateProjection([[1], [-1]], lambda x, t: np.c_[5 + 0 * x, x], (40,), (0,))
        >>> float(fsp.distribution([1.0]).means()[0, 0].round(4))
        3.1606
    """

    stoichiometry: ArrayLike
    propensity: Callable[[Array, float], ArrayLike]
    upper: Sequence[int]
    x0: Sequence[int]
    breakpoints: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if np.shape(self.stoichiometry)[1:] != (len(self.x0),) or len(self.upper) != len(self.x0):
            raise ValueError("stoichiometry (M, S), upper (S,) and x0 (S,) disagree in S")
        if not np.all((np.asarray(self.x0) >= 0) & (np.asarray(self.x0) <= self.upper)):
            raise ValueError(f"x0 = {tuple(self.x0)} lies outside 0..{tuple(self.upper)}")
        if np.prod(self._box, dtype=float) > MAX_BOX:
            raise ValueError(f"the box {self._box} has more than {MAX_BOX:,} states")

    @cached_property
    def _box(self) -> tuple[int, ...]:
        return tuple(int(limit) + 1 for limit in self.upper)

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        """Sorted flat indices into the box of the states reached from x0."""
        is_reached = np.zeros(int(np.prod(self._box)), bool)
        frontier = np.asarray([self.x0], np.int64)
        while len(frontier):
            keys = np.unique(np.ravel_multi_index(tuple(frontier.T), self._box))
            keys = keys[~is_reached[keys]]
            is_reached[keys] = True
            states = np.stack(np.unravel_index(keys, self._box), axis=1)
            moved = (states[:, None] + np.asarray(self.stoichiometry)).reshape(-1, len(self._box))
            frontier = moved[np.all((moved >= 0) & (moved < self._box), axis=1)]
        return np.flatnonzero(is_reached)

    @cached_property
    def states(self) -> NDArray[np.int64]:
        """Counts of the states, shape (n, S), in lexicographic order."""
        return np.stack(np.unravel_index(self._keys, self._box), axis=1).astype(np.int64)

    @cached_property
    def _targets(self) -> NDArray[np.int64]:
        """State each reaction leads to, shape (n, M): n the sink, -1 a negative count."""
        moved = self.states[:, None] + np.asarray(self.stoichiometry)
        is_inside = np.all((moved >= 0) & (moved < self._box), axis=2)
        keys = np.ravel_multi_index(tuple(np.moveaxis(moved, 2, 0)), self._box, mode="clip")
        targets = np.where(is_inside, np.searchsorted(self._keys, keys), len(self._keys))
        return np.where(np.any(moved < 0, axis=2), -1, targets)

    @cached_property
    def _maps(self) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Sparse (n + 1, n M) maps of the flux of (state, reaction): arriving, and net change."""
        num, num_reactions = self._targets.shape
        size, target = num * num_reactions, np.where(self._targets < 0, num, self._targets)
        source = np.repeat(np.arange(num), num_reactions)
        arrive, leave = (
            sparse.csr_array((np.ones(size), (rows, np.arange(size))), (num + 1, size))
            for rows in (target.ravel(), source)
        )
        return arrive, sparse.csr_array(arrive - leave)

    def _rates(self, t: float) -> Array:
        """Propensities of the states, shape (n, M), checked."""
        rates = np.asarray(self.propensity(self.states.astype(np.float64), t), np.float64)
        if rates.shape != self._targets.shape:
            raise ValueError(f"propensity gave {rates.shape}, expected {self._targets.shape}")
        if not np.all(np.isfinite(rates) & (rates >= 0.0)):
            raise ValueError(f"a propensity is negative or not finite at t = {t}")
        if np.any(rates[self._targets < 0]):
            raise ValueError("a reaction with a positive propensity makes a count negative")
        return rates

    def _matrix(self, rates: Array, density: Array, weights: Array) -> sparse.csr_array:
        """The augmented system's matrix for y = (p, m, E[A^2]) at fixed rates."""
        num, num_reactions = rates.shape
        index = np.arange(rates.size), np.repeat(np.arange(num), num_reactions)
        shape = (rates.size, num + 1)
        flux = sparse.csr_array((rates.ravel(), index), shape)
        tallied = sparse.csr_array(((rates * weights).ravel(), index), shape)
        arrive, move = self._maps
        generator, source = move @ flux, arrive @ tallied + sparse.diags_array(density)
        second = rates @ weights**2, 2.0 * (density[:-1] + rates @ weights)
        last = [*(sparse.csr_array([[*row, 0.0]]) for row in second), sparse.csr_array((1, 1))]
        blocks = [[generator, None, None], [source, generator, None], last]
        return sparse.block_array(blocks, format="csr")

    def _slope(self, t: float, y: Array, active: Array, density: Array, weights: Array) -> Array:
        """The right-hand side A(t) y without building A."""
        num = len(self.states)
        rates = self._rates(t) * active[:, None]
        p, m = y[: num + 1], y[num + 1 : -1]
        flux_p, flux_m = rates * p[:-1, None], rates * m[:-1, None]
        arrive, move = self._maps
        d_m = move @ flux_m.ravel() + density * p + arrive @ (flux_p * weights).ravel()
        d_square = 2.0 * (density @ m + (flux_m @ weights).sum()) + (flux_p @ weights**2).sum()
        return np.concatenate([move @ flux_p.ravel(), d_m, [d_square]])

    def _solve(
        self, ts: ArrayLike, active: ArrayLike = 1, density: ArrayLike = 0, weights: ArrayLike = 0
    ) -> Array:
        """(p, m, E[A^2]) at each time, shape (T, 2 n + 3); inactive states are absorbing."""
        num, num_reactions = self._targets.shape
        times = np.asarray(ts, np.float64)
        if times.ndim != 1 or np.any(np.diff(times, prepend=0.0) < 0.0):
            raise ValueError("ts must be a vector of increasing times, at least 0")
        live = np.broadcast_to(np.asarray(active, np.float64), num)
        density = np.append(np.broadcast_to(np.asarray(density, np.float64), num), 0.0)
        weights = np.broadcast_to(np.asarray(weights, np.float64), num_reactions)
        y, now, solved = np.zeros(2 * num + 3), 0.0, []
        y[np.searchsorted(self._keys, np.ravel_multi_index(tuple(self.x0), self._box))] = 1.0
        if self.breakpoints is None:
            matrix = self._matrix(self._rates(0.0) * live[:, None], density, weights)
        for t in times:
            if self.breakpoints is None:
                y = expm_multiply(matrix * (t - now), y) if t > now else y
            elif t > now:
                y = self._integrate(y, now, t, (live, density, weights))
            solved.append(y)
            now = t
        return np.stack(solved)

    def _integrate(self, y: Array, start: float, stop: float, args: tuple[Array, ...]) -> Array:
        """Solve from start to stop, stopping at each breakpoint between them."""
        for a, b in _edges(start, stop, self.breakpoints or ()):
            before = np.nextafter(b, a)  # where the propensities have not yet jumped

            def slope(t: float, y: Array, before: float = before) -> Array:
                return self._slope(min(t, before), y, *args)

            solution = integrate.solve_ivp(slope, (a, b), y, "DOP853", rtol=1e-10, atol=1e-14)
            assert solution.success, solution.message
            y = solution.y[:, -1]
        return y

    def distribution(self, ts: ArrayLike) -> Distribution:
        """The distribution at times ts, shape (T,), increasing from 0."""
        p = np.maximum(self._solve(ts)[:, : len(self.states) + 1], 0.0)
        return Distribution(np.asarray(ts, np.float64), self.states, p[:, :-1], p[:, -1])

    def tally(self, ts: ArrayLike, *, density: ArrayLike = 0.0, weights: ArrayLike = 0.0) -> Tally:
        """Moments of A(t) = int_0^t f(X_s) ds + sum_j w_j N_j(t), each of shape (T,).

        `density` is f on the states, shape (n,), `weights` is w, shape (M,); both default to 0.
        A path that leaves the box stops being tallied: see the lost mass.
        """
        num, f, w = len(self.states), np.asarray(density), np.asarray(weights)
        scale = max(float(np.abs(f).max()), float(np.abs(w).max())) or 1.0
        y = self._solve(ts, density=f / scale, weights=w / scale)
        mean = y[:, num + 1 : -1].sum(axis=1)
        return Tally(scale * mean, scale**2 * (y[:, -1] - mean**2), np.maximum(y[:, num], 0.0))

    def time_integral(self, ts: ArrayLike, integrand: Observable) -> Tally:
        """Moments of int_0^t f(X_s) ds, f: (n, S) -> (n,). An indicator gives the occupation."""
        return self.tally(ts, density=np.asarray(integrand(self.states.astype(np.float64))))

    def firing_counts(self, ts: ArrayLike) -> Tally:
        """Moments of the number of firings of each reaction: mean and variance (T, M)."""
        tallies = [self.tally(ts, weights=row) for row in np.eye(self._targets.shape[1])]
        means, variances, lost = (np.stack(part, axis=1) for part in zip(*tallies, strict=True))
        return Tally(means, variances, lost[:, 0])

    def _passage(self, ts: ArrayLike, is_in: NDArray[np.bool_]) -> Bracket:
        p = np.maximum(self._solve(ts, active=~is_in)[:, : len(is_in) + 1], 0.0)
        return Bracket(p[:, :-1][:, is_in].sum(axis=1), p[:, -1])

    def first_passage_cdf(self, ts: ArrayLike, is_target: Observable) -> Bracket:
        """P(X enters the target by t), targets made absorbing; lower and lost of shape (T,)."""
        return self._passage(ts, np.asarray(is_target(self.states.astype(np.float64)), bool))

    def maximum_survival(self, ts: ArrayLike, observable: Observable, levels: ArrayLike) -> Bracket:
        """P(max over [0, t] of g(X) >= level), shape (T, K) for K levels, by absorption."""
        values = np.asarray(observable(self.states.astype(np.float64)))
        passages = [self._passage(ts, values >= level) for level in np.atleast_1d(levels)]
        return Bracket(*(np.stack(part, axis=1) for part in zip(*passages, strict=True)))
