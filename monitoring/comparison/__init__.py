"""Champion and challenger on the same matured events: paired test, guards, verdict."""
