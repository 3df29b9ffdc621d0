"""One small world, drawn once."""

import pyarrow as pa
import pytest

from upnext.world.config import WorldConfig
from upnext.world.world import World


@pytest.fixture(scope="session")
def small() -> World:
    return World(WorldConfig(users=400, videos=600, seed=3, days=6))


@pytest.fixture(scope="session")
def small_log(small) -> pa.Table:
    return pa.concat_tables(small.events())
