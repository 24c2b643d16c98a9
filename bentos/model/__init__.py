"""The model: scoring, calibration, contract, fast prediction, the check of a version apart."""
