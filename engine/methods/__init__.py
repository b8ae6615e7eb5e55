"""One simulation algorithm a file."""
