"""Who the patients are: variability between them, and the random streams that decide it."""
