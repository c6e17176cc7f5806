"""redwire: a client for clusters that replicate over regions, and the protocol that clients and nodes speak.

`connect` and `connect_sync` are where to begin. Names are imported when they are first used: a node, which
needs the protocol's modules only, does not pay for the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redwire.admin import Admin
    from redwire.client import Client, connect
    from redwire.document import Document, Json, Row
    from redwire.errors import (
        AuthenticationFailed,
        ChannelClosed,
        Code,
        Conflict,
        ConnectFailed,
        DeadlineExceeded,
        NotConfirmed,
        NotPrimary,
        PolicyInvalid,
        ProtocolError,
        RedwireError,
        Refused,
        RequestInvalid,
        TlsInvalid,
        TokenInvalid,
        TokenLost,
        UnknownOutcome,
        UriInvalid,
    )
    from redwire.message.client import CopyAck, RecordStatus
    from redwire.pending import Pending
    from redwire.position import Token
    from redwire.receipt import Committed, Deleted, Inserted, Receipt, RecordResult
    from redwire.record import Key
    from redwire.routing import AddressStatus, ReadMode, RouterStatus
    from redwire.status import Status
    from redwire.sync import SyncAdmin, SyncClient
    from redwire.sync import connect as connect_sync
    from redwire.topology import Topology

__version__ = "0.1.0"

__all__ = [
    "AddressStatus",
    "Admin",
    "AuthenticationFailed",
    "ChannelClosed",
    "Client",
    "Code",
    "Committed",
    "Conflict",
    "ConnectFailed",
    "CopyAck",
    "DeadlineExceeded",
    "Deleted",
    "Document",
    "Inserted",
    "Json",
    "Key",
    "NotConfirmed",
    "NotPrimary",
    "Pending",
    "PolicyInvalid",
    "ProtocolError",
    "ReadMode",
    "Receipt",
    "RecordResult",
    "RecordStatus",
    "RedwireError",
    "Refused",
    "RequestInvalid",
    "RouterStatus",
    "Row",
    "Status",
    "SyncAdmin",
    "SyncClient",
    "TlsInvalid",
    "Token",
    "TokenInvalid",
    "TokenLost",
    "Topology",
    "UnknownOutcome",
    "UriInvalid",
    "connect",
    "connect_sync",
]

_HOMES = {
    "redwire.admin": ("Admin",),
    "redwire.client": ("Client", "connect"),
    "redwire.document": ("Document", "Json", "Row"),
    "redwire.message.client": ("CopyAck", "RecordStatus"),
    "redwire.pending": ("Pending",),
    "redwire.position": ("Token",),
    "redwire.receipt": ("Committed", "Deleted", "Inserted", "Receipt", "RecordResult"),
    "redwire.record": ("Key",),
    "redwire.routing": ("AddressStatus", "ReadMode", "RouterStatus"),
    "redwire.status": ("Status",),
    "redwire.sync": ("SyncAdmin", "SyncClient"),
    "redwire.topology": ("Topology",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # whoever checks types is to find a name that is none

    def __getattr__(name: str) -> Any:
        if name == "connect_sync":
            return import_module("redwire.sync").connect
        if name not in __all__:
            raise AttributeError(f"module 'redwire' has no attribute {name!r}")
        return getattr(import_module(_HOME_OF.get(name, "redwire.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
