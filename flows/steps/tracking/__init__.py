"""What is recorded about a training: MLflow run, tags, code version, lineage."""
