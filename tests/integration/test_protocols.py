"""Protocols on a small world, from nothing: the first command trains, the others go on with what it made."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = "world:users=80,videos=80,days=6"
TRAINING = {"two_tower": {"epochs": 1}, "ranker": {"epochs": 1}}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


def report_of(home: Path, protocol: str) -> dict:
    command = [sys.executable, "-m", "upnext.cli.main", "evaluate", "--protocol", protocol, "--data", SOURCE]
    env = os.environ | {
        "UPNEXT_HOME": str(home),
        "UPNEXT_TRAINING": json.dumps(TRAINING),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([*command, "--json"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def values(report: dict, measure: str) -> dict[str, float]:
    return {each["policy"]: each["value"] for each in report["figures"] if each["measure"] == measure}


def test_the_hold_out_is_judged_on_every_question(home) -> None:
    report = report_of(home, "holdout")
    pages = values(report, "ndcg@10, long views")
    assert set(pages) == {"funnel", "popularity", "random", "retriever:als", "retriever:two_tower"}
    for measure in ("recall@500 of the candidates, long views", "seconds of the first of what was shown"):
        assert values(report, measure)["popularity"] > 0
    assert values(report, "recall@500 of the candidates, long views")["popularity"] == 1.0  # of 82 videos
    assert set(values(report, "GAUC of the click head")) == {"funnel", "popularity"}
    seconds = values(report, "seconds per slot, asked of the simulator")
    assert seconds["popularity"] > seconds["random"]
    assert 0 < report["facts"]["coverage@10 of popularity"] < report["facts"]["coverage@10 of random"] <= 1


def test_each_retriever_is_told_apart(home) -> None:
    report = report_of(home, "retrievers")
    assert values(report, "recall@1000")["all together"] == 1.0
    assert all(value == 0 for value in values(report, "recall that only this one adds, 400 of each").values())


def test_the_off_policy_estimate_is_near_the_truth_or_refused(home) -> None:
    report = report_of(home, "off-policy")
    for name in ("SNIPS", "doubly robust"):
        found = {each["policy"]: each for each in report["figures"] if each["measure"].endswith(name)}
        for policy in ("funnel", "popularity", "random"):
            truth = report["facts"][f"watch time per slot of {policy}, s, asked of the simulator"]
            refused = any(note.startswith(f"{policy}: refused") for note in report["notes"])
            assert refused or (found[policy]["low"] - truth < truth / 2 and truth / 2 < found[policy]["high"])
