"""How lanes are run."""
