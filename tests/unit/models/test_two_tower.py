"""The towers learn a known answer, repeat themselves, survive export and go on from where they were."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from models.catalogue import Catalogue
from models.dataset import Interactions
from models.history import SECOND, Histories
from models.spectral import directions
from models.tower_export import export, resume, save_state
from models.towers import Towers
from models.two_tower import Trained, TwoTowerConfig, train, video_batch
from models.two_tower_net import TwoTower
from models.video_inputs import VISUAL, VideoInputs
from models.viewer_inputs import context, places
from upnext.contracts import VIDEOS
from upnext.errors import CorruptData, EmptyData, MissingData

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = round(START.timestamp() * 1e6)
VIDEOS_N, USERS_N = 40, 60
SMALL = TwoTowerConfig(
    width=16,
    embedding=8,
    heads=2,
    length=6,
    samples=4000,
    epochs=20,
    batch=64,
    uniform=16,
    threads=1,
    learning_rate=5e-3,
)


def row(i: int, video_id: str | None = None) -> dict[str, object]:
    colour = ("red", "blue")[i % 2]
    return {
        "video_id": video_id or f"v{i:02d}",
        "title": f"{colour} video",
        "tags": [colour],
        "category": colour,
        "creator_id": f"c{i % 8}",
        "duration_ms": 1000 * (i + 1),
        "uploaded_at": START - timedelta(days=60 - i),
    }


def catalogue(n: int = VIDEOS_N) -> Catalogue:
    return Catalogue.of(pa.Table.from_pylist([row(i) for i in range(n)], VIDEOS))


def two_colours() -> Interactions:
    """User u watched 12 videos of the colour u % 2."""
    rng = np.random.default_rng(1)
    taste = [rng.permutation(np.arange(u % 2, VIDEOS_N, 2))[:12] for u in range(USERS_N)]
    video = np.concatenate(taste).astype(np.int32)
    user = np.repeat(np.arange(USERS_N), 12).astype(np.int32)
    ts = NOW - 3_600_000_000 * np.tile(np.arange(12, 0, -1), USERS_N)
    unknown = np.full(len(user), np.nan, np.float32)
    return Interactions(user, video, ts, np.ones(len(user), np.float32), unknown, USERS_N)


def looks() -> np.ndarray:
    """Thumbnails of each colour look alike."""
    return np.eye(2, VISUAL, dtype=np.float32)[np.arange(VIDEOS_N) % 2]


def histories() -> Histories:
    return two_colours().histories(np.arange(USERS_N, dtype=np.int32), np.full(USERS_N, NOW), 10)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(two_colours(), catalogue(), SMALL, visual=looks())


@pytest.fixture(scope="module")
def towers(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Towers:
    return export(trained, tmp_path_factory.mktemp("towers"))


def test_viewers_find_their_colour(towers: Towers) -> None:
    scores = towers.encode(histories()) @ towers.items.T
    same = np.arange(USERS_N)[:, None] % 2 == np.arange(VIDEOS_N)[None, :] % 2
    best = np.argsort(-scores, axis=1)[:, :10]
    assert np.take_along_axis(same, best, axis=1).mean() > 0.98


def test_vectors_are_a_direction_and_a_popularity(towers: Towers, trained: Trained) -> None:
    viewers = towers.encode(histories())
    assert viewers.shape == (USERS_N, 16)
    assert viewers.dtype == towers.items.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(viewers[:, :-1], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(towers.items[:, :-1], axis=1), 1, rtol=1e-5)
    assert (viewers[:, -1] == 1).all()
    expected = 0.2 * np.log((trained.popularity + 1) / (trained.popularity.mean() + 1))
    np.testing.assert_allclose(towers.items[:, -1], expected, rtol=1e-5)


def test_many_equal_one_by_one(towers: Towers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.towers.CHUNK", 7)
    asked = histories()
    together = towers.encode(asked)
    alone = np.concatenate([towers.encode(asked[at : at + 1]) for at in range(len(asked))])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_padding_and_unknown_videos_change_nothing(towers: Towers) -> None:
    short = histories().newest(2)
    wide = Histories(
        *(
            np.pad(x, ((0, 0), (0, 4)), constant_values=fill)
            for x, fill in ((short.rows, -1), (short.strength, 0), (short.age_s, 0))
        )
    )
    np.testing.assert_allclose(towers.encode(short), towers.encode(wide), atol=1e-6)
    wide.rows[:, 2] = VIDEOS_N + 5
    np.testing.assert_allclose(towers.encode(short), towers.encode(wide), atol=1e-6)


def test_nobody_has_a_vector_and_likes_what_is_popular(towers: Towers) -> None:
    nobody = towers.encode(Histories.empty(2, 4))
    assert np.isfinite(nobody).all()
    scores = nobody[0] @ towers.with_popularity(np.arange(VIDEOS_N) ** 3.0).items.T
    assert np.corrcoef(scores, np.log(np.arange(VIDEOS_N) ** 3.0 + 1))[0, 1] > 0.8


def test_new_videos_stand_on_their_content(towers: Towers, tmp_path: Path) -> None:
    uploads = Catalogue.of(pa.Table.from_pylist([row(58, "new red"), row(59, "new blue")], VIDEOS))
    vectors, embeddings = towers.encode_videos(uploads, NOW)
    assert vectors.shape == (2, 16)
    assert embeddings.shape == (2, 8)
    scores = towers.encode(histories())[:, :-1] @ vectors[:, :-1].T
    own = scores[np.arange(USERS_N), np.arange(USERS_N) % 2]
    assert (own > scores[np.arange(USERS_N), 1 - np.arange(USERS_N) % 2]).mean() > 0.9
    assert towers.encode_videos(Catalogue.of(VIDEOS.empty_table()), NOW)[0].shape == (0, 16)


def test_a_new_video_counts_as_popular_as_its_like_and_less_from_hour_to_hour(
    towers: Towers, trained: Trained
) -> None:
    """With a half-life of 24 hours half is left of it a day later, and videos of the catalogue have it beside
    what happened."""
    now, hour = NOW + 100 * 24 * 3600 * SECOND, 3600 * SECOND
    table = Catalogue.of(pa.Table.from_pylist([row(58, "new red"), row(59, "old red")], VIDEOS)).table
    at = pa.array(np.array([now, now - 24 * hour])).cast(VIDEOS.field("uploaded_at").type)
    place = VIDEOS.get_field_index("uploaded_at")
    uploads = Catalogue(table.set_column(place, VIDEOS.field(place), at))
    mean = trained.popularity.mean()
    at_first = np.exp(trained.prior.of(VideoInputs.of(uploads))) * (mean + 1) - 1
    expected = 0.2 * np.log((at_first * [1, 0.5] + 1) / (mean + 1))
    np.testing.assert_allclose(towers.encode_videos(uploads, now)[0][:, -1], expected, rtol=1e-4)
    assert (at_first > 0).all()

    popularity, uploaded_at = np.ones(VIDEOS_N, np.float32), np.full(VIDEOS_N, now - 48 * hour)
    uploaded_at[:2] = 0, now + hour  # of unknown age, and still to come
    advance = (np.exp(trained.prior.videos) * 2 - 1) / 4
    advance[:2] = 0
    aged = towers.with_popularity(popularity, uploaded_at, now)
    np.testing.assert_allclose(aged.items[:, -1], 0.2 * np.log((advance + 2) / 2), rtol=1e-4, atol=1e-6)
    meta = {name: value for name, value in towers.meta.items() if name != "popularity_half_life_h"}
    older = replace(towers, prior=None, meta=meta)
    assert not older.with_popularity(popularity, uploaded_at, now).items[:, -1].any()
    np.testing.assert_allclose(
        older.encode_videos(uploads, now)[0][:, -1], 0.2 * np.log(1 / (mean + 1)), rtol=1e-5
    )


def test_what_nobody_took_is_not_pushed_away_and_is_where_an_upload_like_it_would_be(tmp_path: Path) -> None:
    """Half of the videos come without a history."""
    log, half = two_colours(), VIDEOS_N // 2
    trained = train(log.where(log.video < half), catalogue(), SMALL, visual=looks())
    assert not trained.net.video.row.weight[half + 1 :].any()
    towers = export(trained, tmp_path)
    rest = Catalogue.of(catalogue().table.slice(half))
    for now in (NOW, NOW + 400 * 24 * 3600 * SECOND):  # whatever its age
        vectors, embeddings = towers.encode_videos(rest, now, looks()[half:])
        np.testing.assert_allclose(vectors[:, :-1], towers.directions[half:], atol=1e-5)
        np.testing.assert_allclose(embeddings, towers.embeddings[half:], atol=1e-5)


def test_a_picture_moves_a_video_and_none_leaves_it(towers: Towers) -> None:
    uploads = Catalogue.of(pa.Table.from_pylist([row(58, "new")], VIDEOS))
    plain, _ = towers.encode_videos(uploads, NOW)
    np.testing.assert_array_equal(
        towers.encode_videos(uploads, NOW, np.zeros((1, VISUAL), np.float32))[0], plain
    )
    seen, _ = towers.encode_videos(uploads, NOW, looks()[:1])
    assert np.abs(seen - plain).max() > 1e-3
    with pytest.raises(ValueError, match="visual is"):
        towers.encode_videos(uploads, NOW, np.zeros((2, VISUAL), np.float32))


def test_the_viewers_place_is_learned_and_a_new_one_is_no_fault() -> None:
    """Viewers on the phone watch red, those at the tv blue; nobody has a history to tell by."""
    log = two_colours()
    first = log.where(np.r_[True, np.diff(log.user) > 0])
    devices = places(["phone", "tv"] * (USERS_N // 2), [None] * USERS_N)
    trained = train(first, catalogue(), replace(SMALL, samples=6000, epochs=100), viewers=devices)
    stranger = Histories.empty(4, 4)
    asked = context(NOW, places(["phone", "tv", "fridge", None], ["SE", None, None, None]))
    inputs = (np.zeros((4, 4, 8), np.float32), stranger.strength, stranger.age_s, stranger.mask, asked)
    with torch.no_grad():
        vectors = trained.net.user(*(torch.from_numpy(x) for x in inputs))
        videos = trained.net.video.embed(video_batch(trained.inputs, np.arange(VIDEOS_N)))
        age = torch.from_numpy(trained.inputs.age(np.arange(VIDEOS_N), NOW))
        scores = (vectors @ trained.net.video.direction(videos, age).T).numpy()
    red = scores[:, ::2].mean(axis=1) - scores[:, 1::2].mean(axis=1)
    assert red[0] > 0.1
    assert red[1] < -0.1
    assert np.isfinite(scores).all()


def test_towers_of_an_older_release_read_fewer_inputs(towers: Towers) -> None:
    class Older:
        def __init__(self, session: object) -> None:
            self.session = session

        def get_inputs(self) -> list[object]:
            return [given for given in self.session.get_inputs() if given.name != "context"]  # type: ignore[attr-defined]

        def run(self, names: None, feed: dict[str, np.ndarray]) -> object:
            assert set(feed) == {"past", "strength", "age_s", "mask"}
            nothing = np.zeros((len(feed["past"]), 3), np.int64)
            return self.session.run(names, {**feed, "context": nothing})  # type: ignore[attr-defined]

    older = replace(towers, user_tower=Older(towers.user_tower))
    np.testing.assert_array_equal(older.encode(histories()), towers.encode(histories()))


def test_same_seed_same_weights(trained: Trained) -> None:
    again = train(two_colours(), catalogue(), SMALL, visual=looks())
    assert again.losses == trained.losses
    for name, weight in trained.net.state_dict().items():
        torch.testing.assert_close(again.net.state_dict()[name], weight, rtol=0, atol=0)


def test_training_leaves_torch_as_it_was() -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(5)
    train(two_colours(), catalogue(), replace(SMALL, samples=64))
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == threads


def test_the_loss_falls(trained: Trained) -> None:
    first = train(two_colours(), catalogue(), replace(SMALL, samples=64)).losses[0]
    assert trained.losses[-1] < first


def test_warm_start_follows_the_ids(trained: Trained, tmp_path: Path) -> None:
    save_state(trained, catalogue(), tmp_path)
    shuffled = Catalogue.of(
        pa.Table.from_pylist([row(60, "newest"), *(row(i) for i in range(5, 40))], VIDEOS)
    )
    net = resume(tmp_path, shuffled, SMALL)
    old, new = trained.net.video.row.weight, net.video.row.weight
    torch.testing.assert_close(new[1:36], old[6:41])
    assert not new[36].any()
    warm = train(
        two_colours(),
        catalogue(),
        replace(SMALL, samples=128),  # of which half is for a warm start
        warm_start=resume(tmp_path, catalogue(), SMALL),
    )
    cold = train(two_colours(), catalogue(), replace(SMALL, samples=64))
    assert warm.losses[0] < cold.losses[0]
    with pytest.raises(CorruptData, match="no start"):
        resume(tmp_path, catalogue(), replace(SMALL, width=32))
    with pytest.raises(MissingData):
        resume(tmp_path / "none", catalogue(), SMALL)
    assert resume(tmp_path, catalogue(), SMALL, before=trained.as_of + 1)
    with pytest.raises(CorruptData, match="has learned from"):
        resume(tmp_path, catalogue(), SMALL, before=trained.as_of)
    (tmp_path / "state.npz").write_bytes(b"no weights")
    with pytest.raises(CorruptData, match="no start"):
        resume(tmp_path, catalogue(), SMALL)


def test_the_budget_holds_and_prefers_the_new() -> None:
    log, seen = two_colours(), []
    config = replace(SMALL, samples=64, batch=16, half_life_days=0.05)
    train(log, catalogue(), config, progress=seen.append)
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_wrong_input_is_refused(trained: Trained) -> None:
    with pytest.raises(ValueError, match="batch is 0"):
        TwoTowerConfig(batch=0)
    with pytest.raises(ValueError, match="drop_row is 1"):
        TwoTowerConfig(drop_row=1.0)
    log = two_colours()
    with pytest.raises(EmptyData, match="nothing to train"):
        train(log.where(log.user < 0), catalogue(), SMALL)
    broken = TwoTower(VIDEOS_N, SMALL.embedding, SMALL.width - 1, SMALL.heads)
    with torch.no_grad():
        broken.user.out.bias[0] = torch.nan
    with pytest.raises(CorruptData, match="loss became nan"):
        train(log, catalogue(), SMALL, warm_start=broken)


def test_save_and_load(towers: Towers, tmp_path: Path) -> None:
    fresh = towers.with_popularity(np.arange(VIDEOS_N, dtype=np.float32))
    fresh.save(tmp_path / "towers")
    loaded = Towers.load(tmp_path / "towers")
    np.testing.assert_array_equal(loaded.items, fresh.items)
    np.testing.assert_array_equal(loaded.encode(histories()), towers.encode(histories()))
    with pytest.raises(ValueError, match="popularity"):
        towers.with_popularity(np.zeros(3))
    with pytest.raises(MissingData, match="upnext step two_tower"):
        Towers.load(tmp_path)
    (tmp_path / "towers" / "user_tower.onnx").write_bytes(b"no graph")
    with pytest.raises(CorruptData, match="user_tower"):
        Towers.load(tmp_path / "towers")


def test_spectral_directions_part_the_colours() -> None:
    found = directions(two_colours(), VIDEOS_N + 1, 8, seed=0)
    products = found[:VIDEOS_N] @ found[:VIDEOS_N].T
    even = np.arange(VIDEOS_N) % 2 == 0
    assert products[np.ix_(even, even)].mean() > 0.3
    assert np.abs(products[np.ix_(even, ~even)]).max() < 0.1
    assert not found[VIDEOS_N].any()
