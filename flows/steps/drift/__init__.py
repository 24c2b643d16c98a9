"""The drift check, retraining by policy."""
