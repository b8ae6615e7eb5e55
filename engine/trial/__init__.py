"""Virtual trials: arms, endpoints, the trial, its store and its analysis."""
