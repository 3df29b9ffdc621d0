"""Traces of requests: the tree of spans, what they tell and what not, and a real receiver."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serving import tracing
from serving.funnel import RETRIEVERS
from serving.tracing import Tracing
from tests.support.collector import collector
from tests.support.redis_server import free_port
from upnext.settings import Settings

HOME = "/api/v1/recommendations/home"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
PERSONAL = ("ann-the-viewer", "secret words", "her session", "v003")


@pytest.fixture
def spans(server):
    """Those that have ended, of all requests."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    server.tracing = Tracing(provider)
    yield exporter.get_finished_spans
    server.tracing.close()


def tree(spans):
    """Name of a span -> names of its children, and the root."""
    by_id = {span.context.span_id: span for span in spans}
    children, root = {}, None
    for span in spans:
        if span.parent is None or span.parent.span_id not in by_id:
            root = span
        else:
            children.setdefault(by_id[span.parent.span_id].name, set()).add(span.name)
    return root, children


def test_a_request_has_a_span_with_its_stages_and_these_their_parts(client, spans):
    asked = {"user_id": "ann-the-viewer", "session_id": "her session", "count": 10}
    answer = client.get(HOME, params=asked, headers=PARENT)
    root, children = tree(spans())
    assert root.name == f"GET {HOME}" and root.kind.name == "SERVER"
    assert f"{root.context.trace_id:032x}" == TRACE and f"{root.parent.span_id:016x}" == SPAN
    assert dict(root.attributes) == {
        "http.request.method": "GET",
        "http.route": HOME,
        "http.response.status_code": 200,
        "upnext.request_id": answer.json()["request_id"],
        "upnext.surface": "home",
        "upnext.release": answer.json()["release"],
    }
    assert children == {
        root.name: {"viewer", "ads", "retrieve", "rank", "post_rank", "explain"},
        "viewer": {"history", "profile", "user_features"},
        "retrieve": {"viewer_vectors", *RETRIEVERS},
        "rank": {"ranker"},
        "ranker": {"video_features"},
    }
    assert all(root.start_time <= span.start_time and span.end_time <= root.end_time for span in spans())


def test_spans_of_requests_side_by_side_do_not_mix(client, spans):
    for trace in ("1" * 32, "2" * 32):
        client.get(HOME, headers={"traceparent": f"00-{trace}-{SPAN}-01"})
    traces = [f"{span.context.trace_id:032x}" for span in spans()]
    assert set(traces) == {"1" * 32, "2" * 32} and traces.count("1" * 32) == traces.count("2" * 32) > 12


def test_no_span_leads_to_a_person(client, spans):
    client.get(HOME, params={"user_id": "ann-the-viewer", "session_id": "her session"})
    client.get("/api/v1/search", params={"q": "secret words", "user_id": "ann-the-viewer"})
    client.get("/api/v1/recommendations/related", params={"video_id": "v003", "user_id": "ann-the-viewer"})
    client.send("PUT", "/api/v1/users/ann-the-viewer", json={"region": "SE"})
    client.get("/api/v1/users/ann-the-viewer")
    client.get("/api/v1/users/nobody")
    client.send("DELETE", "/api/v1/users/ann-the-viewer")
    told = "".join(span.to_json() for span in spans())
    assert "/api/v1/users/{user_id" in told and not [each for each in PERSONAL if each in told]


def test_a_part_that_fails_is_told_without_its_words(client, server, spans, monkeypatch):
    def broken(*asked):
        raise RuntimeError("no history of ann-the-viewer")

    monkeypatch.setattr(server.stores.history, "recent", broken)
    client.get(HOME, params={"user_id": "ann-the-viewer"})
    by_name = {span.name: span for span in spans()}
    assert by_name["history"].status.description == "RuntimeError"
    (event,) = by_name["viewer"].events
    assert (event.name, dict(event.attributes)) == (
        "skipped",
        {"upnext.part": "history", "upnext.why": "error"},
    )
    assert "ann-the-viewer" not in "".join(span.to_json() for span in spans())


def test_a_request_that_fails_is_an_error(client, server, spans, monkeypatch):
    monkeypatch.setattr(server.engine, "home", None)
    assert client.get(HOME).status_code == 500
    assert client.get("/api/v1/videos/nobody").status_code == 404
    failed, missing = spans()
    assert (failed.attributes["http.response.status_code"], failed.status.status_code.name) == (500, "ERROR")
    assert (missing.attributes["http.response.status_code"], missing.status.status_code.name) == (
        404,
        "UNSET",
    )


def test_probes_are_not_traced(client, spans):
    for path in ("/healthz", "/readyz", "/metrics"):
        client.get(path)
    assert spans() == ()


def test_without_a_collector_there_is_nothing_to_trace(client, server, monkeypatch):
    def never(*asked):
        raise AssertionError("a span was made")

    monkeypatch.setattr(tracing, "_span", never)
    monkeypatch.setattr(tracing, "get_current_span", never)
    assert server.tracing is None
    assert client.get(HOME, headers=PARENT).status_code == 200


def settings_of(port, **more):
    return Settings(traces_endpoint=f"http://127.0.0.1:{port}/v1/traces", **more)


def test_a_collector_receives_them_by_otlp(client, server):
    with collector() as receiver:
        server.tracing = Tracing.of(settings_of(receiver.server_port))
        answer = client.get(HOME, headers=PARENT)
        server.tracing.close()
        server.tracing = None
        resources = [each for _, _, sent in receiver.received for each in sent.resource_spans]
    assert {(path, kind) for path, kind, _ in receiver.received} == {("/v1/traces", "application/x-protobuf")}
    about = {each.key: each.value.string_value for each in resources[0].resource.attributes}
    assert about["service.name"] == "upnext"
    spans = [span for each in resources for scope in each.scope_spans for span in scope.spans]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    (root,) = [span for span in spans if span.parent_span_id.hex() == SPAN]
    attributes = {each.key: each.value.string_value for each in root.attributes}
    assert attributes["upnext.request_id"] == answer.json()["request_id"]
    assert {"retrieve", "two_tower", "ranker"} <= {span.name for span in spans}


def test_the_caller_decides_and_else_the_share(client, server):
    with collector() as receiver:
        server.tracing = Tracing.of(settings_of(receiver.server_port, traces_share=0.0))
        client.get(HOME)
        client.get(HOME, headers={"traceparent": PARENT["traceparent"][:-2] + "00"})
        client.get("/api/v1/videos/nobody", headers=PARENT)
        server.tracing.close()
        server.tracing = None
    (sent,) = [sent for _, _, sent in receiver.received]
    assert [span.trace_id.hex() for span in sent.resource_spans[0].scope_spans[0].spans] == [TRACE]


def test_a_collector_that_is_away_fails_no_request(client, server):
    server.tracing = Tracing.of(settings_of(free_port()))
    assert client.get(HOME).status_code == 200
    server.tracing.close()
    server.tracing = None
