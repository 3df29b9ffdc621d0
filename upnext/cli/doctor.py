"""``upnext doctor``: each outside system, its URL, and whether it answers."""

import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import click

from upnext.errors import StoreUnavailable, UpnextError
from upnext.settings import Settings, load_settings
from upnext.stores import ADAPTERS, Stores, adapter, connect
from upnext.stores.local import read_only, writable
from upnext.stores.urls import local_path, masked, scheme

TRACKING = "tracking"
NOT_YET = "not created yet"
_TIMEOUT_S = 3.0
_DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Finding:
    """What one outside system had to say."""

    port: str
    url: str
    """With passwords masked."""
    answers: bool
    said: str
    ms: float
    """Milliseconds to open it and hear from it."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Show each outside system, its URL and whether it answers.

    Creates nothing: what a first run will make is shown as not created yet. Exits with 1 when a system
    does not answer.
    """
    settings = load_settings()
    with connect(settings) as stores:
        findings = [examine(port, stores) for port in (*ADAPTERS, TRACKING)]
    if as_json:
        _print_json(settings, findings)
    else:
        _print_table(settings, findings)
    if not all(finding.answers for finding in findings):
        ctx.exit(1)


def examine(port: str, stores: Stores) -> Finding:
    """Ask one system; what it refuses becomes part of the finding."""
    url, answers, start = "", True, perf_counter()
    try:
        url = stores.settings.url(port)
        if port in ADAPTERS:
            adapter(port, stores.settings)  # tells an unknown scheme before anything is touched
        start = perf_counter()  # what importing a library takes is no system's doing
        said = _ask(port, url, stores)
    except UpnextError as error:
        answers, said = False, str(error)
    return Finding(port, masked(url), answers, said, round(1000 * (perf_counter() - start), 1))


def _ask(port: str, url: str, stores: Stores) -> str:
    path = local_path(url)
    if path is not None and not path.exists():
        if not writable(path):
            raise read_only(path)
        return NOT_YET
    if port in ADAPTERS:
        return stores.open(port).ping()
    return _reach(url) if path is None else _weigh(path)


def _weigh(path: Path) -> str:
    if not writable(path):
        raise read_only(path)
    return f"{path.stat().st_size / 1e6:.1f} MB" if path.is_file() else "folder"


def _reach(url: str) -> str:
    """Open a connection to a server and close it again: tells that something listens, and no more."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or _DEFAULT_PORTS.get(scheme(url), 80))
    try:
        with socket.create_connection(address, timeout=_TIMEOUT_S):
            return f"{address[0]}:{address[1]} accepts connections"
    except OSError as error:
        raise StoreUnavailable(f"{address[0]}:{address[1]} does not answer: {error}") from error


def _print_json(settings: Settings, findings: list[Finding]) -> None:
    import orjson

    report = {
        "home": str(settings.home.absolute()),
        "dataset": settings.state.name,
        "answers": all(finding.answers for finding in findings),
        "ports": [asdict(finding) for finding in findings],
    }
    click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2))


def _print_table(settings: Settings, findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Upnext, data set {settings.state.name}")
    for heading in ("port", "URL", "answers", "says"):
        table.add_column(heading, overflow="fold")
    table.add_column("ms", justify="right")
    for finding in findings:
        mark = Text("yes", "green") if finding.answers else Text("no", "bold red")
        table.add_row(finding.port, Text(finding.url), mark, Text(finding.said), f"{finding.ms:.1f}")
    Console().print(table)
