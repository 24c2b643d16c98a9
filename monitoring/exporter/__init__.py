"""Slow figures from the database as Prometheus metrics: ``python -m monitoring.exporter``."""
