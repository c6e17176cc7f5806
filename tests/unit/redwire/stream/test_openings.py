"""Openings that come to nothing: what each side is told, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from redwire.errors import AuthenticationFailed, ConnectFailed
from redwire.handshake import PREFACE, TLS_ONLY, WRONG_TRANSPORT
from redwire.stream import accept, connect, incoming
from redwire.tls import certificate_identities, client_context, may_have_certificate, server_context
from tests.channels import NODE, Contexts, a_listener

pytestmark = pytest.mark.anyio


async def heard(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    return await asyncio.get_running_loop().sock_recv(sock, 65_536)


async def refused(port: int, context: ssl.SSLContext | None, hostname: str = "localhost") -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        await connect("127.0.0.1", port, context, server_hostname=hostname)
    return caught.value


async def test_a_port_where_nobody_listens_is_worth_another_try() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = await refused(taken.getsockname()[1], None)
    assert error.retry
    assert "cannot connect to 127.0.0.1:" in str(error)
    assert "efused" in str(error)


@pytest.mark.parametrize("host", ["no such host", "a" * 64, "x..y"])
async def test_a_name_that_cannot_be_found_is_a_typed_error(host: str) -> None:
    with pytest.raises(ConnectFailed, match="cannot find .*:1: .*; check the name of the host") as failed:
        await connect(host, 1, None)
    assert not failed.value.retry


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("offered", "known"), [(["redwire/1"], True), (["h2"], False), ([], False)])
@pytest.mark.parametrize("piece", [1, 1 << 16])
async def test_only_who_offers_our_protocol_is_asked_for_a_certificate(
    authority: Any, offered: list[str], known: bool, version: ssl.TLSVersion, piece: int
) -> None:
    one = authority.sign("one", NODE)
    server = server_context(authority.ca, one.cert, one.key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(authority.ca)
    client.load_cert_chain(one.cert, one.key)
    client.maximum_version = version
    if offered:
        client.set_alpn_protocols(offered)
    arrived, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(arrived, said, server_hostname="localhost")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with socket.create_connection(listener.getsockname()) as sock:
            sock.setblocking(False)

            async def talk() -> None:
                while True:
                    done = False
                    with suppress(ssl.SSLWantReadError):
                        tls.do_handshake()
                        done = True
                    spoken = said.read()
                    for at in range(0, len(spoken), piece):
                        sock.sendall(spoken[at : at + piece])
                        await anyio.sleep(0)
                    if done:
                        return
                    await anyio.wait_readable(sock)
                    arrived.write(sock.recv(1 << 16))

            with anyio.fail_after(5):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(talk)
                    channel = await accept(await incoming(listener), server, asks=may_have_certificate)
    assert (certificate_identities(channel.ssl_object) is not None) is known
    assert server.verify_mode is ssl.CERT_OPTIONAL
    channel.close()


async def test_who_hangs_up_before_a_whole_word_leaves_nothing_behind(authority: Any) -> None:
    one = authority.sign("one", NODE)
    server = server_context(authority.ca, one.cert, one.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        for said in (b"", b"\x16", b"\x16\x03\x01\x02\x00half"):
            with socket.create_connection(listener.getsockname()) as sock:
                sock.sendall(said)
            with anyio.fail_after(5), pytest.raises(ConnectFailed):
                await accept(await incoming(listener), server, asks=may_have_certificate)


async def test_a_server_that_we_must_not_trust_is_refused_for_good(authority: Any, stranger: Any) -> None:
    one = authority.sign("one", NODE)
    server = server_context(authority.ca, one.cert, one.key)
    failures: list[ConnectFailed] = []

    async def serve(sock: socket.socket) -> None:
        with pytest.raises(ConnectFailed) as caught:
            await accept(sock, server)
        failures.append(caught.value)

    async with a_listener(serve) as port:
        foreign = await refused(port, client_context(stranger.ca, peer=False))
        misnamed = await refused(port, client_context(authority.ca, peer=False), "example.net")
        with anyio.fail_after(5):
            while len(failures) < 2:
                await anyio.sleep(0.01)
    assert "is not accepted: self-signed certificate" in str(foreign) or "unable to get" in str(foreign)
    assert "no authority that is trusted here issued it" in foreign.hint
    assert "is not accepted: Hostname mismatch" in str(misnamed)
    assert "dial a name that it has" in misnamed.hint
    assert not foreign.retry
    assert not misnamed.retry
    assert [failure.message.startswith("TLS handshake with 127.0.0.1:") for failure in failures] == [
        True,
        True,
    ]


async def test_a_server_without_tls_is_named_as_such(authority: Any) -> None:
    async def serve(sock: socket.socket) -> None:
        with sock:
            await heard(sock)
            sock.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with a_listener(serve) as port:
        error = await refused(port, client_context(authority.ca, peer=False))
    assert not error.retry
    assert "wrong version number" in str(error)


@pytest.mark.parametrize(
    ("first", "answer"),
    [(PREFACE + bytes(40), TLS_ONLY), (bytes(42), WRONG_TRANSPORT)],
    ids=["like a client", "like nobody"],
)
async def test_who_speaks_no_tls_is_told_so_in_what_it_speaks(
    authority: Any, first: bytes, answer: bytes
) -> None:
    one = authority.sign("one", NODE)
    server = server_context(authority.ca, one.cert, one.key)

    async def serve(sock: socket.socket) -> None:
        with pytest.raises(ConnectFailed, match="TLS handshake"):
            await accept(sock, server)

    async with a_listener(serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first[:2])
        await writer.drain()
        writer.write(first[2:])
        with anyio.fail_after(5):
            assert await reader.read() == answer
        writer.close()
        await writer.wait_closed()


async def test_a_server_that_hangs_up_in_the_handshake_is_worth_another_try(authority: Any) -> None:
    async def serve(sock: socket.socket) -> None:
        await heard(sock)
        sock.close()

    async with a_listener(serve) as port:
        error = await refused(port, client_context(authority.ca, peer=False))
    assert error.retry
    assert "TLS handshake with 127.0.0.1" in str(error)


@pytest.mark.parametrize("hello", [b"", b"\xfe\x01" + bytes(100)])
async def test_a_refused_client_certificate_reads_as_an_end_or_a_refusal(
    authority: Any, stranger: Any, hello: bytes
) -> None:
    one, foreign = authority.sign("one", NODE), stranger.sign("foreign", NODE)
    server = server_context(authority.ca, one.cert, one.key)

    async def serve(sock: socket.socket) -> None:
        with pytest.raises(ConnectFailed, match="certificate of .* is not accepted"):
            await accept(sock, server)

    async with a_listener(serve) as port:
        context = client_context(authority.ca, foreign.cert, foreign.key, peer=True)
        channel = await connect("127.0.0.1", port, context, server_hostname="localhost")
        channel.write(hello)
        try:
            assert await channel.receive() == b""  # a reset took the alert with it
        except AuthenticationFailed as error:
            assert "refused our certificate" in str(error)
            assert "no authority that the other side trusts" in error.hint
            assert "unknown ca" in str(error.facts["alert"])
        channel.close()


async def test_a_client_that_gives_up_in_the_tls_handshake_leaves_nothing_behind(authority: Any) -> None:
    one = authority.sign("one", NODE)
    closed = anyio.Event()

    async def serve(sock: socket.socket) -> None:
        with sock:
            await heard(sock)  # and no answer
            assert await heard(sock) == b""
            closed.set()

    async with a_listener(serve) as port:
        with anyio.move_on_after(0.1) as scope:
            await connect("127.0.0.1", port, client_context(authority.ca, one.cert, one.key, peer=True))
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            await closed.wait()


async def test_a_client_that_is_gone_before_it_is_served_is_a_typed_error(authority: Any) -> None:
    one = authority.sign("one", NODE)
    server = server_context(authority.ca, one.cert, one.key)
    done = anyio.Event()

    async def serve(sock: socket.socket) -> None:
        await anyio.wait_readable(sock)  # the reset has arrived
        with pytest.raises(ConnectFailed):
            await accept(sock, server)
        done.set()

    async with a_listener(serve) as port:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with anyio.fail_after(5):
            await done.wait()


async def test_a_connection_that_was_reset_before_we_looked_fails_like_any_other(contexts: Contexts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        taken, _ = server.accept()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        taken.close()
        if contexts[0] is None:
            channel = await accept(near, None)
            assert await channel.receive() == b""
            channel.close()
        else:
            with pytest.raises(ConnectFailed) as failed:
                await accept(near, contexts[0])
            assert failed.value.retry


@pytest.mark.parametrize("passes", range(1, 9))
async def test_who_gives_up_at_any_step_of_an_opening_leaves_a_closed_socket(
    tls_contexts: Contexts, passes: int
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as far,
    ):
        near, _ = server.accept()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept, near, tls_contexts[0])
            for _ in range(passes):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        far.settimeout(5)
        assert near.fileno() == -1
        assert far.recv(1) == b""
