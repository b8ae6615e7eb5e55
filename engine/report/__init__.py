"""Figures and tables; reads a store, never simulates."""
