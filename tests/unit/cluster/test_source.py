"""What a member that was offered our log gets of it, where our reign ended before its first ack."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from cluster.effects import Now
from cluster.node import Node
from cluster.reign import Candidate
from cluster.source import Source
from cluster.storage import Storage, follower
from redwire.body import decode, encode
from redwire.errors import NotPrimary
from redwire.frame import Frame, Kind
from redwire.message.peer import Ack, Following
from redwire.position import Term

OpenStorage = Callable[..., Storage]


def frame(kind: Kind, payload: bytes) -> Frame:
    return Frame(kind, 0, 0, 0, payload)


@pytest.mark.anyio
@pytest.mark.parametrize("ended", [True, False])
async def test_who_was_offered_the_log_of_a_reign_that_has_ended_does_not_follow_it(
    open_storage: OpenStorage, ended: bool
) -> None:
    """It would take us for the primary, and look for no other one until we had been silent for long."""
    with closing(open_storage(asyncio.get_running_loop().call_soon_threadsafe)) as storage:
        node = Node(storage, follower(storage, storage.watermark), lambda: Now(1, 1), lambda *_: None)
        candidate = Candidate(node, storage.config, random.Random(1), take_over=None)
        await candidate._open(Term(1), candidate._new_cluster({storage.me: storage.meta.incarnation}))
        said: dict[int, bytes] = {}
        end: Any = SimpleNamespace(
            node=storage.me,  # the one member that there is
            send=lambda kind, payload, **_: said.update({kind: payload}),
            full=lambda: False,
            take=lambda batches: None,
        )
        unused: Any = None
        async with anyio.create_task_group() as tasks:
            source = Source(node, end, unused, tasks)
            asks = replace(node.report(), last_lsn=0, terms=())
            await source.handle(frame(Kind.FOLLOW, encode(asks)))
            offered = decode(said[Kind.FOLLOWING], Following)
            assert offered.leads and offered.common_lsn == 0
            if ended:
                node.end_reign(NotPrimary("another one does"))
            ack = frame(Kind.ACK, Ack(offered.term, 0, 0, 0, offered.primary).encode())
            if ended:
                with pytest.raises(NotPrimary, match="leads no more"):
                    await source.handle(ack)
            else:
                await source.handle(ack)
            assert (source.feed is None) is ended
            tasks.cancel_scope.cancel()
