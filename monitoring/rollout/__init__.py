"""Guards of a ramp and of the days after a promotion."""
