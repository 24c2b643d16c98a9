"""The challenger's scores, made in a process of their own."""
