"""Checks of the options that methods on the lane machine share."""

from typing import Any

from engine.errors import InvalidInput
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


def refuse_rate_rules(method: Any, network: ReactionNetwork) -> None:
    """Refuse by name a variable that only rate equations can move."""
    if network.rate_rules:
        raise InvalidInput(
            f"the rate rule of '{network.rate_rules[0].target}' makes it a continuous variable, "
            f"which {type(method).__name__} cannot simulate; use engine.ODE()"
        )
