"""What of a node was out of service, in its spans.

A column with a constant default: no row is rewritten (PostgreSQL 11 and later, SQLite), so the lock is short.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing was out before."""
    op.add_column("node_spans", sa.Column("outages", sa.Text, nullable=False, server_default="[]"))


def downgrade() -> None:
    """Forget it: time out of service reads as unallocated."""
    op.drop_column("node_spans", "outages")
