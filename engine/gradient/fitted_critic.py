r"""A polynomial belief by backward regression: the default for thresholds.

.. math:: \hat V_k(x) = \sigma(\sum_m c_{km} \phi_m(x))

for a probability, sigma the logistic function and phi_m monomials of the counts; without sigma
otherwise. Cost: one exponential for every reaction and step. Use for thresholds in networks of a
few species. (Munos & Szepesvari 2008, JMLR 9:815.)
"""

from dataclasses import dataclass

from engine.gradient.arguments import Arguments
from engine.gradient.backward_regression import BackwardRegression
from engine.gradient.belief import Polynomial
from engine.gradient.critic import Critic, LearnedCritic
from engine.gradient.outcome import Outcome
from engine.gradient.polynomials import Basis


@dataclass(frozen=True)
class FittedCritic(Critic):
    """Polynomial or logistic belief by backward regression.

    For a function of a `FinalValue`, a threshold on a `Maximum` or `Minimum`, a `FirstPassage`
    before the horizon, or the mean of a `TimeIntegral`, an `Occupation` or a `FiringCount`. Use for
    thresholds in networks of a few species. Cannot do networks whose laws mention the time.

    Args:
        num_cells: cells in time, half of them graded towards the horizon; default 24.
        num_starts: trajectories that start in each cell; default 4000.
        degree: of the polynomial; default 4 with one species, 3 with two, 2 with more, and 2 where
            the belief is the polynomial itself.

    References:
        Munos & Szepesvari 2008, JMLR 9:815.

    Example:
        >>> FittedCritic(degree=3).num_cells
        24
    """

    num_cells: int = 24
    num_starts: int = 4000
    degree: int | None = None

    def learn(self, arguments: Arguments, outcome: Outcome) -> LearnedCritic:
        """Pilot, starts, and regressions from the horizon back."""
        name = type(self).__name__
        fit = BackwardRegression(name, self.num_cells, self.num_starts, arguments, outcome)
        degree = self.degree or (None if fit.is_probability else 2)
        basis = Basis.of(fit.visited.reshape(-1, fit.visited.shape[2]), degree)
        return fit.learned(Polynomial(basis, fit.is_probability))
