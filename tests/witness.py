"""A witness inside PostgreSQL: a trigger that notes, in each transaction, who wrote and who led.

A head's writing connection is named after the epoch in which it was opened, so the two can be compared.
"""

from __future__ import annotations

from contextlib import closing

import psycopg

_MAKE = """
CREATE TABLE gpusched.witness (of_table text, writer bigint, leader bigint);
CREATE FUNCTION gpusched.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO gpusched.witness
  SELECT TG_TABLE_NAME, substring(current_setting('application_name') FROM 'epoch (\\d+)')::bigint, epoch
  FROM gpusched.leader;
  RETURN NULL;
END $$;
"""
_TABLES = (
    "SELECT tablename FROM pg_tables WHERE schemaname = 'gpusched' AND tablename NOT IN ('leader', 'witness')"
)


def connect(url: str) -> psycopg.Connection:
    """A connection beside the heads'."""
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def watch_writes(url: str) -> None:
    """Note every statement that writes, from now on."""
    with closing(connect(url)) as admin:
        admin.execute(_MAKE)
        for (table,) in admin.execute(_TABLES).fetchall():
            admin.execute(
                f"CREATE TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON gpusched.{table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION gpusched.note()"
            )


def count_writes(url: str) -> tuple[int, int]:
    """Statements seen, and those of them by a head that did not lead."""
    query = "SELECT count(*), count(*) FILTER (WHERE writer IS DISTINCT FROM leader) FROM gpusched.witness"
    with closing(connect(url)) as admin:
        counted = admin.execute(query).fetchone()
    assert counted is not None
    return counted[0], counted[1]
