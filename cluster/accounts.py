"""Users and bearer tokens by the log: what a change makes of them, and what a node says of them.

A change that has nothing to change, such as removing nobody, is found to be that when it is applied, like
every condition, and therefore on every node alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from redwire.errors import Code, Refused
from redwire.message.admin import (
    AccountChange,
    AccountsPage,
    PutToken,
    PutUser,
    RemoveToken,
    RemoveUser,
    SetRole,
    TokenRow,
    TokensAsked,
    TokensPage,
    UserRow,
    UsersAsked,
    UsersPage,
)
from redwire.spelling import guess

T = TypeVar("T")

MEANT_MAX = 100
"""Names that are looked at for a likely one: a guess must not hold the node up."""


class Accounts(msgspec.Struct, frozen=True):
    """All users by name and all bearer tokens by id. A token's user exists.

    Both are replaced whole and never changed, so any thread may read them.
    """

    users: Mapping[str, PutUser] = msgspec.field(default_factory=dict)
    tokens: Mapping[str, PutToken] = msgspec.field(default_factory=dict)

    def after(self, change: AccountChange) -> Accounts:
        """What `change` makes of them; this very object when the change has nothing to change."""
        match change:
            case PutUser(name=name):
                return replace(self, users={**self.users, name: change})
            case SetRole(name=name, role=role, topology_read=sees) if name in self.users:
                user = self.users[name]
                changed = replace(user, role=role, topology_read=user.topology_read if sees is None else sees)
                return replace(self, users={**self.users, name: changed})
            case RemoveUser(name=name) if name in self.users:
                tokens = {ident: token for ident, token in self.tokens.items() if token.user != name}
                return Accounts(_without(self.users, name), tokens)
            case PutToken(id=ident, user=name) if name in self.users:
                return replace(self, tokens={**self.tokens, ident: change})
            case RemoveToken(id=ident) if ident in self.tokens:
                return replace(self, tokens=_without(self.tokens, ident))
            case SetRole() | RemoveUser() | PutToken() | RemoveToken():
                return self

    def missing(self, change: AccountChange, admins: Collection[str]) -> str:
        """In words, what there is none of for `change`, and what may have been meant."""
        match change:
            case RemoveToken(id=ident):
                return f"there is no token {ident}{_meant(ident, self.tokens)}"
            case SetRole(name=name) | RemoveUser(name=name) | PutToken(user=name) | PutUser(name=name):
                return self._no_user(name, admins)

    def page(self, asked: UsersAsked | TokensAsked, admins: Collection[str], applied: int) -> AccountsPage:
        """The page that was asked for, in order of names or ids. Raises `Refused` where there is no such
        user.
        """
        match asked:
            case UsersAsked():
                owned = Counter(token.user for token in self.tokens.values())
                users, more = _cut(self.users, asked.after, asked.limit)
                rows = (UserRow(user.name, user.role, user.topology_read, owned[user.name]) for user in users)
                return UsersPage(applied, more, tuple(sorted(admins)), tuple(rows))
            case TokensAsked(user=name):
                if name and name not in self.users:
                    raise Refused(Code.NOT_FOUND, self._no_user(name, admins))
                wanted = {i: token for i, token in self.tokens.items() if name in ("", token.user)}
                tokens, more = _cut(wanted, asked.after, asked.limit)
                return TokensPage(
                    applied, more, tuple(TokenRow(token.id, token.user, token.role) for token in tokens)
                )

    def _no_user(self, name: str, admins: Collection[str]) -> str:
        if name in admins:
            return f"there is no user {name}: {name} is an administrator by configuration (cluster.admins)"
        return f"there is no user {name}{_meant(name, self.users)}"


def _without(mapping: Mapping[str, T], key: str) -> Mapping[str, T]:
    return {other: value for other, value in mapping.items() if other != key}


def _meant(name: str, names: Iterable[str]) -> str:
    alike = (other for other in names if abs(len(other) - len(name)) <= max(1, len(name) // 3))
    hint = guess(name, islice(alike, MEANT_MAX))
    return f"; {hint}" if hint else ""


def _cut(mapping: Mapping[str, T], after: str, limit: int) -> tuple[list[T], bool]:
    """At most `limit` values whose keys stand behind `after`, in order, and whether others follow."""
    keys = sorted(key for key in mapping if key > after)
    return [mapping[key] for key in islice(keys, limit)], len(keys) > limit
