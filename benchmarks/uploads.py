"""New videos over a release: how long until they are found, what taking them in costs, and what requests pay.

The champion in use is enlarged (:mod:`benchmarks._enlarged`). In one process: uploads are written to the
store, one poll takes them in, and the home feed is timed with and without them in turns, so that a busy
machine is as busy for both.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import psutil

from benchmarks._enlarged import enlarge
from models.bundle import Bundle
from serving.server import Server
from upnext.releases import Releases
from upnext.settings import Settings, load_settings

ROUNDS = 100


def upload(server: Server, first: int, count: int) -> None:
    """Write uploads that look like videos of the release."""
    catalogue = server.engine.current.bundle.catalogue
    now = datetime.now(UTC).isoformat()
    for start in range(first, first + count, 1_000):
        numbers = range(start, min(start + 1_000, first + count))
        like = catalogue.documents(np.arange(len(numbers)), ["title", "tags", "category", "creator_id"])
        server.videos.upsert(
            [
                {
                    **{key: value for key, value in each.items() if value},
                    "video_id": f"new-{number}",
                    "uploaded_at": now,
                }
                for number, each in zip(numbers, like, strict=True)
            ]
        )


def home_ms(server: Server, rounds: int = ROUNDS) -> list[float]:
    took = []
    for number in range(rounds):
        start = perf_counter()
        server.engine.home(f"viewer-{number}", 30, region=None)
        took.append(1e3 * (perf_counter() - start))
    return took


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--videos", type=int, default=1_000_000)
    options.add_argument("--uploads", type=int, nargs="*", default=[1, 1_000, 10_000])
    given = options.parse_args()
    figures: list[dict[str, object]] = []

    def tell(name: str, value: float, unit: str) -> None:
        figures.append({"name": name, "value": value, "unit": unit, "goal": None, "holds": None})
        print(f"{name:<60} {value:>10.2f} {unit}", flush=True)

    with TemporaryDirectory() as folder:
        champion = Bundle.load(Releases(load_settings()).resolve("champion").path)
        bundle = enlarge(champion, given.videos, Path(folder) / "bundle")
        server = Server(Settings(home=Path(folder) / "home", dataset="uploads"), str(bundle))
        server.watcher.look()
        plain = server.engine.current
        home_ms(server)
        tell("home without uploads, p50", float(np.median(home_ms(server))), "ms")
        tell("memory", psutil.Process().memory_info().rss / 2**30, "GiB")
        start = perf_counter()
        server.releases.renew()
        tell("a poll with nothing new", 1e3 * (perf_counter() - start), "ms")
        written = 0
        for count in given.uploads:
            upload(server, written, count)
            written += count
            start = perf_counter()
            server.releases.renew()
            tell(f"a poll that takes in {count:,} more uploads", 1e3 * (perf_counter() - start), "ms")
            grown = server.engine.current
            took: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(4):
                for fresh, release in ((False, plain), (True, grown)):
                    server.releases.held = release
                    took[fresh] += home_ms(server, ROUNDS // 4)
            tell(f"home with {written:,}, p50", float(np.median(took[True])), "ms")
            tell("the same without, in turns, p50", float(np.median(took[False])), "ms")
        tell("memory", psutil.Process().memory_info().rss / 2**30, "GiB")
        server.engine.close()
        server.stores.close()
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
