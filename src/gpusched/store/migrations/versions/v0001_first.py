"""The event log, its projections, requests, outbox and counters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INT64 = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create everything."""
    _create_log()
    _create_jobs()
    _create_attempts()
    _create_nodes()
    _create_dispatch()


def downgrade() -> None:
    """Drop everything: the data is lost."""
    for table in (
        "counters",
        "outbox",
        "requests",
        "node_spans",
        "nodes",
        "attempt_nodes",
        "attempts",
        "jobs",
        "events",
    ):
        op.drop_table(table)


def _create_log() -> None:
    op.create_table(
        "events",
        sa.Column("seq", INT64, autoincrement=False, nullable=False),
        sa.Column("at_us", INT64, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("job_id", INT64),
        sa.Column("node", sa.Text),
        sa.Column("payload", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
    )
    op.create_index("ix_events_job_id_seq", "events", ["job_id", "seq"])
    op.create_index("ix_events_node_seq", "events", ["node", "seq"])


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", INT64, autoincrement=False, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("partition", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("epoch", INT64),
        sa.Column("submitted_at_us", INT64, nullable=False),
        sa.Column("ended_at_us", INT64),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
    )
    for column in ("state", "user", "account", "name"):
        op.create_index(f"ix_jobs_{column}_job_id", "jobs", [column, "job_id"])


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("job_id", INT64, autoincrement=False, nullable=False),
        sa.Column("epoch", INT64, autoincrement=False, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("granted_at_us", INT64, nullable=False),
        sa.Column("running_at_us", INT64),
        sa.Column("stopping_at_us", INT64),
        sa.Column("ended_at_us", INT64),
        sa.Column("end_reason", sa.Text),
        sa.Column("allocation", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "epoch", name="pk_attempts"),
    )
    op.create_index("ix_attempts_ended_at_us", "attempts", ["ended_at_us"])
    op.create_table(
        "attempt_nodes",
        sa.Column("job_id", INT64, autoincrement=False, nullable=False),
        sa.Column("epoch", INT64, autoincrement=False, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("started_at_us", INT64),
        sa.Column("ended_seq", INT64),
        sa.Column("use", sa.Text),
        sa.PrimaryKeyConstraint("job_id", "epoch", "node", name="pk_attempt_nodes"),
    )
    op.create_index("ix_attempt_nodes_node_job_id", "attempt_nodes", ["node", "job_id"])


def _create_nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_nodes"),
    )
    op.create_table(
        "node_spans",
        sa.Column("seq", INT64, autoincrement=False, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("start_us", INT64, nullable=False),
        sa.Column("end_us", INT64),
        sa.Column("is_up", sa.Boolean, nullable=False),
        sa.Column("devices", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_node_spans"),
    )
    op.create_index("ix_node_spans_node_seq", "node_spans", ["node", "seq"])
    op.create_index("ix_node_spans_end_us", "node_spans", ["end_us"])


def _create_dispatch() -> None:
    op.create_table(
        "requests",
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("job_ids", sa.Text, nullable=False),
        sa.Column("answered_at_us", INT64, nullable=False),
        sa.PrimaryKeyConstraint("subject", "request_id", name="pk_requests"),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", INT64, autoincrement=False, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_outbox"),
    )
    counters = op.create_table(
        "counters",
        sa.Column("id", INT64, autoincrement=False, nullable=False),
        sa.Column("last_seq", INT64, nullable=False),
        sa.Column("last_command_seq", INT64, nullable=False),
        sa.Column("next_job_id", INT64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_counters"),
    )
    op.bulk_insert(counters, [{"id": 1, "last_seq": 0, "last_command_seq": 0, "next_job_id": 1}])
