"""Doses, regimens, event tables and pharmacokinetics; compiled to inputs."""
