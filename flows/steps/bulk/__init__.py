"""A table scored in parts."""
