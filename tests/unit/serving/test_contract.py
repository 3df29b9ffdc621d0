"""Schemathesis sends the API whatever its own contract allows and forbids, and runs all of its checks."""

from pathlib import Path

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from serving.api import create_app
from serving.rules import FunnelConfig
from serving.server import Server
from tests.support.keys import make_key
from tests.support.patience import PATIENT
from upnext.settings import Settings

ROOT = Path(__file__).parents[3]
EXAMPLES = 4
"""Per operation and kind of data; `make contract` runs more against a served service."""


@pytest.fixture
def guarded(bundle, tmp_path):
    """The app of a server that needs keys, and one that may do everything."""
    patient = FunnelConfig(limits=PATIENT)
    settings = Settings(home=tmp_path / "home", dataset="tiny", rate_limit="")
    server = Server(settings, str(bundle.folder), patient)
    key, _ = make_key(server.stores.keys, "read", "write", "admin")
    server.upkeep.once()
    server.watcher.look()
    server.live.start("")
    yield create_app(lambda: server), key
    server.live.stop()
    server.engine.close()
    server.stores.close()


def answer_of(event, case):
    """What was sent, and what came back."""
    sent = event.recorder.interactions[case]
    return f"{sent.request.uri} {sent.request.body} -> {sent.response.content if sent.response else None}"


def test_the_api_keeps_its_contract(guarded):
    app, key = guarded
    config = SchemathesisConfig.from_path(ROOT / "schemathesis.toml")
    config.projects.default.generation.update(max_examples=EXAMPLES, deterministic=True)
    config.projects.default.update(headers={"Authorization": f"Bearer {key}"}, continue_on_failure=True)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    done = list(from_schema(schema).execute())
    failures = [
        f"{event.recorder.label}: {failure.failure.title}\n{answer_of(event, case)}"
        for event in done
        if isinstance(event, events.ScenarioFinished)
        for case, checks in event.recorder.checks.items()
        for failure in (check.failure_info for check in checks)
        if failure is not None
    ]
    assert not failures, "\n\n".join(failures)
    assert not [event for event in done if isinstance(event, events.NonFatalError | events.FatalError)]
    tested = {event.recorder.label for event in done if isinstance(event, events.ScenarioFinished)}
    paths = app.openapi()["paths"]
    described = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert described <= tested
    phases = [event for event in done if isinstance(event, events.PhaseFinished)]
    assert Status.SUCCESS in {event.status for event in phases}
