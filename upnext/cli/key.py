"""``upnext key``: who may use the service."""

import click

from upnext.errors import NotFound
from upnext.settings import load_settings

SCOPES = ("read", "write", "admin")


@click.group()
def key() -> None:
    """Make, list and revoke the keys to the service.

    Scopes: read asks for recommendations and reads videos and users; write sends events and writes videos and
    users; admin erases people and reads /metrics. None contains another.
    """


@key.command()
@click.option("--name", required=True, help="Whose key it is, for the list.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What it may do; may be given several times.",
)
def create(name: str, scopes: tuple[str, ...]) -> None:
    """Make a key and print it, this once: only what is needed to check it is kept."""
    from datetime import UTC, datetime

    from upnext import keys
    from upnext.stores import connect

    shown, kept = keys.create(name, [keys.Scope(scope) for scope in scopes], datetime.now(UTC))
    with connect(load_settings()) as stores:
        stores.keys.add(kept)
    click.echo(shown)
    click.echo("Keep it: it is not shown again. Running services know it within seconds.", err=True)


@key.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of lines.")
def list_keys(as_json: bool) -> None:
    """Show the keys by their ids, without the keys themselves."""
    import orjson

    from upnext.stores import connect

    with connect(load_settings()) as stores:
        found = stores.keys.all()
    if as_json:
        told = ("key_id", "name", "scopes", "created_at", "revoked_at")
        rows = [{name: getattr(each, name) for name in told} for each in found]
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
        return
    for each in found:
        ended = f"revoked {each.revoked_at:%F %T}" if each.revoked_at else "valid"
        scopes = ",".join(each.scopes)
        click.echo(f"{each.key_id}  {scopes:<17}  {each.created_at:%F %T}  {ended:<27}  {each.name}")


@key.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """End the key with the id KEY_ID; running services refuse it within seconds."""
    from datetime import UTC, datetime

    from upnext.stores import connect

    with connect(load_settings()) as stores:
        if not stores.keys.revoke(key_id, datetime.now(UTC)):
            raise NotFound(f"there is no valid key {key_id!r}: `upnext key list` shows them")
    click.echo(f"{key_id} is revoked")
