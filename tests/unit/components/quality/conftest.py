"""What the tests of the data's quality share."""

import socket

import pytest


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that anything asks for; none is reached. A library may swallow an error, not this."""
    asked: list[object] = []

    def refuse(*told: object, **_: object) -> None:
        asked.append(told)
        raise OSError("there is no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked
