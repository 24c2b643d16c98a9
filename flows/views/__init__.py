"""Outcomes of flows in sentences and figures."""
