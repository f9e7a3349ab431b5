"""The first books: leases, and the sums of each user."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Makes both tables."""
    op.create_table(
        "leases",
        sa.Column("number", _number, primary_key=True, autoincrement=True),
        sa.Column("user_name", sa.String, nullable=False),
        sa.Column("lease", sa.String, nullable=False),
        sa.Column("reserved", _number, nullable=False),
        sa.Column("charged", _number, nullable=False),
        sa.Column("held", _number, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("cause", sa.String, nullable=False),
        sa.Column("refunded", sa.Boolean, nullable=False),
        sa.Column("ran", _number, nullable=False),
        sa.Column("last_held", _number, nullable=False),
        sa.Column("opened_at", sa.Float(53)),
        sa.Column("window_at", sa.Float(53)),
    )
    op.create_index("leases_by_name", "leases", ["user_name", "lease"], unique=True)
    op.create_index("leases_by_age", "leases", ["user_name", "number"])
    is_open = sa.text("is_open")
    op.create_index(
        "open_leases", "leases", ["lease"], sqlite_where=is_open, postgresql_where=is_open
    )
    op.create_table(
        "accounts",
        sa.Column("user_name", sa.String, primary_key=True),
        sa.Column("leases", _number, nullable=False),
        sa.Column("reserved", _number, nullable=False),
        sa.Column("charged", _number, nullable=False),
        sa.Column("held", _number, nullable=False),
        sa.Column("window_at", sa.Float(53)),
        sa.Column("window_charged", _number, nullable=False),
        sa.Column("window_reserved", _number, nullable=False),
    )


def downgrade() -> None:
    """Takes both away."""
    op.drop_table("leases")
    op.drop_table("accounts")
