"""Alembic's entry: runs the revisions over the connection that `models.database.migrate` hands in. Not run by itself."""

from __future__ import annotations

from alembic import context

from models.tables import Row

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Row.metadata,
    # SQLite changes a table by copying it; batch mode writes that for later revisions.
    render_as_batch=True,
)
context.run_migrations()
