"""The one exception that bad input raises."""


class InvalidInput(ValueError):
    """Input that the engine refuses: the message names the thing, the value and the remedy."""
