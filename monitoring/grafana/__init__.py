"""Dashboards: ``python -m monitoring.grafana`` writes them from ``boards.toml``."""
