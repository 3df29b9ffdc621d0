"""Alembic's entry: migrates the database whose connection :func:`upnext.stores.sql.upgrade` hands over."""

from alembic import context

from upnext.stores.sql import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
