"""The books on a PostgreSQL server: needs the extra `postgresql`."""
