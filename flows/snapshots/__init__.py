"""Snapshots of training data, and their versions."""
