"""``upnext experiment``: start experiments, stop them, and read them out."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from upnext.errors import NotFound
from upnext.experiments import Experiment, check, read
from upnext.ports import Experiments
from upnext.settings import load_settings
from upnext.stores import connect

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group()
def experiment() -> None:
    """Start experiments, stop them, and read them out."""


@experiment.command()
@click.argument("file", type=click.Path(path_type=Path))
def start(file: Path) -> None:
    """Start the experiment that FILE (YAML or JSON) defines, or ramp it up when it runs.

    Serving takes it up within seconds. docs/experiments.md describes the file.
    """
    from serving.experiments.parameters import RELEASE, checked
    from upnext.releases import Releases

    settings, now = load_settings(), _now()
    given = read(file)
    checked(given)
    for variant in given.variants:
        if RELEASE in variant.parameters:
            Releases(settings).resolve(variant.parameters[RELEASE])
    with connect(settings) as stores:
        known = stores.experiments.all()
        held = next((each for each in known if each.name == given.name), None)
        if held is not None:
            given = given.model_copy(update={"start": held.start})
        check(given, known, now)
        stores.experiments.put(given)
    click.echo(f"{given.name} runs from {given.start:%Y-%m-%d %H:%M} UTC: {_shares(given)}.")


@experiment.command()
@click.argument("name")
def stop(name: str) -> None:
    """End an experiment: everybody gets what serves without it, and its name is spent."""
    with connect(load_settings()) as stores:
        found = _find(stores.experiments, name)
        now = _now()
        if found.stop is None or found.stop > now:
            stores.experiments.put(found.stopped(now))
    click.echo(f"{name} has ended.")


@experiment.command("list")
@AS_JSON
def show(as_json: bool) -> None:
    """List the experiments, and the shares of units held out of them."""
    with connect(load_settings()) as stores:
        found, holdouts = stores.experiments.all(), dict(stores.experiments.holdouts())
    if as_json:
        told = [each.model_dump(mode="json") for each in found]
        click.echo(json.dumps({"experiments": told, "holdouts": holdouts}))
        return
    for each in found:
        click.echo(f"{each.name:<24} {each.layer:<16} {_state(each):<8} {_shares(each)}")
    for layer, share in sorted(holdouts.items()):
        click.echo(f"held out of {f'layer {layer}' if layer else 'all experiments'}: {share:.2%}")
    if not found:
        click.echo("No experiment was started yet: `upnext experiment start FILE`.")


@experiment.command()
@click.argument("share", type=click.FloatRange(0, 1))
@click.option("--layer", default="", help="Hold out of this layer only.  [default: of all experiments]")
def holdout(share: float, layer: str) -> None:
    """Keep a SHARE of the units (0 to 1) out of experiments; raising it keeps out those who are out."""
    with connect(load_settings()) as stores:
        stores.experiments.hold_out(layer, share)
    click.echo(f"{share:.2%} of the units are in no experiment{f' of layer {layer}' if layer else ''}.")


@experiment.command()
@click.argument("name", required=False)
@AS_JSON
@click.pass_context
def status(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Read an experiment out of the lake: effects, intervals, and whether to ship, stop or go on.

    Without NAME, list the experiments.
    """
    if name is None:
        ctx.invoke(show, as_json=as_json)
        return
    from serving.experiments.readout import read_out

    with connect(load_settings()) as stores:
        found = _find(stores.experiments, name)
        readout, population = read_out(stores.lake, found, _now())
    report = {"name": name, "state": _state(found), "crossed": population.crossed, **asdict(readout)}
    click.echo(orjson.dumps(report, default=float) if as_json else _table(report))


def _find(store: Experiments, name: str) -> Experiment:
    known = {each.name: each for each in store.all()}
    if name not in known:
        raise NotFound(f"no experiment is called {name!r}: there are {', '.join(known) or 'none'}")
    return known[name]


def _now() -> datetime:
    return datetime.now(UTC)


def _state(each: Experiment) -> str:
    if each.running(_now()):
        return "runs"
    return "waits" if each.start > _now() else "ended"


def _shares(each: Experiment) -> str:
    share = each.ramp * (each.range[1] - each.range[0])
    variants = ", ".join(f"{variant.name} {variant.weight:.0%}" for variant in each.variants)
    return f"{share:.2%} of layer {each.layer}, of them {variants}"


def _table(report: dict[str, Any]) -> str:
    units = ", ".join(f"{variant} {count:,}" for variant, count in report["units"].items())
    lines = [
        f"{report['name']} ({report['state']}): {units}; sample ratio p = {report['mismatch_p']:.3g}",
        f"{'metric':<20} {'variant':<16} {'control':>10} {'variant':>10} {'change':>8} "
        f"{'one look, 95 %':>22} {'always valid':>22} {'CUPED':>6}",
    ]
    for each in report["effects"]:
        base = each["control_mean"]
        fixed, always = (
            f"{each[low]:+.4g} to {each[high]:+.4g}"
            for low, high in (("low", "high"), ("always_low", "always_high"))
        )
        lines.append(
            f"{each['metric']:<20} {each['variant']:<16} {base:>10.4g} {each['variant_mean']:>10.4g} "
            f"{each['difference'] / base if base else float('nan'):>+8.1%} {fixed:>22} {always:>22} "
            f"{-each['narrowed']:>6.0%}"
        )
    if report["crossed"]:
        lines.append(f"{report['crossed']:,} units met two variants and are left out")
    verdict = report["verdict"]
    return "\n".join([*lines, f"{verdict['decision']}: {verdict['reason']}"])
