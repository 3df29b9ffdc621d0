"""Commands of the pipeline: ``cycle``, ``step``, ``evaluate`` and ``skew``."""

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from components.protocols import PROTOCOLS
from upnext.cli.params import UtcTime
from upnext.errors import ConfigError
from upnext.settings import Settings, load_settings

if TYPE_CHECKING:
    from components.protocols.report import Report

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
DATA = click.option(
    "--data",
    "source",
    default="log:",
    show_default=True,
    metavar="SOURCE",
    help="Where the data comes from: log: (what the service collected), world:, kuairand:DIR, "
    "kuairec:DIR, movielens:DIR or files:DIR.",
)
UNTIL = click.option(
    "--until",
    type=UtcTime(),
    help="End of the interval: nothing later is read. Default: the end of the data.",
)
FORCE = click.option("--force", is_flag=True, help="Run again what is done already.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.command()
@DATA
@UNTIL
@FORCE
@AS_JSON
def cycle(source: str, until: datetime | None, force: bool, as_json: bool) -> None:
    """Run the whole pipeline on what is new in a source.

    Its steps: ingest, visual, features, materialise, skew, examples, validate, als, two_tower, ranker, blend,
    drift, gate, index, release; each in a process of its own. Steps whose inputs have not changed are not run
    again. Data that fails a suite is not trained on. A candidate that the gate refuses is not released; the
    champion goes on serving.
    """
    from components import runner

    settings = settings_for(source)
    console = Console(stderr=True, highlight=False)

    def ended(report: runner.Report) -> None:
        took = f"{report.seconds:7.1f} s {report.peak_memory_mb:7.0f} MiB" if report.fresh else "done already"
        console.print(f"[green]✓[/] {report.step:<12} {took}")
        for reason, rows in report.details.get("quarantined", {}).items():
            console.print(f"  {rows} rows in quarantine, {reason}")

    reports = runner.cycle(settings, source, until, force, on_end=ended)
    gate = next(report for report in reports if report.step == "gate")
    if gate.metrics["passed"]:
        console.print(f"Released as version {reports[-1].details['version']}.")
    else:
        console.print("[yellow]Not released.[/] The gate says:")
        for reason in gate.details["reasons"]:
            console.print(f"  {reason}")
    if as_json:
        click.echo(json.dumps([asdict(report) for report in reports]))


@click.command()
@click.argument("name")
@DATA
@UNTIL
@FORCE
@AS_JSON
def step(name: str, source: str, until: datetime | None, force: bool, as_json: bool) -> None:
    """Run one step of the pipeline: NAME as listed by `upnext cycle --help`.

    Without --until, ingest takes all there is, and any other step goes on with the newest interval.
    """
    from components import runner
    from components.pipeline import find

    settings = settings_for(source)
    if until is None and find(name).needs:
        until = runner.last_interval(settings)
    report = runner.run_step(settings, name, source, until, force)
    if as_json:
        click.echo(json.dumps(asdict(report)))
    else:
        click.echo(f"{report.step}: {report.seconds:.1f} s, {report.peak_memory_mb:.0f} MiB")
        for key, value in report.metrics.items():
            click.echo(f"  {key} = {value:.6g}")
        if "documents" in report.details:
            click.echo(f"  documents: {report.details['documents']}")


@click.command()
@click.option("--recommendations", type=FILE, help="Recommendations to score, with --truth.")
@click.option("--truth", type=FILE, help="What users did.")
@click.option("--count", default=10, show_default=True, help="Places that count.")
@click.option("--protocol", metavar="NAME", help=f"One of {', '.join(PROTOCOLS)}.")
@DATA
@click.option(
    "--sample", default=2_000, show_default=True, help="Users of a protocol at most, drawn at random."
)
@click.option("--seed", default=0, show_default=True, help="Of the draw.")
@AS_JSON
def evaluate(
    recommendations: Path | None,
    truth: Path | None,
    count: int,
    protocol: str | None,
    source: str,
    sample: int,
    seed: int,
    as_json: bool,
) -> None:
    """Score a file of recommendations against what users did, or run a whole protocol on a source.

    RECOMMENDATIONS has columns user_id, position, video_id (as `upnext recommend` writes them); TRUTH has
    user_id, video_id and, if some count more than others, gain. CSV or Parquet by the file's name.

    A protocol works on the newest interval of the source, and trains first where there is none; see
    docs/evaluation.md. Figures come with 95 % intervals and beside popularity.
    """
    if protocol is not None:
        report = _protocol(protocol, source, sample, seed)
        click.echo(json.dumps(report.to_dict()) if as_json else report.markdown())
        return
    if recommendations is None or truth is None:
        raise ConfigError("name --recommendations and --truth, or a --protocol with its --data")
    from components.evaluation import score_files

    figures = score_files(recommendations, truth, count)
    if as_json:
        click.echo(json.dumps(figures))
        return
    for key, value in figures.items():
        click.echo(f"{key:<22} {value:.5g}")


def _protocol(name: str, source: str, sample: int, seed: int) -> "Report":
    from components.protocols import load
    from components.protocols.prepared import Prepared

    run, through = load(name), PROTOCOLS[name][1]
    return run(Prepared.of(settings_for(source), source, name, through, sample, seed))


@click.command()
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Share of a feature's values that may differ. Default: UPNEXT_SKEW_THRESHOLD.",
)
@click.option("--sample", default=20_000, show_default=True, help="Logged rows compared.")
@AS_JSON
def skew(threshold: float | None, sample: int, as_json: bool) -> None:
    """Compare the features that serving logged with the same recomputed from the lake.

    Both are of the same moment and snapshot, so what differs is a bug on one side, or an event that came
    late.
    Exits with 8 when a feature differs in more than the threshold.
    """
    from components.skew import released, skew_of
    from upnext.stores import connect

    settings = load_settings()
    with connect(settings) as stores:
        report = skew_of(stores.lake, released(settings), settings.history_days, sample)
    limit = settings.skew_threshold if threshold is None else threshold
    if as_json:
        click.echo(json.dumps(asdict(report)))
    else:
        above = len(report.above(limit))
        click.echo(f"{report.rows} rows, {len(report.features)} features, {above} above {limit:.1%}")
        for reason, rows in report.left_out.items():
            click.echo(f"  left out: {rows} rows, {reason}")
        for each in (each for each in report.features if each.share > 0):
            click.echo(f"  {each.block}.{each.name:<32} {each.share:8.2%} {each.distance:10.3g} spreads")
    report.require(limit)


def settings_for(source: str) -> Settings:
    """Settings with the source's data set in use; ``log:`` stays with the one last cycled."""
    from upnext.sources import open_source

    settings = load_settings()
    if source == "log:" or settings.dataset:
        return settings
    return settings.activate(open_source(source, settings).dataset)
