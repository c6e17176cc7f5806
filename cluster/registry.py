"""What the log's own records say about the cluster: who is in it, which data directories count, who may do
what.

`Registry` applies CONFIG, ADMIT and ACCOUNT records inside the caller's transaction and keeps the outcome in
memory, as values that are replaced whole: other threads read them without a lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from redwire.body import decode
from redwire.message.admin import AccountChange, PutToken, PutUser, RemoveToken, RemoveUser, check_account
from redwire.message.log import Admit, ClusterRecord, TermStart
from redwire.position import Incarnation, Lsn, NodeId
from redwire.record import Kind


@dataclass(frozen=True, slots=True)
class Accounts:
    """All users by name and all bearer tokens by id. A token's user exists."""

    users: Mapping[str, PutUser] = field(default_factory=lambda: MappingProxyType({}))
    tokens: Mapping[str, PutToken] = field(default_factory=lambda: MappingProxyType({}))


class Registry:
    """`records` are all CONFIG records with their LSNs, the last one in force; `admits` has the last ADMIT of
    each member.

    A rolled back transaction leaves this object ahead of the tables: make a new one.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.records: tuple[tuple[Lsn, ClusterRecord], ...] = ()
        self.admits: Mapping[NodeId, Incarnation] = MappingProxyType({})
        self.accounts = Accounts()
        for lsn, kind, body in connection.execute("SELECT lsn, kind, body FROM config ORDER BY lsn"):
            self._remember(Kind(kind), body, lsn)
        users = [check_account(body) for (body,) in connection.execute("SELECT body FROM users")]
        tokens = [check_account(body) for (body,) in connection.execute("SELECT body FROM tokens")]
        self.accounts = Accounts(
            MappingProxyType({user.name: user for user in users if isinstance(user, PutUser)}),
            MappingProxyType({token.id: token for token in tokens if isinstance(token, PutToken)}),
        )

    def apply(self, kind: Kind, body: bytes, lsn: int) -> None:
        """Apply the record of `kind` at `lsn`. Raises `BodyInvalid` for a body that this version does not
        know."""
        match kind:
            case Kind.TERM_START:
                decode(body, TermStart)
            case Kind.CONFIG | Kind.ADMIT:
                self._remember(kind, body, lsn)
                self._connection.execute("INSERT INTO config VALUES (?, ?, ?)", (lsn, int(kind), body))
            case Kind.ACCOUNT:
                self._account(check_account(body), body)
            case Kind.WRITE:
                raise AssertionError("documents are not kept here")

    def _remember(self, kind: Kind, body: bytes, lsn: int) -> None:
        if kind is Kind.CONFIG:
            self.records = (*self.records, (Lsn(lsn), decode(body, ClusterRecord)))
        else:
            admit = decode(body, Admit)
            self.admits = MappingProxyType(
                {**self.admits, NodeId(admit.node): Incarnation(admit.incarnation)}
            )

    def _account(self, change: AccountChange, body: bytes) -> None:
        execute, accounts = self._connection.execute, self.accounts
        match change:
            case PutUser(name=name):
                execute("INSERT OR REPLACE INTO users VALUES (?, ?)", (name, body))
                self.accounts = replace(accounts, users=MappingProxyType({**accounts.users, name: change}))
            case RemoveUser(name=name):
                execute("DELETE FROM users WHERE name = ?", (name,))
                users = {other: user for other, user in accounts.users.items() if other != name}
                tokens = {ident: token for ident, token in accounts.tokens.items() if token.user != name}
                for ident in accounts.tokens.keys() - tokens.keys():
                    execute("DELETE FROM tokens WHERE id = ?", (ident,))
                self.accounts = Accounts(MappingProxyType(users), MappingProxyType(tokens))
            case PutToken(id=ident):
                if change.user in accounts.users:
                    execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (ident, body))
                    tokens = {**accounts.tokens, ident: change}
                    self.accounts = replace(accounts, tokens=MappingProxyType(tokens))
            case RemoveToken(id=ident):
                execute("DELETE FROM tokens WHERE id = ?", (ident,))
                tokens = {other: token for other, token in accounts.tokens.items() if other != ident}
                self.accounts = replace(accounts, tokens=MappingProxyType(tokens))
