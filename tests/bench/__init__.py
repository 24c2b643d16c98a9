"""Speed of the service beside other ways to serve the same model; see ``docs/reference/benchmarks.md``."""
