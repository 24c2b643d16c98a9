"""Runs, reports, replicas, open alerts."""
