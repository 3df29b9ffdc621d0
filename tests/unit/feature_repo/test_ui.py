"""Feast's own pages show the definitions, on this machine only."""

import subprocess
import sys
from pathlib import Path
from threading import Event
from time import monotonic

import httpx

from feature_repo.repo import feature_store
from feature_repo.specs import VIDEO_STREAM
from tests.support.redis_server import free_port
from upnext.settings import Settings


def environment(home: Path) -> dict[str, str]:
    return {"UPNEXT_HOME": str(home), "PATH": "/usr/bin:/bin", "HOME": str(home)}


def test_the_ui_shows_the_views_on_loopback(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    (settings.state / "feast").mkdir(parents=True)
    feature_store(settings)
    port = free_port()
    command = [sys.executable, "-m", "feature_repo", "ui", "--port", str(port)]
    ui = subprocess.Popen(
        command, env=environment(settings.home), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        page_ = awaited(f"http://127.0.0.1:{port}", ui)
        assert "Feast" in page_.text
        listed = httpx.get(f"http://127.0.0.1:{port}/api/v1/feature_views?project=upnext", timeout=30)
        assert listed.status_code == 200 and VIDEO_STREAM.name in listed.text
    finally:
        ui.terminate()
        try:
            ui.communicate(timeout=20)
        finally:
            ui.kill()
            ui.wait()


def awaited(url: str, process: "subprocess.Popen[str]", seconds: float = 90) -> httpx.Response:
    """The first answer of a server that is coming up."""
    deadline = monotonic() + seconds
    while True:
        try:
            return httpx.get(url, timeout=10, follow_redirects=True)
        except httpx.TransportError:
            assert process.poll() is None, process.communicate()[1]
            assert monotonic() < deadline, f"{url} does not answer"
            Event().wait(0.2)
