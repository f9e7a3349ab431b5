"""The tables of the books, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
)

metadata = MetaData()

Number = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only where the type is its INTEGER, which has 64 bits."""

leases = Table(
    "leases",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("user_name", String, nullable=False),
    Column("lease", String, nullable=False),
    Column("reserved", Number, nullable=False),
    Column("charged", Number, nullable=False),
    Column("held", Number, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("cause", String, nullable=False),
    Column("refunded", Boolean, nullable=False),
    Column("ran", Number, nullable=False),
    Column("last_held", Number, nullable=False),
    Column("opened_at", Float(53)),
    Column("window_at", Float(53)),
    Column("weight", Number, nullable=False, server_default="1000"),
)
Index("leases_by_name", leases.c.user_name, leases.c.lease, unique=True)
Index("leases_by_age", leases.c.user_name, leases.c.number)
Index(
    "open_leases",
    leases.c.lease,
    sqlite_where=leases.c.is_open,
    postgresql_where=leases.c.is_open,
)

accounts = Table(
    "accounts",
    metadata,
    Column("user_name", String, primary_key=True),
    Column("leases", Number, nullable=False),
    Column("reserved", Number, nullable=False),
    Column("charged", Number, nullable=False),
    Column("held", Number, nullable=False),
    Column("window_at", Float(53)),
    Column("window_charged", Number, nullable=False),
    Column("window_reserved", Number, nullable=False),
)
