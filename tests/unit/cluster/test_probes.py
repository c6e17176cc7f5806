"""The metrics port over real sockets: what is answered, and what strangers cannot do to it."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.abc import SocketAttribute

from cluster.health import Demand, Liveness, Readiness
from cluster.probes import CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_S, STAY_S, Page, Probes

HEAD = b"Host: x\r\n\r\n"
LONGEST = b"GET /" + b"x" * (HEAD_BYTES_MAX - 27) + b" HTTP/1.1\r\n" + HEAD
assert len(LONGEST) == HEAD_BYTES_MAX


@dataclass
class Port:
    """A metrics port, what it shows, and a client of it."""

    number: int = 0
    alive: bool = True
    admitted: bool = True
    demands: list[Demand] = field(default_factory=list)

    def metrics(self) -> Page:
        return Page(200, "text/plain", b"redwire_up 1\n")

    def live(self) -> Liveness:
        return Liveness(alive=self.alive, why="" if self.alive else "hung", node="eu-1", disk_answered_ms=7)

    def ready(self, demand: Demand) -> Readiness:
        self.demands.append(demand)
        return Readiness(
            ready=self.alive,
            why="" if self.alive else "hung",
            purpose=demand.purpose.value,
            node="eu-1",
            role="replica",
            primary="",
            lag_ms=None,
        )

    def admits(self, tls: ssl.SSLObject | None) -> bool:
        assert tls is None
        return self.admitted

    async def say(self, *pieces: bytes) -> bytes:
        """Everything that is answered to `pieces`, up to the end of the connection."""
        async with await anyio.connect_tcp("127.0.0.1", self.number) as stream:
            for piece in pieces:
                await stream.send(piece)
            return b"".join([part async for part in stream])

    async def get(self, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of the answer."""
        answer = await self.say(f"{method} {target} HTTP/1.1\r\n".encode() + HEAD)
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        assert headers["connection"] == "close"
        return int(first.split()[1]), headers, body


@asynccontextmanager
async def served(head_s: float = HEAD_S) -> AsyncIterator[Port]:
    made = Port()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=1_024)
    made.number = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(Probes(made, lambda: None, head_s).serve, listener)
        yield made
        tasks.cancel_scope.cancel()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with served() as made:
        yield made


async def test_metrics_are_text(port: Port) -> None:
    status, headers, body = await port.get("/metrics")
    assert (status, headers["content-type"], body) == (200, "text/plain", b"redwire_up 1\n")
    assert headers["content-length"] == str(len(body))


async def test_a_probe_answers_with_a_code_for_machines_and_a_reason_for_people(port: Port) -> None:
    status, headers, body = await port.get("/livez")
    assert (status, headers["content-type"], json.loads(body)["alive"]) == (200, "application/json", True)
    port.alive = False
    status, _, body = await port.get("/livez")
    assert status == 503
    assert json.loads(body) == {"alive": False, "why": "hung", "node": "eu-1", "disk_answered_ms": 7}
    status, _, body = await port.get("/readyz?for=read&max_lag_ms=5")
    assert status == 503 and json.loads(body)["for"] == "read" and json.loads(body)["lag_ms"] is None
    assert port.demands == [Demand.parse([("for", "read"), ("max_lag_ms", "5")])]


async def test_head_is_get_without_the_body(port: Port) -> None:
    status, headers, body = await port.get("/metrics", "HEAD")
    assert (status, headers["content-length"], body) == (200, "13", b"")


@pytest.mark.parametrize(
    ("target", "method", "code", "said"),
    [
        ("/", "GET", 404, b"/metrics"),
        ("/metrics/", "GET", 404, b"/metrics"),
        ("/metrics?x=1", "GET", 400, b"no parameters"),
        ("/readyz", "GET", 400, b"for=read|write"),
        ("/readyz?for=read&max_lag_ms=x", "GET", 400, b"whole milliseconds"),
        ("/readyz?" + "&".join("a=1" for _ in range(20)), "GET", 400, b"cannot be read"),
        ("//[/metrics", "GET", 400, b"cannot be read"),
        ("/metrics", "POST", 405, b"only GET and HEAD"),
        ("/metrics", "BREW", 405, b"only GET and HEAD"),
    ],
)
async def test_what_is_not_served_says_what_is(
    port: Port, target: str, method: str, code: int, said: bytes
) -> None:
    status, headers, body = await port.get(target, method)
    assert status == code and said in body
    assert (headers.get("allow") == "get, head") == (code == 405)


async def test_metrics_are_for_those_who_are_admitted_and_probes_for_everybody(port: Port) -> None:
    port.admitted = False
    assert (await port.get("/metrics"))[0] == 403
    assert (await port.get("/livez"))[0] == 200


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET /livez\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost : a\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: odd\r\n\r\n", b"501"),
        (b"GET /" + b"x" * HEAD_BYTES_MAX + b" HTTP/1.1\r\n" + HEAD, b"431"),
        (LONGEST.replace(b"GET /", b"GET /x"), b"431"),
        (b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * HEAD_BYTES_MAX, b"431"),
    ],
)
async def test_what_is_no_request_is_refused_and_the_next_one_is_served(
    port: Port, request_bytes: bytes, code: bytes
) -> None:
    answer = await port.say(request_bytes)
    assert answer.split()[1] == code
    assert b"array" not in answer and b"b'" not in answer
    assert (await port.get("/livez"))[0] == 200


async def test_a_request_may_come_byte_by_byte(port: Port) -> None:
    pieces = [bytes([one]) for one in b"GET /livez HTTP/1.1\r\n" + HEAD]
    assert (await port.say(*pieces)).startswith(b"HTTP/1.1 200 ")


async def test_whoever_goes_without_a_word_is_let_go(port: Port) -> None:
    for piece in (b"", b"GET /liv"):
        stream = await anyio.connect_tcp("127.0.0.1", port.number)
        if piece:
            await stream.send(piece)
        await stream.aclose()
    assert (await port.get("/livez"))[0] == 200


async def test_the_silent_keep_nobody_out_and_the_eldest_of_them_go() -> None:
    async with served(head_s=3_600) as port:
        silent = [await anyio.connect_tcp("127.0.0.1", port.number) for _ in range(3 * CONNECTIONS_MAX)]
        with anyio.fail_after(20):
            for _ in range(3):
                assert (await port.get("/livez"))[0] == 200
            with pytest.raises(anyio.EndOfStream):
                await silent[0].receive()
        for stream in silent:
            await stream.aclose()


async def test_whoever_has_come_has_a_moment_for_certain() -> None:
    async with served(head_s=3_600) as port:
        async with await anyio.connect_tcp("127.0.0.1", port.number) as stream:
            begun = anyio.current_time()
            silent = [await anyio.connect_tcp("127.0.0.1", port.number) for _ in range(CONNECTIONS_MAX)]
            with anyio.fail_after(20), pytest.raises(anyio.EndOfStream):
                await stream.receive()
            assert anyio.current_time() - begun >= STAY_S / 2  # the clock of the port begins somewhat earlier
        for each in silent:
            await each.aclose()


async def test_the_longest_head_is_read(port: Port) -> None:
    assert (await port.say(LONGEST)).split()[1] == b"404"


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\n"])
async def test_whoever_does_not_say_what_it_wants_is_cut_off(said: bytes) -> None:
    async with served(head_s=0.05) as port:
        with anyio.fail_after(5):  # far below what an answer may take
            async with await anyio.connect_tcp("127.0.0.1", port.number) as stream:
                await stream.send(said)
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
