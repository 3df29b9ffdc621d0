"""Commands of serving: ``serve``, ``recommend``, ``simulate`` and ``forget``."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from upnext.cli.params import UtcTime
from upnext.settings import load_settings

Command = TypeVar("Command", bound=Callable[..., Any])


def release_option(about: str) -> Callable[[Command], Command]:
    """Which release a command works with: the champion unless it is told."""
    return click.option("--release", default="champion", show_default=True, metavar="R", help=about)


@click.command()
@click.option("--host", help="Address to listen on.  [default: UPNEXT_HOST, else 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port.  [default: UPNEXT_PORT, else 8700]")
@release_option("Version, alias or folder of the release to serve; an alias is followed while serving.")
@click.option(
    "--open",
    "opened",
    is_flag=True,
    help="Answer everybody beyond this machine too, while there are no keys.",
)
def serve(host: str | None, port: int | None, release: str, opened: bool) -> None:
    """Start the recommendation service.

    It answers under http://HOST:PORT/api/v1 and describes itself at /docs. Ctrl-C or SIGTERM ends it once
    the requests under way are answered.
    """
    from serving.launch import launch

    settings = load_settings()
    launch(settings, release, host or settings.host, port or settings.port, opened=opened)


@click.command()
@click.argument("user")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
def forget(user: str, as_json: bool) -> None:
    """Erase the person with the id USER from every store, the lake too, and print a receipt.

    The erasure is remembered, so that nothing from before it is read in again. Doing it twice is harmless.
    """
    from serving.clock import wall_clock
    from serving.erasure import erase
    from upnext.stores import connect

    with connect(load_settings()) as stores:
        receipt = erase(user, stores, wall_clock(), {})
    if as_json:
        click.echo(receipt.model_dump_json())
        return
    click.echo(f"Erased at {receipt.erased_at:%FT%TZ}, receipt {receipt.erasure_id}:")
    for store, removed in receipt.removed.items():
        click.echo(f"  {store:<16} {removed:,}")


@click.command()
@release_option("Version, alias or folder of a release.")
@click.option(
    "--users",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV or Parquet with a column user_id.  [default: those of --candidates]",
)
@click.option(
    "--count", type=click.IntRange(min=1), help="Videos per user.  [default: 30; all with --candidates]"
)
@click.option(
    "--stage",
    type=click.Choice(["retrieval", "ranking", "final"]),
    default="final",
    show_default=True,
    help="Where to leave the funnel.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="P",
    help="Who chooses: funnel, popularity, random, retriever:NAME (one alone) or without:PART (the funnel "
    "without it); may be given several times, which adds a column policy.  [default: funnel]",
)
@click.option(
    "--candidates",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV or Parquet with user_id and video_id: these pairs are ranked, and nothing else.",
)
@click.option(
    "--heads", is_flag=True, help="With --candidates: write the ranker's probabilities and seconds too."
)
@click.option(
    "--signals", is_flag=True, help="With --stage ranking: write what the order is blended from too."
)
@click.option(
    "--as-of",
    type=UtcTime(),
    help="Recommend as of this time: nothing later is looked at.  [default: the release's]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Where to write: .csv or .parquet.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def recommend(
    release: str,
    users: Path | None,
    count: int | None,
    stage: str,
    policies: tuple[str, ...],
    candidates: Path | None,
    heads: bool,
    signals: bool,
    as_of: datetime | None,
    out: Path,
    as_json: bool,
) -> None:
    """Write recommendations for many users to a file.

    One row per user and place: user_id, position (0 is the top), video_id, score. Users come in the order
    of --users; one of whom nothing is known is recommended what a newcomer would see.
    """
    from serving.batch import Batch

    batch = Batch(
        release, users, count, stage, policies or ("funnel",), candidates, as_of, out, heads, signals
    )
    summary = batch.run(load_settings())
    if as_json:
        click.echo(json.dumps(summary))
    else:
        click.echo(
            f"{summary['rows']:,} rows for {summary['users']:,} users in {summary['seconds']:.1f} s: {out}"
        )


@click.command()
@release_option("Version, alias or folder of a release that was trained on a world.")
@click.option(
    "--viewers", type=click.IntRange(min=2), default=200, show_default=True, help="How many the panel has."
)
@click.option(
    "--days", type=click.IntRange(1, 90), default=14, show_default=True, help="How long it goes on."
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="P",
    help="As for `upnext recommend`, or without:session; may be given several times.  [default: all]",
)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Processes.")
@click.option("--seed", default=0, show_default=True, help="Another seed draws another panel.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def simulate(
    release: str, viewers: int, days: int, policies: tuple[str, ...], jobs: int, seed: int, as_json: bool
) -> None:
    """Put policies before the simulated world's viewers and tell what they earn, seconds a session.

    The loop begins where the release's data ends. Each retriever alone, and the funnel without each of its
    parts, says what the parts are worth. docs/evaluation.md says what this can and cannot prove.
    """
    from serving import simulation

    settings = load_settings()
    plan = simulation.Plan.of(settings, release, viewers, days, seed)
    rows = simulation.figures(simulation.simulate(settings, plan, policies or simulation.ALL, jobs))
    click.echo(json.dumps(rows) if as_json else simulation.table(rows))
