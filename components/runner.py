"""Runs steps: skips what is done already, measures the rest, and writes down what came of it.

A step is done when its ``metrics.json`` names the same inputs as it would read now. Inputs are told apart
by a fingerprint of the source, the interval, the code, the settings that the step reads and the steps that it
needs; the first step's own fingerprint is that of the lake's table versions. So a cycle on a source with
nothing new runs nothing but ``ingest``.
"""

import fcntl
import hashlib
import json
import math
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from components.pipeline import STEPS, Job, Outcome, Step, find
from upnext.errors import CandidateRefused, MissingData, UpnextError
from upnext.settings import Settings

REPORT = "metrics.json"
INTERVAL = "%Y-%m-%dT%H%M%SZ"


class StepFailed(UpnextError):
    """A step's process ended with an error, which it has printed itself."""

    def __init__(self, step: str, code: int) -> None:
        super().__init__(f"step {step} failed, exit code {code}: see what it said above")
        self.exit_code = max(code, 1)  # a signal's is negative


@dataclass(frozen=True)
class Report:
    """What ``metrics.json`` holds."""

    step: str
    until: str
    source: str
    inputs: str
    """Fingerprint of what the step read."""
    fingerprint: str
    """Fingerprint of what it made."""
    seconds: float
    peak_memory_mb: float
    metrics: dict[str, float]
    params: dict[str, Any]
    data_versions: dict[str, int]
    details: dict[str, Any]
    fresh: bool = True
    """False when it was done already, by an earlier run."""

    @classmethod
    def read(cls, folder: Path) -> "Report | None":
        """The report of the step that finished in a folder; None when none did, or in another format."""
        file = folder / REPORT
        try:
            return cls(**json.loads(file.read_text()))
        except (FileNotFoundError, NotADirectoryError, TypeError, ValueError):
            return None


def run_folder(settings: Settings, until: datetime | None) -> Path:
    """Folder of an interval's outputs; of an unfinished ``ingest`` while the interval is not known."""
    name = until.astimezone(UTC).strftime(INTERVAL) if until else "unknown"
    return settings.state / "runs" / name


def last_interval(settings: Settings) -> datetime:
    """End of the newest interval that was ingested."""
    folders = sorted((settings.state / "runs").glob(f"*Z/ingest/{REPORT}"))
    if not folders:
        raise MissingData(
            f"nothing was ingested below {settings.state}: run `upnext step ingest --data SOURCE`"
        )
    return datetime.strptime(folders[-1].parent.parent.name, INTERVAL).replace(tzinfo=UTC)


def run_step(
    settings: Settings, name: str, source: str, until: datetime | None, force: bool = False
) -> Report:
    """Run one step in this process, or answer with its report when it is done already."""
    step = find(name)
    with _alone(settings, name):
        folder = run_folder(settings, until)
        inputs = _inputs(settings, step, folder, source, until)
        done = Report.read(folder / name)
        if done is not None and done.inputs == inputs and step.needs and not force:
            return replace(done, fresh=False)
        return _run(settings, step, Job(settings, source, until, folder / name), inputs)


def start_step(settings: Settings, name: str, source: str, until: datetime | None, force: bool) -> Report:
    """Run one step in a process of its own, so that its memory is its own and goes back when it ends."""
    command = [sys.executable, "-m", "upnext.cli.main", "step", name, "--data", source, "--json"]
    command += ["--until", until.isoformat()] if until else []
    command += ["--force"] if force else []
    child = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if child.returncode:
        raise StepFailed(name, child.returncode)
    return Report(**json.loads(child.stdout.splitlines()[-1]))  # a library may have printed before


def cycle(
    settings: Settings,
    source: str,
    until: datetime | None = None,
    force: bool = False,
    on_start: Callable[[Step], None] = lambda step: None,
    on_end: Callable[[Report], None] = lambda report: None,
) -> list[Report]:
    """Run every step in order on what is new. A gate that says no ends the cycle there."""
    reports: list[Report] = []
    for step in STEPS:
        on_start(step)
        report = start_step(settings, step.name, source, until, force)
        until = datetime.fromisoformat(report.until)
        reports.append(report)
        on_end(report)
        if step.name == "gate" and not report.metrics["passed"]:
            break
    return reports


def peak_memory_mb() -> float:
    """Most memory that this process has held, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's pages from before exec
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _run(settings: Settings, step: Step, job: Job, inputs: str) -> Report:
    shutil.rmtree(job.out, ignore_errors=True)
    job.out.mkdir(parents=True)
    started = time.perf_counter()
    outcome = step.load()(job)
    report = _report(step, job.source, job.until, inputs, outcome, time.perf_counter() - started)
    if step.tracked and report.metrics:
        _track(settings, report, job.out, outcome.artifacts)
    if outcome.refused is not None:
        raise outcome.refused
    written = job.out / f".{REPORT}"  # renamed when it is whole, as its presence says that the step is done
    written.write_text(json.dumps(asdict(report), indent=1, default=str))
    written.replace(job.out / REPORT)
    if job.until is None:
        target = run_folder(settings, datetime.fromisoformat(report.until)) / step.name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        job.out.rename(target)
    return report


@contextmanager
def _alone(settings: Settings, step: str) -> Iterator[None]:
    """Wait until no other process of this machine runs the step: two schedulers must not share a folder."""
    file = settings.state / "locks" / step
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _report(
    step: Step, source: str, until: datetime | None, inputs: str, outcome: Outcome, seconds: float
) -> Report:
    return Report(
        step=step.name,
        until=str(outcome.details["until"]) if until is None else until.isoformat(),
        source=source,
        inputs=inputs,
        fingerprint=_digest([inputs, dict(outcome.data_versions)]),
        seconds=round(seconds, 3),
        peak_memory_mb=peak_memory_mb(),
        # What is not known is left out: JSON has no word for it, and no two of it are equal.
        metrics={name: float(value) for name, value in outcome.metrics.items() if math.isfinite(value)},
        params=dict(outcome.params),
        data_versions=dict(outcome.data_versions),
        details=dict(outcome.details),
    )


def _inputs(settings: Settings, step: Step, folder: Path, source: str, until: datetime | None) -> str:
    made = []
    for need in step.needs:
        report = Report.read(folder / need)
        if report is None:
            raise MissingData(
                f"step {step.name} needs the output of {need}, which is not in {folder}: "
                f"run `upnext step {need}` for this interval first"
            )
        if not report.metrics.get("passed", 1.0):
            raise CandidateRefused(
                f"step {step.name} does not run: {need} refused the candidate of {report.until}; "
                f"{folder / need / REPORT} says why"
            )
        made.append(report.fingerprint)
    own = [settings.training.get(step.name, {}), {name: _told(settings, name) for name in step.settings}]
    return _digest([_code(), source, until.isoformat() if until else "", own, made])


def _told(settings: Settings, name: str) -> Any:
    """What a setting says; of a file, what is in it, as it may be replaced by another of its name."""
    value = getattr(settings, name)
    if not isinstance(value, Path):
        return value
    return hashlib.sha256(value.read_bytes()).hexdigest() if value.is_file() else str(value)


@cache
def _code() -> str:
    """Digest of the pipeline's own modules: a new version, or an edit, is a reason to run again."""
    root = Path(__file__).parent.parent
    files = sorted(
        file
        for part in ("upnext", "models", "feature_repo", "components")
        for file in (root / part).rglob("*.py")
    )
    return _digest([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _track(settings: Settings, report: Report, out: Path, artifacts: Sequence[str]) -> None:
    """Record a run in MLflow, with the Delta versions that it and the steps before it worked on."""
    from upnext import tracking

    before = [Report.read(file.parent) for file in sorted(out.parent.glob(f"*/{REPORT}"))]
    versions = {
        f"delta.{table}": version
        for each in (*before, report)
        if each is not None
        for table, version in each.data_versions.items()
    }
    tracking.log_run(
        settings,
        report.step,
        params={**report.params, **versions},
        metrics={**report.metrics, "seconds": report.seconds, "peak_memory_mb": report.peak_memory_mb},
        tags={"upnext.step": report.step, "upnext.until": report.until, "upnext.source": report.source},
        artifacts={name: out / name for name in artifacts},
    )
