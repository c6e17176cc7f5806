"""The client for programs without an event loop: the same one, run by a loop in a thread of its own.

    with redwire.connect_sync("reds://user:password@eu-1:5050/?ca=ca.pem") as db:
        written = db.put("products", "p1", {"name": "lamp"})
        print(written.receipt)

Methods, arguments, results and errors are those of `redwire.client.Client`, but for `submit` and
`submit_put`, which belong to an event loop: here threads have many writes in flight. It may be used from many
threads, and in the one process that opened it: a fork takes its thread, and so every answer, along to no
child.

An exception that a signal raises in a thread that waits, such as `KeyboardInterrupt`, ends the call as
cancelling would: nothing is sent any more, and what was sent may or may not be written.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from redwire import client
from redwire.admin import Admin
from redwire.arguments import require_rows
from redwire.client import Client
from redwire.document import Document, Json, Row
from redwire.errors import ChannelClosed, RedwireError, RequestInvalid
from redwire.handshake import Role
from redwire.loop_thread import LoopThread
from redwire.message.admin import AccountChange, AccountDone, TokensPage, UsersPage
from redwire.message.settings import SettingsChange, SettingsChanged, SettingsView
from redwire.position import ClusterId, Token
from redwire.receipt import Committed, Deleted, Inserted
from redwire.record import Key
from redwire.routing import ReadMode, RouterStatus
from redwire.status import Status
from redwire.topology import Topology

T = TypeVar("T")


class SyncClient:
    """A `Client` behind blocking calls: a context manager, entered once at a time."""

    def __init__(self, asynchronous: Client) -> None:
        self._client = asynchronous
        self._thread: LoopThread | None = None
        self._dropped: weakref.finalize[..., Self] | None = None
        self._process = 0

    def __repr__(self) -> str:
        return repr(self._client).replace("Client", "SyncClient", 1)

    def __enter__(self) -> Self:
        """Start the thread and reach any one node. Raises as `Client.__aenter__`."""
        if self._thread is not None:
            self._require_own()
            if not self._thread.stopping:
                raise RequestInvalid("this client is open already", hint="connect_sync() makes another one")
            with suppress(RedwireError):  # what was interrupted, and came to this
                self._thread.join()
        thread, process = LoopThread(self._client), os.getpid()
        dropped = weakref.finalize(self, _drop, thread, process)
        try:
            dropped.atexit = False
            self._thread, self._process, self._dropped = thread, process, dropped
            thread.start()
        except BaseException:
            dropped.detach()
            thread.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection; in a forked child nothing, for they are the parent's."""
        thread = self._thread
        if thread is None or self._process != os.getpid():
            return
        thread.stop()
        try:
            thread.join()
        finally:
            if self._dropped is not None:
                self._dropped.detach()
        self._thread = None

    def put(
        self,
        collection: str,
        id: str,
        document: Json,
        *,
        policy: str | None = None,
        if_version: int | None = None,
        timeout_s: float | None = None,
    ) -> Committed:
        """Write a document, whether its id exists or not; with `if_version` only over that version."""
        return self._run(
            self._client.put,
            collection,
            id,
            document,
            policy=policy,
            if_version=if_version,
            timeout_s=timeout_s,
        )

    def insert(
        self,
        collection: str,
        document: Json,
        id: str = "",
        *,
        policy: str | None = None,
        timeout_s: float | None = None,
    ) -> Committed:
        """Write a new document; without `id` the cluster makes one. Raises `Conflict` when the id exists."""
        return self._run(self._client.insert, collection, document, id, policy=policy, timeout_s=timeout_s)

    def insert_many(
        self,
        collection: str,
        rows: Iterable[Row],
        *,
        atomic: bool = False,
        policy: str | None = None,
        timeout_s: float | None = None,
    ) -> Inserted:
        """Write new documents, row by row: a conflict leaves the others. `atomic` makes it all or nothing.

        What `rows` comes from runs in the thread that calls, and may use this client.
        """
        self._opened()  # else nothing is taken of rows that can be gone through only once
        require_rows(rows)
        return self._run(
            self._client.insert_many, collection, [*rows], atomic=atomic, policy=policy, timeout_s=timeout_s
        )

    def delete(
        self,
        collection: str,
        id: str,
        *,
        policy: str | None = None,
        if_version: int | None = None,
        timeout_s: float | None = None,
    ) -> Deleted:
        """Delete a document; deleting nothing is no error. With `if_version` only that version."""
        return self._run(
            self._client.delete, collection, id, policy=policy, if_version=if_version, timeout_s=timeout_s
        )

    def resolve(self, key: Key, *, timeout_s: float | None = None) -> Committed:
        """What became of the write whose error carried `key`; see `Client.resolve`."""
        return self._run(self._client.resolve, key, timeout_s=timeout_s)

    def get(
        self,
        collection: str,
        id: str,
        *,
        read: ReadMode | str | None = None,
        at_least: Token | str | None = None,
        timeout_s: float | None = None,
    ) -> Document | None:
        """The document, or None; see `Client.get`."""
        return self._run(self._client.get, collection, id, read=read, at_least=at_least, timeout_s=timeout_s)

    def scan(
        self,
        collection: str,
        *,
        after: str = "",
        limit: int | None = None,
        read: ReadMode | str | None = None,
        at_least: Token | str | None = None,
        timeout_s: float | None = None,
    ) -> Generator[Document, None, None]:
        """The documents of a collection in order of their ids, page by page; see `Client.scan`."""
        pages = self._client.scan(
            collection, after=after, limit=limit, read=read, at_least=at_least, timeout_s=timeout_s
        )
        end: Any = object()
        while (document := self._run(anext, pages, end)) is not end:
            yield document

    def status(self, addr: str | None = None, *, timeout_s: float | None = None) -> Status:
        """How the cluster is, as the node at `addr` knows it; see `Client.status`."""
        return self._run(self._client.status, addr, timeout_s=timeout_s)

    def topology(self, *, timeout_s: float | None = None) -> Topology:
        """The newest topology, after asking a node."""
        return self._run(self._client.topology, timeout_s=timeout_s)

    @property
    def admin(self) -> SyncAdmin:
        """What administrators ask for and change: settings, users, tokens."""
        return SyncAdmin(self._client.admin, self)

    @property
    def cluster(self) -> ClusterId:
        """The id of the cluster, of an open client."""
        return self._look(lambda: self._client.cluster)

    @property
    def routing(self) -> RouterStatus:
        """Which nodes are known, how far each is, and which one leads."""
        return self._look(lambda: self._client.routing)

    def _look(self, found: Callable[[], T]) -> T:
        """What is `found` at once, in the client's own thread."""

        async def look() -> T:
            return found()

        return self._run(look)

    def _run(self, function: Callable[..., Awaitable[T]], *arguments: Any, **options: Any) -> T:
        return self._opened().call(partial(function, *arguments, **options))

    def _opened(self) -> LoopThread:
        if self._thread is None:
            hint = "use it inside `with redwire.connect_sync(…)`"
            raise ChannelClosed("the client is not open", hint=hint, retry=False)
        self._require_own()
        return self._thread

    def _require_own(self) -> None:
        if self._process != os.getpid():
            text = f"the client was opened by process {self._process}, before this one was forked from it"
            raise ChannelClosed(text, hint="open one in each process, after the fork", retry=False)


class SyncAdmin:
    """`SyncClient.admin`: see `redwire.admin.Admin`."""

    def __init__(self, admin: Admin, client: SyncClient) -> None:
        self._admin = admin
        self._run, self._look = client._run, client._look

    @property
    def role(self) -> Role | None:
        """As what the nodes that are linked now let us in; None while none is."""
        return self._look(lambda: self._admin.role)

    def settings(self, addr: str | None = None, *, timeout_s: float | None = None) -> SettingsView:
        """The settings in force at the node at `addr`, without it the primary's."""
        return self._run(self._admin.settings, addr, timeout_s=timeout_s)

    def change_settings(
        self,
        change: SettingsChange,
        *,
        based_on: int = 0,
        lost: Sequence[str] = (),
        dry_run: bool = False,
        timeout_s: float | None = None,
    ) -> SettingsChanged:
        """Change one thing, or with `dry_run` only say what that would lead to."""
        return self._run(
            self._admin.change_settings,
            change,
            based_on=based_on,
            lost=lost,
            dry_run=dry_run,
            timeout_s=timeout_s,
        )

    def change_account(self, change: AccountChange, *, timeout_s: float | None = None) -> AccountDone:
        """Make one change to users or tokens; takes the role admin."""
        return self._run(self._admin.change_account, change, timeout_s=timeout_s)

    def users(self, addr: str | None = None, *, after: str = "", timeout_s: float | None = None) -> UsersPage:
        """Users in order of their names, from the first one behind `after`; takes the role admin."""
        return self._run(self._admin.users, addr, after=after, timeout_s=timeout_s)

    def tokens(
        self, user: str = "", addr: str | None = None, *, after: str = "", timeout_s: float | None = None
    ) -> TokensPage:
        """Bearer tokens of `user`, or of everybody, in order of their ids; takes the role admin."""
        return self._run(self._admin.tokens, user, addr, after=after, timeout_s=timeout_s)


def _drop(thread: LoopThread, process: int) -> None:
    """Nobody has the client any more. A forked child has nothing to stop: it shares the wake-up of the loop
    with its parent.
    """
    if process == os.getpid():
        thread.stop()


def connect(uri_text: str, *, name: str = "redwire-python") -> SyncClient:
    """A blocking client for the cluster that `uri_text` names. Raises as `redwire.client.connect`."""
    return SyncClient(client.connect(uri_text, name=name))
