"""One installation: home, settings, clock, store, registry, the local stack."""
