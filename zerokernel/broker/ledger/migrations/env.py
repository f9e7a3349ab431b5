"""Run by Alembic: applies migrations on the connection that `schema` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
# SQLite changes most tables only by copying them ("batch").
context.configure(connection=connection, render_as_batch=True)
context.run_migrations()
