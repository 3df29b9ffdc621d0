"""Running other programs' servers: start them, wait for them, and leave none behind."""

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from upnext.errors import StoreUnavailable

STOP_S = 15.0
"""Seconds that programs have for ending by themselves."""


class _Stop(BaseException):
    """Somebody asked this process to end."""


def supervise(commands: Mapping[str, Sequence[str]], env: Mapping[str, str]) -> None:
    """Run programs until one of them ends or this process is told to (SIGINT, SIGTERM), then end them all.

    Whatever the programs started in turn ends with them, even in a session of its own, as the tasks of a
    scheduler are.
    """
    children: dict[str, psutil.Popen] = {}
    with _stoppable():
        try:
            for name, command in commands.items():
                children[name] = psutil.Popen(command, env=dict(env), start_new_session=True)
            while True:
                for name, child in children.items():
                    if child.poll() is not None:
                        raise StoreUnavailable(f"{name} ended with exit code {child.returncode}: see above")
                time.sleep(0.2)
        except _Stop:
            pass
        finally:
            _end(list(children.values()))


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGINT and SIGTERM raise :class:`_Stop` once; from then on they wait for the end."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise _Stop

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(children: Sequence[psutil.Popen]) -> None:
    """Ask all processes to end, and after :data:`STOP_S` end those that did not."""
    tree: list[psutil.Process] = [*children]
    for child in children:
        with suppress(psutil.NoSuchProcess):
            tree += child.children(recursive=True)
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(tree, timeout=STOP_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_S)
