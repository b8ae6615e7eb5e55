"""The library of cytokine models: one biology a file, every number with a unit and a source."""

from collections.abc import Callable

from engine.models.il2 import il2_receptor
from engine.models.storm import cytokine_storm
from engine.network.network import ReactionNetwork

MODELS: dict[str, Callable[..., ReactionNetwork]] = {
    "il2_receptor": il2_receptor,
    "cytokine_storm": cytokine_storm,
}
"""Every model by name: functions that give a network when called without arguments."""
