"""The lines from this node to all other members, one each, as the settings name them."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from cluster.address import Address, Whereabouts
from cluster.bell import Bell
from cluster.config import NodeConfig
from cluster.credentials import NodeCredentials
from cluster.errors import DiskFailed, first
from cluster.log_config import Level
from cluster.node import Node
from cluster.peers import PeerSession
from redwire.dial import Dialled, dial
from redwire.errors import AuthenticationFailed, Code, ConnectFailed, RedwireError, Refused
from redwire.handshake import Certificate
from redwire.position import NodeId

BACKOFF_MIN_S = 0.1
"""A process that starts anew listens again within a second."""
BACKOFF_MAX_S = 3.0
"""So late at most is a member met that comes back and does not dial by itself."""
TAKEN_AGAIN_S = 0.5
"""Who is taken for another process has most often only started anew: it is forgotten soon that it ended."""
NO_ROOM_THERE_S = 15.0
"""A member whose disk has no room for the snapshot that we need: room is made by people."""
TAKEN_MS = 10_000
"""Four times what it takes to forget a process that has ended (`roster.GONE_MS`)."""
SAY_AGAIN_S = 300.0
"""Twelve lines an hour of each reason that takes turns with others."""


class Links:
    """`run` keeps every line up; `match_settings` begins and ends lines when the members have changed.

    `credentials` prove who we are to the members; None, without TLS, is for a node that has no peers.
    """

    def __init__(
        self, node: Node, config: NodeConfig, credentials: NodeCredentials | None, chance: random.Random
    ) -> None:
        self._node = node
        self._config = config
        self._credentials = credentials
        self._chance = chance
        self._lines: dict[NodeId, Line] = {}
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Keep the lines up until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            self.match_settings()
            await anyio.sleep_forever()

    def match_settings(self) -> None:
        """Dial who is new or has moved, and part from who is no member any more."""
        if self._tasks is None or self._credentials is None:
            return
        members, dial = self._node.storage.settings.cluster.members, self._config.node.dial
        me = self._node.storage.me
        peers = {member.id: dial.get(member.id, member.addr) for member in members if member.id != me}
        for gone in [name for name, line in self._lines.items() if peers.get(name) != line.address]:
            self._lines.pop(gone).scope.cancel()
        for session, end in list(self._node.roster.ends.items()):
            if end.node not in peers:
                refusal = Refused(Code.OTHER_CLUSTER, f"{end.node} is no member of this cluster any more")
                self._node.outbox.drop(session, refusal)
        for name in [name for name in peers if name not in self._lines]:
            line = Line(self._node, self._config, name, peers[name], self._credentials.client_context)
            self._lines[name] = line
            self._tasks.start_soon(line.run, self._chance)

    def follow(self, member: NodeId) -> None:
        """Ask `member` for its log, if there is a line to it."""
        if member in self._lines and (session := self._lines[member].session) is not None:
            session.follow()

    def greet(self, member: NodeId | None) -> None:
        """Say hello at once to `member`, None for all: they hear where we stand, and say where they do."""
        for name, line in self._lines.items():
            if member in (name, None) and line.session is not None:
                line.session.greet()

    def met(self, member: NodeId) -> None:
        """`member` has dialled us, so it can probably be dialled too: a node that starts is found at once."""
        if member in self._lines:
            self._lines[member].sooner.ring()

    def told(self, member: NodeId, reached_at: str) -> None:
        """`member` says where it is reached: who missed that it has moved finds it there. How a member is
        dialled that this node's file names in `dial` is for that file alone.
        """
        if member in self._lines and member not in self._config.node.dial:
            self._lines[member].told(reached_at)

    def session(self, number: int) -> PeerSession | None:
        """The open session that has this number, if we have dialled it."""
        sessions = (line.session for line in self._lines.values())
        return next((each for each in sessions if each is not None and each.number == number), None)


class Line:
    """The line to one member, dialled at `address`: a session, and after that has ended another one.

    `session` is the one that is open, None while there is none. `sooner` rings to have the member dialled at
    once; cancelling `scope` ends the line.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        member: NodeId,
        address: Address,
        context: Callable[[], ssl.SSLContext],
    ) -> None:
        """`context` gives the one for the next try."""
        self.address = address
        self.session: PeerSession | None = None
        self.sooner = Bell()
        self.scope = anyio.CancelScope()
        self._node = node
        self._config = config
        self._member = member
        self._where = Whereabouts(address)
        self._context = context
        self._reasons = Reasons()

    async def run(self, chance: random.Random) -> None:
        """Keep the line up until `scope` is cancelled: dial, talk, and after any failure dial again, later
        and later, with jitter.
        """
        with self.scope:
            backoff = BACKOFF_MIN_S
            while True:
                started = anyio.current_time()
                try:
                    await self._talk()
                except* RedwireError as group:
                    error = first(group)
                    self._down(error)
                    if error.code == Code.ID_TAKEN:
                        backoff = TAKEN_AGAIN_S
                    elif error.code == Code.DISK_FULL and isinstance(error, Refused):
                        backoff = NO_ROOM_THERE_S
                if anyio.current_time() - started > 2 * BACKOFF_MAX_S:
                    backoff = BACKOFF_MIN_S
                with anyio.move_on_after(backoff * chance.uniform(0.5, 1.0)):
                    await self.sooner.wait()
                backoff = min(backoff * 2, BACKOFF_MAX_S)

    def told(self, reached_at: str) -> None:
        """The member says where it is reached."""
        self._where.told(reached_at)

    async def _talk(self) -> None:
        try:
            dialled = await self._dial()
        except RedwireError:
            self._where.missed()
            raise
        session = self.session = PeerSession(self._node, self._member, dialled, self._up)
        try:
            await session.run()
        finally:
            self.session = None
            session.close()

    async def _dial(self) -> Dialled:
        name = self._config.node.id
        host = f"{self._member}.{self._config.cluster.name}.redwire"
        try:
            return await dial(
                *self._where.place,
                self._context(),
                Certificate(),
                server_hostname=host,
                client_name=name,
            )
        except ConnectFailed as error:
            hint = _OF_CERTIFICATES.get(error.facts.get("verify_code"))
            if hint is None:
                raise
            raise ConnectFailed(
                error.message, retry=False, addr=str(error.facts["certificate_of"]), hint=hint
            ) from error
        except AuthenticationFailed as error:
            if "reason" not in error.facts:
                raise  # TLS refused the certificate, or it went down: it has not said whom it knows
            text = f"{self._member} knows no member {name} of its cluster: it was removed, or not added yet"
            hint = (
                "if so, stop this node, or have an administrator add it: redwire members add; else "
                f"{self._member} has another cluster's disk: redwire doctor"
            )
            raise Refused(Code.UNAUTHENTICATED, text, hint=hint) from error

    def _up(self) -> None:
        """The member has answered."""
        self._reasons.over()
        self._node.note(f"connected to {self._member} at {self._where.place}")

    def _down(self, error: RedwireError) -> None:
        """Say why the line is down, but not at every try. Where another process has this node's id, this one
        ends: its log, which stands still, must not speak for the member one day. It ends as well where the
        disk failed under a snapshot.
        """
        node, member = self._node, self._member
        if isinstance(error, DiskFailed):
            node.storage.fail(error)
        if error.code != Code.ID_TAKEN:
            node.roster.taken.pop(member, None)
        elif node.roster.taken_ms(member, node.role.reign, node.clock().ms) > TAKEN_MS and not node.leads:
            node.storage.fail(error)
        if self._reasons.news(error.message, anyio.current_time()):
            self._node.note(f"no line to {self._member}: {error}", Level.WARNING)


class Reasons:
    """Why a line is down, as far as that was told: what is news of it. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._told_s: dict[str, float] = {}

    def news(self, reason: str, now_s: float) -> bool:
        """Whether `reason` is to be told: in the place of another one, and once in `SAY_AGAIN_S`, where a few
        take turns, as at a door behind which nobody is.
        """
        told_s = {text: then_s for text, then_s in self._told_s.items() if now_s - then_s < SAY_AGAIN_S}
        self._told_s = told_s
        if reason == self._last or reason in told_s:
            return False
        self._last, told_s[reason] = reason, now_s
        return True

    def over(self) -> None:
        """The line is up."""
        self._last = None
        self._told_s.clear()


_FOREIGN = (
    "tls.ca of this node names no authority that issued it: compare tls.ca and tls.cert of both; while an "
    "authority is replaced, all nodes trust both: docs/OPERATIONS.md, Replace the authority"
)
_OF_CERTIFICATES: dict[object, str] = {
    **dict.fromkeys((18, 19, 20, 21), _FOREIGN),
    62: "another node answers there, or one with another's files: see its addr in redwire members list, and "
    "tls.cert on its host",
}
"""What helps between nodes, by OpenSSL's code for what is wrong; a client that meets the same has no business
with nodes' files.
"""
