"""Alembic's entry: runs the migrations on the connection that `results.database` passes in."""

from alembic import context

from results.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=False, render_as_batch=True
)
context.run_migrations()
