"""The implicit solver of a condition's equations, whose failures are numbers."""

from dataclasses import dataclass
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import lineax
import optimistix

from engine.errors import InvalidInput

Array = Any
HUGE = 1e100


class QuietInverse(lineax.AbstractLinearSolver):
    """The inverse matrix, once a step, whose failures are numbers, not exceptions.

    A trial step may leave the finite numbers; it is rejected and its derivatives with it. Lineax
    would stop the whole program there, so what is not finite becomes huge: Newton's method
    diverges, the step is halved.

    Some twenty iterations of a step share the matrix. With many conditions side by side a product
    costs a tenth of the two triangular solves, and Newton's method corrects its rounding.
    """

    def init(self, operator: Any, options: dict[str, Any]) -> Any:
        """The inverse of the operator's matrix, (S, S)."""
        return jnp.linalg.inv(operator.as_matrix())

    def compute(self, state: Any, vector: Array, options: dict[str, Any]) -> Any:
        """The solution, finite whatever the input."""
        solution = jnp.dot(state, vector, precision="highest")
        finite = jnp.where(jnp.isfinite(solution), solution, HUGE)
        return finite, lineax.RESULTS.successful, {}

    def transpose(self, state: Any, options: dict[str, Any]) -> Any:
        """The inverse of the transposed matrix."""
        return state.T, options

    def conj(self, state: Any, options: dict[str, Any]) -> Any:
        """Real systems are their own conjugates."""
        return state, options

    def assume_full_rank(self) -> bool:
        """A step's Jacobian can be inverted, or the step is too long."""
        return True


class QuietChord(diffrax.VeryChord):
    r"""Newton's method with one Jacobian a step, that ends at 0 where it does not converge.

    The step is refused then, but derivatives are still taken where the iteration ended; far out
    there the matrix of conserved totals is singular to rounding.

    The unknown is the derivative f of a stage, but what counts is its state y = y_0 + a dt f: the
    iteration ends where a dt |change of f| is small beside `atol + rtol |y|` (Hairer and Wanner
    1996, section IV.8, doi:10.1007/978-3-642-05221-7). An absolute tolerance on f itself is out of
    reach where large rates cancel: 1e9 molecules made and lost a minute leave 1e-7 by rounding.
    """

    def step(
        self,
        fn: Any,
        y: Array,
        args: Any,
        options: dict[str, Any],
        state: Any,
        tags: frozenset[object],
    ) -> tuple[Array, Any, Any]:
        """One iteration, its size measured in the stage's state."""
        new_y, new, aux = super().step(fn, y, args, options, state, tags)
        _, diagonal, _, increment, _, partial, _, control = args
        moved = diagonal * increment(new.diff, control)
        reached = partial + diagonal * increment(new_y, control)
        size = self.norm(moved / (self.atol + self.rtol * jnp.abs(reached)))
        return new_y, eqx.tree_at(lambda s: s.diffsize, new, size), aux

    def postprocess(
        self,
        fn: Any,
        y: Array,
        aux: Any,
        args: Any,
        options: dict[str, Any],
        state: Any,
        tags: frozenset[object],
        result: Any,
    ) -> tuple[Array, Any, dict[str, Any]]:
        """The root, or 0."""
        y, aux, stats = super().postprocess(fn, y, aux, args, options, state, tags, result)
        is_found = (result == optimistix.RESULTS.successful) & jnp.all(jnp.isfinite(y))
        return jnp.where(is_found, y, 0.0), aux, stats


@dataclass(frozen=True)
class Solver:
    """How the equations are integrated: Kvaerno5, implicit and of order 5, in float64.

    Args:
        rtol: relative tolerance of a step; 1e-8.
        atol: absolute tolerance of a step, in the units of the states; 1e-10.
        max_steps: largest number of steps between two jumps, besides four for each save time;
            beyond it a condition fails and the objective is infinite; 4,000. Explosions cost
            that many steps in every evaluation.
    """

    rtol: float = 1e-8
    atol: float = 1e-10
    max_steps: int = 4_000

    def __post_init__(self) -> None:
        for name in ("rtol", "atol", "max_steps"):
            if not getattr(self, name) > 0:
                value = getattr(self, name)
                raise InvalidInput(f"Solver {name} is {value}; give a positive number")

    def stepper(self) -> diffrax.AbstractSolver:
        """The Runge-Kutta method and what solves its implicit stages."""
        chord: Any = QuietChord(rtol=self.rtol, atol=self.atol, linear_solver=QuietInverse())
        return diffrax.Kvaerno5(root_finder=chord)

    def controller(self) -> diffrax.PIDController:
        """The step size controller."""
        return diffrax.PIDController(rtol=self.rtol, atol=self.atol, pcoeff=0.3, icoeff=0.3)
