"""The implicit solver of a condition's equations, whose failures are numbers."""

from dataclasses import dataclass
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax
import optimistix

from engine.errors import InvalidInput

Array = Any
HUGE = 1e100


class QuietLU(lineax.AbstractLinearSolver):
    """Elimination whose failures are numbers, not exceptions.

    A trial step may leave the finite numbers; it is rejected and its derivatives with it. Lineax
    would stop the whole program there, so what is not finite becomes huge: Newton's method
    diverges, the step is halved.
    """

    def init(self, operator: Any, options: dict[str, Any]) -> Any:
        """The factors of the operator's matrix."""
        return lineax.LU().init(operator, options)

    def compute(self, state: Any, vector: Array, options: dict[str, Any]) -> Any:
        """The solution, finite whatever the input."""
        solution, _, stats = lineax.LU().compute(state, vector, options)
        finite = jax.tree.map(lambda a: jnp.where(jnp.isfinite(a), a, HUGE), solution)
        return finite, lineax.RESULTS.successful, stats

    def transpose(self, state: Any, options: dict[str, Any]) -> Any:
        """The factors of the transposed matrix."""
        return lineax.LU().transpose(state, options)

    def conj(self, state: Any, options: dict[str, Any]) -> Any:
        """Real systems are their own conjugates."""
        return state, options

    def assume_full_rank(self) -> bool:
        """A step's Jacobian can be inverted, or the step is too long."""
        return True


class QuietChord(optimistix.Chord):
    """Newton's method with one Jacobian a step, that ends at 0 where it does not converge.

    The step is refused then, but derivatives are still taken where the iteration ended; far out
    there the matrix of conserved totals is singular to rounding.
    """

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
            beyond it a condition fails and the objective is infinite; 1,000. Explosions cost
            that many steps in every evaluation.
    """

    rtol: float = 1e-8
    atol: float = 1e-10
    max_steps: int = 1_000

    def __post_init__(self) -> None:
        for name in ("rtol", "atol", "max_steps"):
            if not getattr(self, name) > 0:
                value = getattr(self, name)
                raise InvalidInput(f"Solver {name} is {value}; give a positive number")

    def stepper(self) -> diffrax.AbstractSolver:
        """The Runge-Kutta method and what solves its implicit stages."""
        chord: Any = QuietChord(rtol=self.rtol, atol=self.atol, linear_solver=QuietLU())
        return diffrax.Kvaerno5(root_finder=chord)

    def controller(self) -> diffrax.PIDController:
        """The step size controller."""
        return diffrax.PIDController(rtol=self.rtol, atol=self.atol, pcoeff=0.3, icoeff=0.3)
