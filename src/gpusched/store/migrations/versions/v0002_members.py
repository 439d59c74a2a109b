"""Join tokens and the certificates of nodes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INT64 = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Two new, empty tables."""
    op.create_table(
        "join_tokens",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("node", sa.Text),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at_us", INT64, nullable=False),
        sa.Column("used_by", sa.Text),
        sa.Column("used_key", sa.LargeBinary),
        sa.Column("used_at_us", INT64),
        sa.PrimaryKeyConstraint("digest", name="pk_join_tokens"),
    )
    op.create_table(
        "certificates",
        sa.Column("serial", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("issued_at_us", INT64, nullable=False),
        sa.Column("expires_at_us", INT64, nullable=False),
        sa.Column("revoked_at_us", INT64),
        sa.PrimaryKeyConstraint("serial", name="pk_certificates"),
    )
    op.create_index("ix_certificates_node_serial", "certificates", ["node", "serial"])


def downgrade() -> None:
    """Drop both: every agent on another machine has to join again."""
    op.drop_table("certificates")
    op.drop_table("join_tokens")
