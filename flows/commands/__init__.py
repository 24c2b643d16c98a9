"""Sub-commands of ``incumbent``: ``configure(name, parser)`` and ``run(args) -> Reply`` in each module."""
