"""Options of a world, as written after ``world:``."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import ConfigError
from upnext.sources.world import WorldSource
from upnext.world.config import WorldConfig, parse_options, to_us

KNOWN = ("users", "videos", "seed", "days")


def test_defaults_and_dataset_names():
    assert parse_options("") == WorldConfig(users=3000, videos=4000, seed=7, days=21)
    assert parse_options("days=3").dataset == "world"
    other = parse_options("users=10,videos=20")
    assert other.dataset.startswith("world-")
    assert len(other.dataset) == len("world-") + 8
    assert parse_options("videos=20, users=10, days=4").dataset == other.dataset
    assert WorldSource("users=10,videos=20").dataset == other.dataset


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "users": st.integers(1, 20_000_000),
            "videos": st.integers(2, 20_000_000),
            "seed": st.integers(0, 2**63 - 1),
            "days": st.integers(1, 730),
        },
    ).flatmap(lambda options: st.permutations(list(options.items())))
)
def test_what_is_written_is_read(options):
    text = ",".join(f"{name}={value}" for name, value in options)
    assert parse_options(text) == WorldConfig(**dict(options))


@given(st.text(max_size=40))
def test_any_other_text_is_a_clear_error(text):
    try:
        parse_options(text)
    except ConfigError as error:
        assert str(error).startswith("world: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user=10", ("'user'", *KNOWN)),
        ("users=ten", ("users", "'ten'")),
        ("users", ("users", "''")),
        ("users=-1", ("users", "'-1'")),
        ("users=0", ("users", "0", "1 to")),
        ("days=999", ("days", "999", "730")),
        ("seed=1,seed=2", ("seed", "twice")),
        ("users=²", ("users", "'²'")),
    ],
)
def test_errors_name_the_option_the_value_and_what_would_do(text, words):
    with pytest.raises(ConfigError) as error:
        parse_options(text)
    assert all(word in str(error.value) for word in words)


def test_times_need_a_zone():
    with pytest.raises(ConfigError, match="time zone"):
        to_us(datetime(2026, 6, 1))
    assert to_us(datetime.fromisoformat("1970-01-01T02:00:01+02:00")) == 1_000_000
