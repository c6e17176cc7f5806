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
from cluster.listening import ACCEPT_AGAIN_S
from redwire.errors import RedwireError, RequestInvalid
from redwire.stream import Channel, accept, incoming

HEAD_BYTES_MAX = 8 << 10
"""Request line and headers; a scraper sends some 300 bytes."""
CONNECTIONS_MAX = 64
"""Two scrapers and a few probes never hold as many; beyond it the eldest goes for the next one."""
STAY_S = 0.25
"""What even the eldest has for certain; meanwhile the next ones wait in the system's queue, first come first
served, so that strangers who come again and again thin nobody out.
"""
HEAD_S = 2.0
"""For TLS and the request's head: an honest one is over by then, from anywhere on earth."""
ANSWER_S = 10.0
"""From the connection to its end: TLS, request, answer."""
QUERY_FIELDS_MAX = 8
"""There are two, `for` and `max_lag_ms`; who sends more than some is no probe."""
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
        self, views: Views, context: Callable[[], ssl.SSLContext | None], head_s: float = HEAD_S
    ) -> None:
        self._views = views
        self._head_s = head_s
        self._context = context
        self._stays: dict[anyio.CancelScope, float] = {}  # since when, in order of arrival

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
            await self._make_room()
            stay = anyio.CancelScope()
            self._stays[stay] = anyio.current_time()
            tasks.start_soon(self._attend, sock, stay)

    async def _make_room(self) -> None:
        """Wait until one more may stay; the eldest goes for it."""
        while len(self._stays) >= CONNECTIONS_MAX:
            eldest, since = next(iter(self._stays.items()))
            left_s = since + STAY_S - anyio.current_time()
            if left_s > 0:
                await anyio.sleep(left_s)
            else:
                del self._stays[eldest]
                eldest.cancel()

    async def _attend(self, sock: socket.socket, stay: anyio.CancelScope) -> None:
        """One request and its answer. Never raises for what the other side does."""
        channel: Channel | None = None
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX - 1)
        try:
            with stay, anyio.move_on_after(ANSWER_S):
                with anyio.fail_after(self._head_s):
                    channel = await accept(sock, self._context())
                    request = await _request(http, channel)
                if request is not None:
                    self._answer(http, request, channel)
                    await channel.drain_below(1)
        except (RedwireError, TimeoutError):
            pass  # it is gone, speaks no TLS, or says nothing
        finally:
            self._stays.pop(stay, None)
            if channel is not None:
                channel.close()

    def _answer(self, http: h11.Connection, request: h11.Request | Page, channel: Channel) -> None:
        head_only = False
        if isinstance(request, Page):
            page = request
        else:
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


async def _request(http: h11.Connection, channel: Channel) -> h11.Request | Page | None:
    """The request's head, or what to say to one that is none; None where the other side went first.

    A body is not read: the connection ends with the answer. `http` takes a head of less than
    `HEAD_BYTES_MAX`: one that is not whole when it has all that it is given is too long.
    """
    fed = 0
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            return _no_request(error.error_status_hint)
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        data = (await channel.receive())[: HEAD_BYTES_MAX - fed]
        fed += len(data)
        http.receive_data(data)


def _no_request(code: int) -> Page:
    """What is wrong with a head, by the status that it comes to."""
    match code:
        case 431:
            return _plain(code, f"the head of a request has {HEAD_BYTES_MAX} bytes at most")
        case 501:
            return _plain(code, "a request here has no body, and no Transfer-Encoding")
        case _:
            text = "this is no HTTP request: it begins with GET /livez HTTP/1.1, say, and has one Host header"
            return _plain(code, text)


def _plain(code: int, text: str) -> Page:
    return Page(code, TEXT, text.encode() + b"\n")
