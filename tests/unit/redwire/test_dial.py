"""Dialling a host behind which nobody goes on: what is said depends on whether it took the connection, and
its other addresses have their turn.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import redwire
from redwire import dial as dialling
from redwire import errors
from redwire.dial import Dialled, dial
from redwire.handshake import Anonymous
from redwire.tls import client_context
from tools.authority import Authority

STUCK = "packets of full size"


@pytest.fixture(params=[True, False], ids=["taken", "not taken"])
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[int, bool]]:
    """The port of somebody who accepts nothing, and whether the system takes one connection more for him."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as sock, socket.socket() as other:
        if not request.param:
            other.connect(sock.getsockname())
        yield sock.getsockname()[1], request.param


async def test_whoever_gives_up_says_how_far_it_came(listener, monkeypatch) -> None:
    port, is_taken = listener
    monkeypatch.setattr(dialling, "HANDSHAKE_S", 0.2)
    with pytest.raises(errors.ConnectFailed) as failed:
        await dial("127.0.0.1", port, None, Anonymous(), client_name="test")
    took = "took the connection, and did not finish the handshake"
    what = took if is_taken else "did not take the connection"
    assert failed.value.message == f"127.0.0.1:{port} {what} within 0.2 s" and failed.value.retry
    assert (STUCK in failed.value.hint, "127.0.0.1," in failed.value.hint) == (is_taken, is_taken)


async def test_a_client_that_still_waits_says_so_at_its_deadline(listener) -> None:
    port, is_taken = listener
    with anyio.fail_after(5), pytest.raises(errors.DeadlineExceeded) as late:
        async with redwire.connect(f"red://127.0.0.1:{port}/?timeout_ms=300"):
            pass
    took = f"127.0.0.1:{port} takes the connection, and does not finish the handshake"
    assert late.value.message.endswith(took if is_taken else f"no answer from 127.0.0.1:{port}")
    assert (STUCK in late.value.hint) == is_taken


async def test_who_is_cancelled_at_any_moment_is_told_that_and_nothing_else() -> None:
    async def cancel(scope: anyio.CancelScope, passes: int) -> None:
        for _ in range(passes):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        for passes in range(40):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancel, tasks.cancel_scope, passes)
                await dial(*silent.getsockname(), None, Anonymous(), client_name="test")
            assert tasks.cancel_scope.cancelled_caught


FIRST, SECOND = "127.0.0.2", "127.0.0.1"
"""Addresses of the host `db`. The node is at the second."""


@pytest.fixture
def _db(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        hosts = (FIRST, SECOND) if host == "db" and not more.get("flags") else (host,)
        return [found for each in hosts for found in ask(each, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@asynccontextmanager
async def others(port: int, says: bytes | None, *, stays: bool) -> AsyncIterator[list[object]]:
    """Somebody else at the first address, who answers whatever comes so; whoever he was called by."""
    called: list[object] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(writer)
        writer.write(await reader.read(1) and says or b"")
        with suppress(ConnectionError):
            while stays and await reader.read(65_536):
                pass
        writer.close()

    server = await asyncio.start_server(answer, FIRST, port)
    yield called
    server.close()
    await server.wait_closed()


async def dial_db(cluster: Any, context: ssl.SSLContext | None) -> Dialled:
    with anyio.fail_after(5):
        name = SECOND if context is not None else None
        return await dial("db", port_of(cluster), context, Anonymous(), server_hostname=name, client_name="t")


def port_of(cluster: Any) -> int:
    return int(cluster.leader.addr.rpartition(":")[2])


@pytest.mark.usefixtures("_db")
@pytest.mark.parametrize("plain", [False, True], ids=["tls", "plain"])
@pytest.mark.parametrize(
    ("says", "stays"),
    [
        pytest.param(b"", True, id="silent"),
        pytest.param(b"", False, id="hangs up"),
        pytest.param(b"220 mail ready\r\n", True, id="another service"),
        pytest.param(b"\x16\x03\x03\x00\x7a\x02", False, id="breaks off"),
    ],
)
async def test_a_host_is_met_at_its_next_address_where_nobody_goes_on_at_the_first(
    cluster: Any, says: bytes, stays: bool, plain: bool
) -> None:
    context = None if plain else client_context(cluster.ca, peer=False)
    cluster.context = None if plain else cluster.context
    async with others(port_of(cluster), says, stays=stays) as called:
        dialled = await dial_db(cluster, context)
        dialled.channel.close()
        assert called


async def test_an_address_that_leads_to_another_one_is_tried_once() -> None:
    called: list[asyncio.StreamWriter] = []

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(writer)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with anyio.fail_after(5), pytest.raises(errors.AuthenticationFailed):
            await dial("0.0.0.0", port, None, Anonymous(), client_name="test")
    assert len(called) == 1


@pytest.mark.usefixtures("_db")
async def test_what_a_certificate_is_refused_for_is_told_although_nobody_listens_at_the_next_address(
    cluster: Any, tmp_path: Path
) -> None:
    Authority.create("other").save(tmp_path)
    with pytest.raises(errors.ConnectFailed, match="certificate of db:.* is not accepted") as failed:
        await dial_db(cluster, client_context(tmp_path / "ca.pem", peer=False))
    assert not failed.value.retry


@pytest.mark.usefixtures("_db")
async def test_of_two_addresses_that_let_us_in_one_connection_stays(cluster: Any, monkeypatch) -> None:
    monkeypatch.setattr(dialling, "NEXT_WAY_S", 0.0)
    async with anyio.create_task_group() as tasks:
        node = type(cluster.leader)(cluster, "eu-2", "eu")
        listener = await anyio.create_tcp_listener(local_host=FIRST, local_port=port_of(cluster))
        await tasks.start(cluster.run, node, listener)
        dialled = await dial_db(cluster, client_context(cluster.ca, peer=False))
        with anyio.fail_after(5):
            while len(node.wires) + len(cluster.leader.wires) != 1:
                await anyio.sleep(0.01)
        dialled.channel.close()
        tasks.cancel_scope.cancel()
