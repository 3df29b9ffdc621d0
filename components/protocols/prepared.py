"""What a protocol works on: an interval of the pipeline, its data set, and its models as one bundle."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from components import runner
from components.evaluation import Judge
from components.pipeline import Job, up_to
from components.release import bind
from models.dataset import Dataset
from upnext.errors import MissingData
from upnext.settings import Settings
from upnext.sources import open_source


@dataclass(frozen=True)
class Prepared:
    """One interval. Nothing of the hold-out has reached its models."""

    job: Job
    sample: int
    """Users to judge on at most; they are drawn at random."""
    seed: int = 0

    @classmethod
    def of(
        cls, settings: Settings, source: str, protocol: str, through: str, sample: int, seed: int
    ) -> "Prepared":
        """The newest interval of the source; where it lacks ``through``, that and all it needs are run."""
        try:
            until = runner.last_interval(settings)
            done = runner.Report.read(runner.run_folder(settings, until) / through)
        except MissingData:
            done = None
        if done is None:
            until = run_steps(settings, source, through)
        out = runner.run_folder(settings, until) / "evaluate" / protocol
        out.mkdir(parents=True, exist_ok=True)
        return cls(Job(settings, source, until, out), sample, seed)

    @property
    def steps(self) -> Job:
        """The interval as a step would see it."""
        return Job(self.job.settings, self.job.source, self.job.until, self.job.out.parent)

    @cached_property
    def data(self) -> Dataset:
        return Dataset.load(self.steps.input("examples"))

    @cached_property
    def ids(self) -> pa.Array:
        """Of the catalogue's videos, in row order."""
        return self.data.catalogue.table["video_id"].combine_chunks()

    @cached_property
    def bundle(self) -> Path:
        """The interval's models as of the hold-out's start."""
        return bind(self.steps, self.job.out / "bundle")

    @cached_property
    def judge(self) -> Judge | None:
        """Who knows what is watched of what was not shown, where the data comes from a simulator."""
        source = open_source(self.job.source, self.job.settings)
        return source if isinstance(source, Judge) else None

    def file(self, name: str) -> Path:
        """Where the protocol keeps a table of that name."""
        return self.job.out / f"{name}.parquet"


def run_steps(settings: Settings, source: str, through: str) -> datetime:
    """Run a step and all that it needs, each in a process of its own; the end of their interval."""
    first, *rest = up_to(through)
    until = datetime.fromisoformat(runner.start_step(settings, first.name, source, None, False).until)
    for step in rest:
        runner.start_step(settings, step.name, source, until, False)
    return until
