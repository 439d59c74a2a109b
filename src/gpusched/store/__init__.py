"""Durable state: the event log, its projections and the outbox, in SQLite or PostgreSQL.

The only package that knows SQLAlchemy and Alembic. It may import ``domain`` and the
protocols of ``engine.ports``. One process writes (``database.SqlStore``), any number read
(``reader.Reader``), on their own connections, so that a slow report never delays a commit.

Read ``schema.py`` first, then ``commit.py``.
"""
