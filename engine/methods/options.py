"""Options that the methods on the lane machine share: their checks, and how many lanes."""

from typing import Any

from engine.errors import InvalidInput
from engine.kernel import driver as drivers
from engine.kernel.state import AS_THEY_ARE, Driver, Packing, Stepper
from engine.network.network import ReactionNetwork

_OPTIONAL = ("lanes", "block")


def check_limits(method: Any) -> None:
    """Refuse limits that are not whole numbers from 1 on; lanes and block may be None."""
    for name in ("max_events", "queue_size", *_OPTIONAL):
        value = getattr(method, name)
        if value is None and name in _OPTIONAL:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
            raise InvalidInput(
                f"{type(method).__name__}({name}={value!r}): give a whole number of at least 1"
            )


def stepper_of(
    method: Any,
    network: ReactionNetwork,
    num_trajectories: int,
    *,
    step: Any,
    resolve: Any,
    options: Any,
    is_counting: bool,
    service_cost: float,
    real: frozenset[str] = frozenset(),
    packing: Packing = AS_THEY_ARE,
) -> Stepper:
    """What the lane machine needs of a method, with the limits that all methods share."""
    # Triton has no gathers: a step that needs them is a loop of XLA's on every device.
    is_elementwise = packing is AS_THEY_ARE
    driver = drivers.current() if is_elementwise else drivers.without_kernel(drivers.current())
    return Stepper(
        step=step,
        resolve=resolve,
        options=options,
        is_counting=is_counting,
        max_events=method.max_events,
        real=real,
        service_cost=service_cost * driver.service_factor,
        queue_size=method.queue_size,
        lanes=method.lanes or default_lanes(network, num_trajectories, driver),
        block=method.block,
        driver=driver,
        packing=packing,
        is_elementwise=is_elementwise,
    )


# Bytes that the lanes of a block may take together: two thirds of a first-level cache of 48 KiB.
# With twice as many lanes jakstat ran at 104 in place of 118 million events/s, vilar at 160 in
# place of 205; with half as many birth_death ran at 190 in place of 205. Fewer than 64 never pay:
# with 32 networks of 30, 100 and 300 reactions ran at 98, 31 and 9.4, with 64 at 195, 43 and 14.5;
# of 1,000, by the sparse step, at 5.3 and 5.8, with 128 at 4.9.
LANES_BYTES = 2**15
FEWEST_LANES, MOST_LANES = 64, 256


def default_lanes(network: ReactionNetwork, num_trajectories: int, driver: Driver) -> int:
    """How many lanes fit into the first-level cache, and leave each some trajectories to run.

    Where the driver says how many it wants, as many of them as there are trajectories.
    """
    if driver.most_lanes is not None:
        wanted = 1 << (num_trajectories - 1).bit_length()
        return max(FEWEST_LANES, min(wanted, driver.most_lanes))
    # Per lane: counts, coefficients and cumulative propensities, and some ten words of its own.
    words = len(network.species) + 2 * len(network.reactions) + 10
    fitting = min(LANES_BYTES // (4 * words), num_trajectories // 8, MOST_LANES)
    return max(FEWEST_LANES, 1 << (max(fitting, 1).bit_length() - 1))


def refuse_rate_rules(method: Any, network: ReactionNetwork) -> None:
    """Refuse by name a variable that only rate equations can move."""
    if network.rate_rules:
        raise InvalidInput(
            f"the rate rule of '{network.rate_rules[0].target}' makes it a continuous variable, "
            f"which {type(method).__name__} cannot simulate; use engine.ODE()"
        )
