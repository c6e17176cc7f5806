"""The client: documents of one cluster, wherever its primary is.

    async with redwire.connect("reds://user:password@eu-1:5050,us-1:5050/?ca=ca.pem&region=us") as db:
        written = await db.put("products", "p1", {"name": "lamp"})
        lamp = await db.get("products", "p1", read="nearest", at_least=written.receipt.token)

Every call has one deadline for all that it does. A write ends in one of four ways: it returns (*committed*),
or it raises `NotConfirmed`, `UnknownOutcome`, or another error: then certainly nothing was written. A
`Conflict` was committed as well, and changed nothing.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from anyio.abc import TaskGroup
from msgspec.structs import replace

from redwire import uri
from redwire.admin import Admin
from redwire.arguments import (
    policy_text,
    require_callback,
    require_key,
    require_name,
    require_number,
    require_records,
    require_sendable,
    token,
)
from redwire.document import Document, Json, Row, encode_record, encode_rows
from redwire.errors import (
    ChannelClosed,
    ProtocolError,
    RequestInvalid,
)
from redwire.frame import Kind
from redwire.handshake import Anonymous, Bearer, Certificate, Credentials, Password
from redwire.household import require_asyncio, require_loop
from redwire.message.client import TopologyNotice
from redwire.message.cursor import TEXT8_BYTES_MAX, TEXT16_BYTES_MAX
from redwire.message.read import SCAN_LIMIT_MAX, Fetch, Scan
from redwire.pending import Pending
from redwire.pool import Dialler, Pool
from redwire.position import ClusterId, Token
from redwire.reads import read_mode
from redwire.receipt import Committed, Deleted, Inserted
from redwire.record import Key, Op
from redwire.routing import ReadMode, Router, RouterStatus
from redwire.session import Session
from redwire.status import Status
from redwire.status import decode as decode_status
from redwire.tls import ClientFiles
from redwire.topology import Topology
from redwire.uri import ConnectionConfig


class Client:
    """One application's connection to a cluster: an asynchronous context manager, entered once at a time.
    `connect` makes one.

    It runs on asyncio, or uvloop, in the event loop in which it is entered: any number of tasks there may use
    it at once, and any of them may close it. `policy` is a commit policy's text, None for the cluster's
    default; `timeout_s` is the deadline of the whole call, None for the URI's.

    A write returns, or raises `NotConfirmed`, `UnknownOutcome`, or another error: then certainly nothing was
    written. A `Conflict` was committed, and changed nothing. A write that is cancelled is not sent any more,
    and what was sent of it may or may not be written: nobody is told its key. What `submit` began goes on.
    """

    def __init__(self, config: ConnectionConfig, *, name: str, chance: random.Random) -> None:
        """Raises `TlsInvalid` for files that cannot be used, and `RequestInvalid` for a name that cannot be
        told. Nothing is dialled yet.
        """
        self.config = config
        self._session: Session | None = None  # first, for a traceback may show what has come no further
        require_name(name)
        self._dialler = dialler(config, name)
        self._chance = chance
        self._pool: Pool | None = None
        self._entering = False

    def __repr__(self) -> str:
        state = "not open" if self._session is None else "open"
        return f"<redwire.Client of {','.join(self.config.seeds)}, {state}>"

    async def __aenter__(self) -> Self:
        """Reach any one node. Raises `AuthenticationFailed`, `ConnectFailed`, or `DeadlineExceeded`; of a
        client that is open already, or without asyncio, `RequestInvalid`. After an error it can be entered
        again.
        """
        if self._entering or self._session is not None and not self._session.loop.is_closed():
            state = "being opened" if self._entering else "open"
            raise RequestInvalid(f"this client is {state} already", hint="connect() makes another one")
        require_asyncio()
        config = self.config
        router = Router(config.seeds, config.region, config.discovery, self._chance)

        def make_pool(tasks: TaskGroup) -> Pool:
            self._pool = Pool(router, self._dialler, tasks)
            return self._pool

        self._entering = True
        try:
            self._session = await Session.begin(make_pool, self._chance, config.timeout_ms / 1000)
        finally:
            self._entering = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection. Whoever still waits for what may have been done, a write or a change by
        `admin`, or asks what became of one, gets `UnknownOutcome`, or `NotConfirmed` where that much is
        known; whoever waits for something else, or has sent nothing yet, `ChannelClosed`, or the refusal that
        it was to try again after. Raises what a callback of `submit` raised.
        """
        if self._session is None or self._session.loop.is_closed():  # a loop that ends closes all in it
            self._session = None
            return
        session = self._opened()
        self._session = None
        try:
            await session.end()
        finally:
            if self._pool is session.pool:
                self._pool = None

    async def put(
        self,
        collection: str,
        id: str,
        document: Json,
        *,
        policy: str | None = None,
        if_version: int | None = None,
        timeout_s: float | None = None,
    ) -> Committed:
        """Write a document, whether its id exists or not; with `if_version` only over that version.

        Version 0 means that the id must not exist. Raises `Conflict` where it is another version, and, as
        every write that would begin a collection, where there is one whose name differs only in case.
        """
        record = encode_record(Op.PUT, collection, id, document, if_version)
        return await self._opened().write([record], (id,), policy, timeout_s)

    async def insert(
        self,
        collection: str,
        document: Json,
        id: str = "",
        *,
        policy: str | None = None,
        timeout_s: float | None = None,
    ) -> Committed:
        """Write a new document; without `id` the cluster makes one. Raises `Conflict` when the id exists."""
        record = encode_record(Op.INSERT, collection, id, document)
        return await self._opened().write([record], (id,), policy, timeout_s)

    async def insert_many(
        self,
        collection: str,
        rows: Iterable[Row],
        *,
        atomic: bool = False,
        policy: str | None = None,
        timeout_s: float | None = None,
    ) -> Inserted:
        """Write new documents, row by row: a conflict leaves the others. `atomic` makes it all or nothing.

        Rows beyond a request's limits go out in pieces, one after the other, each within its own deadline;
        an error then says in `facts["rows_committed"]` how many rows were committed before it. It names the
        row that it is about, from 0, in `facts["record"]`. Atomic rows are one request.
        """
        session = self._opened()
        encoded, ids = encode_rows(Op.INSERT, collection, rows)
        if not ids:
            raise RequestInvalid("there are no rows to insert")
        if atomic:
            return Inserted((await session.write(encoded, ids, policy, timeout_s),))
        return Inserted(await session.write_rows(encoded, ids, policy, timeout_s))

    async def delete(
        self,
        collection: str,
        id: str,
        *,
        policy: str | None = None,
        if_version: int | None = None,
        timeout_s: float | None = None,
    ) -> Deleted:
        """Delete a document; deleting nothing is no error. With `if_version` only that version."""
        record = encode_record(Op.DELETE, collection, id, None, if_version)
        return Deleted(await self._opened().write([record], (id,), policy, timeout_s))

    def submit(
        self,
        records: Sequence[bytes],
        ids: Sequence[str],
        *,
        policy: str | None = None,
        atomic: bool = False,
        timeout_s: float | None = None,
        callback: Callable[[Pending], None] | None = None,
    ) -> Pending:
        """Begin to write records that `redwire.document.encode_record` made, as one request; do not wait.

        For many writes in flight without a task for each: await the `Pending`, or be called with it, from
        the event loop, once it is done. Nothing is sent before the caller's next `await`: its `key` can be
        stored first. A callback must not raise: what it raises closes the client, and comes out of
        `__aexit__`. There may be 4,096 under way, and some 30,000 keys between the oldest and the newest of
        them; one more raises `Refused` (BUSY). So does any (NOT_READY) while the client has no id yet: a node
        that it came in by could issue none before it took in its cluster, and the primary is asked meanwhile.
        Writes in flight together have no order among them.

        `atomic` makes several records all or nothing, as one always is: nothing raises `Conflict`.
        """
        session = self._opened()
        require_records(records, ids)
        require_callback(callback)
        text, limit_s = policy_text(policy), session.limit_s(timeout_s)
        whole = atomic or len(records) == 1
        return session.writes.submit(
            records, ids, policy=text, atomic=whole, timeout_s=limit_s, callback=callback
        )

    def submit_put(
        self,
        collection: str,
        id: str,
        document: Json,
        *,
        policy: str | None = None,
        if_version: int | None = None,
        timeout_s: float | None = None,
        callback: Callable[[Pending], None] | None = None,
    ) -> Pending:
        """Begin to `put` one document, and do not wait; see `submit`."""
        record = encode_record(Op.PUT, collection, id, document, if_version)
        return self.submit([record], (id,), policy=policy, timeout_s=timeout_s, callback=callback)

    async def resolve(self, key: Key, *, timeout_s: float | None = None) -> Committed:
        """What became of the write whose error carried `key`: committed after all, with what results.

        Asking settles it: when the write was not executed before, it never will be. Committed is what the
        cluster's rule, its floor, commits: that is what the receipt says was `requested` and `achieved`, also
        where the write had asked for more. Its own policy is not remembered. A key that `Key.parse` read does
        not know the ids of its documents: there a result's `id` is right only where the cluster made it.

        Raises `Conflict` as the write itself would have, `Refused` with code NOT_FOUND (no such request was
        executed, and none ever will be) or KEY_EXPIRED (it cannot be told any more), `NotConfirmed` when the
        primary says that it is still open, as one does that lacks copies, and `UnknownOutcome` when nobody
        said anything before the deadline; also when this user may not ask, as the key is of another one and
        ours is no administrator. Any other error is of the call, such as `ChannelClosed` of a client that is
        not open: nobody was asked.
        """
        require_key(key)
        return await self._opened().resolve(key, timeout_s)

    async def get(
        self,
        collection: str,
        id: str,
        *,
        read: ReadMode | str | None = None,
        at_least: Token | str | None = None,
        timeout_s: float | None = None,
    ) -> Document | None:
        """The document, or None. `read` is "primary", "nearest", "any" or "region:<name>"; None is the URI's.

        With `at_least`, a receipt's or a document's token, the answer is as fresh as what the token saw: from
        a node that waits for that, else from the primary. With "region:<name>" nobody else is asked.
        Raises `TokenLost` when that history was replaced, `TokenInvalid` for a text that is none,
        `RequestInvalid`, `DeadlineExceeded`, `Refused`.
        """
        session = self._opened()
        require_sendable("collection", collection, TEXT8_BYTES_MAX)
        require_sendable("id", id, TEXT16_BYTES_MAX)
        asked = Fetch(collection, id, token(at_least))
        fetched = await session.reads.fetch(asked, self._mode(read), session.limit_s(timeout_s))
        if not fetched.found:
            return None
        return Document(id, fetched.version, fetched.document, session.token(fetched.term, fetched.applied))

    async def scan(
        self,
        collection: str,
        *,
        after: str = "",
        limit: int | None = None,
        read: ReadMode | str | None = None,
        at_least: Token | str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Document, None]:
        """The documents of a collection in UTF-8 byte order of their ids, from the first id above `after`.

        Comes page by page, each within `timeout_s` and at least as fresh as the one before. Raises as `get`.
        """
        session = self._opened()
        require_sendable("collection", collection, TEXT8_BYTES_MAX)
        require_sendable("after", after, TEXT16_BYTES_MAX)
        if limit is not None:
            require_number("limit", limit)
        mode, seen, left = self._mode(read), token(at_least), limit
        while left is None or left > 0:
            size = SCAN_LIMIT_MAX if left is None else min(left, SCAN_LIMIT_MAX)
            asked = Scan(collection, after, size, seen)
            page = await session.reads.scan(asked, mode, session.limit_s(timeout_s))
            seen = session.token(page.term, page.applied)
            for row in page.rows:
                yield Document(row.id, row.version, row.document, seen)
            if not page.more or not page.rows:
                return
            after = page.rows[-1].id
            left = None if left is None else left - len(page.rows)

    async def status(self, addr: str | None = None, *, timeout_s: float | None = None) -> Status:
        """How the cluster is, as the node at `addr` knows it; without it the primary, or any node that
        answers where the primary does not within a moment. `vantage` says whose view it is.
        """
        body = await self._opened().ask_node(Kind.STATUS_REQUEST, Kind.STATUS, addr, timeout_s)
        return decode_status(body)

    async def topology(self, *, timeout_s: float | None = None) -> Topology:
        """The newest topology that any node has told us, after asking one."""
        session = self._opened()
        body = await session.ask_node(Kind.TOPOLOGY_REQUEST, Kind.TOPOLOGY, None, timeout_s)
        session.pool.learned(TopologyNotice.decode(body).blob)
        known = session.pool.router.topology
        if known is None:
            raise ProtocolError("the nodes speak a version of the topology that is not known here")
        return known

    @property
    def admin(self) -> Admin:
        """What administrators ask for and change: settings, users, tokens."""
        return Admin(self._opened)

    @property
    def cluster(self) -> ClusterId:
        """The id of the cluster, of an open client: no other cluster has the same, whatever its name."""
        return self._opened().cluster

    @property
    def routing(self) -> RouterStatus:
        """Which nodes are known, how far each is, which one leads, and why calls still wait.

        It may be asked for from when the client is being entered.
        """
        pool = self._pool or self._opened().pool
        trouble = pool.trouble if self._session is None else self._session.trouble
        return replace(pool.router.status(), trouble=trouble)

    def _mode(self, read: ReadMode | str | None) -> ReadMode:
        return self.config.read if read is None else read_mode(read)

    def _opened(self) -> Session:
        session = self._session
        if session is None:
            hint = "use it inside `async with redwire.connect()`"
            raise ChannelClosed("the client is not open", hint=hint, retry=False)
        require_loop(session.loop)
        return session


def connect(uri_text: str, *, name: str = "redwire-python") -> Client:
    """A client for the cluster that `uri_text` names; enter it to connect. `name`, up to 256
    characters, is told to the nodes, which do not show it.

    Raises `UriInvalid`, `TlsInvalid`, and `RequestInvalid` for a name that cannot be told.
    """
    return Client(uri.parse(uri_text), name=name, chance=random.Random())


def dialler(config: ConnectionConfig, name: str) -> Dialler:
    """How the nodes of `config` are reached. Raises `TlsInvalid` for files that cannot be used."""
    paths = (Path(path) if path else None for path in (config.ca, config.cert, config.key))
    return Dialler(ClientFiles(*paths) if config.tls else None, credentials(config), name)


def credentials(config: ConnectionConfig) -> Credentials:
    """What a URI proves who we are with: a token, a password, the client certificate, or nothing."""
    if config.token is not None:
        return Bearer(config.token)
    if config.user is not None:
        return Password(config.user, config.password or "")
    return Anonymous() if config.cert is None else Certificate()
