"""What Alembic runs: the caller's open connection, in the transaction the caller began."""

from alembic import context

from fuyun.drivers.sql.columns import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
