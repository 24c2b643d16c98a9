"""A training from rows to a role."""
