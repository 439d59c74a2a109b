"""How long the leases were that a head gave its nodes: the next one may be told to give shorter ones.

A column with a constant default: no row is rewritten (PostgreSQL 11 and later, SQLite), so the lock is short.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INT64 = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Nobody noted it before."""
    op.add_column("terms", sa.Column("node_lease_ms", INT64, nullable=False, server_default="0"))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("terms", "node_lease_ms")
