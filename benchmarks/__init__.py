"""Benchmarks of the engine and of rival exact stochastic simulators."""
