"""Tallies of a continuous path: integrals as unknowns, the others at the path's turning points."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from engine.errors import InvalidInput
from engine.kernel.tallies import (
    FinalValue,
    FirstPassage,
    Maximum,
    Minimum,
    Occupation,
    Tally,
    TimeIntegral,
)
from engine.kinetics.drift import Drift, drift, environment, state_names
from engine.methods.conditions import Atoms
from engine.methods.ode_events import number, truth
from engine.network.expressions import Expression, symbols
from engine.network.network import ReactionNetwork, hint

Array = Any


@dataclass(frozen=True)
class WithIntegrals:
    """The rate equations and behind them the time integrals of expressions, a `System`."""

    expressions: tuple[Expression, ...]

    def __call__(self, network: ReactionNetwork) -> Drift:
        """The right-hand side of the states and the integrals."""
        states, values_of, num = drift(network), environment(network), len(state_names(network))

        def derivative(
            t: Array, y: Array, params: Mapping[str, Array], inputs: Mapping[str, Array]
        ) -> Array:
            dx = states(t, y[:num], params, inputs)
            if not self.expressions:
                return dx
            values = values_of(t, y[:num], params, inputs)
            integrands = [number(e, values) for e in self.expressions]
            return jnp.concatenate([dx, jnp.stack(integrands)])

        return derivative


class Tallies:
    """The tallies of a run by kind, and how each follows the path.

    Args:
        tallies: what is tallied, in order.
        atoms: collects the atoms of conditions.

    Attributes:
        turning: expressions whose extrema between jumps must be found.
    """

    def __init__(self, tallies: tuple[Tally, ...], atoms: Atoms) -> None:
        self._tallies = tallies
        self._conditions = {
            index: atoms.rewrite(tally.expression, f"tally {type(tally).__name__}")
            for index, tally in enumerate(tallies)
            if isinstance(tally, FirstPassage | Occupation)
        }
        seen = [t.expression for t in tallies if isinstance(t, Maximum | Minimum)]
        self.turning = [e for e in dict.fromkeys(seen) if not atoms.is_standing(e)]

    def start(self) -> Array:
        """What every tally has before anything is seen, (K,)."""
        return jnp.asarray([_START.get(type(tally), 0.0) for tally in self._tallies])

    def stretch(self, found: Array, values: Mapping[str, Array], elapsed: Array) -> Array:
        """After a stretch on which no condition changed; `values` has the atoms of its start."""
        for index, tally in enumerate(self._tallies):
            if isinstance(tally, Occupation):
                spent = jnp.where(truth(self._conditions[index], values), elapsed, 0.0)
                found = found.at[index].add(spent)
        return found

    def look(self, found: Array, values: Mapping[str, Array], time: Array) -> Array:
        """At a moment: before and after every jump, and wherever something turns."""
        for index, tally in enumerate(self._tallies):
            if isinstance(tally, Maximum | Minimum):
                better = jnp.maximum if isinstance(tally, Maximum) else jnp.minimum
                seen = better(found[index], number(tally.expression, values))
            elif isinstance(tally, FirstPassage):
                is_passed = truth(self._conditions[index], values)
                seen = jnp.where(is_passed, jnp.minimum(found[index], time), found[index])
            elif isinstance(tally, FinalValue):
                # The last look is at the horizon.
                seen = number(tally.expression, values)
            else:
                continue
            found = found.at[index].set(seen)
        return found

    def finish(self, found: Array, integrals: Array) -> Array:
        """The results, (K,), with the integrals put in their places."""
        position = 0
        for index, tally in enumerate(self._tallies):
            if isinstance(tally, TimeIntegral):
                found = found.at[index].set(integrals[position])
                position += 1
        return found


_START = {Maximum: -jnp.inf, Minimum: jnp.inf, FirstPassage: jnp.inf}


def integrands(tallies: tuple[Tally, ...]) -> tuple[Expression, ...]:
    """What must be integrated along the path."""
    return tuple(tally.expression for tally in tallies if isinstance(tally, TimeIntegral))


def check_tallies(network: ReactionNetwork, tallies: Mapping[str, Tally]) -> None:
    """Raise for a tally that rate equations do not have, or that mentions an unknown name.

    Raises:
        InvalidInput: a firing count, an unknown kind, an unknown name.
    """
    known = (TimeIntegral, Maximum, Minimum, FirstPassage, Occupation, FinalValue)
    for name, tally in tallies.items():
        if not isinstance(tally, known):
            raise InvalidInput(
                f"tally '{name}' is a {type(tally).__name__}, which rate equations do not have; "
                "tally the TimeIntegral of the reaction's rate, or use engine.Direct()"
            )
        for mentioned in sorted(symbols(tally.expression) - {"time"}):
            if network.kind_of(mentioned) is None:
                raise InvalidInput(
                    f"tally '{name}' mentions '{mentioned}', which is not in {network.name}"
                    f"{hint(mentioned, network.known_names)}"
                )
