"""What the retrievers find of videos that nobody has watched, and what ALS costs beside implicit's defaults.

make bench NAME=retrievers ARGS='--data world:'      (after `upnext cycle --data world:`)

New videos: the towers learn from the history without some of the videos, then rank the whole catalogue for
viewers who took one of them in the ranker's window. In a log whose videos are all old, the newest tenth is
left out. Vectors of such videos are made of content alone; popularity, which they have none of, is left out
of the order. ALS: recall@200 of the window's first day, folded in from the history before it.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from components.commands import settings_for
from components.runner import last_interval, run_folder
from components.training import viewer_places
from components.visual import visual_of
from models.als import AlsConfig, AlsModel
from models.dataset import Dataset, Interactions
from models.index import top_k
from models.tower_export import export
from models.two_tower import TwoTowerConfig, train
from models.viewer_inputs import context
from upnext.settings import Settings
from upnext.stores import connect

DAY = 86_400_000_000
USERS = 1_500
LENGTH = 50
GOAL = 5.0
"""Times as many new videos as a random order finds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="world:")
    parser.add_argument("--samples", type=int, default=TwoTowerConfig.samples, help="budget of the towers")
    parser.add_argument("--json", type=Path, help="also write the figures to a file")
    asked = parser.parse_args()
    settings = settings_for(asked.data)
    data = Dataset.load(run_folder(settings, last_interval(settings)) / "examples")
    figures = new_videos(settings, data, TwoTowerConfig(samples=asked.samples)) + als_cost(data)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))


def new_videos(settings: Settings, data: Dataset, config: TwoTowerConfig) -> list[dict[str, object]]:
    """Recall@500 of videos without a history by the towers, by popularity and at random."""
    log, split = data.history, data.split
    new = np.bincount(log.video, minlength=len(data.catalogue)) == 0
    window = data.interactions.where(
        (data.interactions.ts >= split.history_end) & (data.interactions.ts < split.valid_start)
    )
    if np.count_nonzero(new[window.video]) < 500:
        newest = np.argsort(data.catalogue.uploaded_at, kind="stable")[-len(new) // 10 :]
        new[newest] = True
    known = log.where(~new[log.video])
    with connect(settings) as stores:
        visual, viewers = visual_of(stores.lake, data.catalogue.ids), viewer_places(stores.lake, data.users)
    trained = train(known, data.catalogue, config, visual=visual, viewers=viewers)
    users, wanted = _wanted(window.where(new[window.video]), known)
    histories = known.histories(users, np.full(len(users), split.history_end), config.length)
    with TemporaryDirectory() as folder:
        towers = export(trained, Path(folder))
        asking = towers.encode(histories, context(split.history_end, viewers[users]))
        scores = asking[:, :-1] @ towers.items[:, :-1].T
    there = data.catalogue.uploaded_at < split.valid_start
    scores[:, ~there] = -np.inf
    popular = np.where(
        there, trained.popularity + 1e-6 * np.random.default_rng(0).random(len(there)), -np.inf
    )
    at_random = min(1.0, 500 / there.sum())
    rows = [
        ("two-tower", recall(scores, wanted, 500)),
        ("popularity", recall(np.tile(popular, (len(users), 1)), wanted, 500)),
        ("random", at_random),
    ]
    title = (
        f"recall@500 of {np.count_nonzero(new & there)} new among {there.sum()} videos, {len(users)} viewers"
    )
    table = Table("order", "recall@500", "times random", title=title)
    for name, value in rows:
        table.add_row(name, f"{value:.3f}", f"{value / at_random:.1f}")
    Console().print(table)
    ratio = rows[0][1] / at_random
    figure = {"name": "new_videos.two_tower.times_random", "value": ratio, "unit": "", "goal": f">= {GOAL}"}
    return [figure | {"holds": ratio >= GOAL, "recall": rows[0][1], "popularity": rows[1][1]}]


def als_cost(data: Dataset) -> list[dict[str, object]]:
    """CPU seconds and recall@200 of ALS as the pipeline fits it, and with implicit's own defaults."""
    log, since = data.history, data.split.history_end
    window = data.interactions.where((data.interactions.ts >= since) & (data.interactions.ts < since + DAY))
    users, wanted = _wanted(window, log)
    histories = log.histories(users, np.full(len(users), since), LENGTH)
    table = Table("ALS", "CPU s", "recall@200", title=f"{len(log):,} interactions, {len(users)} viewers")
    found = {}
    makers = {
        "the pipeline's": lambda: AlsModel.fit(log, len(data.catalogue), AlsConfig(threads=1)),
        "implicit's defaults": lambda: implicit_defaults(log, len(data.catalogue)),
    }
    for name, fit in makers.items():
        start = process_time()
        model = fit()
        seconds = process_time() - start
        scores = model.fold_in(histories) @ model.factors.T
        np.put_along_axis(scores, np.maximum(histories.rows, 0), -np.inf, axis=1)
        found[name] = seconds, recall(scores, wanted, 200)
        table.add_row(name, f"{seconds:.1f}", f"{found[name][1]:.3f}")
    Console().print(table)
    (seconds, ours), (peer_seconds, peer) = found.values()
    figure = {"name": "als.cpu_seconds", "value": seconds, "unit": "s", "goal": f"<= {peer_seconds:.1f}"}
    return [figure | {"holds": seconds <= peer_seconds, "recall": ours, "peer_recall": peer}]


def implicit_defaults(log: Interactions, n_videos: int) -> AlsModel:
    """The peer: confidence 1 + strength, and every setting as implicit has it."""
    liked = log.where(log.newest & (log.strength > 0))
    matrix = csr_matrix((1 + liked.strength, (liked.user, liked.video)), shape=(log.n_users, n_videos))
    with threadpool_limits(1, "blas"):
        peer = AlternatingLeastSquares(num_threads=1, random_state=0)
        peer.fit(matrix, show_progress=False)
    config = AlsConfig(factors=peer.factors, alpha=1.0, popularity_power=0.0)
    return AlsModel(np.array(peer.item_factors), np.ones(n_videos, np.float32), peer.regularization, config)


def _wanted(window: Interactions, known: Interactions) -> tuple[NDArray[np.int32], list[NDArray[np.int32]]]:
    """Viewers with a history who liked something, and what; videos that they had met are left out."""
    met = set(zip(known.user.tolist(), known.video.tolist(), strict=True))
    liked: dict[int, set[int]] = {}
    with_history = set(np.unique(known.user).tolist())
    for user, video, strength in zip(
        window.user.tolist(), window.video.tolist(), window.strength, strict=True
    ):
        if strength >= 0.5 and user in with_history and (user, video) not in met:
            liked.setdefault(user, set()).add(video)
    users = np.random.default_rng(0).permutation(np.array(sorted(liked), np.int32))[:USERS]
    return users, [np.array(sorted(liked[int(user)]), np.int32) for user in users]


def recall(scores: NDArray[np.floating], wanted: list[NDArray[np.int32]], k: int) -> float:
    """Mean over viewers of the share of what they wanted among the first k."""
    best = top_k(scores.astype(np.float32), min(k, scores.shape[1]))
    return float(np.mean([np.isin(some, row).mean() for some, row in zip(wanted, best, strict=True)]))


if __name__ == "__main__":
    main()
