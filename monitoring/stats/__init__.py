"""Pure mathematics: intervals, sequential tests, distances, detectors, ranks."""
