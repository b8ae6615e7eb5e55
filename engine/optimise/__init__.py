"""Parameters with bounds, likelihoods and optimisers with many starts."""
