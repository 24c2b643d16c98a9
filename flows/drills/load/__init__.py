"""Load for drills and benches: bodies, homes, a generator in a process of its own."""
