"""One row for each lead of a head: what shows that a database went back in time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INT64 = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "terms",
        sa.Column("epoch", INT64, autoincrement=False, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("first_seq", INT64, nullable=False),
        sa.PrimaryKeyConstraint("epoch", name="pk_terms"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("terms")
