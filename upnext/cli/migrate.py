"""``upnext migrate``: the tables of the SQL stores, brought to what this program expects."""

import click

from upnext.settings import load_settings
from upnext.stores import SQL_PORTS
from upnext.stores.urls import masked


@click.command()
def migrate() -> None:
    """Bring the tables of every SQL store to what this program expects.

    Run it once before the first start on a PostgreSQL server, and once with each new version of Upnext. What
    is up to date stays as it is, and two that run at once do it once. Embedded databases need it not: they
    are upgraded when they are opened.
    """
    from upnext.stores import sql

    settings = load_settings()
    for url in dict.fromkeys(settings.url(port) for port in SQL_PORTS):
        click.echo(f"{masked(url)}: {sql.migrate(url)}")
