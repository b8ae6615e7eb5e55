"""Gradients by stochastix (Mottes, Zhu & Brenner 2026, arXiv:2601.14183), for `gradients`.

Called as its guide to sensitivities says: rate constants are arrays (logarithms, as in its
notebooks), trajectories are vmapped and jitted, `reinforce_loss` has a baseline (the mean of the
batch's other outcomes), the pathwise solvers keep their defaults and an exact forward pass. The
number of steps, which has to be given, is the longest of 2000 trajectories and a quarter more.
Rates that move between events are frozen there: it has no other way.
"""

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

# Trajectories, and how many of them are simulated and differentiated at once; of vilar's 20,000
# events a trajectory fewer, for every step is kept.
NUM, BATCH = 10_000, 500
LONG_NUM, LONG_BATCH = 100, 10
# Of a log parameter, as in its guide.
STEP = 1e-2

Measured = Callable[[], dict[str, Any]]
# (network, keys) -> outcomes (n,), and gradients of each as a tree like the network.
PerTrajectory = Callable[[Any, Any], tuple[Any, Any]]


def is_installed() -> bool:
    """Whether stochastix is there."""
    return importlib.util.find_spec("stochastix") is not None


def side(amounts: Mapping[str, int]) -> str:
    """One side of a reaction's equation."""
    return " + ".join(f"{number} {name}" for name, number in amounts.items()) or "0"


@dataclass(frozen=True)
class Translated:
    """A problem in the words of stochastix.

    Attributes:
        network: its network, whose arrays are the logarithms of what is asked for.
        names: of those arrays, in their order.
        values: at which the gradient is taken.
        start: counts at the start, by species.
        outcome: of a trajectory.
        is_step: whether the outcome jumps with the path.
    """

    network: Any
    names: tuple[str, ...]
    values: tuple[float, ...]
    start: Mapping[str, float]
    outcome: Callable[[Any], Any]
    is_step: bool


def mass_action(problem: Mapping[str, Any]) -> Translated:
    """A network of mass-action laws with a final count as outcome."""
    import jax.numpy as jnp
    import stochastix

    model, wrt = problem["network"], list(problem["wrt"])
    constants = {one.name: float(one.value.value) for one in model.parameters}
    order = [str(one.rate_law.constant) for one in model.reactions]

    def law(constant: str) -> Any:
        value = float(np.log(constants[constant]))
        known = jnp.float32(value) if constant in wrt else value
        return stochastix.kinetics.MassAction(k=known, transform=jnp.exp)

    network = stochastix.ReactionNetwork(
        [
            stochastix.Reaction(f"{side(one.reactants)} -> {side(one.products)}", law(constant))
            for one, constant in zip(model.reactions, order, strict=True)
        ]
    )
    outcome, names = problem["outcome"], tuple(name for name in order if name in wrt)
    position = network.species.index(outcome.tally.expression.name)
    function = outcome.function or (lambda x: x)
    return Translated(
        network,
        names,
        tuple(constants[name] for name in names),
        {one.name: float(one.initial.value) for one in model.species},
        lambda result: function(result.x[-1, position]),
        outcome.function is not None,
    )


def switch(problem: Mapping[str, Any]) -> Translated:
    """The bistable switch under two doses (`tests.gradient.bistable`), with a law of its own."""
    import equinox
    import jax
    import jax.numpy as jnp
    import stochastix
    from stochastix.kinetics import AbstractKinetics

    from tests.gradient.bistable import NUMBERS, SWITCHED, K

    names = ("gain", "first", "second", "elimination", "time")
    numbers = {**problem["params"], **NUMBERS}
    values = tuple(float(numbers[name]) for name in names)

    class Switch(AbstractKinetics):
        logarithms: tuple[jax.Array, ...]
        basal: float = equinox.field(static=True)

        def propensity_fn(self, x: Any, reactants: Any, t: Any = None, volume: float = 1.0) -> Any:
            gain, first, second, rate, time = (jnp.exp(one) for one in self.logarithms)
            since = jnp.maximum(t - time, 0.0)
            later = jnp.where(t >= time, second * jnp.exp(-rate * since), 0.0)
            drug = first * jnp.exp(-rate * t) + later
            square = (x[0] / K) ** 2
            return (self.basal + gain * square / (1 + square)) / (1 + drug)

        def ode_rate_fn(self, x: Any, reactants: Any, t: Any = None, volume: float = 1.0) -> Any:
            return self.propensity_fn(x, reactants, t, volume)

    logarithms = tuple(jnp.log(jnp.float32(value)) for value in values)
    law = Switch(_requires_species=("X",), logarithms=logarithms, basal=numbers["basal"])
    decay = stochastix.kinetics.MassAction(k=float(numbers["g"]))
    network = stochastix.ReactionNetwork(
        [stochastix.Reaction("0 -> X", law), stochastix.Reaction("X -> 0", decay)]
    )
    start = {"X": float(problem["network"].species[0].initial.value)}
    reached = lambda result: (result.x[:, 0] >= SWITCHED).any()  # noqa: E731
    return Translated(network, names, values, start, reached, True)


def simulator(network: Any, start: Mapping[str, int], horizon: float, steps: int) -> Any:
    """(network, key, solver) -> its result."""
    import jax.numpy as jnp
    import stochastix

    counts = jnp.array([start[name] for name in network.species], jnp.float32)

    def simulate(network: Any, key: Any, solver: Any) -> Any:
        return stochastix.stochsimsolve(
            key, network, counts, T=horizon, max_steps=steps, solver=solver, save_propensities=False
        )

    return simulate


def reinforce(simulate: Any, outcome: Callable[[Any], Any]) -> PerTrajectory:
    """The score with the mean of the batch's other outcomes as baseline."""
    import equinox
    import jax.numpy as jnp
    import stochastix
    from stochastix.utils.optimization import reinforce_loss

    solver = stochastix.DirectMethod()

    def surrogate(network: Any, result: Any, reward: Any, baseline: Any) -> Any:
        return -reinforce_loss()(network, result, reward, baseline)

    def run(network: Any, keys: Any) -> tuple[Any, Any]:
        results = equinox.filter_vmap(lambda key: simulate(network, key, solver))(keys)
        rewards = equinox.filter_vmap(outcome)(results).astype(jnp.float32)
        others = (rewards.sum() - rewards) / (len(keys) - 1)
        slope = equinox.filter_vmap(
            equinox.filter_grad(surrogate), in_axes=(None, equinox.if_array(0), 0, 0)
        )
        return rewards, slope(network, results, rewards, others)

    return run


def pathwise(simulate: Any, outcome: Callable[[Any], Any], solver: Any) -> PerTrajectory:
    """Gradients of the outcome through the sampled path, of a differentiable solver."""
    import equinox

    def value(network: Any, key: Any) -> Any:
        return outcome(simulate(network, key, solver))

    def run(network: Any, keys: Any) -> tuple[Any, Any]:
        slope = equinox.filter_value_and_grad(value)
        return equinox.filter_vmap(slope, in_axes=(None, 0))(network, keys)

    return run


def differences(simulate: Any, outcome: Callable[[Any], Any]) -> PerTrajectory:
    """Its central differences under one key."""
    import jax
    import jax.numpy as jnp
    import stochastix
    from stochastix.utils.optimization._grad import gradfd

    solver = stochastix.DirectMethod()

    def value(network: Any, key: Any) -> Any:
        return outcome(simulate(network, key, solver)).astype(jnp.float32)

    def run(network: Any, keys: Any) -> tuple[Any, Any]:
        slope = gradfd(value, epsilon=STEP)
        values = jax.vmap(lambda key: value(network, key))(keys)
        return values, jax.vmap(lambda key: slope(network, key))(keys)

    return run


def longest(problem: Mapping[str, Any]) -> int:
    """A number of steps that hardly any trajectory needs."""
    import jax

    import engine

    found = engine.simulate(
        problem["network"],
        engine.Direct(),
        [0.0, problem["horizon"]],
        num_patients=2000,
        key=jax.random.key(1),
        **{name: problem[name] for name in ("params", "inputs", "regimen") if name in problem},
    )
    return int(1.25 * found.num_events.max()) + 8


def measured(run: PerTrajectory, problem: Translated, num: int, batch: int) -> dict[str, Any]:
    """One estimator: every batch alike, the first run once more to compile it."""
    import equinox
    import jax

    compiled = equinox.filter_jit(run)
    batches = jax.random.split(jax.random.PRNGKey(0), (max(num // batch, 2), batch))

    def numbers(keys: Any) -> tuple[np.ndarray, np.ndarray]:
        values, slopes = compiled(problem.network, keys)
        leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(slopes)]
        return np.asarray(values, np.float64), np.stack(leaves, axis=-1)

    numbers(batches[0])
    begin = time.process_time()
    found = [numbers(keys) for keys in batches]
    seconds = time.process_time() - begin
    values = np.concatenate([v for v, _ in found])
    slopes = np.concatenate([s for _, s in found]) / np.asarray(problem.values)
    if not np.all(np.isfinite(slopes)):
        return {"refused": f"{np.mean(~np.isfinite(slopes).all(axis=1)):.2g} of them no numbers"}
    variance = slopes.var(axis=0, ddof=1)
    return {
        "names": list(problem.names),
        "value": float(values.mean()),
        "gradient": slopes.mean(axis=0).tolist(),
        "standard_errors": np.sqrt(variance / len(slopes)).tolist(),
        "variance_per_trajectory": variance.tolist(),
        "residual_variance_ratio": 1.0,
        "seconds": seconds,
        "num_patients": len(slopes),
        "notes": [],
    }


def compared(record: dict[str, Any], truth: np.ndarray) -> dict[str, Any]:
    """The record with its errors in standard errors."""
    errors = np.array(record["gradient"]) - truth
    return {**record, "z": (errors / np.array(record["standard_errors"])).tolist()}


def rows(problem: Mapping[str, Any], scale: float, is_long: bool = False) -> dict[str, Measured]:
    """The estimators of stochastix on a problem, held against its truth if there is one.

    None where a drug's level drives a network other than the switch: it has no compartments.
    """
    import stochastix

    is_driven = "regimen" in problem
    if is_driven and not problem["outcome"].function:
        return {}
    known = switch(problem) if is_driven else mass_action(problem)
    wrt = list(problem["wrt"])
    places = range(len(wrt)) if is_driven else [wrt.index(name) for name in known.names]
    truth = np.array([problem["truth"][place] for place in places]) if "truth" in problem else None
    num, batch = (LONG_NUM, LONG_BATCH) if is_long else (NUM, BATCH)

    def row(estimator: Callable[..., PerTrajectory], *solvers: Any) -> dict[str, Any]:
        if solvers and known.is_step:
            return {"refused": "a step has no derivative along the path"}
        simulate = simulator(known.network, known.start, problem["horizon"], longest(problem))
        run = estimator(simulate, known.outcome, *solvers)
        found = measured(run, known, max(int(num * scale), 2 * batch), batch)
        return found if truth is None or "refused" in found else compared(found, truth)

    smooth = (stochastix.DifferentiableDirect(), stochastix.DifferentiableFirstReaction())
    return {
        "stochastix REINFORCE": partial(row, reinforce),
        "stochastix finite difference": partial(row, differences),
        **{f"stochastix {type(one).__name__}": partial(row, pathwise, one) for one in smooth},
    }
