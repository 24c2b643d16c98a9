"""Alembic scripts; they run when a store is opened."""
