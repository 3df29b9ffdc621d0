"""Starting BentoML on our service, in place of this process, so that signals reach it."""

import os
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

from upnext.errors import ConfigError
from upnext.releases import Releases
from upnext.settings import Settings
from upnext.stores import connect

RELEASE = "UPNEXT_SERVE_RELEASE"
"""Variable that names the release to the worker."""
OPEN = "UPNEXT_SERVE_OPEN"
"""Variable that tells the worker whether everybody may come in while there are no keys."""
SERVICE = "serving.service:Upnext"


def launch(settings: Settings, release: str, host: str, port: int, *, opened: bool = False) -> NoReturn:
    """Become the service.

    NotFound while there is no such release; ConfigError where the port is taken, or where others than this
    machine could reach a service without keys that nobody ``opened``.
    """
    found = Releases(settings).resolve(release)
    named = str(found.path.absolute()) if Path(release).is_dir() else release
    opened = opened or _loopback(host)
    _require_keys(settings, host, opened)
    _require_free(host, port)
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--host", host, "--port", str(port)]
    command += ["--working-dir", str(Path(__file__).parent.parent), "--timeout-graceful-shutdown", "10"]
    chosen = {RELEASE: named, OPEN: str(int(opened))}
    os.execve(sys.executable, command, environment(settings) | chosen)  # noqa: S606


def environment(settings: Settings) -> dict[str, str]:
    """This process's variables, and those that keep BentoML's own state below our folder."""
    home = settings.home.absolute()
    found = dict(os.environ)
    if config := found.get("UPNEXT_CONFIG"):
        found["UPNEXT_CONFIG"] = str(Path(config).absolute())
    found.setdefault("OMP_NUM_THREADS", "1")  # requests run side by side, each on one core
    found.setdefault("MALLOC_ARENA_MAX", "2")  # what making tables frees is used again, by whatever thread
    return found | {
        "UPNEXT_HOME": str(home),
        "UPNEXT_DATASET": settings.state.name,
        "BENTOML_HOME": str(home / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }


def _require_keys(settings: Settings, host: str, opened: bool) -> None:
    with connect(settings) as stores:
        guarded = bool(stores.keys.all())
    if not guarded and not opened:
        raise ConfigError(
            f"the service would answer everybody who reaches {host}: make a key with `upnext key create` "
            "first, or say --open where something in front of it lets only the right ones through"
        )
    if not guarded:
        text = f"There are no keys: whoever reaches {host} may do everything. `upnext key create` ends that."
        print(text, file=sys.stderr)


def _loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _require_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"{host}:{port} can't be listened on: {error}; choose another --port"
            ) from error
