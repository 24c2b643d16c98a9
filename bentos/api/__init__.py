"""The HTTP interface: front door, shortcut, bodies, keys of callers, OpenAPI."""
