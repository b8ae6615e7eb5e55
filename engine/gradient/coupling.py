"""Two systems on one probability space: the split coupling, as a network of its own.

Every reaction j becomes three: one that fires in both systems at the rate min(a_j(x), b_j(y)), and
one for what is left of either, (a_j - b_j)^+ and (b_j - a_j)^+. Each system alone has its own law;
together they differ as little as their rates do (Anderson 2012, doi:10.1137/110849079).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engine.dosing.dose import Dose
from engine.dosing.regimen import Regimen
from engine.ensemble import Ensemble
from engine.gradient.arguments import Arguments
from engine.gradient.outcome import Outcome
from engine.kernel.tallies import FiringCount, Tally
from engine.kinetics.smaller import excess, smaller
from engine.network.events import AssignmentRule, Event
from engine.network.expressions import TIME, Expression, Symbol, substitute
from engine.network.network import ReactionNetwork
from engine.network.rate_laws import Formula
from engine.network.reactions import Reaction

MARK = "__2"


def coupled(first: Arguments, second: Arguments) -> Arguments:
    """The arguments of a simulation of both systems; the second's names end in `MARK`.

    Args:
        first, second: two systems of the same network, for the same patients.
    """
    rename = _Renaming(first.network)
    params = dict(first.params)
    params |= {rename.name(name): value for name, value in second.params.items()}
    return replace(
        first,
        network=_network(first.network, rename),
        params=params,
        x0={**first.x0, **{rename.name(name): value for name, value in second.x0.items()}},
        inputs={**first.inputs, **{rename.name(n): pk for n, pk in second.inputs.items()}},
        regimen=_regimens(first, second, rename),
    )


class _Renaming:
    """Names of the second system: everything but the time and the compartments."""

    def __init__(self, network: ReactionNetwork) -> None:
        self._shared = {TIME, *(c.name for c in network.compartments)}
        known = [name for name in network.known_names if name not in self._shared]
        self._symbols: Mapping[str, Expression] = {n: Symbol(n + MARK) for n in known}

    def name(self, name: str) -> str:
        return name if name in self._shared else name + MARK

    def expression(self, expression: Expression) -> Expression:
        return substitute(expression, self._symbols)


def _network(network: ReactionNetwork, rename: _Renaming) -> ReactionNetwork:
    def again(part: Any, attribute: str) -> Any:
        value = rename.expression(getattr(part, attribute))
        return replace(part, name=rename.name(part.name), **{attribute: value})

    rules = [
        AssignmentRule(rename.name(r.target), rename.expression(r.expression), r.unit)
        for r in network.assignment_rules
    ]
    return replace(
        network,
        species=(*network.species, *(again(s, "initial") for s in network.species)),
        reactions=tuple(r for one in network.reactions for r in _split(one, rename)),
        parameters=(*network.parameters, *(again(p, "value") for p in network.parameters)),
        variables=(*network.variables, *(again(v, "initial") for v in network.variables)),
        inputs=(*network.inputs, *(replace(i, name=rename.name(i.name)) for i in network.inputs)),
        assignment_rules=(*network.assignment_rules, *rules),
        events=(*network.events, *(_event(e, rename) for e in network.events)),
    )


def _split(reaction: Reaction, rename: _Renaming) -> tuple[Reaction, ...]:
    a, b = reaction.propensity, rename.expression(reaction.propensity)
    left, right = _side(reaction.reactants), _side(reaction.products)
    left2, right2 = _side(reaction.reactants, rename), _side(reaction.products, rename)
    both = f"{_joined(left, left2)} -> {_joined(right, right2)}"
    name = reaction.name
    return (
        Reaction(
            f"{left or '0'} -> {right or '0'}",
            Formula(excess(a, b)),
            f"{name}__1",
        ),
        Reaction(both, Formula(smaller(a, b)), name),
        Reaction(
            f"{left2 or '0'} -> {right2 or '0'}",
            Formula(excess(b, a)),
            name + MARK,
        ),
    )


def _side(amounts: Mapping[str, int], rename: _Renaming | None = None) -> str:
    names = {name: rename.name(name) if rename else name for name in amounts}
    return " + ".join(f"{number} {names[name]}" for name, number in amounts.items())


def _joined(*sides: str) -> str:
    return " + ".join(side for side in sides if side) or "0"


def _event(event: Event, rename: _Renaming) -> Event:
    def optional(expression: Expression | None) -> Expression | None:
        return None if expression is None else rename.expression(expression)

    def targets(given: Mapping[str, Expression]) -> dict[str, Expression]:
        return {rename.name(t): rename.expression(e) for t, e in given.items()}

    return replace(
        event,
        name=event.name + MARK,
        trigger=rename.expression(event.trigger),
        assignments=targets(event.assignments),
        doses=targets(event.doses),
        delay=optional(event.delay),
        priority=optional(event.priority),
    )


def _regimens(first: Arguments, second: Arguments, rename: _Renaming) -> Any:
    pairs = zip(first.regimens, second.regimens, strict=True)
    both = [
        # A reset concerns every input; the first system's stands for both.
        Regimen(
            (
                *one.doses,
                *(
                    replace(dose, into=rename.name(dose.into))
                    for dose in other.doses
                    if isinstance(dose, Dose)
                ),
            )
        )
        for one, other in pairs
    ]
    return both[0] if len(both) == 1 else both


def pair_tallies(network: ReactionNetwork, outcome: Outcome) -> dict[str, Tally]:
    """What must be tallied for the outcomes of both systems of a `coupled` network."""
    tally, rename = outcome.tally, _Renaming(network)
    if isinstance(tally, FiringCount):
        name = str(tally.expression)
        parts = {"first": f"{name}__1", "second": name + MARK, "both": name}
        return {part: FiringCount(Symbol(one)) for part, one in parts.items()}
    again = replace(tally, expression=rename.expression(tally.expression))
    return {"first": tally, "second": again}


def pair_values(outcome: Outcome, ensemble: Ensemble) -> tuple[np.ndarray, np.ndarray]:
    """The outcomes of the first and the second system, each (n,)."""
    common = ensemble.tallies.get("both", 0)
    first, second = (ensemble.tallies[part] + common for part in ("first", "second"))
    return outcome.values(first), outcome.values(second)
