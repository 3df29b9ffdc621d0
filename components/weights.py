"""The weights of the composite score, fitted on the validation window, kept only when they prove better."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.training import Completer
from models.bootstrap import compare
from models.crosses import Viewers
from models.dataset import Examples
from models.scorer import Scorer
from models.utility import Slates, Weights, fit_weights, judge
from upnext.errors import EmptyData

USERS = 500
"""Users of the validation window whose candidates are ordered."""
CAME = {"gain": "watch_s", "liked": "like", "not_interested": "not_interested", "long_view": "long_view"}
"""What came of a candidate -> the label that says it."""
RETRIEVED = 150
"""Candidates of each, besides what they were shown: the nearest by the towers, popularity included."""


def choose_weights(
    completer: Completer, scorer: Scorer, videos: NDArray[np.float32]
) -> tuple[Weights, dict[str, Any]]:
    """Fit on one half of the users, judge on the other; and how it went.

    What is fitted takes the defaults' place when its NDCG@10 of seconds watched is better with an interval
    above zero, while long views, the first of what was shown, likes and dislikes get no worse.

    Parameters
    ----------
    videos
        float32[n, dv], the catalogue's features as of the start of the window.
    """
    try:
        slates, long_views = slates_of(completer, scorer, videos)
    except EmptyData as error:
        return Weights(), {"kept": "defaults", "why": str(error)}
    half = np.arange(len(slates.held)) % 2 == 0
    fit = fit_weights(slates[half])
    fitted, usual = (judge(slates[~half], weights) for weights in (fit.weights, Weights()))
    finished = replace(slates, gain=long_views)[~half]
    long, usual_long = (judge(finished, weights).mean_ndcg for weights in (fit.weights, Weights()))
    about: dict[str, Any] = {"fitted": fit.weights.to_dict(), "tried": fit.tried, "kept": "defaults"}
    if fit.weights == Weights():
        return Weights(), about | {"why": "no weights are better where they were fitted"}
    try:
        gained, first = compare(fitted.ndcg, usual.ndcg), compare(fitted.first_s, usual.first_s)
    except EmptyData as error:
        return Weights(), about | {"why": str(error)}
    about |= {
        "ndcg_of_seconds": [gained.baseline, gained.mean, *gained.difference_interval],
        "ndcg_of_long_views": [usual_long, long],
        "first_shown_s": [first.baseline, first.mean, *first.difference_interval],
    }
    reasons = {
        "the interval of NDCG's gain is not above zero": gained.difference_interval[0] <= 0,
        "long views rank lower": long < usual_long,
        "the first of what was shown is watched less": first.difference < 0,
        "fewer likes or more dislikes": not fitted.annoys_no_more_than(usual),
    }
    against = [reason for reason, holds in reasons.items() if holds]
    if against:
        return Weights(), about | {"why": "; ".join(against)}
    return fit.weights, about | {"kept": "fitted"}


def slates_of(
    completer: Completer, scorer: Scorer, videos: NDArray[np.float32]
) -> tuple[Slates, NDArray[np.float64]]:
    """Candidates of some users at their first moment in the validation window, and what came of them.

    Their gain is seconds; beside it stand long views, float64[U, C]. EmptyData when nobody was shown any.
    """
    rows = completer.data.examples["valid"]
    place = np.flatnonzero(rows.shown)
    place = place[np.lexsort((rows.ts[place], rows.user[place]))]
    users, first = np.unique(rows.user[place], return_index=True)
    if not len(users):
        raise EmptyData("nobody was shown anything in the validation window")
    chosen = np.arange(len(users))[:: max(1, len(users) // USERS)][:USERS]
    own, start = np.split(place, first[1:]), place[first[chosen]]
    viewers = completer.viewers(rows.user[start], rows.ts[start])
    shown = [own[user] for user in chosen]
    candidates = [
        np.union1d(near, rows.video[each])
        for near, each in zip(_nearest(completer, viewers), shown, strict=True)
    ]
    sizes = [len(each) for each in candidates]
    asked = _examples(rows, np.repeat(start, sizes), np.concatenate(candidates).astype(np.int32), videos)
    heads = scorer.score_batch(completer.complete(asked))
    came = [_outcomes(rows, each, found) for each, found in zip(shown, candidates, strict=True)]
    return _slates(heads, came, np.asarray(sizes))


def _nearest(completer: Completer, viewers: Viewers) -> Iterator[NDArray[np.int32]]:
    """Of each viewer the videos not met yet that are nearest by the towers."""
    items = completer.towers.items
    for place in range(len(viewers.now)):
        history = viewers.histories[place : place + 1]
        near = items @ viewers.tower[place]
        near[history.rows[history.mask]] = -np.inf
        found = np.argpartition(-near, min(RETRIEVED, len(near)) - 1)[:RETRIEVED]
        yield found[np.isfinite(near[found])].astype(np.int32)


def _examples(
    rows: Examples, moment: NDArray[np.int64], video: NDArray[np.int32], videos: NDArray[np.float32]
) -> Examples:
    """Videos int32[k], each asked for at the moment of an example int64[k]."""
    taken = {
        name: getattr(rows, name)[moment] for name in ("user", "ts", "request", "user_features", "context")
    }
    unknown = np.full(len(video), np.nan, np.float32)
    return Examples(
        **taken,
        video=video,
        shown=np.zeros(len(video), np.bool_),
        position=np.full(len(video), -1, np.int32),
        labels=dict.fromkeys(rows.labels, unknown),
        video_features=videos[video],
    )


def _outcomes(
    rows: Examples, shown: NDArray[np.int64], candidates: NDArray[np.int32]
) -> dict[str, NDArray[np.float64]]:
    """What came of each candidate: the most where it was shown more than once."""
    out = {name: np.zeros(len(candidates)) for name in (*CAME, "shown")}
    place = np.searchsorted(candidates, rows.video[shown])
    for name, head in CAME.items():
        np.maximum.at(out[name], place, np.nan_to_num(rows.labels[head][shown]))
    out["shown"][place] = 1
    return out


def _slates(
    heads: dict[str, NDArray[np.float32]],
    outcomes: Sequence[dict[str, NDArray[np.float64]]],
    sizes: NDArray[np.int64],
) -> tuple[Slates, NDArray[np.float64]]:
    held = np.arange(sizes.max()) < sizes[:, None]

    def padded(column: NDArray[Any]) -> NDArray[Any]:
        out = np.zeros(held.shape, column.dtype)
        out[held] = column
        return out

    came = {name: padded(np.concatenate([each[name] for each in outcomes])) for name in (*CAME, "shown")}
    long_views = came.pop("long_view")
    scored = {name: padded(head) for name, head in heads.items()}
    return Slates(heads=scored, held=held, **came | {"shown": came["shown"] > 0}), long_views
