r"""Pathwise gradients: differentiate the path itself, where it is smooth in the parameters.

For the rate equations, with lambda the adjoint of the outcome along the mean path,

.. math:: dE[f]/dp \approx \int \sum_j d_p a_j(\bar x, t)\, \lambda(t) \cdot v_j\, dt
   + \int d_p r\, dt

for all parameters from one forward and one backward solution, without any noise; for the chemical
Langevin equation the tangents of its Euler-Maruyama paths, in forward mode (`langevin_paths`), for
parameters, initial counts as real numbers, amounts, times and lengths of doses and pharmacokinetics
alike. Both differentiate an *approximation*: the rate equations are exact for laws linear in the
counts, the Langevin equation for none, and neither knows that counts are whole. Cost: two
solutions, or a path with a tangent for each parameter. Use for means of plentiful species. Cannot
do thresholds, extrema and passages, whose paths jump with the parameter, or (Langevin) gene
switches, events, a dose time that meets another one, the start or the horizon, and the amount or
rate of an infusion that is given by its rate. Where a species comes to 0, the extents of reactions
are limited as in `engine.methods.langevin`, and a step that is too long is refused.
(Cao, Li & Petzold 2003, doi:10.1137/S1064827501380630 for the adjoint; Gillespie 2000,
doi:10.1063/1.481811 for the Langevin equation.)
"""

from dataclasses import dataclass, field, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.gradient.critic import central
from engine.gradient.langevin_paths import paths
from engine.gradient.mean_field import MeanField, mean_field, time_grid
from engine.gradient.problem import Problem, direct_part, directions_of
from engine.gradient.regression import mean_and_error
from engine.gradient.result import Gradient
from engine.gradient.targets import InitialCount
from engine.kernel.tallies import FinalValue, FiringCount, TimeIntegral
from engine.kinetics.drift import net_changes
from engine.methods.langevin import Langevin
from engine.methods.ode import ODE

NUM_POINTS = 1200
# Below this many molecules a species is a switch and not a concentration.
FEWEST_MOLECULES = 10.0


@dataclass(frozen=True)
class Pathwise:
    """Gradient of an approximation whose paths are smooth.

    Args:
        method: `ODE()` (default), by the adjoint of the rate equations: no noise, and no standard
            errors; or `Langevin(dt=...)`, by tangents of its paths.

    Raises:
        InvalidInput: another method.

    References:
        Cao, Li & Petzold 2003, doi:10.1137/S1064827501380630. Gillespie 2000,
        doi:10.1063/1.481811.

    Example:
        >>> Pathwise().method.rtol > 0
        True
    """

    method: ODE | Langevin = field(default_factory=ODE)

    def __post_init__(self) -> None:
        if not isinstance(self.method, ODE | Langevin):
            raise InvalidInput(
                f"Pathwise({self.method!r}): give engine.ODE() or engine.Langevin(dt=...); counts "
                "that jump have no pathwise derivative"
            )

    def estimate(self, problem: Problem) -> Gradient:
        """The gradient; see `engine.gradient.estimate`."""
        outcome = problem.outcome
        if outcome.function is not None or not isinstance(
            outcome.tally, FinalValue | TimeIntegral | FiringCount
        ):
            raise InvalidInput(
                f"Pathwise() cannot do this outcome ({type(outcome.tally).__name__} and a "
                "function): it may jump with the parameter, and the derivative of its paths is "
                "not that of its mean; use engine.gradient.MartingaleCritic()"
            )
        _refuse_populations(problem)
        if isinstance(self.method, Langevin):
            return _by_langevin(self.method, problem)
        return _by_adjoint(problem)


def _refuse_populations(problem: Problem) -> None:
    """Refuse what differs between patients, naming it."""
    arguments = problem.arguments
    given = {f"'{n}'": v for n, v in [*arguments.params.items(), *arguments.x0.items()]}
    for name, pharmacokinetics in arguments.inputs.items():
        # Whatever a dose does to an input, in any kind of pharmacokinetics.
        response = pharmacokinetics.response(arguments.num_patients)
        for one in fields(response):
            value = getattr(response, one.name)
            if isinstance(value, np.ndarray) and response.num_rows > 1:
                rows = value.reshape(-1, response.num_rows)
                given |= {f"input '{name}' ({one.name})": row for row in rows if np.ptp(row)}
    for what, value in given.items():
        numbers = np.asarray(value, np.float64)
        if numbers.size > 1 and np.ptp(numbers):
            raise InvalidInput(
                f"Pathwise() follows one patient, and {what} differs between patients "
                f"({numbers.min():g} to {numbers.max():g}); use engine.gradient.MartingaleCritic()"
            )
    first, *others = arguments.regimens
    if any(one != first for one in others):
        raise InvalidInput("Pathwise() follows one patient; give one regimen")


def _by_adjoint(problem: Problem) -> Gradient:
    """Every target's gradient from one adjoint."""
    smooth = [i for i, t in enumerate(problem.targets) if not isinstance(t, InitialCount)]
    found = directions_of(problem.only(*smooth)) if smooth else None
    arguments = central(found.arguments if found else problem.arguments)
    tally = problem.outcome.tally
    path = mean_field(arguments, tally, time_grid(arguments, NUM_POINTS))
    gradient = np.zeros(len(problem.targets))
    for i, target in enumerate(problem.targets):
        if isinstance(target, InitialCount):
            target.value(arguments)
            position = arguments.network.species_names.index(target.species)
            gradient[i] = path.adjoint[0, position]
    for i, direction in zip(smooth, found.directions if found else (), strict=True):
        slopes = tuple(direction.slope(r.macroscopic_rate) for r in arguments.network.reactions)
        gradient[i] = _integral(path, (path.along(slopes) * path.moved).sum(axis=1))
        direct = direct_part(problem, direction)
        if direct is not None:
            gradient[i] += _tallied(path, direct)
    note = "mean field: exact for rates linear in the counts, an approximation otherwise"
    value = _tallied(path, tally)
    number = len(problem.targets)
    return Gradient(
        value, 0.0, problem.labels, gradient, np.zeros(number), 1.0, ("Pathwise",) * number, (note,)
    )


def _integral(path: MeanField, values: np.ndarray) -> float:
    return float(np.sum(np.diff(path.grid) * (values[1:] + values[:-1]) / 2))


def _tallied(path: MeanField, tally: Any) -> float:
    """A final value, an integral or a count along the mean path."""
    if isinstance(tally, FiringCount):
        position = path.network.reaction_names.index(str(tally.expression))
        return _integral(path, path.rates[:, position])
    values = path.along((tally.expression,))[:, 0]
    return float(values[-1]) if isinstance(tally, FinalValue) else _integral(path, values)


def _by_langevin(method: Langevin, problem: Problem) -> Gradient:
    """Tangents of Euler-Maruyama paths."""
    arguments, network = problem.arguments, problem.arguments.network
    if network.events or network.rate_rules:
        raise InvalidInput(
            "Pathwise(Langevin(...)) follows networks without events and rate rules, for a path "
            "jumps when an event comes earlier; use engine.gradient.MartingaleCritic()"
        )
    if isinstance(problem.outcome.tally, FiringCount):
        raise InvalidInput("Pathwise(Langevin(...)) counts no firings; use Pathwise()")
    one_path = paths(method.dt, arguments, problem.targets, problem.outcome.tally)
    typical = central(arguments)
    mean_path = mean_field(typical, problem.outcome.tally, time_grid(typical, 200))
    _refuse_switches(mean_path)
    key = jax.random.wrap_key_data(jnp.asarray(arguments.key))
    keys = jax.random.split(key, arguments.num_patients * arguments.num_replicates)
    found = jax.jit(jax.vmap(one_path))(keys)
    values, slopes, is_too_long = (np.asarray(part, np.float64) for part in found)
    _refuse_long_steps(method.dt, is_too_long, mean_path)
    _refuse_undefined(method.dt, values, slopes)
    for label, column in zip(problem.labels, slopes.T, strict=True):
        if not np.any(column):
            raise InvalidInput(
                f"'{label}' does not influence the outcome on any path; leave it out of wrt"
            )
    value, value_error = mean_and_error(values)
    gradient, errors = mean_and_error(slopes)
    number = len(problem.targets)
    return Gradient(
        float(value),
        float(value_error),
        problem.labels,
        gradient,
        errors,
        1.0,
        ("Pathwise",) * number,
        ("Langevin: standard errors do not know the bias of the approximation",),
        len(values),
    )


def _refuse_switches(path: MeanField) -> None:
    changed = {name for r in path.network.reactions for name in path.network.changes(r)}
    for i, name in enumerate(path.network.species_names):
        if name in changed and path.states[:, i].max() < FEWEST_MOLECULES:
            raise InvalidInput(
                f"Pathwise(Langevin(...)): species '{name}' has fewer than "
                f"{FEWEST_MOLECULES:g} molecules, a switch that real numbers do not describe (the "
                "gradient can be a third off); use engine.gradient.MartingaleCritic()"
            )


def _refuse_undefined(dt: float, values: np.ndarray, slopes: np.ndarray) -> None:
    """A path on which a law, or its slope, is no number has no gradient."""
    is_defined = np.isfinite(values) & np.all(np.isfinite(slopes), axis=1)
    if not is_defined.all():
        raise InvalidInput(
            f"Pathwise(Langevin(dt={dt:g})): on {int(np.sum(~is_defined))} of {len(values)} paths "
            "a rate law, the outcome or its derivative is no number; look for a root, a logarithm "
            "or a division of what can come to 0, or use engine.gradient.CoupledDifference()"
        )


def _refuse_long_steps(dt: float, is_too_long: np.ndarray, path: MeanField) -> None:
    """No step took more than there was: the paths would be those of another equation."""
    if not is_too_long.any():
        return
    losses = path.rates @ np.maximum(-net_changes(path.network), 0.0).T
    is_lost = (path.states > 0) & (losses > 0)
    lives = np.where(is_lost, path.states / np.where(is_lost, losses, 1.0), np.inf).min(axis=0)
    name = path.network.species_names[int(np.argmin(lives))]
    raise InvalidInput(
        f"Pathwise(Langevin(dt={dt:g})): on {int(is_too_long.sum())} of {len(is_too_long)} paths a "
        f"step would take more molecules of a species than there are ('{name}' lives "
        f"{lives.min():.2g} on the mean path); give a dt below {min(dt, lives.min()):.2g}, or use "
        "engine.gradient.Pathwise() or CoupledDifference()"
    )
