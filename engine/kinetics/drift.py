"""The reaction-rate equations: a network's deterministic drift in molecule counts."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from engine.errors import InvalidInput
from engine.kinetics.evaluate import evaluate
from engine.network.expressions import TIME, symbols
from engine.network.network import ReactionNetwork, hint

Array = Any
Drift = Callable[[Array, Array, Mapping[str, Array], Mapping[str, Array]], Array]


def drift(network: ReactionNetwork) -> Drift:
    r"""The right-hand side of the reaction-rate equations in molecule counts.

    .. math:: dx/dt = \sum_j v_j a_j(x, t)

    with v_j the net change of counts by reaction j and a_j its macroscopic rate: a pair of equal
    molecules reacts at c n^2 / 2, the large-count limit of the propensity c n (n - 1) / 2; laws
    given as expressions are taken as written. The solution is the mean of the exact process only
    for laws linear in the counts. Assignment rules are evaluated at every call; a target of a rate
    rule has the rule's value added to its derivative.

    Args:
        network: the network; its events are not part of the drift.

    Returns:
        A function `(t, x, params, inputs) -> dx/dt` with t a scalar time; x and dx/dt of shape
        (S,), molecules and molecules per time, in the order of `state_names(network)`; `params` a
        scalar for every parameter and compartment (see `resolve_parameters`), and for variables
        that nothing changes where they differ from the network's value; `inputs` the value
        of every input. The result has the floating type of x. Pure and traceable (jit, vmap, grad).

    Example:
        >>> from engine.network.rate_laws import MassAction
        >>> from engine.network.reactions import Reaction
        >>> network = ReactionNetwork({"X": 0}, [Reaction("0 -> X", MassAction("k"))], {"k": 2.0})
        >>> float(drift(network)(0.0, jnp.zeros(1), {"k": 2.0}, {})[0])
        2.0

    References:
        Gillespie 1977, doi:10.1021/j100540a008.
    """
    names = state_names(network)
    changes = net_changes(network)
    environment_of, rates_of = environment(network), reaction_rates(network)

    def derivative(
        t: Array, x: Array, params: Mapping[str, Array], inputs: Mapping[str, Array]
    ) -> Array:
        values = environment_of(t, x, params, inputs)
        rates = rates_of(values, x.dtype)
        dx = jnp.dot(jnp.asarray(changes, x.dtype), rates, precision="highest")
        for rule in network.rate_rules:
            value = evaluate(rule.expression, values, jnp, x.dtype)
            dx = dx.at[names.index(rule.target)].add(value)
        return dx

    return derivative


def environment(network: ReactionNetwork) -> Callable[..., dict[str, Array]]:
    """What every name means at a state: the values that expressions are evaluated on.

    Args:
        network: the network.

    Returns:
        A function of the drift's arguments `(t, x, params, inputs)` whose result has a scalar of
        the type of x for the time and every parameter, variable, input, species and rule.
    """
    names = state_names(network)
    held = {v.name: network.initial_values[v.name] for v in network.variables}

    def values_of(
        t: Array, x: Array, params: Mapping[str, Array], inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        given = {**held, **params, **inputs, TIME: t}
        values = {name: jnp.asarray(value, x.dtype) for name, value in given.items()}
        values |= {name: x[position] for position, name in enumerate(names)}
        for name, rule in network.rules.items():
            values[name] = evaluate(rule, values, jnp, x.dtype)
        return values

    return values_of


def reaction_rates(network: ReactionNetwork) -> Callable[[Mapping[str, Array], Any], Array]:
    """The macroscopic rate of every reaction.

    Args:
        network: the network.

    Returns:
        A function `(values, dtype) -> rates` of an `environment`, rates of shape (reactions,),
        events per time.
    """
    laws = [reaction.macroscopic_rate for reaction in network.reactions]

    def rates_of(values: Mapping[str, Array], dtype: Any) -> Array:
        if not laws:
            return jnp.zeros(0, dtype)
        return jnp.stack([evaluate(law, values, jnp, dtype) for law in laws])

    return rates_of


def net_changes(network: ReactionNetwork) -> np.ndarray:
    """The change of every state by every reaction, (S, reactions), S as `state_names`."""
    names = state_names(network)
    matrix = np.zeros((len(names), len(network.reactions)))
    for column, reaction in enumerate(network.reactions):
        for name, change in network.changes(reaction).items():
            matrix[names.index(name), column] = change
    return matrix


def state_names(network: ReactionNetwork) -> tuple[str, ...]:
    """The axis of the drift: the species, then the variables that a rate rule or event changes."""
    targets = {rule.target for rule in network.rate_rules}
    targets |= {target for event in network.events for target in event.assignments}
    return network.species_names + tuple(v.name for v in network.variables if v.name in targets)


def resolve_parameters(
    network: ReactionNetwork, params: Mapping[str, Array]
) -> dict[str, np.ndarray]:
    """Every parameter and compartment in float64, those given first.

    A parameter that is an expression of others follows the given ones, patient by patient, unless
    it is given itself.

    Args:
        network: the network.
        params: scalars or arrays (N,) by name; they may be a part of the parameters, or all.

    Returns:
        For every parameter and compartment a float64 array, () or (N,).

    Raises:
        InvalidInput: a name that is not a parameter or compartment, or a circular definition.
    """
    values = {c.name: np.asarray(c.volume, np.float64) for c in network.compartments}
    for name, value in params.items():
        if network.kind_of(name) not in ("parameter", "compartment"):
            known = [p.name for p in network.parameters]
            raise InvalidInput(f"'{name}' is not a parameter of {network.name}{hint(name, known)}")
        values[name] = np.asarray(value, np.float64)
    pending = {p.name: p.value for p in network.parameters if p.name not in values}
    while pending:
        ready = [name for name, value in pending.items() if symbols(value) <= values.keys()]
        if not ready:
            raise InvalidInput(f"parameters depend on each other in a circle: {', '.join(pending)}")
        for name in ready:
            values[name] = np.asarray(evaluate(pending.pop(name), values, np, np.float64))
    return values
