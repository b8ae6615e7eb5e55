"""Rate laws: how fast a reaction fires, as an expression of molecule counts.

The combinatorics is stated here, once: mass action with stochastic constant c has propensity
c prod_i binomial(x_i, s_i) (Gillespie 1977, doi:10.1021/j100540a008). A law given as an
expression is taken as written and is never corrected a second time.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import InvalidInput
from engine.network.expressions import Expression, Number, Symbol, call, parse


@dataclass(frozen=True)
class MassAction:
    """Propensity c prod_i binomial(x_i, s_i) over the reactants.

    Args:
        constant: the stochastic rate constant c (per time, per combination of reactant
            molecules): a number, a parameter's name or an expression of parameters.
    """

    constant: str | float | Expression

    def expression(self, reactants: Mapping[str, int]) -> Expression:
        """The propensity as an expression of counts."""
        factors = [parse(self.constant)]
        for name, stoichiometry in reactants.items():
            factors += [
                call("sub", Symbol(name), Number(float(taken))) for taken in range(stoichiometry)
            ]
            if stoichiometry > 1:
                factors.append(Number(1.0 / math.factorial(stoichiometry)))
        return call("mul", *factors)


@dataclass(frozen=True)
class MichaelisMenten:
    """Propensity v_max x / (K_m + x), x the substrate's count.

    Args:
        v_max: largest rate, molecules per time.
        k_m: substrate count at half the largest rate, molecules.
        substrate: its species; by default the reaction's only reactant.
    """

    v_max: str | float | Expression
    k_m: str | float | Expression
    substrate: str | None = None

    def expression(self, reactants: Mapping[str, int]) -> Expression:
        """The propensity as an expression of counts."""
        x = Symbol(self.substrate or _only(reactants, "MichaelisMenten", "substrate"))
        return call("div", call("mul", parse(self.v_max), x), call("add", parse(self.k_m), x))


@dataclass(frozen=True)
class HillActivation:
    """Propensity v_max x^n / (K^n + x^n), x the regulator's count.

    Args:
        v_max: largest rate, molecules per time.
        k_half: regulator count at half the largest rate, molecules.
        coefficient: the Hill coefficient n.
        regulator: species that activates.
    """

    v_max: str | float | Expression
    k_half: str | float | Expression
    coefficient: str | float | Expression
    regulator: str

    def expression(self, reactants: Mapping[str, int]) -> Expression:
        """The propensity as an expression of counts."""
        ratio = _hill_ratio(self.regulator, self.k_half, self.coefficient)
        return call("div", call("mul", parse(self.v_max), ratio), call("add", Number(1.0), ratio))


@dataclass(frozen=True)
class HillInhibition:
    """Propensity v_max K^n / (K^n + x^n), x the regulator's count.

    Args:
        v_max: rate without the regulator, molecules per time.
        k_half: regulator count at half that rate, molecules.
        coefficient: the Hill coefficient n.
        regulator: species that inhibits.
    """

    v_max: str | float | Expression
    k_half: str | float | Expression
    coefficient: str | float | Expression
    regulator: str

    def expression(self, reactants: Mapping[str, int]) -> Expression:
        """The propensity as an expression of counts."""
        ratio = _hill_ratio(self.regulator, self.k_half, self.coefficient)
        return call("div", parse(self.v_max), call("add", Number(1.0), ratio))


@dataclass(frozen=True)
class Formula:
    """Propensity given by any expression, taken as written (events per time).

    Args:
        formula: an expression of species counts, parameters, variables, inputs and `time`.
        macroscopic: the rate in the limit of large counts where it differs (n^2 for n (n - 1)).
    """

    formula: str | float | Expression
    macroscopic: str | float | Expression | None = None

    def expression(self, reactants: Mapping[str, int]) -> Expression:
        """The propensity as an expression of counts."""
        return parse(self.formula)


def macroscopic(law: "RateLaw", reactants: Mapping[str, int]) -> Expression:
    """The rate in the limit of large counts, for deterministic methods.

    Mass action has c prod_i x_i^s_i / s_i!; every other law is its own limit unless it says so.
    """
    if isinstance(law, MassAction):
        factors = [parse(law.constant)]
        for name, s in reactants.items():
            factors.append(call("pow", Symbol(name), Number(float(s))))
            factors.append(Number(1.0 / math.factorial(s)))
        return call("mul", *factors)
    if isinstance(law, Formula) and law.macroscopic is not None:
        return parse(law.macroscopic)
    return law.expression(reactants)


RateLaw = MassAction | MichaelisMenten | HillActivation | HillInhibition | Formula


def _hill_ratio(
    regulator: str, k_half: str | float | Expression, coefficient: str | float | Expression
) -> Expression:
    """(x / K)^n: K^n alone would leave float32 at K = 1e5, n = 8."""
    return call("pow", call("div", Symbol(regulator), parse(k_half)), parse(coefficient))


def _only(reactants: Mapping[str, int], law: str, argument: str) -> str:
    if len(reactants) != 1:
        raise InvalidInput(f"{law} needs {argument}=... where the reaction has not one reactant")
    return next(iter(reactants))
