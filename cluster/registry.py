"""What the log's own records say about the cluster: who is in it, which data directories count, who may do
what.

`Registry` applies TERM_START, CONFIG, ADMIT and ACCOUNT records inside the caller's transaction and keeps the
outcome in memory, as values that are replaced whole: other threads read them without a lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from cluster.accounts import Accounts
from cluster.tables import opened, sealed
from redwire.body import decode, encode
from redwire.message.admin import (
    AccountChange,
    PutToken,
    PutUser,
    RemoveToken,
    RemoveUser,
    SetRole,
    check_account,
)
from redwire.message.client import RecordStatus
from redwire.message.log import Admit, ClusterRecord, TermStart
from redwire.position import Incarnation, Lsn, NodeId
from redwire.record import RequestKind

_ACCOUNTS = {"users": "SELECT body FROM users", "tokens": "SELECT body FROM tokens"}


class Registry:
    """`records` are all CONFIG records with their LSNs, the last one in force; `admits` has the last ADMIT of
    each member, `given_up` the first record of the newest reign that an operator began without it.

    A rolled back transaction leaves this object ahead of the tables: make a new one.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """`connection` is to the state file at `path`. Raises `StateCorrupt`."""
        self._connection = connection
        self.records: tuple[tuple[Lsn, ClusterRecord], ...] = ()
        self.admits: Mapping[NodeId, Incarnation] = MappingProxyType({})
        self.given_up: Mapping[NodeId, Lsn] = MappingProxyType({})
        self.accounts = Accounts()
        for lsn, kind, body in connection.execute("SELECT lsn, kind, body FROM config ORDER BY lsn"):
            body = opened(path, body, f"the record at LSN {lsn}", f"{lsn} {kind}")
            self._remember(RequestKind(kind), body, lsn)
        users, tokens = (
            [
                check_account(opened(path, body, f"an entry of {table}"))
                for (body,) in connection.execute(rows)
            ]
            for table, rows in _ACCOUNTS.items()
        )
        self.accounts = Accounts(
            {user.name: user for user in users if isinstance(user, PutUser)},
            {token.id: token for token in tokens if isinstance(token, PutToken)},
        )

    def apply(self, kind: RequestKind, body: bytes, lsn: int) -> RecordStatus:
        """Apply the record of `kind` at `lsn`; NOT_FOUND for an account change that had nothing to change.

        Raises `BodyInvalid` for a body that this version does not know.
        """
        match kind:
            case RequestKind.TERM_START if not decode(body, TermStart).without:
                pass
            case RequestKind.TERM_START | RequestKind.CONFIG | RequestKind.ADMIT:
                self._remember(kind, body, lsn)
                row = (lsn, int(kind), sealed(body, f"{lsn} {int(kind)}"))
                self._connection.execute("INSERT INTO config VALUES (?, ?, ?)", row)
            case RequestKind.ACCOUNT:
                return self._account(check_account(body), body)
            case RequestKind.WRITE | RequestKind.CLOSE:
                raise AssertionError("documents and keys are not kept here")
        return RecordStatus.APPLIED

    def _remember(self, kind: RequestKind, body: bytes, lsn: int) -> None:
        if kind is RequestKind.CONFIG:
            self.records = (*self.records, (Lsn(lsn), decode(body, ClusterRecord)))
        elif kind is RequestKind.TERM_START:
            given_up = {NodeId(node): Lsn(lsn) for node in decode(body, TermStart).without}
            self.given_up = MappingProxyType({**self.given_up, **given_up})
        else:
            admit = decode(body, Admit)
            self.admits = MappingProxyType(
                {**self.admits, NodeId(admit.node): Incarnation(admit.incarnation)}
            )

    def _account(self, change: AccountChange, body: bytes) -> RecordStatus:
        before, after = self.accounts, self.accounts.after(change)
        if after is before:
            return RecordStatus.NOT_FOUND
        self.accounts = after
        execute = self._connection.execute
        match change:
            case PutUser(name=name) | SetRole(name=name):
                whole = encode(after.users[name])
                execute("INSERT OR REPLACE INTO users VALUES (?, ?)", (name, sealed(whole)))
            case RemoveUser(name=name):
                execute("DELETE FROM users WHERE name = ?", (name,))
                for ident in before.tokens.keys() - after.tokens.keys():
                    execute("DELETE FROM tokens WHERE id = ?", (ident,))
            case PutToken(id=ident):
                execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (ident, sealed(body)))
            case RemoveToken(id=ident):
                execute("DELETE FROM tokens WHERE id = ?", (ident,))
        return RecordStatus.DELETED if isinstance(change, RemoveUser | RemoveToken) else RecordStatus.APPLIED
