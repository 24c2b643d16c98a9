"""The whole story, end to end, on simulated data."""
