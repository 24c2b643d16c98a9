"""Decisions and their chain, the journal, terms of roles, overrides, comparisons."""
