"""From a network's expressions to array functions."""
