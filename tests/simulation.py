"""Short ways to write a network and to simulate it, for tests."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import engine

Array = np.ndarray


def network(
    species: Mapping[str, float],
    reactions: Sequence[tuple[str, Any] | tuple[str, Any, str]] = (),
    **parts: Any,
) -> engine.ReactionNetwork:
    """A network; a reaction is (equation, law) or (equation, law, name), a number mass action."""
    made = [
        engine.Reaction(
            equation,
            engine.MassAction(law) if isinstance(law, int | float) else law,
            *name,
        )
        for equation, law, *name in reactions
    ]
    return engine.ReactionNetwork(species, made, **parts)


def run(
    model: engine.ReactionNetwork,
    ts: Sequence[float] | Array,
    num: int = 1,
    *,
    seed: int = 0,
    method: engine.Direct | None = None,
    **options: Any,
) -> engine.Ensemble:
    """`engine.simulate` by the direct method with a fixed key."""
    return engine.simulate(
        model,
        method or engine.Direct(),
        ts,
        num_patients=num,
        key=jax.random.key(seed),
        **options,
    )


def still(**parts: Any) -> dict[str, Any]:
    """Parts of a network in which nothing happens by itself (a reaction without a rate)."""
    return {"reactions": [engine.Reaction("0 -> idle", engine.MassAction(0.0))], **parts}


def assert_same_on_other_lanes(
    base: engine.Ensemble, simulated: Callable[..., engine.Ensemble]
) -> None:
    """Bit for bit the same for other numbers of lanes and steps; `simulated` takes a method."""
    for lanes, block in ((48, 1), (128, 7)):
        found = simulated(method=engine.Direct(lanes=lanes, block=block))
        np.testing.assert_array_equal(found.counts, base.counts)
        np.testing.assert_array_equal(found.num_events, base.num_events)
        np.testing.assert_array_equal(found.num_steps, base.num_steps)
        for name, values in found.tallies.items():
            np.testing.assert_array_equal(values, base.tallies[name], err_msg=name)
