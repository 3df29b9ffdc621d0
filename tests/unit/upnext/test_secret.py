"""The installation's secret is made once, whoever asks first."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from upnext.secret import derived
from upnext.settings import Settings

MAKERS = 8


def test_threads_that_ask_at_once_get_the_same_secret(tmp_path: Path) -> None:
    for place in range(20):
        settings = Settings(home=tmp_path / str(place), secret="")
        together = Barrier(MAKERS)

        def ask(_: int, settings: Settings = settings, together: Barrier = together) -> bytes:
            together.wait()
            return derived(settings, "purpose")

        with ThreadPoolExecutor(MAKERS) as threads:
            keys = set(threads.map(ask, range(MAKERS)))
        assert keys == {derived(settings, "purpose")}
        (made,) = settings.home.iterdir()
        assert made.name == "secret" and len(made.read_bytes()) == 64
        assert stat.S_IMODE(made.stat().st_mode) == 0o600
