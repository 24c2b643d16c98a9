"""The service beside other ways to serve the same model."""
