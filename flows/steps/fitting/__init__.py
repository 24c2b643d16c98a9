"""Fit and calibrate one model."""
