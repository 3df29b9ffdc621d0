"""Supervised programs end with their supervisor, and what they started ends with them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from upnext.cli import supervise as module
from upnext.cli.supervise import supervise
from upnext.errors import StoreUnavailable

# A server that starts a task in a session of its own, as schedulers do, and says so when both are there.
SERVER = """
import subprocess, sys, time
task = subprocess.Popen([sys.executable, "-c", TASK], start_new_session=True, stdout=subprocess.PIPE)
task.stdout.readline()
print(task.pid, flush=True)
time.sleep(60)
"""
MEEK = "import time; print(flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {MEEK}"
SUPERVISOR = """
import os, sys
from upnext.cli import supervise as module
module.STOP_S = 0.5
module.supervise({"the server": [sys.executable, "-c", sys.argv[1]]}, os.environ)
"""


@pytest.mark.parametrize("task", [MEEK, STUBBORN], ids=["meek", "stubborn"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything(task: str, number: int) -> None:
    command = [sys.executable, "-c", SUPERVISOR, SERVER.replace("TASK", repr(task))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        task_process = psutil.Process(int(child.stdout.readline()))
        started = [*psutil.Process(child.pid).children(), task_process]
        child.send_signal(number)
        assert child.wait(timeout=20) == 0
    assert len(started) == 2
    assert not [process for process in started if runs(process)]


def runs(process: psutil.Process) -> bool:
    """Whether it does anything still; an ended one may wait for whoever inherited it to take notice."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_when_one_program_ends_so_do_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_S", 5.0)
    note = tmp_path / "pid"
    stays = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    ends = f"import os, sys, time\nwhile not os.path.exists({str(note)!r}): time.sleep(0.01)\nsys.exit(3)"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoreUnavailable, match="the broken one ended with exit code 3"):
        supervise(
            {"a good one": [sys.executable, "-c", stays], "the broken one": [sys.executable, "-c", ends]},
            os.environ,
        )
    assert not psutil.pid_exists(int(note.read_text()))
    assert signal.getsignal(signal.SIGTERM) == before
