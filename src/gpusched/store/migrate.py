"""Brings a database to the schema of this version, in one transaction: all of it or nothing."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text

from gpusched.domain.errors import ConfigInvalid

SCHEMA = "gpusched"
"""The PostgreSQL schema that holds every table, the version table included."""


def alembic_config(connection: Connection) -> Config:
    """What Alembic needs to work on ``connection``; also for tests and for stepping down."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def make_schema(connection: Connection) -> None:
    """Make the PostgreSQL schema, unless it is there."""
    # Asked first, as CREATE ... IF NOT EXISTS wants the right to create even when it does nothing.
    query = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
    if connection.scalar(query, {"name": SCHEMA}) is None:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))


def migrate(connection: Connection, place: str) -> None:
    """Step up to the newest schema. The caller's transaction makes it atomic.

    Args:
        connection: In a transaction.
        place: What to call the database in messages.

    Raises:
        ConfigInvalid: The database was written by a newer version.
    """
    if connection.dialect.name == "postgresql":
        make_schema(connection)
    try:
        command.upgrade(alembic_config(connection), "head")
    except CommandError as error:
        raise ConfigInvalid(
            f"{place} was written by a newer gpusched ({error}); run that version, or restore a backup"
        ) from error
