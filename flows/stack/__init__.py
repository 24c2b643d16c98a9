"""The local stack: its parts, who keeps them alive, the file that says what runs."""
