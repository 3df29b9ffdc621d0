"""Two processes train what one does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import ranker
from models.rank_files import load_rows, save_rows
from models.ranker_ddp import fit_in_processes, run
from models.scorer import Scorer
from tests.support.ranks import CONFIG, HISTORY_SCHEMA, planted, planted_in_history
from upnext.errors import ConfigError, CorruptData, MissingData


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    train, valid = planted_in_history(1_000, 1), planted_in_history(301, 2)
    config = replace(CONFIG, epochs=2, batch_size=150, width=16, attention=8)
    one = ranker.fit(train, valid, HISTORY_SCHEMA, config)
    folder, timing = fit_in_processes(
        train, valid, HISTORY_SCHEMA, replace(config, processes=2), None, tmp_path
    )
    weights = torch.load(folder / "ranker.pt", weights_only=True)
    for name, values in one.net.state_dict().items():
        torch.testing.assert_close(weights[name], values, atol=1e-5, rtol=1e-4)
    epochs = Scorer.load(folder).meta["report"]["epochs"]
    for here, there in zip(one.report["epochs"], epochs, strict=True):
        assert here == pytest.approx(there, rel=1e-4)
    assert timing.rows == 2_000


def test_rows_round_trip(tmp_path: Path) -> None:
    for name, data in (("plain", planted(20, 1)), ("past", planted_in_history(20, 2))):
        save_rows(data, tmp_path / name)
        read = load_rows(tmp_path / name)
        np.testing.assert_array_equal(read.video, data.video)
        np.testing.assert_array_equal(read.labels["watch_s"], data.labels["watch_s"])
        np.testing.assert_array_equal(read.viewer, data.viewer)
    assert read.pasts is not None
    np.testing.assert_array_equal(read.pasts.histories.rows, data.pasts.histories.rows)


def test_what_is_missing_or_broken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingData, match=r"rows\.json"):
        load_rows(tmp_path)
    with pytest.raises(CorruptData, match=r"job\.json"):
        run(tmp_path)
    save_rows(planted(5, 1), tmp_path / "valid")
    (tmp_path / "valid" / "video.npy").write_bytes(b"cut")
    with pytest.raises(CorruptData, match="can't be read"):
        load_rows(tmp_path / "valid")
    from models.workers import torchrun_workers

    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match=r"RANK.*torchrun"), torchrun_workers():
        pass
