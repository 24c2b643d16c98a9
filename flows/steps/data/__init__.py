"""Rows for training: histories, labels, look-up tables, splits."""
