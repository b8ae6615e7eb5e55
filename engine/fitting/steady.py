"""Steady states: found by integrating, polished by Newton's method, differentiated implicitly."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from engine.fitting.dynamics import FLOAT, WILD, Dynamics
from engine.kinetics.evaluate import evaluate
from engine.network.expressions import Number, substitute
from engine.network.sbml_rates import RateModel

Array = Any
# Far beyond any biological relaxation time, in any unit of time a model uses.
LONG = 1e12
_POLISHES = 4
_CONTINUATIONS = 1_000
_FIRST = 1e-9
_RANK = 1e-10

# How a state comes to rest: dynamics, dx/dt as a function of (t, x, args), x0, args and the adjoint
# to the state reached and whether it rests.
Relaxation = Callable[[Dynamics, Any, Array, Any, Any], tuple[Array, Array]]


def idle_laws(model: RateModel, zeros: Iterable[str]) -> frozenset[int]:
    """Positions of the laws that are 0 in every state where these constants are."""
    values = dict.fromkeys(zeros, Number(0.0))
    laws = enumerate(model.laws)
    return frozenset(j for j, law in laws if substitute(law, values) == Number(0.0))


def conserved_and_free(dynamics: Dynamics) -> tuple[np.ndarray, np.ndarray]:
    """Bases of the amounts' conserved combinations (C, S) and of what reactions move (S - C, S).

    The rows of the first are orthogonal to every reaction's change, so these totals stay as they
    start; together the rows are an orthonormal basis. A reaction that never runs, because a
    parameter is fixed at 0, moves nothing: counted, it would leave Newton's matrix singular.
    """
    model = dynamics.model
    idle = idle_laws(model, dynamics.always_zero)
    columns = len(model.laws) + len(model.states)
    matrix = np.zeros((len(model.states), columns))
    for i, name in enumerate(model.states):
        if name in model.rate_rules:
            matrix[i, len(model.laws) + i] = 1.0
        for j, number in model.changes[name]:
            if j in idle:
                continue
            # A stoichiometry that parameters decide is taken to be free of conservation.
            if isinstance(number, Number):
                matrix[i, j] = number.value
            else:
                matrix[i, len(model.laws) + i] = 1.0
    left, sizes, _ = np.linalg.svd(matrix, full_matrices=True)
    rank = int(np.sum(sizes > _RANK * max(1.0, sizes.max(initial=0.0))))
    return left[:, rank:].T, left[:, :rank].T


def integrated(
    dynamics: Dynamics, field: Any, x0: Array, args: Any, adjoint: Any
) -> tuple[Array, Array]:
    """Rest as the end of the path from x0."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        dynamics.solver.stepper(),
        jnp.zeros((), FLOAT),
        jnp.asarray(LONG, FLOAT),
        None,
        x0,
        args=args,
        stepsize_controller=dynamics.solver.controller(),
        max_steps=dynamics.solver.max_steps,
        event=diffrax.Event(diffrax.steady_state_event()),
        throw=False,
        adjoint=adjoint,
    )
    return solution.ys[-1], diffrax.is_event(solution.result)


def continued(
    dynamics: Dynamics, field: Any, x0: Array, args: Any, adjoint: Any
) -> tuple[Array, Array]:
    """Rest by pseudo-transient continuation: linearised implicit Euler steps that grow to LONG.

    It follows the path roughly only, and of several states at rest it may find another one.

    References:
        Kelley and Keyes 1998, doi:10.1137/S0036142996304796.
    """
    zero = jnp.zeros((), FLOAT)
    one = jnp.eye(len(x0), dtype=FLOAT)

    def slope(x: Array) -> Array:
        return field(zero, x, args)

    def stepped(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, dt, count = state
        new = x + jnp.linalg.solve(one - dt * jax.jacfwd(slope)(x), dt * slope(x))
        size = jnp.abs(x) + 1e-3 * jnp.max(jnp.abs(x)) + dynamics.solver.atol
        change = jnp.max(jnp.abs(new - x) / size)
        is_kept = change < 0.5
        factor = jnp.where(is_kept, jnp.where(change < 0.1, 3.0, 1.2), 0.3)
        return jnp.where(is_kept, new, x), dt * factor, count + 1

    def is_running(state: tuple[Array, Array, Array]) -> Array:
        return (state[1] < LONG) & (state[2] < _CONTINUATIONS)

    start = x0, jnp.asarray(_FIRST, FLOAT), jnp.asarray(0)
    x, dt, _ = jax.lax.while_loop(is_running, stepped, start)
    return x, dt >= LONG


def steady_state(
    dynamics: Dynamics,
    x0: Array,
    constants: Mapping[str, Array],
    *,
    is_implicit: bool,
    adjoint: Any,
    relaxation: Relaxation = integrated,
) -> tuple[Array, Array]:
    r"""The state that the path from x0 comes to rest at, time held at 0.

    With is_implicit, the derivative comes from the equations that the state satisfies

    .. math:: Q V f(x) = 0, \quad L V x = L V x_0

    (L the conserved totals, Q the rest), by one differentiated Newton step; else from the
    integration itself, which also works on a manifold of steady states.

    Returns:
        The state (S,), and whether it was found.
    """
    zero = jnp.zeros((), FLOAT)
    atoms = dynamics.atoms(zero, constants)

    def field(t: Array, x: Array, args: Any) -> Array:
        constants, atoms = args
        return dynamics.derivative(zero, x, constants, atoms)

    args = (dict(constants), atoms)
    if not is_implicit:
        x, is_ok = relaxation(dynamics, field, x0, args, adjoint)
        return x, is_ok & jnp.all(jnp.abs(x) < WILD)
    totals, free = (jnp.asarray(a, FLOAT) for a in conserved_and_free(dynamics))
    volumes = jnp.stack(
        [
            evaluate(dynamics.model.volumes[name], constants, jnp, FLOAT).astype(FLOAT)
            for name in dynamics.model.states
        ]
    )

    def residual(x: Array, x0: Array, args: Any) -> Array:
        moved = jnp.dot(free, volumes * field(zero, x, args), precision="highest")
        kept = jnp.dot(totals, volumes * (x - x0), precision="highest")
        return jnp.concatenate([moved, kept])

    def newton(x: Array, x0: Array, args: Any) -> Array:
        jacobian = jax.jacfwd(residual)(
            jax.lax.stop_gradient(x), *jax.lax.stop_gradient((x0, args))
        )
        return x - jnp.linalg.solve(jacobian, residual(x, x0, args))

    still = jax.lax.stop_gradient((x0, args))
    rough, is_ok = relaxation(dynamics, field, *still, adjoint)
    x = jax.lax.fori_loop(0, _POLISHES, lambda _, x: newton(x, *still), rough)
    x = jax.lax.stop_gradient(x)
    final = newton(x, x0, args)
    size = jnp.abs(rough) + jnp.max(jnp.abs(rough)) * 1e-6
    is_near = jnp.all(jnp.abs(final - x) <= 1e-6 * size + dynamics.solver.atol)
    # Newton's method must refine the state that was reached, not find another one.
    is_same = jnp.all(jnp.abs(final - rough) <= 0.05 * size + 1e-6)
    return final, is_ok & is_near & is_same & jnp.all(jnp.abs(final) < WILD)
