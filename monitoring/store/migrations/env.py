"""Alembic's entry: runs on the connection (and inside the transaction) of the store being opened."""

from alembic import context

from monitoring.store.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
