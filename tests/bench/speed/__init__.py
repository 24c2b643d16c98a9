"""Speed of batches, features, windows, log, drift check, cluster."""
