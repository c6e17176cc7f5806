"""What a node says of a line that is down: each reason once, until it is up again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster import links
from cluster.address import Address
from cluster.links import REASONS_MAX, Line
from redwire.errors import ConnectFailed
from redwire.position import NodeId

CLOSED, RESET = "the connection was closed", "TLS handshake: connection reset"


async def said(monkeypatch: pytest.MonkeyPatch, *tries: str) -> list[str]:
    """What is told of a line that fails by these reasons, one after the other; it is up at a try "up"."""
    told, coming = list[str](), list(tries)
    node: Any = SimpleNamespace(
        note=lambda text, level=None: told.append(text),
        roster=SimpleNamespace(taken={}),
    )
    unused: Any = SimpleNamespace(node=SimpleNamespace(id="eu-1"), cluster=SimpleNamespace(name="shop"))
    line = Line(node, unused, NodeId("us-1"), Address("h", 5050), lambda: unused)

    async def dial(*where: object, **names: object) -> None:
        while coming and coming[0] == "up":
            line._up()
            coming.pop(0)
        if not coming:
            line.scope.cancel()
        raise ConnectFailed(coming.pop(0) if coming else CLOSED, retry=True)

    monkeypatch.setattr(links, "dial", dial)
    at_once: Any = SimpleNamespace(uniform=lambda least, most: 0)
    await line.run(at_once)
    return [text.removeprefix("no line to us-1: ") for text in told]


@pytest.mark.anyio
async def test_reasons_that_take_turns_are_told_once_each_until_the_line_is_up(monkeypatch):
    """A tunnel that takes connections for a member that is away for a night: some 8,000 tries."""
    assert await said(monkeypatch, *[CLOSED, RESET] * 50) == [CLOSED, RESET]
    again = await said(monkeypatch, RESET, CLOSED, "up", RESET, CLOSED)
    assert again == [RESET, CLOSED, "connected to us-1 at h:5050", RESET, CLOSED]


@pytest.mark.anyio
async def test_who_always_has_another_reason_fills_no_memory(monkeypatch):
    many = [f"reason {number}" for number in range(REASONS_MAX + 1)]
    assert (await said(monkeypatch, *many, *many[:1]))[:-1] == [*many, many[0]]
