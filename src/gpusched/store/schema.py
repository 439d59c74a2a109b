"""The tables. ``events`` is the truth; the others are projections, written with it.

Instants are microseconds since the Unix epoch. What is filtered or sorted by is a column;
everything else of a value is in its ``body``, as JSON (``codec.py``). On PostgreSQL all of
it lives in the schema ``gpusched``. A change here needs a migration; a test compares both.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"}
)

# In SQLite a column of exactly this type, as a primary key, is the row id: no second index.
Int64 = BigInteger().with_variant(Integer, "sqlite")

events = Table(
    "events",
    metadata,
    Column("seq", Int64, primary_key=True, autoincrement=False),  # gap-free from 1
    Column("at_us", Int64, nullable=False),
    Column("kind", Text, nullable=False),  # the event's class name
    Column("job_id", Int64),  # exactly one of job_id and node is set
    Column("node", Text),
    Column("payload", Text, nullable=False),
)
Index("ix_events_job_id_seq", events.c.job_id, events.c.seq)
Index("ix_events_node_seq", events.c.node, events.c.seq)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Int64, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("partition", Text),
    Column("name", Text, nullable=False),
    Column("epoch", Int64),  # of the current or last attempt
    Column("submitted_at_us", Int64, nullable=False),
    Column("ended_at_us", Int64),
    Column("body", Text, nullable=False),
)
# Each serves "newest first" within one value, and ``state`` also the load of unfinished jobs.
Index("ix_jobs_state_job_id", jobs.c.state, jobs.c.job_id)
Index("ix_jobs_user_job_id", jobs.c.user, jobs.c.job_id)
Index("ix_jobs_account_job_id", jobs.c.account, jobs.c.job_id)
Index("ix_jobs_name_job_id", jobs.c.name, jobs.c.job_id)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Int64, primary_key=True, autoincrement=False),
    Column("epoch", Int64, primary_key=True, autoincrement=False),
    Column("user", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("granted_at_us", Int64, nullable=False),
    Column("running_at_us", Int64),  # every node has reported its ranks started
    Column("stopping_at_us", Int64),  # ranks that start later start in order to be ended
    Column("ended_at_us", Int64),
    Column("end_reason", Text),
    Column("allocation", Text, nullable=False),
)
Index("ix_attempts_ended_at_us", attempts.c.ended_at_us)

attempt_nodes = Table(
    "attempt_nodes",
    metadata,
    Column("job_id", Int64, primary_key=True, autoincrement=False),
    Column("epoch", Int64, primary_key=True, autoincrement=False),
    Column("node", Text, primary_key=True),
    Column("started_at_us", Int64),
    Column("ended_seq", Int64),  # of its TasksEnded
    Column("use", Text),  # what it used, known once it has ended
)
Index("ix_attempt_nodes_node_job_id", attempt_nodes.c.node, attempt_nodes.c.job_id)

nodes = Table(
    "nodes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("body", Text, nullable=False),
)

node_spans = Table(
    "node_spans",
    metadata,
    Column("seq", Int64, primary_key=True, autoincrement=False),  # of the event that opened it
    Column("node", Text, nullable=False),
    Column("start_us", Int64, nullable=False),
    Column("end_us", Int64),  # NULL: until now
    Column("is_up", Boolean, nullable=False),
    Column("devices", Text, nullable=False),
    Column("outages", Text, nullable=False, server_default="[]"),  # what is out of service
)
Index("ix_node_spans_node_seq", node_spans.c.node, node_spans.c.seq)
Index("ix_node_spans_end_us", node_spans.c.end_us)

requests = Table(
    "requests",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("job_ids", Text, nullable=False),
    Column("answered_at_us", Int64, nullable=False),
)

terms = Table(  # one row for each lead of a head
    "terms",
    metadata,
    Column("epoch", Int64, primary_key=True, autoincrement=False),
    Column("token", Text, nullable=False),
    Column("first_seq", Int64, nullable=False),
    Column("node_lease_ms", Int64, nullable=False, server_default="0"),  # that its head gave; 0: not noted
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Int64, primary_key=True, autoincrement=False),
    Column("node", Text, nullable=False),
    Column("kind", Text, nullable=False),  # the command's class name
    Column("payload", Text, nullable=False),
)

counters = Table(  # one row: what the next batch continues from, even when other tables are empty
    "counters",
    metadata,
    Column("id", Int64, primary_key=True, autoincrement=False),
    Column("last_seq", Int64, nullable=False),
    Column("last_command_seq", Int64, nullable=False),
    Column("next_job_id", Int64, nullable=False),
)

join_tokens = Table(
    "join_tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True),  # SHA-256: the token itself is nowhere
    Column("node", Text),  # NULL: any
    Column("created_by", Text, nullable=False),
    Column("expires_at_us", Int64, nullable=False),
    Column("used_by", Text),  # the node that joined with it
    Column("used_key", LargeBinary),  # SHA-256 of its public key: the one key that may ask again
    Column("used_at_us", Int64),
)

certificates = Table(
    "certificates",
    metadata,
    Column("serial", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("issued_at_us", Int64, nullable=False),
    Column("expires_at_us", Int64, nullable=False),
    Column("revoked_at_us", Int64),
)
Index("ix_certificates_node_serial", certificates.c.node, certificates.c.serial)
