"""Models and their roles: ports, the MLflow adapter, the cache, the routing policy."""
