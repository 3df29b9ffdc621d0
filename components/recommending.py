"""Asking for recommendations as anybody would: by the command, in a process of its own, through files."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from upnext.errors import ReleaseError


def recommend(
    release: Path | str,
    users: Sequence[str],
    at: datetime,
    policies: Sequence[str],
    out: Path,
    *,
    stage: str = "final",
    count: int = 10,
    pairs: pa.Table | None = None,
    heads: bool = False,
    signals: bool = False,
) -> pa.Table:
    """What ``upnext recommend`` writes to ``out``: columns user_id, position, video_id, score, policy.

    pairs: user_id, video_id; they are ranked, ``count`` at most of each user, and nothing else. heads: with
    the ranker's outputs as columns, for the funnel alone, which leaves the column policy out. signals:
    the same of what the order after ranking is blended from.
    """
    listed = out.with_name("users.parquet")
    pq.write_table(pa.table({"user_id": pa.array(users, pa.string())}), listed)
    command = ["--release", str(release), "--users", str(listed), "--as-of", at.isoformat()]
    command += ["--stage", stage, "--count", str(count), "--out", str(out)]
    command += [part for policy in policies for part in ("--policy", policy)]
    command += ["--signals"] if signals else []
    if pairs is not None:
        given = out.with_name("shown.parquet")
        pq.write_table(pairs, given)
        command += ["--candidates", str(given), *(["--heads"] if heads else [])]
    upnext = [sys.executable, "-m", "upnext.cli.main", "recommend"]
    child = subprocess.run([*upnext, *command], check=False, stdout=subprocess.DEVNULL)
    if child.returncode:
        raise ReleaseError(f"upnext recommend failed on {release}, exit code {child.returncode}: see above")
    table = pq.read_table(out)
    if len(policies) == 1 and not heads and not signals:
        table = table.append_column("policy", pa.array([policies[0]] * len(table), pa.string()))
    return table
