"""Prometheus metrics of the serving processes."""
