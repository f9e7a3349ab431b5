"""How a lease counts against its user's quota."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Adds the weight; what there is counts as it is."""
    weight = sa.Column("weight", _number, nullable=False, server_default="1000")
    op.add_column("leases", weight)


def downgrade() -> None:
    """Takes it away."""
    op.drop_column("leases", "weight")
