"""Limits of the product, made so small that runs come upon them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import msgspec

from cluster import keys, session_writes, snapshot_library, state
from cluster.keys import BYTES_MAX, CLIENT_BYTES_HELD, CLIENTS_MAX, RESULT_BYTES_HELD, Keys
from redwire import places, session_keys, writes
from redwire.record import OPEN_MAX

CHUNK_BYTES = 16 << 10
"""So small that something can happen in the midst of a snapshot."""

CLIENT_BYTES = CLIENT_BYTES_HELD + 4 * RESULT_BYTES_HELD
"""What a client takes that may still ask for three results: of those who are remembered some take more."""


class Limits(msgspec.Struct, frozen=True):
    """`window` sequences of one client id may be open, `clients` are remembered."""

    window: int = OPEN_MAX
    clients: int = CLIENTS_MAX

    @property
    def bytes(self) -> int:
        """What they may take."""
        return min(BYTES_MAX, self.clients * CLIENT_BYTES)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, nodes and clients keep to these."""
        remember = state.Keys

        def remembering(**known: Any) -> Keys:
            memory = remember(**known)
            memory.clients_max = self.clients
            memory.bytes_max = self.bytes
            return memory

        changes: list[tuple[Any, str, Any]] = [
            *((module, "OPEN_MAX", self.window) for module in _COUNTING),
            (session_keys, "YOUNG", self.window // 2),
            (state, "Keys", remembering),
            (snapshot_library, "CHUNK_BYTES_MAX", CHUNK_BYTES),
        ]
        with ExitStack() as stack:
            for module, name, value in changes:
                stack.enter_context(patch.object(module, name, value))
            yield


_COUNTING = (keys, places, session_keys, session_writes, writes)
