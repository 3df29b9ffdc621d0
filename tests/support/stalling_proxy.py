"""A TCP proxy on loopback that can be slow, stop passing bytes on or refuse, as networks and servers do."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event as Flag
from threading import Thread
from time import sleep


class StallingProxy:
    """Passes everything on to a port until it is stalled; connections stay open meanwhile.

    delay_s: how long it holds back what the server says; refusing: connections are closed as they come.
    """

    delay_s = 0.0
    refusing = False

    def __init__(self, target: int) -> None:
        self._target = target
        self._flowing = Flag()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def refuse(self) -> None:
        """Close every connection, and new ones as they come, as for a server that has died."""
        self.refusing = True
        self.cut()

    def heal(self) -> None:
        """Pass everything on at once again."""
        self.refusing, self.delay_s = False, 0.0
        self.flow()

    def cut(self) -> None:
        """Close every connection; new ones are taken."""
        for each in self._sockets[1:]:
            _close(each)

    def close(self) -> None:
        self.flow()
        for each in self._sockets:
            _close(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            if self.refusing:
                _close(client)
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                Thread(target=self._pass_on, args=(source, sink, sink is client), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while some := source.recv(65_536):
                self._flowing.wait()
                if answers and self.delay_s:
                    sleep(self.delay_s)
                sink.sendall(some)
        _close(sink)


def _close(which: socket.socket) -> None:
    with suppress(OSError):
        which.shutdown(socket.SHUT_RDWR)
    which.close()


@contextmanager
def stalling_proxy(target: int) -> Iterator[StallingProxy]:
    proxy = StallingProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
