"""How Alembic runs the steps: on the connection that it is given, inside that connection's one transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
