"""Looking up a host: nobody waits for a resolver longer than for its own deadline."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import anyio
import pytest

import redwire
from redwire.lookup import look_up


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A resolver that knows addresses only, until it is set."""
    known, ask = threading.Event(), socket.getaddrinfo

    def resolve(host: str, port: int, *rest: Any, flags: int = 0, **more: Any) -> Any:
        if not flags & socket.AI_NUMERICHOST:
            known.wait(10)
            host = "127.0.0.1"
        return ask(host, port, *rest, flags=flags, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield known
    known.set()


def test_closing_a_client_does_not_wait_for_a_resolver_that_hangs(hung: Any) -> None:
    began_s = time.monotonic()
    with pytest.raises(redwire.DeadlineExceeded):
        redwire.connect_sync("reds://db.example:1/?timeout_ms=200").__enter__()

    async def enter() -> None:
        async with redwire.connect("reds://db.example:1/?timeout_ms=200"):
            pass

    with pytest.raises(redwire.DeadlineExceeded):
        asyncio.run(enter())
    assert time.monotonic() - began_s < 5


async def test_an_address_is_known_without_a_thread(hung: Any) -> None:
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        before = set(threading.enumerate())
        assert [each[0] for each in await look_up(host, 7)] == [family]
        assert set(threading.enumerate()) <= before


async def test_a_name_is_found_when_the_resolver_answers_although_another_call_gave_up(hung: Any) -> None:
    with anyio.move_on_after(0.05):
        await look_up("db.example", 7)
    async with anyio.create_task_group() as tasks:

        async def answer() -> None:
            hung.set()

        tasks.start_soon(answer)
        ((*_, where),) = await look_up("db.example", 7)
    assert where == ("127.0.0.1", 7)
