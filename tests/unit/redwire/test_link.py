"""One connection of a client: when a request leaves, and when its other side counts as gone."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from redwire import link
from redwire.errors import ChannelClosed, ProtocolError
from redwire.frame import Kind
from redwire.link import STUCK_BYTES, Link


class Line:
    """A channel of which so many bytes are unsent at one look after the other, 0 in the end."""

    def __init__(self, unsent: Iterator[int]) -> None:
        self._unsent = unsent
        self.closed = False
        self.sent: list[tuple[bytes, bool]] = []

    @property
    def buffered_bytes(self) -> int:
        return next(self._unsent, 0)

    def write(self, *parts: bytes, now: bool = False) -> None:
        self.sent.append((parts[-1], now))

    def close(self) -> None:
        self.closed = True


async def closed_while(monkeypatch: pytest.MonkeyPatch, unsent: list[int]) -> bool:
    """Whether a line was given up before all of `unsent` was looked at: nothing comes over it."""
    monkeypatch.setattr(link, "TICK_S", 0.001)
    looks = iter(unsent)
    line: Any = Line(looks)
    waiting = Link("a:1", SimpleNamespace(), "test")  # type: ignore[arg-type]
    dialled: Any = SimpleNamespace(channel=line)
    waiting._dialled, waiting._calls = dialled, {1: SimpleNamespace()}  # type: ignore[dict-item]
    with anyio.move_on_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiting._watch, dialled)
            while not line.closed and looks.__length_hint__():
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    return line.closed


async def test_a_line_that_takes_a_large_document_bit_by_bit_is_not_given_up(monkeypatch) -> None:
    assert not await closed_while(monkeypatch, [STUCK_BYTES * left for left in range(40, 1, -1)])


async def test_what_waits_for_a_moment_only_is_no_sign_of_life(monkeypatch) -> None:
    assert await closed_while(monkeypatch, [300, 0] * 20)


def test_a_request_that_is_alone_leaves_now_and_others_with_those_of_their_pass() -> None:
    line, one = Line(iter(())), Link("a:1", SimpleNamespace(), "test")  # type: ignore[arg-type]
    one._dialled = SimpleNamespace(channel=line)  # type: ignore[assignment]
    for body in (b"a", b"b", b"c"):
        one.send(Kind.WRITE, body, SimpleNamespace())  # type: ignore[arg-type]
    one._calls.clear()
    one.send(Kind.WRITE, b"d", SimpleNamespace())  # type: ignore[arg-type]
    assert line.sent == [(b"a", True), (b"b", False), (b"c", False), (b"d", True)]


def test_a_call_that_raises_at_the_end_keeps_no_other_from_being_told() -> None:
    told: list[str] = []

    def lost(error: object) -> None:
        told.append("lost")
        if len(told) == 1:
            raise ValueError("mine")

    owner: Any = SimpleNamespace(ended=lambda link, error: told.append("ended"))
    one, calls = Link("a:1", owner, "test"), [SimpleNamespace(lost=lost) for _ in range(3)]
    one._calls = dict(enumerate(calls))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mine"):
        one._end(ChannelClosed("gone"))
    assert told == ["lost"] * 3 + ["ended"] and one.settled.is_set()


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (ChannelClosed("the client was closed", retry=False), False),
        (ChannelClosed("reset"), True),
        (ProtocolError("nonsense"), True),
    ],
)
async def test_who_asks_is_told_whether_the_link_may_open_again(error, retry) -> None:
    owner: Any = SimpleNamespace(ended=lambda link, error: None)
    line, one = Line(iter(())), Link("a:1", owner, "test")
    one._dialled = SimpleNamespace(channel=line)  # type: ignore[assignment]
    async with anyio.create_task_group() as tasks:

        async def end() -> None:
            one._end(error)

        tasks.start_soon(end)
        with pytest.raises(ChannelClosed) as closed:
            await one.ask(Kind.STATUS_REQUEST, b"")
    assert closed.value.retry is retry and closed.value.__cause__ is error
