"""Dialling a host behind which nobody goes on: what is said depends on whether it took the connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import anyio
import pytest

import redwire
from redwire import dial as dialling
from redwire import errors
from redwire.dial import dial
from redwire.handshake import Anonymous

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
