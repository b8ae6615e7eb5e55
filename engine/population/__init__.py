"""Virtual patients and how they differ."""
