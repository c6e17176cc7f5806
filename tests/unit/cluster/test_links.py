"""What a node says of a line that is down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster import links
from cluster.address import Address
from cluster.links import SAY_AGAIN_S, Line, Reasons
from redwire.errors import ConnectFailed
from redwire.position import NodeId

CLOSED, RESET = "the connection was closed", "TLS handshake: connection reset"


def test_a_reason_is_told_once_and_a_new_one_at_once() -> None:
    reasons = Reasons()
    assert [reasons.news(CLOSED, at) for at in (0, 1, 10 * SAY_AGAIN_S)] == [True, False, False]
    assert reasons.news(RESET, 10 * SAY_AGAIN_S + 1)


def test_reasons_that_take_turns_are_told_now_and_then_and_the_last_line_is_true_in_the_end() -> None:
    """As at a door that takes connections for a process that is gone: the reset comes sooner or later."""
    reasons = Reasons()
    told = [at for at in range(2 * int(SAY_AGAIN_S)) if reasons.news(CLOSED if at % 2 else RESET, at)]
    assert told == [0, 1, SAY_AGAIN_S, SAY_AGAIN_S + 1]
    assert not reasons.news(RESET, 2 * SAY_AGAIN_S - 1)
    assert reasons.news(RESET, 2 * SAY_AGAIN_S)


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
async def test_reasons_that_take_turns_are_told_again_once_the_line_was_up(monkeypatch):
    """A tunnel that takes connections for a member that is away for a night: some 8,000 tries."""
    assert await said(monkeypatch, *[CLOSED, RESET] * 50) == [CLOSED, RESET]
    again = await said(monkeypatch, RESET, CLOSED, "up", RESET, CLOSED)
    assert again == [RESET, CLOSED, "connected to us-1 at h:5050", RESET, CLOSED]
