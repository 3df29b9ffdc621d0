"""The ranker's training in several processes, one per core or GPU, here or on several machines:

    torchrun --nproc-per-node 2 -m models.ranker_ddp FOLDER

FOLDER holds ``train`` and ``valid`` (:mod:`models.rank_files`) and ``job.json``: schema, config, warm_start.
The ranker is written to FOLDER/model. Step ``ranker`` does all of this where ``processes`` is more than 1.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from models import ranker
from models.rank_data import RankData, RankSchema
from models.rank_files import load_rows, save_rows
from models.rank_train import RankerConfig, Timing
from models.workers import torchrun_workers
from upnext.errors import CorruptData, UpnextError

JOB, TIMING = "job.json", "timing.json"


def fit_in_processes(
    train: RankData,
    valid: RankData,
    schema: RankSchema,
    config: RankerConfig,
    warm_start: Path | None,
    folder: Path,
) -> tuple[Path, Timing]:
    """Train with ``config.processes`` processes; the folder of the saved ranker, and what the training took.

    UpnextError when one of them ends with an error, which it has printed itself.
    """
    save_rows(train, folder / "train")
    save_rows(valid, folder / "valid")
    job = {
        "schema": schema.to_dict(),
        "config": asdict(config),
        "warm_start": str(warm_start.absolute()) if warm_start else None,
    }
    (folder / JOB).write_text(json.dumps(job, indent=1))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", str(config.processes), "-m", __name__, str(folder)]
    child = subprocess.run(command, check=False, stdout=sys.stderr)
    if child.returncode:
        raise UpnextError(f"torchrun ended with exit code {child.returncode}: see what it said above")
    return folder / "model", Timing(**json.loads((folder / TIMING).read_text()))


def run(folder: Path) -> None:
    """This process's part of the job in a folder; the first one writes the ranker."""
    try:
        job = json.loads((folder / JOB).read_text())
        schema, config = RankSchema.from_dict(job["schema"]), RankerConfig(**job["config"])
        warm_start = Path(job["warm_start"]) if job["warm_start"] else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"{folder / JOB} is not a job of the ranker: {error}") from error
    valid = load_rows(folder / "valid")
    with torchrun_workers() as workers:
        trained = ranker.fit(load_rows(folder / "train"), valid, schema, config, warm_start, workers=workers)
        if workers.rank == 0:
            trained.save(folder / "model", valid)
            (folder / TIMING).write_text(json.dumps(asdict(trained.timing)))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
