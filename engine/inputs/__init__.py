"""Time-varying inputs as sums of exponential modes."""
