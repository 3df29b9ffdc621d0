"""What ``make bench NAME=models`` measures: one function for each protocol, each giving rows with goals."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks._peers import Peer, peers, ranked_by
from benchmarks._rows import Row, row
from components.commands import settings_for
from components.evaluation import Holdout
from components.protocols import PROTOCOLS, load
from components.protocols.cold_start import RESERVED, WHOLE
from components.protocols.holdout import CANDIDATES, PAGE, ranked
from components.protocols.prepared import Prepared
from components.protocols.report import Report, figure
from models import metrics
from models.als import AlsModel

Values = Mapping[str, NDArray[np.float64]]

LEAST_GAUC, LEAST_COLD = 0.65, 5.0
LEAST_WATCH, LEAST_RANKED, LEAST_WORLD = 0.10, 0.10, 0.25
LENGTH = 200
"""Videos of a history that ALS folds in."""
ROUNDS = 6
"""Of ALS, until it is as good as implicit's with its defaults and 15."""


def main(about: str | None) -> None:
    options = argparse.ArgumentParser(description=about)
    options.add_argument("--kuairand", type=Path, help="folder of KuaiRand")
    options.add_argument("--kuairec", type=Path, help="folder of KuaiRec")
    options.add_argument("--world", action="store_true", help="the closed loop on the default world")
    options.add_argument("--sample", type=int, default=2_000, help="users to judge on at most")
    options.add_argument("--json", type=Path, help="write the figures here")
    given = options.parse_args()
    rows: list[Row] = []
    if given.kuairec:
        source = f"kuairec:{given.kuairec}"
        rows += catalogue("kuairec", source, given.sample, LEAST_RANKED)
        rows += cold("kuairec", source, given.sample)
    if given.kuairand:
        source = f"kuairand:{given.kuairand}"
        rows += catalogue("kuairand", source, given.sample, 0.0) + shown(source, given.sample)
        rows += cold("kuairand", source, given.sample)
    if given.world:
        rows += cold("world", "world:", given.sample) + closed_loop()
    if not rows:
        options.error("name a folder with --kuairand or --kuairec, or ask for --world")
    table = Table("figure", "value", "unit", "goal", "holds")
    for each in rows:
        goal = "" if each["goal"] is None else f"{each['goal']:g}"
        table.add_row(each["name"], f"{each['value']:.4g}", each["unit"], goal, str(each["holds"]))
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


def prepare(protocol: str, source: str, sample: int) -> Prepared:
    return Prepared.of(settings_for(source), source, protocol, PROTOCOLS[protocol][1], sample, seed=0)


def catalogue(name: str, source: str, sample: int, least: float) -> list[Row]:
    """The final ranking of the whole catalogue on the newest days, beside peers fitted on all before them."""
    on = prepare("holdout", source, sample)
    users = Holdout.of(on.data, on.sample, on.seed)
    pages, candidates = ranked(on, users, "final", PAGE), ranked(on, users, "retrieval", CANDIDATES)
    split, videos = on.data.split, len(on.data.catalogue)
    made = peers(on.data.interactions, split.valid_start, split.holdout_start, videos)
    known = on.data.interactions.before(split.holdout_start)
    codes = np.searchsorted(on.data.users, users.users)
    for peer, each in made.items():
        Console(stderr=True).print(f"{name}: {peer}, {each.setting}, {each.seconds:.1f} s of CPU")
        candidates[peer] = ranked_by(each.score, codes, known, CANDIDATES, videos)
        pages[peer] = candidates[peer][:, :PAGE]
    quality = {policy: metrics.ndcg(rows, users.wanted, PAGE) for policy, rows in pages.items()}
    found = {policy: metrics.recall(rows, users.wanted, CANDIDATES) for policy, rows in candidates.items()}
    rows = beside(f"{name}.ndcg_at_10", quality, {"popularity": least})
    rows += beside(f"{name}.recall_at_500", found, {})
    return rows + als_time(name, on, users, made["implicit's ALS, defaults"], quality)


def beside(name: str, values: Values, least: Mapping[str, float]) -> list[Row]:
    """Each policy's mean, and the funnel's lift over each; it holds where its interval is above zero."""
    rows = [row(f"{name}.{policy}", float(np.nanmean(each)), "mean") for policy, each in values.items()]
    for rival, theirs in values.items():
        if rival in ("funnel", "random"):
            continue
        each, goal = figure(name, "funnel", values["funnel"], theirs), least.get(rival, 0.0)
        lift, low = each.lift or 0.0, each.lift_low or 0.0
        rows.append(row(f"{name}.funnel over {rival}", lift, "lift", goal, low > 0 and lift >= goal))
    return rows


def als_time(name: str, on: Prepared, users: Holdout, peer: Peer, quality: Values) -> list[Row]:
    """Our ALS fitted on the same, beside implicit's defaults: no slower, and no worse.

    With the settings that the cycle's search found on earlier days, and as many rounds as that quality takes.
    """
    known, videos = on.data.interactions.before(on.data.split.holdout_start), len(on.data.catalogue)
    found = AlsModel.load(on.steps.input("als") / "served" / "model").config
    began = process_time()
    model = AlsModel.fit(known, videos, replace(found, threads=1, iterations=ROUNDS))
    seconds = process_time() - began
    codes = np.searchsorted(on.data.users, users.users)
    after = np.full(len(codes), on.data.split.holdout_start)
    folded = model.fold_in(known.histories(codes.astype(np.int32), after, LENGTH))
    vectors = np.zeros((len(on.data.users), folded.shape[1]), np.float32)
    vectors[codes] = folded
    rows = ranked_by(lambda users: vectors[users] @ model.factors.T, codes, known, PAGE, videos)
    ours = float(np.nanmean(metrics.ndcg(rows, users.wanted, PAGE)))
    theirs = float(np.nanmean(quality["implicit's ALS, defaults"]))
    return [
        row(f"{name}.als.ndcg_at_10", ours, "mean", theirs, ours >= theirs),
        row(f"{name}.als.seconds", seconds, "s of CPU", peer.seconds, seconds <= peer.seconds),
    ]


def shown(source: str, sample: int) -> list[Row]:
    """Order of what was really shown: GAUC of both heads, and seconds of the first."""
    report = load("holdout")(prepare("holdout", source, sample))
    rows = [
        _row_of(report, f"GAUC of the {head} head", f"kuairand.gauc.{head}", LEAST_GAUC)
        for head in ("click", "long_view")
    ]
    first = report.find("seconds of the first of what was shown", "funnel")
    if first is not None:
        lift = first.lift or 0.0
        rows.append(row("kuairand.first_shown", lift, "lift", LEAST_WATCH, lift >= LEAST_WATCH))
    return rows


def _row_of(report: Report, measure: str, name: str, least: float) -> Row:
    found = report.find(measure, "funnel")
    value = found.value if found else float("nan")
    return row(name, value, "GAUC", least, value >= least)


def cold(name: str, source: str, sample: int) -> list[Row]:
    """Videos without a history: recall@500 of the towers, with and without places reserved, beside chance."""
    report, rows = load("cold-start")(prepare("cold-start", source, sample)), []
    measures = {
        "recall_at_500": f"recall@{WHOLE}, whole catalogue",
        "recall_at_500_with_a_fifth_reserved": f"recall@{WHOLE}, of which {RESERVED} places are reserved",
    }
    chance = report.find(measures["recall_at_500"], "random")
    for key, measure in measures.items():
        for policy in ("two_tower", "popularity", "random"):
            if (each := report.find(measure, policy)) is not None:
                rows.append(row(f"{name}.new_videos.{key}.{policy}", each.value, "mean"))
        ours = report.find(measure, "two_tower")
        times = ours.value / chance.value if ours and chance else float("nan")
        rows.append(
            row(f"{name}.new_videos.{key}.over chance", times, "times", LEAST_COLD, times >= LEAST_COLD)
        )
    return rows


def closed_loop() -> list[Row]:
    """Watch time per session in the world, the funnel over popularity."""
    from serving import simulation

    on = prepare("holdout", "world:", 1)
    settings = on.job.settings
    plan = simulation.Plan.of(settings, str(on.bundle), viewers=300, days=14, seed=0)
    made = simulation.simulate(settings, plan, ("popularity", "funnel"), jobs=2)
    funnel = next(each for each in simulation.figures(made) if each["policy"] == "funnel")
    lift = funnel["over_popularity"]["lift"]
    return [row("world.watch_time_per_session", lift, "lift", LEAST_WORLD, lift >= LEAST_WORLD)]
