"""Judge a version: cross-fitted scores, figures, plots."""
