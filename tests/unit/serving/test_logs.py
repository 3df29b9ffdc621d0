"""The program's log: JSON lines that tell the request, and no person."""

import io
import json
import logging

import pytest

from serving.logs import OURS, write_json_lines
from upnext.errors import StoreUnavailable

HOME = "/api/v1/recommendations/home"


@pytest.fixture
def lines():
    """What was logged so far, one object a line."""
    stream = io.StringIO()
    undo = write_json_lines(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    undo()


def test_a_line_tells_the_request_that_its_answer_tells(client, server, lines, monkeypatch):
    def broken(*asked):
        raise StoreUnavailable("history.db does not answer")

    monkeypatch.setattr(server.stores.history, "recent", broken)
    answer = client.get(HOME, params={"user_id": "ann-the-viewer"})
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "logger": "serving.deadlines",
        "message": "history failed: history.db does not answer",
        "request_id": answer.json()["request_id"],
    }
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"]
    assert client.get(HOME).headers["X-Request-ID"] != answer.headers["X-Request-ID"]


def test_the_words_of_another_s_error_are_not_told(client, server, lines, monkeypatch):
    def broken(*asked):
        raise KeyError("ann-the-viewer")

    monkeypatch.setattr(server.stores.history, "recent", broken)
    client.get(HOME, params={"user_id": "ann-the-viewer"})
    assert [line["message"] for line in lines()] == ["history failed: KeyError"]


def test_a_part_in_another_thread_knows_its_request(client, server, lines, monkeypatch):
    def telling(*asked):
        logging.getLogger("serving.test").info("reading")

    monkeypatch.setattr(server.stores.profiles, "get", telling)
    answer = client.get(HOME, params={"user_id": "ann"})
    assert [line["request_id"] for line in lines()] == [answer.json()["request_id"]]


def test_a_failed_request_is_told_by_kind_and_place_not_by_words(client, server, lines, monkeypatch):
    def broken(*asked, **more):
        raise KeyError("ann-the-viewer asked for secret words")

    monkeypatch.setattr(server.engine, "search", broken)
    answer = client.get("/api/v1/search", params={"q": "secret words", "user_id": "ann-the-viewer"})
    assert answer.status_code == 500
    (line,) = [each for each in lines() if each["level"] == "ERROR"]
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert line["message"] == "GET /api/v1/search failed" and line["error"] == "KeyError"
    assert any("in broken" in place or place.endswith(" broken") for place in line["at"])
    assert "secret words" not in json.dumps(lines()) and "ann-the-viewer" not in json.dumps(lines())


def test_outside_of_a_request_there_is_no_id(lines):
    logging.getLogger("upnext.test").info("begun %d", 1)
    logging.getLogger("upnext.test").debug("unheard")
    (line,) = lines()
    assert (line["message"], "request_id" in line) == ("begun 1", False)


def test_undone_is_as_before():
    before = [
        (len(logger.handlers), logger.level, logger.propagate) for logger in map(logging.getLogger, OURS)
    ]
    write_json_lines(io.StringIO())()
    assert before == [
        (len(logger.handlers), logger.level, logger.propagate) for logger in map(logging.getLogger, OURS)
    ]


def test_a_failed_request_is_counted(client, server, monkeypatch):
    monkeypatch.setattr(server.engine, "home", None)
    assert client.get(HOME).status_code == 500
    metrics = client.get("/metrics").text
    assert f'upnext_requests_total{{route="{HOME}",status="500"}} 1.0' in metrics
