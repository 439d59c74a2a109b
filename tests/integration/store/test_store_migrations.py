"""The schema steps up and down on both databases, and is the one that the code expects."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from gpusched.domain.errors import ConfigInvalid
from gpusched.store import schema
from gpusched.store.connections import parse_url, writer_engine
from gpusched.store.database import open_store
from gpusched.store.migrate import alembic_config, migrate


@pytest.fixture
def engine(store_url):
    engine = writer_engine(parse_url(store_url), name="test")
    yield engine
    engine.dispose()


def tables(engine):
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names()) - {"alembic_version", "leader"}


def revisions(connection):
    script = ScriptDirectory.from_config(alembic_config(connection))
    return [step.revision for step in reversed(list(script.walk_revisions()))]


def test_the_migrated_schema_is_the_declared_one(engine):
    with engine.begin() as connection:
        migrate(connection, "here")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_every_step_goes_down_and_up_again(engine):
    with engine.begin() as connection:
        migrate(connection, "here")
        steps = revisions(connection)
    for step in reversed(["base", *steps[:-1]]):
        with engine.begin() as connection:
            command.downgrade(alembic_config(connection), step)
    assert tables(engine) == set()
    for step in steps:
        with engine.begin() as connection:
            command.upgrade(alembic_config(connection), step)
    assert tables(engine) == set(schema.metadata.tables)


def test_migrating_twice_changes_nothing(engine):
    for _ in range(2):
        with engine.begin() as connection:
            migrate(connection, "here")
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM counters")) == 1


def test_a_migration_cut_off_half_way_leaves_nothing_behind(engine, store_url):
    class Cut(Exception):
        pass

    with pytest.raises(Cut), engine.begin() as connection:
        migrate(connection, "here")
        raise Cut
    assert tables(engine) == set()
    engine.dispose()
    open_store(store_url).close()


def test_a_database_of_a_newer_version_is_refused(store_url, engine):
    open_store(store_url).close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigInvalid, match=r"newer gpusched.*9999.*run that version"):
        open_store(store_url)


def test_on_postgresql_everything_lives_in_our_schema(postgres_server, postgres_url):
    open_store(postgres_url).close()
    engine = writer_engine(parse_url(postgres_url), name="test")
    with engine.connect() as connection:
        found = inspect(connection)
        assert found.get_table_names("public") == []
        assert set(found.get_table_names("gpusched")) == {
            *schema.metadata.tables,
            "alembic_version",
            "leader",
        }
    engine.dispose()
