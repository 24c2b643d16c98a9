"""Values that everything shares: calendar, durations, hashes, measurements, verdicts."""
