"""Window state: in memory, in Redis, over a series."""
