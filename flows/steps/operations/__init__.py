"""Databases, backups, retention, repair, replay."""
