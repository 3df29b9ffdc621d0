"""``upnext release``: which bundles there are, and which of them serves."""

import json
from dataclasses import asdict

import click

from upnext.errors import NotFound
from upnext.releases import Releases
from upnext.settings import load_settings


@click.group(invoke_without_command=True)
@click.pass_context
def release(ctx: click.Context) -> None:
    """Show the releases of the data set in use, promote one, or go back to the one before."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@release.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def show(as_json: bool = False) -> None:
    """List the releases, the newest first, with their aliases."""
    found = Releases(load_settings()).list()
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        click.echo(f"{each.version:>5}  until {each.until}  {', '.join(each.aliases)}".rstrip())
    if not found:
        click.echo("Nothing was released yet: run `upnext cycle --data SOURCE`.")


@release.command()
@click.argument("version")
def promote(version: str) -> None:
    """Make VERSION the champion, which serves everybody; the champion until now becomes previous."""
    Releases(load_settings()).promote(version)
    click.echo(f"Version {version} is the champion.")


@release.command()
def rollback() -> None:
    """Make the previous champion the champion again, and the one that serves now the previous."""
    releases = Releases(load_settings())
    version = releases.version("previous")
    if version is None:
        raise NotFound(
            f"{releases.name} has no previous champion to go back to: name one to `upnext release promote`"
        )
    releases.promote(version)
    click.echo(f"Version {version} is the champion again.")
