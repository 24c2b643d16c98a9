"""``incumbent check``: does a use-case file keep what its words promise."""
