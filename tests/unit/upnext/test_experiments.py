"""A definition says what is wrong with it, and two experiments do not get in each other's way."""

from datetime import UTC, datetime, timedelta

import pytest

from upnext.errors import ConfigError
from upnext.experiments import check, parse, read

NOW = datetime(2026, 6, 10, tzinfo=UTC)
TWO = [{"name": "a", "weight": 0.5}, {"name": "b", "weight": 0.5, "parameters": {"rules.x": 1}}]


def made(name="one", **changes):
    return parse({"name": name, "layer": "ranking", "start": NOW, "variants": TWO} | changes)


def three(weights):
    return [{"name": f"v{i}", "weight": weight} for i, weight in enumerate(weights)]


def test_what_is_not_given():
    plain = parse({"name": "one", "layer": "ranking", "variants": TWO})
    assert plain.salt == "one" and plain.range == (0, 1) and plain.stop is None
    assert datetime.now(UTC) - plain.start < timedelta(minutes=1)
    assert plain.control.name == "a" and plain.parameters == {"rules.x"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variants": three([0.5, 0.4])}, "weights sum to 0.9: .* make it 1"),
        ({"variants": three([1.0])}, "variants is .* at least 2"),
        ({"layer": None}, "layer is None: "),
        ({"variants": [TWO[0], TWO[0]]}, "called a, a: give each a name of its own"),
        ({"variants": [TWO[0], {"name": "b", "weight": -0.5}]}, "variants.1.weight is -0.5: "),
        ({"range": [0.5, 0.5]}, r"range is \[0.5, 0.5\]: give \[from, to\]"),
        ({"range": [0.5, 1.5]}, "range.1 is 1.5"),
        ({"ramp": 2}, "ramp is 2: "),
        ({"overrides": {"tester": "c"}}, "overrides: tester -> 'c' is no variant: take a, b"),
        ({"stop": NOW}, "stop is 2026-06-10.* not after start"),
        ({"start": "2026-06-01T00:00:00"}, "without a zone"),
        ({"primary": ["retention"]}, "retention is primary and guardrail"),
        ({"primary": ["likes"]}, "primary.0 is 'likes': "),
        ({"name": "No Spaces"}, "name is 'No Spaces'"),
        ({"hash": "md5"}, "hash is 'md5': Extra inputs"),
    ],
)
def test_an_error_names_field_value_and_remedy(changes, said):
    with pytest.raises(ConfigError, match=f"experiment: .*{said}"):
        made(**changes)


def test_a_file_in_yaml_or_json(tmp_path):
    for name, text in (
        ("a.yaml", "name: one\nlayer: l\nvariants:\n- {name: a, weight: 0.9}\n- {name: b, weight: 0.1}\n"),
        (
            "a.json",
            '{"name": "one", "layer": "l", "variants": [{"name": "a", "weight": 0.9}, '
            '{"name": "b", "weight": 0.1}]}',
        ),
    ):
        (tmp_path / name).write_text(text)
        assert [each.weight for each in read(tmp_path / name).variants] == [0.9, 0.1]
    (tmp_path / "broken").write_text("a: [")
    for path in (tmp_path / "broken", tmp_path / "absent"):
        with pytest.raises(ConfigError, match=f"{path} can't be read"):
            read(path)


def test_ranges_of_a_layer_may_not_overlap_while_both_run():
    held = made("held", range=[0, 0.5])
    check(made(range=[0.5, 1]), [held], NOW)
    check(made(layer="other", variants=three([0.5, 0.5])), [held], NOW)
    with pytest.raises(ConfigError, match=r"held shares with .* in layer 'ranking': take a free part"):
        check(made(range=[0.4, 0.6]), [held], NOW)
    check(made(range=[0, 1]), [held.stopped(NOW)], NOW)
    check(made(stop=NOW + timedelta(days=1)), [made("later", start=NOW + timedelta(days=1))], NOW)


def test_two_layers_may_not_set_one_parameter():
    with pytest.raises(ConfigError, match=r"rules\.x are set by held of layer 'other' too: put both into"):
        check(made(), [made("held", layer="other")], NOW)


def test_two_layers_may_not_share_a_salt():
    with pytest.raises(ConfigError, match=r"salt is 'one', as held's of layer 'other': .* take another"):
        check(made(variants=three([0.5, 0.5])), [made("held", layer="other", salt="one")], NOW)


def test_what_runs_may_only_be_ramped_up():
    held = made(ramp=0.2)
    check(made(ramp=0.4, overrides={"tester": "b"}, stop=NOW + timedelta(days=9)), [held], NOW)
    with pytest.raises(ConfigError, match=r"ramp is 0.1, it was 0.2: stop one"):
        check(made(ramp=0.1), [held], NOW)
    with pytest.raises(ConfigError, match="salt of one differs from what is running: start it as a new"):
        check(made(salt="other", ramp=1), [held], NOW)
    with pytest.raises(ConfigError, match="which ended on 2026-06-10: give a new name"):
        check(made(), [held.stopped(NOW)], NOW)


def test_running_is_from_start_to_stop():
    experiment = made(stop=NOW + timedelta(days=1))
    moments = (NOW - timedelta(seconds=1), NOW, NOW + timedelta(hours=23), NOW + timedelta(days=1))
    assert [experiment.running(at) for at in moments] == [False, True, True, False]
    never = made(start=NOW + timedelta(days=3)).stopped(NOW)
    assert not never.running(NOW + timedelta(days=4))
    assert parse(never.model_dump(mode="json")) == never


def test_what_has_no_default_is_missed():
    with pytest.raises(ConfigError, match="experiment: layer is missing"):
        parse({"name": "one", "variants": TWO})
