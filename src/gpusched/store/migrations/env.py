"""Alembic's entry: migrates the connection it is handed, inside the caller's transaction."""

from __future__ import annotations

from alembic import context

from gpusched.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table_schema="gpusched" if connection.dialect.name == "postgresql" else None,
)
with context.begin_transaction():
    context.run_migrations()
