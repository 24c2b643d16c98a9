"""A window against the frozen reference profile."""
