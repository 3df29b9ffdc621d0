"""A running server on the tiny bundle, without a web server or threads that a test does not start."""

import numpy as np
import pytest

from serving.api import create_app
from serving.rules import FunnelConfig
from serving.server import Server
from tests.support.bundles import tiny_bundle
from tests.support.client import Client
from tests.support.patience import PATIENT
from upnext.settings import Settings


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def server(bundle, tmp_path):
    """Serves the tiny bundle and follows its log; impressions are written when a test asks for it."""
    patient = FunnelConfig(limits=PATIENT)
    settings = Settings(home=tmp_path / "home", dataset="tiny")
    made = Server(settings, str(bundle.folder), patient, open_without_keys=True)
    made.upkeep.once()
    assert not made.upkeep.failing
    made.watcher.look()
    assert made.engine.ready, made.watcher.failing
    made.live.start("")
    yield made
    made.live.stop()
    made.engine.close()
    made.stores.close()


@pytest.fixture
def client(server):
    made = Client(create_app(lambda: server))
    yield made
    made.close()


@pytest.fixture
def rng():
    return np.random.default_rng(0)
