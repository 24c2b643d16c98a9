"""Commands for the platform: stack, service, keys, databases, drills."""
