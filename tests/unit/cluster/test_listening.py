"""Where a node listens, and what it says when it can accept nobody: at once, once a minute, and once when it
is over.
"""

from __future__ import annotations

import errno
import resource
import socket
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from cluster.address import Address
from cluster.door import STRANGERS_MAX, Door
from cluster.listening import SAY_AGAIN_S, Shortage, listen
from cluster.log_config import Level
from cluster.server import Server
from cluster.strangers import KEPT_MAX

SHORT = OSError(errno.EMFILE, "Too many open files")


class Said:
    """A log that keeps its lines, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.lines: list[tuple[Level, str]] = []
        self.now_s = 1_000.0
        self.shortage = Shortage(self.note, lambda: self.now_s)

    def note(self, text: str, level: Level = Level.INFO) -> None:
        self.lines.append((level, text))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("host", "reached"),
    [("0.0.0.0", {"127.0.0.1"}), ("[::]", {"::1"}), ("*", {"127.0.0.1", "::1"})],
)
async def test_a_node_listens_at_all_addresses_of_one_kind_or_of_both(host: str, reached: set[str]) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
            port = free.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with await listen(Address.parse(f"{host}:{port}"), "node.listen"):
        met = set()
        for there in ("127.0.0.1", "::1"):
            with suppress(ConnectionRefusedError), socket.create_connection((there, port)):
                met.add(there)
    assert met == reached


def test_a_shortage_is_told_at_once_then_once_a_minute_and_its_end_once() -> None:
    said = Said()
    said.shortage.accepted()
    assert said.lines == []
    for _ in range(5):
        said.shortage.refused(SHORT)
        said.now_s += SAY_AGAIN_S / 4
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert [level for level, _ in said.lines] == [Level.WARNING] * 2
    assert said.lines[0][1] == (
        f"no connection can be accepted: Too many open files; this process may have {limit} descriptors: "
        "raise LimitNOFILE of its service, or ulimit -n"
    )
    said.shortage.accepted()
    said.shortage.accepted()
    assert said.lines[2:] == [(Level.INFO, "connections are accepted again")]


def test_a_shortage_that_comes_and_goes_does_not_fill_the_log() -> None:
    said = Said()
    for _ in range(100):
        said.shortage.refused(SHORT)
        said.shortage.accepted()
    assert len(said.lines) == 2


def test_whoever_goes_away_before_being_accepted_is_no_shortage() -> None:
    said = Said()
    said.shortage.refused(OSError(errno.ECONNABORTED, "aborted"))
    assert said.lines == []


class Crowded:
    """In the place of a listening socket: no descriptor at first, and then nobody comes."""

    def __init__(self) -> None:
        self.tries = 0
        self._real = socket.create_server(("127.0.0.1", 0))
        self._real.setblocking(False)

    def fileno(self) -> int:
        return self._real.fileno()

    def accept(self) -> Any:
        self.tries += 1
        if self.tries == 1:
            raise SHORT
        return self._real.accept()

    def close(self) -> None:
        self._real.close()


def a_server() -> tuple[Said, Server]:
    """One that only listens, and its log."""
    said = Said()
    service = SimpleNamespace(node=SimpleNamespace(note=said.note))
    authenticator = SimpleNamespace(judge=lambda principal: None)
    return said, Server(*cast(Any, (service, authenticator, None, None, lambda: None)))


async def test_a_server_that_cannot_accept_says_so_and_goes_on() -> None:
    listener = Crowded()
    said, server = a_server()
    with anyio.move_on_after(10) as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server._accept, cast(socket.socket, listener), cast(Any, None))
            while listener.tries < 2:
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    listener.close()
    assert not scope.cancelled_caught
    assert [level for level, _ in said.lines] == [Level.WARNING]


@pytest.mark.parametrize(
    ("connections_max", "why"),
    [
        (2, "2 are open, and the rest is for the node's own files"),
        (4 * STRANGERS_MAX, f"{STRANGERS_MAX - KEPT_MAX} others have not said yet who they are"),
    ],
)
async def test_whoever_is_turned_away_is_told_of_once_and_for_its_reason(
    connections_max: int, why: str
) -> None:
    said, server = a_server()
    server._door = Door(connections_max)
    now_s = anyio.current_time() + 60  # and so until then chance takes no more
    while server._door.enter(anyio.CancelScope(), now_s):
        pass
    for _ in range(3):
        here, there = socket.socketpair()
        assert server._let_in(here) is None
        assert here.fileno() < 0, "it was closed"
        there.close()
    ((level, text),) = said.lines
    assert level is Level.WARNING and why in text


async def test_a_crowd_from_one_address_keeps_no_other_one_out() -> None:
    _, server = a_server()
    server._door = Door(4 * STRANGERS_MAX)
    now_s = anyio.current_time() + 60  # and so until then chance takes no more
    while server._door.enter(anyio.CancelScope(), now_s, "127.0.0.2"):
        pass
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for source, let_in in (("127.0.0.2", False), ("127.0.0.3", True), ("127.0.0.2", False)):
            with socket.create_connection(listener.getsockname(), source_address=(source, 0)):
                sock, _ = listener.accept()
                assert (server._let_in(sock) is not None) is let_in, source
                sock.close()


def test_a_crowd_is_told_once_a_minute_and_its_end_not() -> None:
    said = Said()
    for _ in range(8):
        said.shortage.crowd(STRANGERS_MAX)
        said.shortage.accepted()
        said.now_s += SAY_AGAIN_S / 4
    assert [level for level, _ in said.lines] == [Level.WARNING] * 2
