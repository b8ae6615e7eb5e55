"""Molecules and what is done to them."""
