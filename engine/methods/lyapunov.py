"""Linear systems of means and covariances, solved at the cost of the means alone."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax import lax

Array = Any
# Enough for rates that differ by a factor of 1e8; Newton's method takes care of what is left.
NUM_DOUBLINGS = 16


def positions(num: int) -> np.ndarray:
    """Where entry (i, j) of a symmetric matrix lies in its upper triangle, (num, num)."""
    found = np.zeros((num, num), np.int64)
    upper = np.triu_indices(num)
    found[upper] = np.arange(len(upper[0]))
    return np.maximum(found, found.T)


class MomentSolver(lineax.AbstractLinearSolver):
    r"""Solves A u = r for the Jacobians that an implicit step of linear noise meets.

    With u the means and behind them the upper triangle of the covariance C, such an A is

    .. math:: u \to (B x, \; G x + M C + C M^T), \quad M = B - alpha I / 2

    where B is the block of the means, a combination of the identity (alpha of it) and the
    reactions' Jacobian. So x = B^-1 r_x, and M C + C M^T = R is solved by doubling the Cayley
    transform of M: 2^k terms of its series after k products of S x S matrices (Smith 1968,
    doi:10.1137/0116017). That is of order S^3 instead of the S^6 of an elimination.

    Args:
        num: the number of means, S.
    """

    num: int

    def init(self, operator: Any, options: dict[str, Any]) -> tuple[Array, ...]:
        """The blocks of A from S + 1 products with it, and what the doubling needs."""
        del options
        num, eye = self.num, jnp.eye(self.num)
        unit = jnp.eye(num + 1, operator.in_size())
        products = jax.vmap(operator.mv)(unit)
        block, coupling = products[:num, :num].T, products[:num, num:].T
        alpha = 2.0 * block[0, 0] - products[num, num]
        side = -jnp.sign(alpha)
        stable = side * (block - 0.5 * alpha * eye)
        largest = jnp.max(jnp.sum(jnp.abs(stable), axis=1))
        shift = jnp.sqrt(0.5 * jnp.abs(alpha) * largest)
        inverse = jnp.linalg.inv(stable - shift * eye)
        first = inverse @ (stable + shift * eye)
        _, powers = lax.scan(lambda a, _: (a @ a, a), first, None, NUM_DOUBLINGS)
        return jnp.linalg.inv(block), coupling, -2.0 * shift * side, inverse, powers

    def compute(
        self, state: tuple[Array, ...], vector: Array, options: dict[str, Any]
    ) -> tuple[Array, Any, dict[str, Any]]:
        """The solution u, (Y,)."""
        del options
        block_inverse, coupling, factor, inverse, powers = state
        means = block_inverse @ vector[: self.num]
        right = (vector[self.num :] - coupling @ means)[positions(self.num)]
        first = factor * inverse @ right @ inverse.T
        covariance, _ = lax.scan(lambda c, a: (c + a @ c @ a.T, None), first, powers)
        upper = covariance[np.triu_indices(self.num)]
        return jnp.concatenate([means, upper]), lineax.RESULTS.successful, {}

    def transpose(self, state: Any, options: dict[str, Any]) -> Any:
        """Not needed: derivatives of a step are solved densely."""
        raise NotImplementedError

    def conj(self, state: tuple[Array, ...], options: dict[str, Any]) -> Any:
        """Real systems are their own conjugates."""
        return state, options

    def assume_full_rank(self) -> bool:
        """A step's Jacobian can be inverted, or the step is too long."""
        return True
