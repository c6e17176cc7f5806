"""The metrics port: `/metrics`, `/livez` and `/readyz` over HTTP/1.1, one request a connection.

Answers are made on the event loop from snapshots of its own state: no thread looks into a node. What comes
from outside is bounded in number, size and time.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

import anyio
import h11
import msgspec
from anyio.abc import SocketAttribute, SocketStream, TaskGroup
from anyio.streams.stapled import MultiListener

from cluster.health import Demand, Liveness, Readiness
from redwire.errors import RedwireError, RequestInvalid
from redwire.stream import Channel, accept, incoming

HEAD_BYTES_MAX = 8 << 10
"""Request line and headers; a scraper sends some 300 bytes."""
CONNECTIONS_MAX = 32
"""Two scrapers and a few probes never hold more; beyond it a connection is closed at once."""
ANSWER_S = 10.0
"""From the connection to its end: TLS, request, answer."""
QUERY_FIELDS_MAX = 8
ACCEPT_AGAIN_S = 0.1
TEXT, JSON = "text/plain; charset=utf-8", "application/json"


class Page(msgspec.Struct, frozen=True):
    """An answer: an HTTP status, the type of its body, and that."""

    code: int
    kind: str
    body: bytes


class Views(Protocol):
    """What the port shows."""

    def metrics(self) -> Page:
        """All metrics."""

    def live(self) -> Liveness:
        """Whether the process does its work."""

    def ready(self, demand: Demand) -> Readiness:
        """Whether a client would get here what is demanded."""

    def admits(self, tls: ssl.SSLObject | None) -> bool:
        """Whether the other side of a connection may see the metrics; None is plain text."""


class Probes:
    """Serves one listener. `context` gives the TLS context of the next connection, None for plain text."""

    def __init__(
        self, views: Views, context: Callable[[], ssl.SSLContext | None], answer_s: float = ANSWER_S
    ) -> None:
        self._views = views
        self._answer_s = answer_s
        self._context = context
        self._connections = 0

    async def serve(self, listener: MultiListener[SocketStream]) -> None:
        """Answer for ever."""
        async with anyio.create_task_group() as tasks:
            for each in listener.listeners:
                tasks.start_soon(self._accept, each.extra(SocketAttribute.raw_socket), tasks)

    async def _accept(self, listener: socket.socket, tasks: TaskGroup) -> None:
        while True:
            try:
                sock = await incoming(listener)
            except OSError:  # no more descriptors, or gone again: never a reason to end a node
                await anyio.sleep(ACCEPT_AGAIN_S)
                continue
            if self._connections >= CONNECTIONS_MAX:
                sock.close()
                continue
            self._connections += 1
            tasks.start_soon(self._attend, sock)

    async def _attend(self, sock: socket.socket) -> None:
        """One request and its answer. Never raises for what the other side does."""
        channel: Channel | None = None
        try:
            with anyio.move_on_after(self._answer_s):
                channel = await accept(sock, self._context())
                await self._answer(channel)
                await channel.drain_below(1)
        except RedwireError:
            pass  # it is gone, or speaks no TLS
        finally:
            self._connections -= 1
            if channel is not None:
                channel.close()

    async def _answer(self, channel: Channel) -> None:
        # a head that is not whole when it has all that it is given is too long
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX - 1)
        try:
            request = await _request(http, channel)
        except h11.RemoteProtocolError as error:
            page, head_only = _plain(error.error_status_hint, str(error)), False
        else:
            if request is None:
                return
            page, head_only = self._page(request, channel.ssl_object), request.method == b"HEAD"
        headers = [
            ("Content-Type", page.kind),
            ("Content-Length", str(len(page.body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ]
        if page.code == 405:
            headers.append(("Allow", "GET, HEAD"))
        head = http.send(h11.Response(status_code=page.code, headers=headers))
        assert head is not None
        channel.write(head if head_only else head + page.body)

    def _page(self, request: h11.Request, tls: ssl.SSLObject | None) -> Page:
        if request.method not in (b"GET", b"HEAD"):
            return _plain(405, "only GET and HEAD are answered")
        try:
            target = urlsplit(request.target.decode("ascii"))
            query = parse_qsl(target.query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
            return self._find(target.path, query, tls)
        except RequestInvalid as error:
            return _plain(400, str(error))
        except ValueError as error:
            return _plain(400, f"the target cannot be read: {error}")

    def _find(self, path: str, query: list[tuple[str, str]], tls: ssl.SSLObject | None) -> Page:
        views = self._views
        if path == "/readyz":
            ready = views.ready(Demand.parse(query))
            return Page(200 if ready.ready else 503, JSON, msgspec.json.encode(ready))
        if query:
            raise RequestInvalid(f"{path} takes no parameters")
        if path == "/livez":
            live = views.live()
            return Page(200 if live.alive else 503, JSON, msgspec.json.encode(live))
        if path != "/metrics":
            return _plain(404, "there are /metrics, /livez and /readyz?for=read|write")
        if not views.admits(tls):
            return _plain(403, "metrics take a client certificate that may see the topology")
        return views.metrics()


async def _request(http: h11.Connection, channel: Channel) -> h11.Request | None:
    """The request's head; None where the other side went first. Raises `h11.RemoteProtocolError`.

    A body is not read: the connection ends with the answer.
    """
    fed = 0
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        data = (await channel.receive())[: HEAD_BYTES_MAX - fed]
        fed += len(data)
        http.receive_data(data)


def _plain(code: int, text: str) -> Page:
    return Page(code, TEXT, text.encode() + b"\n")
