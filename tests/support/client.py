"""A synchronous client of an ASGI app, without a server."""

import asyncio

import httpx


class Client:
    """Sends requests straight into an app; an error that the app does not handle is its 500."""

    def __init__(self, app):
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._runner = asyncio.Runner()

    def send(self, method, path, **options):
        return self._runner.run(self._send(method, path, options))

    def get(self, path, **options):
        return self.send("GET", path, **options)

    def post(self, path, **options):
        return self.send("POST", path, **options)

    def close(self):
        self._runner.close()

    async def _send(self, method, path, options):
        async with httpx.AsyncClient(transport=self._transport, base_url="http://upnext") as client:
            return await client.request(method, path, **options)
