"""This side of a session with another member: frames out, and a last word before it ends."""

from __future__ import annotations

import anyio

from redwire.batch import Batch
from redwire.body import encode
from redwire.errors import RedwireError
from redwire.frame import Kind, encode_header
from redwire.message.failure import Failure
from redwire.position import NodeId
from redwire.stream import Channel

BUFFER_BYTES_MAX = 4 << 20
"""What may wait in one follower's channel: 100 Mbit/s over 300 ms. Beyond it the feed waits, and reads the
log again later.
"""


class ChannelEnd:
    """A peer's channel as the node uses it: synchronous, and harmless after the channel has failed."""

    def __init__(self, node: NodeId, channel: Channel) -> None:
        self.node = node
        self.dropped: RedwireError | None = None
        self._channel = channel
        self._ended = anyio.Event()

    @property
    def place(self) -> str:
        """Where the member calls from, or is called: host:port."""
        return self._channel.name

    def send(self, kind: int, payload: bytes, *, urgent: bool = False, correlation: int = 0) -> None:
        """Send one frame, now. Never waits."""
        self._channel.write(encode_header(kind, len(payload), correlation), payload, urgent=urgent, now=True)

    def drop(self, error: RedwireError) -> None:
        """Tell the member why, and end the session."""
        if self.dropped is None:
            self.dropped = error.with_traceback(None)  # which would hold this session's frames by a cycle
            self.send(Kind.FAILURE, encode(Failure.from_error(error)), urgent=True)
            self._ended.set()

    async def run(self) -> None:
        """Wait until the session is dropped and its last word sent; then raise why."""
        await self._ended.wait()
        await self._channel.let_out()
        assert self.dropped is not None
        raise self.dropped

    # --- as the consumer of a feed

    def take(self, batches: list[Batch]) -> None:
        """Send batches, their bytes as logged. A young one comes alone, and leaves now: a follower's disk is
        to begin when ours does. Many leave together, and the loop goes round between two sends.
        """
        young = len(batches) == 1
        for batch in batches:
            self._channel.write(encode_header(Kind.BATCH, len(batch.data), 0), batch.data, now=young)

    def full(self) -> bool:
        """Whether the follower reads slower than we write."""
        return self._channel.buffered_bytes >= BUFFER_BYTES_MAX

    async def ready(self) -> None:
        """Wait until half of the buffer has left."""
        if self.full():
            await self._channel.drain_below(BUFFER_BYTES_MAX // 2)
