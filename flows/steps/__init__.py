"""Steps of the flows, by subject."""
