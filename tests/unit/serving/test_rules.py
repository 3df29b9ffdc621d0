"""An operator's file of parameters is felt while serving, and what is wrong in it is left alone."""

import json
from dataclasses import replace

import pytest

from serving.rules import AdRules, FunnelConfig, Limits, Rules
from serving.watching import ConfigWatcher
from upnext.errors import ConfigError, CorruptData


def test_what_the_file_leaves_out_keeps_its_default(tmp_path):
    path = tmp_path / "funnel.json"
    path.write_text(
        json.dumps(
            {"rules": {"creator_run": 1, "off": ["explore"]}, "ads": {"most": 0}, "weights": {"exposure": 0}}
        )
    )
    found = FunnelConfig.load(path)
    assert found.rules == Rules(creator_run=1, off=frozenset({"explore"}))
    assert found.ads == AdRules(most=0)
    assert found.limits == Limits()
    assert found.weights == {"exposure": 0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": {}}, "names rule: there are rules, limits, ads, weights, blend"),
        ({"rules": {"creator_runs": 1}}, "rules has no creator_runs"),
        ({"rules": {"creator_run": 1.5}}, "rules.creator_run is 1.5: give a whole number of at least 1"),
        ({"rules": {"creator_run": 0}}, "rules.creator_run is 0: give a whole number of at least 1"),
        ({"rules": {"fresh_strength": -1}}, "rules.fresh_strength is -1: give a finite number of at least 0"),
        ({"rules": {"fresh_strength": True}}, "rules.fresh_strength is True"),
        ({"rules": {"seen_half_life_s": 0}}, "rules.seen_half_life_s is 0: give a finite number above 0"),
        ({"rules": {"explore_prior": 0}}, "rules.explore_prior is 0: give a finite number above 0"),
        ({"rules": {"off": "fresh"}}, "rules.off is 'fresh': give a list of names"),
        ({"rules": {"off": ["nothing"]}}, "rules.off names nothing: there are demote_seen, "),
        ({"ads": {"every": 0}}, "ads.every is 0: give a whole number of at least 1"),
        ({"ads": {"evry": 1}}, "ads has no evry: there are surfaces, "),
        ({"limits": {"rank_s": "0.1"}}, "limits.rank_s is '0.1': give a finite number"),
        ({"limits": {"candidates": 0}}, "limits.candidates is 0: give a whole number of at least 1"),
        (
            {"limits": {"retrieve_s": 1e300}},
            r"limits.retrieve_s is 1e\+300: give seconds, above 0 and at most 60",
        ),
        ({"limits": {"rank_s": 0}}, "limits.rank_s is 0: give seconds, above 0"),
        ({"weights": {"liek": 1}}, "no weight is called liek"),
        ({"weights": {"click": -1}}, "weight click is -1"),
        ({"blend": {"ranker": 1}}, "no weight is called ranker"),
        ({"blend": {"als": "much"}}, "weight als of the blend is 'much'"),
        ([1], "no JSON object of objects"),
        ({"rules": 3}, "no JSON object of objects"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, given, message):
    path = tmp_path / "funnel.json"
    path.write_text(json.dumps(given))
    with pytest.raises(ConfigError, match=message):
        FunnelConfig.load(path)


def test_the_watcher_follows_the_file_and_keeps_errors_out(tmp_path):
    path, used = tmp_path / "funnel.json", []
    watcher = ConfigWatcher(path, used.append, FunnelConfig(Rules(explore_every=7)))
    watcher.look()
    assert used == []
    path.write_text(json.dumps({"rules": {"creator_run": 1}}))
    watcher.look()
    watcher.look()
    assert [each.rules.creator_run for each in used] == [1]
    path.write_text("{")
    watcher.look()
    assert len(used) == 1
    assert "can't be read as JSON" in watcher.failing
    path.unlink()
    watcher.look()
    assert used[1].rules.explore_every == 7
    assert not watcher.failing
    with pytest.raises(CorruptData):
        FunnelConfig.load(path)


def test_parameters_reach_the_release_that_serves(server):
    engine = server.engine
    before = engine.current
    changed = FunnelConfig(Rules(creator_run=1), weights={"exposure": 0.0}, blend={"als": 0.5})
    engine.releases.configure(changed)
    assert engine.current.funnel.config.rules.creator_run == 1
    assert engine.current.funnel.ranker.weights.exposure == 0
    assert engine.current.funnel.blend == replace(engine.current.bundle.blend, als=0.5)
    assert "mark_index" in vars(engine.current), "else the next page hashes the whole catalogue"
    assert before.funnel.ranker.weights.exposure > 0  # a request that began before keeps what it has
    assert len(engine.home("ann", 5).slate) == 5


def test_weights_of_the_file_stand_in_for_the_releases(server):
    current = server.engine.current
    bundle, ranker = current.bundle, replace(current.funnel.ranker, override={"like": 9.0})
    assert ranker.weights.like == 9
    assert ranker.weights.watch == bundle.weights.watch
