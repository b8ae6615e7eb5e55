"""Drivers: how a block of a method's steps is run. One step function, several of these.

The machine (`machine.build`) is the same for all: it refills lanes, serves their stops and asks
its driver to advance them in between. The driver is chosen by the device, `ENGINE_DRIVER`
overrides it by name; a trajectory is bit-identical for one driver and kind of
device, and equal in law between them.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from engine.errors import InvalidInput
from engine.kernel import pallas_driver
from engine.kernel.materialise import Running
from engine.kernel.state import Constants, Driver, Lanes, Stepper

Step = Callable[[Constants, Lanes], Lanes]
T = TypeVar("T")


def _advance_by_xla(step: Step, constants: Constants, lanes: Lanes, num_steps: Array) -> Lanes:
    return lax.fori_loop(0, num_steps, lambda _, lanes: step(constants, lanes), lanes)


XLA = Driver("xla", _advance_by_xla, None, 512, 8, 2**15, 2**26, None, 1.0)
"""A loop of XLA's, a processor cache's worth of lanes at a time: the driver of CPUs."""

# 2**18 lanes are what the 132 multiprocessors of an H200 can hold resident at once. Two workers:
# the host unpacks one chunk while the device runs the next. Serving the stops is some twenty
# launches, 0.1 ms; a step of all lanes takes 2 to 4 microseconds at half of the arithmetic limit.
# Reasoned from compiled code (`benchmarks.gpu_code`), not measured.
PALLAS = Driver("pallas", pallas_driver.advance, 2**18, 2**14, 1, 2**20, 2**31, 2, 4.0)
"""A Pallas (Triton) kernel with the lanes' state in registers: the driver of NVIDIA GPUs."""

XLA_WIDE = PALLAS._replace(
    name="xla-wide", advance=_advance_by_xla, longest_block=512, service_factor=1.0
)
"""XLA's loop with as many lanes as a GPU wants: other devices, and steps that Triton cannot run."""

INTERPRETED = PALLAS._replace(
    name="interpreted",
    advance=pallas_driver.advance_interpreted,
    most_lanes=256,
    longest_block=512,
    largest_chunk=2**15,
    chunk_bytes=2**26,
)
"""The same kernel interpreted on a CPU: for tests."""

DRIVERS = {driver.name: driver for driver in (XLA, XLA_WIDE, PALLAS, INTERPRETED)}
_chosen: ContextVar[Driver | None] = ContextVar("driver", default=None)


def current() -> Driver:
    """The driver of `using`, else of `ENGINE_DRIVER`, else of the device that JAX computes on.

    Raises:
        InvalidInput: an unknown name, or the Pallas driver without an NVIDIA GPU.
    """
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    platform = jax.default_backend()
    name = os.environ.get("ENGINE_DRIVER")
    if not name:
        return _driver_of(platform)
    if name not in DRIVERS:
        raise InvalidInput(f"ENGINE_DRIVER={name} is unknown; give one of {', '.join(DRIVERS)}")
    if DRIVERS[name] is PALLAS and not is_nvidia(platform):
        raise InvalidInput(
            f"ENGINE_DRIVER={name} needs an NVIDIA GPU, but JAX computes on '{platform}'; install "
            "the extra 'cuda', or leave ENGINE_DRIVER unset"
        )
    return DRIVERS[name]


def _driver_of(platform: str) -> Driver:
    if platform == "cpu":
        return XLA
    return PALLAS if is_nvidia(platform) else XLA_WIDE


def is_nvidia(platform: str) -> bool:
    """Whether a JAX platform is an NVIDIA GPU."""
    if platform == "cuda":
        return True
    return platform == "gpu" and "rocm" not in jax.devices()[0].client.platform_version.lower()


def without_kernel(driver: Driver) -> Driver:
    """The driver for a step that Triton cannot run: XLA's loop on the same device."""
    return {PALLAS: XLA_WIDE, INTERPRETED: XLA}.get(driver, driver)


@contextmanager
def using(driver: Driver) -> Iterator[None]:
    """Run what is simulated inside with a given driver."""
    token = _chosen.set(driver)
    try:
        yield
    finally:
        _chosen.reset(token)


def together(
    driver: Driver,
    turns: int,
    is_enough: Callable[[T], Array],
    function: Callable[[Array, T], T],
    argument: T,
) -> T:
    """function(turn, argument) turn by turn, once at least, as one compiled function.

    Otherwise each of its operations would be a dispatch. XLA's CPU compiler makes one function of
    a loop over small data (see `configure_cpu`).

    Args:
        driver: of the machine.
        turns: how often at most; other drivers than XLA's do them all.
        is_enough: whether no further turn is wanted.
        function: from a turn's number and a tree of arrays to a like tree.
        argument: what it is given first.
    """
    if driver is not XLA:
        for turn in range(turns):
            argument = function(jnp.int32(turn), argument)
        return argument

    def is_going(state: tuple[Array, T]) -> Array:
        turn, argument = state
        return (turn == 0) | ((turn < turns) & ~is_enough(argument))

    def body(state: tuple[Array, T]) -> tuple[Array, T]:
        turn, argument = state
        return turn + 1, function(turn, argument)

    return lax.while_loop(is_going, body, (jnp.int32(0), argument))[1]


def if_needed(
    driver: Driver,
    is_needed: Array,
    function: Callable[[Running, T], T],
    argument: T,
) -> T:
    """Run a function where it is needed that else would give its argument back.

    XLA's driver then leaves it out. On a GPU it always runs: it costs microseconds of memory
    traffic, and a conditional copies all that it hands through, a launch an array (vilar: 29 of
    the 80 launches between two blocks handed lanes past a refill that nobody wanted).

    Args:
        driver: of the machine.
        is_needed: scalar; where it is false the function changes nothing.
        function: (what it may tell `materialise`, a tree of arrays) -> a like tree.
        argument: what it is given.
    """
    if driver is not XLA:
        return function(True, argument)
    return lax.cond(is_needed, partial(function, is_needed), lambda argument: argument, argument)


def advance(
    stepper: Stepper, model: Any, constants: Constants, lanes: Lanes, steps: Array
) -> Lanes:
    """Advance all lanes by a block of steps with the stepper's driver."""

    def step(constants: Constants, lanes: Lanes) -> Lanes:
        stepped: Lanes = stepper.step(model, stepper.options, constants, lanes)
        return stepped

    return stepper.driver.advance(step, constants, lanes, steps)
