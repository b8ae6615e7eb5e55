r"""A small neural network as a belief, trained by Adam in every cell of time.

.. math:: \hat V_k(x) = \sigma(b_k + w_k \cdot \tanh(W_k z(x) + a_k))

with z the standardised counts, and without sigma where the outcome is no probability. Each cell's
network begins at that of the cell after it. Cost: a tanh for every unit, reaction and step. Use
where several species decide together and a polynomial of them does not do.
(Kingma & Ba 2015, arXiv:1412.6980.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import expit

from engine.errors import InvalidInput
from engine.gradient.arguments import Arguments
from engine.gradient.backward_regression import BackwardRegression
from engine.gradient.belief import Belief
from engine.gradient.critic import Critic, LearnedCritic
from engine.gradient.outcome import Outcome
from engine.gradient.polynomials import Basis
from engine.kernel.model import cell_name
from engine.network.expressions import Expression, Symbol, call

Array = np.ndarray
# Steps of the last cell, whose network begins anywhere, over those of the others.
FIRST_FACTOR = 4


@dataclass(frozen=True)
class NetworkCritic(Critic):
    """One hidden layer of tanh units by backward regression, trained with optax.

    For the outcomes of a `FittedCritic`.

    Args:
        num_units: of the hidden layer; default 6.
        num_steps: of Adam on all starts of a cell; default 200, four times as many in the last.
        learning_rate: of Adam; default 0.02, falling to zero along a cosine.
        num_cells: cells in time, half of them graded towards the horizon; default 24.
        num_starts: trajectories that start in each cell; default 4000.

    Raises:
        InvalidInput: a number that is not positive.

    References:
        Kingma & Ba 2015, arXiv:1412.6980. Munos & Szepesvari 2008, JMLR 9:815.

    Example:
        >>> NetworkCritic(num_units=4).num_units
        4
    """

    num_units: int = 6
    num_steps: int = 200
    learning_rate: float = 0.02
    num_cells: int = 24
    num_starts: int = 4000

    def __post_init__(self) -> None:
        for name in ("num_units", "num_steps", "learning_rate", "num_cells", "num_starts"):
            if not getattr(self, name) > 0:
                raise InvalidInput(
                    f"NetworkCritic({name}={getattr(self, name)!r}): give a positive number"
                )

    def learn(self, arguments: Arguments, outcome: Outcome) -> LearnedCritic:
        """Pilot, starts, and training from the horizon back."""
        name = type(self).__name__
        fit = BackwardRegression(name, self.num_cells, self.num_starts, arguments, outcome)
        basis = Basis.of(fit.visited.reshape(-1, fit.visited.shape[2]), 1)
        seed = int(arguments.key[0]) ^ int(arguments.key[1])
        return fit.learned(Perceptron(self, basis, fit.is_probability, seed))


@dataclass(frozen=True, eq=False)
class Perceptron(Belief):
    """One hidden layer of tanh units; coefficients are W (units x species), a, w, b in a row."""

    options: NetworkCritic
    basis: Basis
    is_probability: bool
    seed: int

    @property
    def kind(self) -> str:
        """A network."""
        return f"network of {self.options.num_units} units"

    def fitted(self, counts: Array, targets: Array, following: Array | None) -> Array:
        """Adam on the squared error, or on the cross entropy of probabilities."""
        z = self.basis.standardised(counts).astype(np.float32)
        steps = self.options.num_steps
        if following is None:
            steps, following = FIRST_FACTOR * steps, self._beginning(z.shape[1], targets)
        schedule = (self.options.learning_rate, steps)
        trained = _trained(
            jnp.asarray(following, jnp.float32),
            jnp.asarray(z),
            jnp.asarray(targets, jnp.float32),
            self.options.num_units,
            self.is_probability,
            schedule,
        )
        return np.asarray(trained, np.float64)

    def _beginning(self, num_species: int, targets: Array) -> Array:
        """Units that bend at different places, and a constant."""
        generator = np.random.default_rng(self.seed)
        units = self.options.num_units
        inner = generator.standard_normal((units, num_species))
        shift = generator.standard_normal(units)
        mean = float(targets.mean())
        level = np.clip(mean, 1e-6, 1 - 1e-6)
        last = np.log(level / (1 - level)) if self.is_probability else mean
        return np.concatenate([inner.ravel(), shift, np.zeros(units), [last]])

    def values(self, coefficients: Array, counts: Array) -> Array:
        """The network in states (n, S)."""
        z = self.basis.standardised(counts)
        value = np.asarray(_output(coefficients, z, self.options.num_units, np))
        return np.asarray(expit(value)) if self.is_probability else value

    def cells(self, table: Array) -> list[Array]:
        """Coefficients, with W for x - centre in place of z, then the centres."""
        units, size = self.options.num_units, len(self.basis.species)
        scales = np.append(np.tile(self.basis.scale, units), np.ones(len(table) - units * size))
        return [*(table * scales[:, np.newaxis]), *self.basis.centre[:, np.newaxis]]

    def expression(self, names: Sequence[str]) -> Expression:
        """Weights times tanh of the units' inputs."""
        units, size = self.options.num_units, len(self.basis.species)
        first = units * (size + 2) + 1
        x = self.basis.differences(names, first)
        terms: list[Expression] = [Symbol(cell_name(first - 1))]
        for u in range(units):
            inputs = [call("mul", Symbol(cell_name(u * size + k)), x[k]) for k in range(size)]
            inner = call("add", Symbol(cell_name(units * size + u)), *inputs)
            weight = Symbol(cell_name(units * (size + 1) + u))
            terms.append(call("mul", weight, call("tanh", inner)))
        value = call("add", *terms)
        return call("logistic", value) if self.is_probability else value


def _output(weights: Any, z: Any, units: int, xp: Any) -> Any:
    """The last layer's value for standardised counts (n, species)."""
    size = z.shape[1]
    inner = weights[: units * size].reshape(units, size)
    shift = weights[units * size : units * (size + 1)]
    outer = weights[units * (size + 1) : units * (size + 2)]
    return xp.tanh(z @ inner.T + shift[None]) @ outer + weights[-1]


@partial(jax.jit, static_argnums=(3, 4, 5))
def _trained(
    weights: Any,
    z: Any,
    targets: Any,
    units: int,
    is_probability: bool,
    schedule: tuple[float, int],
) -> Any:
    """The weights after all steps of Adam."""
    rate, steps = schedule
    with jax.numpy_dtype_promotion("standard"):
        adam = optax.adam(optax.cosine_decay_schedule(rate, steps))

        def loss(w: Any) -> Any:
            value = _output(w, z, units, jnp)
            if is_probability:
                return jnp.mean(jnp.logaddexp(0.0, value) - targets * value)
            return jnp.mean((value - targets) ** 2) / jnp.maximum(jnp.var(targets), 1e-12)

        def step(carry: Any, _: Any) -> Any:
            w, state = carry
            updates, state = adam.update(jax.grad(loss)(w), state, w)
            return (w + updates, state), None

        (trained, _), _ = jax.lax.scan(step, (weights, adam.init(weights)), None, length=steps)
    return trained
