"""A first use-case file from a table."""
