"""What the routers are made over."""

from collections.abc import Callable

from serving.server import Server

Running = Callable[[], Server]
"""Gives the server that answers; the app is made before the server is started."""
