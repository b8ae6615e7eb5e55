"""PEtab problems: an objective with its gradient from a folder of tables and an SBML model."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.fitting.rows import Predicted, Rows
from engine.fitting.simulation import Simulation
from engine.fitting.solver import Solver
from engine.fitting.steady import continued, idle_laws
from engine.fitting.tables import ParameterTable, Tables
from engine.fitting.tables import Prior as TablePrior
from engine.network.network import hint
from engine.optimise.priors import Laplace, LogLaplace, LogNormal, Normal, Prior, Uniform
from engine.optimise.space import Bounded, Space
from engine.optimise.transforms import BY_NAME

Array = Any


class Linearised(NamedTuple):
    """The objective at a point of the search, with first derivatives and Fisher information.

    Attributes:
        value: negative log-likelihood; infinite where the equations could not be solved.
        gradient: by the P parameters, linear scale, 0 for those that are not estimated, (P,).
        curvature: expected Fisher information, (P, P).
    """

    value: Array
    gradient: Array
    curvature: Array


@dataclass(frozen=True, eq=False)
class PetabProblem:
    """A parameter estimation problem in PEtab's format, version 1.

    Parameters are mappings of names to values **on the linear scale**, whatever their
    parameterScale. Names that are left out keep their nominal value.

    Priors are not part of the likelihood; `negative_log_prior` and `negative_log_posterior` have
    them. Everything runs in float64 and is compiled once for a problem: new parameter values, and
    all conditions, share one program.

    Args:
        tables: the problem's files.
        solver: tolerances of the equations.
    """

    tables: Tables
    solver: Solver = field(default_factory=Solver)
    _traces: list[str] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """The problem's name."""
        return self.tables.name

    @property
    def nominal_parameters(self) -> dict[str, float]:
        """The nominal value of every parameter, linear scale."""
        table = self.tables.parameters
        return {n: float(v) for n, v in zip(table.names, table.nominal, strict=True)}

    @property
    def estimated(self) -> tuple[str, ...]:
        """The parameters to be estimated, in the order of the table."""
        table = self.tables.parameters
        return tuple(n for n, e in zip(table.names, table.is_estimated, strict=True) if e)

    @property
    def measurements(self) -> np.ndarray:
        """Measurements as the table has them, (N,)."""
        return self.tables.measurements

    @property
    def num_traces(self) -> int:
        """How many programs were traced so far; constant from the second call on."""
        return len(self._traces)

    @cached_property
    def space(self) -> Space:
        """The estimated parameters with bounds, scales and priors."""
        table = self.tables.parameters
        return Space([_bounded(table, i) for i in range(len(table.names)) if table.is_estimated[i]])

    def negative_log_likelihood(self, parameters: Mapping[str, float]) -> float:
        """The negative log-likelihood of the measurements.

        Args:
            parameters: values by name, linear scale.

        Returns:
            The value; infinite, with a warning that says why, where the equations could not be
            solved or predict what the noise model excludes.

        Raises:
            InvalidInput: an unknown name, or a value that is not finite.

        Example:
            >>> problem = read_petab("problem.yaml")  # doctest: +SKIP
            >>> problem.negative_log_likelihood(problem.nominal_parameters)  # doctest: +SKIP
        """
        with jax.enable_x64(True):
            theta = jnp.asarray(self._vector(parameters))
            value = float(self._value(theta))
        if value == np.inf:
            warnings.warn(self._why_infinite(theta), stacklevel=2)
        return value

    def gradient(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """The derivative of the negative log-likelihood by each estimated parameter.

        Args:
            parameters: values by name, linear scale.

        Returns:
            Derivatives by values on the linear scale, by name.
        """
        return self.value_and_gradient(parameters)[1]

    def value_and_gradient(self, parameters: Mapping[str, float]) -> tuple[float, dict[str, float]]:
        """The negative log-likelihood and its derivatives (forward sensitivities).

        Args:
            parameters: values by name, linear scale.

        Returns:
            The value, and derivatives by values on the linear scale, by name.
        """
        with jax.enable_x64(True):
            found = self._linearised(jnp.asarray(self._vector(parameters)))
        gradient = dict(zip(self.tables.parameters.names, np.asarray(found.gradient), strict=True))
        return float(found.value), {name: float(gradient[name]) for name in self.estimated}

    def negative_log_prior(self, parameters: Mapping[str, float]) -> float:
        """The sum of -log objective priors (0 without any); see `negative_log_likelihood`."""
        point = self.space.to_point({n: self._complete(parameters)[n] for n in self.estimated})
        with jax.enable_x64(True):
            return float(self.space.negative_log_prior(jnp.asarray(point)))

    def negative_log_posterior(self, parameters: Mapping[str, float]) -> float:
        """Negative log-likelihood plus -log priors."""
        return self.negative_log_likelihood(parameters) + self.negative_log_prior(parameters)

    def simulate(self, parameters: Mapping[str, float]) -> np.ndarray:
        """The observable at every measurement, (N,), in the units of the measurements."""
        return self.rows.untransformed(np.asarray(self.predict(parameters).location))

    def predict(self, parameters: Mapping[str, float]) -> Predicted:
        """Location and noise of every measurement on its transformed scale, (N,) each."""
        with jax.enable_x64(True):
            found, _ = self._simulated(jnp.asarray(self._vector(parameters)))
        return Predicted(np.asarray(found.location), np.asarray(found.scale))

    # Traceable functions of the parameters (P,), linear scale.

    @cached_property
    def simulation(self) -> Simulation:
        """The paths of every condition."""
        plain = Simulation(self.tables, self.solver)
        if not self.tables.lanes.has_rest:
            return plain
        # Most problems are told by the continuation, which compiles in a fifth of the time. Where
        # it finds another rest than the path does, that one is taken to be of the same kind.
        quick = Simulation(self.tables, self.solver, relaxation=continued)
        is_regular = any(self._is_rest_regular(one) for one in (quick, plain))
        return Simulation(self.tables, self.solver, is_implicit=is_regular)

    def _is_rest_regular(self, simulation: Simulation) -> bool:
        """Whether Newton's method refines every steady state of the nominal parameters."""
        with jax.enable_x64(True):
            nominal = jnp.asarray(np.nan_to_num(self.tables.parameters.nominal, nan=1.0))
            return bool(np.all(jax.jit(simulation.is_rest_found)(nominal)))

    @cached_property
    def rows(self) -> Rows:
        """The measurements."""
        return Rows(self.simulation)

    def value(self, theta: Array) -> Array:
        """The negative log-likelihood, infinite where it has none."""
        self._traces.append("value")
        paths, is_ok = self.simulation.paths(theta, diffrax.ForwardMode())
        predicted = self.rows.predict(theta, self.rows.picked(paths))
        value = self.rows.negative_log_likelihood(predicted)
        return jnp.where(jnp.all(is_ok) & jnp.isfinite(value), value, jnp.inf)

    def linearised(self, theta: Array, observed: Array | None = None) -> Linearised:
        """The objective with its gradient and Fisher information by forward sensitivities.

        Args:
            theta: parameters (P,), linear scale.
            observed: other data than the problem's, transformed scales, (N,).
        """
        self._traces.append("linearised")
        rows, local = self.rows, self.simulation.local[self.tables.lanes.of_row]
        paths, slopes, is_ok = self.simulation.sensitivities(theta)
        states, state_slopes = rows.picked(paths), rows.picked(slopes)
        predicted = rows.predict(theta, states)
        estimated = np.flatnonzero(self.tables.parameters.is_estimated)

        def of_estimated(values: Array) -> Any:
            return rows.predict(theta.at[estimated].set(values), states)

        def along(state: Array) -> Any:
            tangent = jnp.broadcast_to(state, states.shape)
            return jax.jvp(lambda s: rows.predict(theta, s), (states,), (tangent,))[1]

        direct = jax.jacfwd(of_estimated)(theta[estimated])
        by_state = jax.vmap(along)(jnp.eye(states.shape[1], dtype=states.dtype))
        # Padding has no slope; it is added to the first column.
        place = np.searchsorted(estimated, np.where(local >= 0, local, estimated[:1]))
        row = np.arange(len(local))[:, None]
        jacobians = []
        for own, through in zip(direct, by_state, strict=True):
            chained = jnp.einsum("sn,nsd->nd", through, state_slopes, precision="highest")
            jacobians.append(own.at[row, place].add(chained))
        value, by_row = jax.value_and_grad(rows.negative_log_likelihood)(predicted, observed)
        gradient = sum(g @ j for g, j in zip(by_row, jacobians, strict=True))
        curvature = self.information(predicted.scale, *jacobians)
        is_good = jnp.all(is_ok) & jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        is_good = is_good & jnp.all(jnp.isfinite(curvature))
        whole = jnp.zeros(len(theta), theta.dtype)
        square = jnp.zeros((len(theta), len(theta)), theta.dtype)
        return Linearised(
            jnp.where(is_good, value, jnp.inf),
            whole.at[estimated].set(jnp.where(is_good, gradient, 0.0)),
            square.at[np.ix_(estimated, estimated)].set(jnp.where(is_good, curvature, 0.0)),
        )

    def information(self, scale: Array, location: Array, noise: Array) -> Array:
        r"""Expected Fisher information: 1 / sigma^2 (dy dy' + c dsigma dsigma'), c = 2 or 1."""
        factor = jnp.where(jnp.asarray(self.rows.is_laplace), 1.0, 2.0)
        weighted = location / scale[:, None]
        noisy = noise * (jnp.sqrt(factor) / scale)[:, None]
        return weighted.T @ weighted + noisy.T @ noisy

    @cached_property
    def _value(self) -> Any:
        return jax.jit(self.value)

    def _why_infinite(self, theta: Array) -> str:
        """Which conditions have no solution, or which observables no likelihood."""
        with jax.enable_x64(True):
            predicted, is_ok = self._simulated(theta)
        failed = [self.tables.lanes.names[i] for i in np.flatnonzero(~np.asarray(is_ok))]
        if failed:
            return (
                f"the likelihood is infinite: the equations of {_named(failed)} could not be "
                f"solved with {self.solver}; give read_petab a Solver with more steps or larger "
                "tolerances, unless they explode there"
            )
        is_bad = ~np.isfinite(np.asarray(predicted.location)) | ~(np.asarray(predicted.scale) > 0)
        at = np.flatnonzero(is_bad)
        where = sorted({self.tables.lanes.names[self.tables.lanes.of_row[row]] for row in at})
        return (
            f"the likelihood is infinite: {len(at)} measurements in {_named(where)} are predicted "
            "where their noise model has no density (a logarithm of what is not positive, a noise "
            "that is not); other parameters are needed"
        )

    @cached_property
    def _linearised(self) -> Any:
        return jax.jit(self.linearised)

    @cached_property
    def _simulated(self) -> Any:
        """What is predicted of every measurement, and whether each lane was solved."""

        def simulated(theta: Array) -> tuple[Predicted, Array]:
            paths, is_ok = self.simulation.paths(theta, diffrax.ForwardMode())
            return self.rows.predict(theta, self.rows.picked(paths)), is_ok

        return jax.jit(simulated)

    # Host side.

    def _complete(self, parameters: Mapping[str, float]) -> dict[str, float]:
        values = self.nominal_parameters
        for name, value in parameters.items():
            if name not in values:
                raise InvalidInput(
                    f"'{name}' is not a parameter of {self.name}{hint(name, values)}"
                )
            values[name] = float(value)
        for name, value in values.items():
            if not np.isfinite(value):
                raise InvalidInput(f"parameter '{name}' is {value}; give a finite number")
        self._check_fixed(values)
        return values

    def _check_fixed(self, values: Mapping[str, float]) -> None:
        """Refuse to let a reaction run that is taken never to run where states come to rest."""
        if not self.tables.lanes.has_rest:
            return
        model, zeros = self.tables.model, self.tables.always_zero
        moved = sorted(n for n in frozenset().union(*zeros.values()) if values[n] != 0)
        still = [name for name, by in zeros.items() if by.isdisjoint(moved)]
        if moved and idle_laws(model, still) != idle_laws(model, zeros):
            named = ", ".join(f"'{name}' is {values[name]:g}" for name in moved)
            raise InvalidInput(
                f"parameter {named}, but the parameter table fixes it at 0, which decides what is "
                "conserved until a steady state; change its nominalValue there"
            )

    def _vector(self, parameters: Mapping[str, float]) -> np.ndarray:
        return np.array(list(self._complete(parameters).values()), np.float64)


def _named(conditions: Sequence[str], most: int = 4) -> str:
    first = ", ".join(f"'{name}'" for name in conditions[:most])
    rest = len(conditions) - most
    return f"{first} and {rest} more" if rest > 0 else first


def read_petab(path: str | Path, *, solver: Solver | None = None) -> PetabProblem:
    """Read a PEtab problem (version 1): the YAML file that names its tables and model.

    Read are observables and noise formulas (noise may depend on the state), lin, log and log10
    transformations and parameter scales, normal and Laplace noise, conditions that override
    parameters, compartments and initial values, pre-equilibration, steady-state measurements
    (time `inf`), priors, initial assignments, assignment and rate rules, piecewise functions of
    time and events at times. PEtab allows further columns, which are not read; where one nearly
    has the name of a column that its table lacks, a warning says so.

    Args:
        path: the YAML file; tables lie beside it.
        solver: tolerances; relative 1e-8 and absolute 1e-10 by default.

    Returns:
        The problem.

    Raises:
        InvalidInput: a missing or malformed file, or a feature that is not read (events on the
            state, delays, algebraic rules, volumes that change, several models, version 2, ...),
            by name.

    Example:
        >>> problem = read_petab("Boehm_JProteomeRes2014.yaml")  # doctest: +SKIP
        >>> problem.negative_log_likelihood(problem.nominal_parameters)  # doctest: +SKIP
        138.22199

    References:
        Schmiester et al. 2021, doi:10.1371/journal.pcbi.1008646.
    """
    # Its libraries take a second to import, which only readers of PEtab should pay.
    from engine.fitting.petab_reader import read_tables

    problem = PetabProblem(read_tables(path), solver or Solver())
    problem.simulation.dynamics.check()
    return problem


_PRIORS: dict[str, Any] = {
    "normal": Normal,
    "laplace": Laplace,
    "logNormal": LogNormal,
    "logLaplace": LogLaplace,
    "uniform": Uniform,
    "parameterScaleNormal": partial(Normal, is_on_scale=True),
    "parameterScaleLaplace": partial(Laplace, is_on_scale=True),
    "parameterScaleUniform": partial(Uniform, is_on_scale=True),
}


def _prior(name: str, given: TablePrior) -> Prior:
    if given.kind not in _PRIORS:
        raise InvalidInput(
            f"parameter '{name}' has objectivePriorType '{given.kind}'{hint(given.kind, _PRIORS)}"
        )
    made: Prior = _PRIORS[given.kind](*given.values)
    return made


def _bounded(table: ParameterTable, i: int) -> Bounded:
    name = table.names[i]
    prior = _prior(name, table.priors[name]) if name in table.priors else None
    return Bounded(
        name, float(table.lower[i]), float(table.upper[i]), BY_NAME[table.scales[i]], prior
    )
