"""The lines from this node to all other members, one each, as the settings name them."""

from __future__ import annotations

import random
from typing import NamedTuple

import anyio
from anyio.abc import TaskGroup

from cluster.address import Address
from cluster.bell import Bell
from cluster.config import NodeConfig
from cluster.credentials import NodeCredentials
from cluster.node import Node
from cluster.peers import PeerLink
from redwire.errors import Code, Refused
from redwire.position import NodeId


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
        self._links: dict[NodeId, _Line] = {}
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
        for gone in [name for name, line in self._links.items() if peers.get(name) != line.address]:
            self._links.pop(gone).scope.cancel()
        for session, end in list(self._node.roster.ends.items()):
            if end.node not in peers:
                refusal = Refused(Code.OTHER_CLUSTER, f"{end.node} is no member of this cluster any more")
                self._node.outbox.drop(session, refusal)
        for name in [name for name in peers if name not in self._links]:
            link = PeerLink(self._node, self._config, name, peers[name], self._credentials.client_context)
            line = self._links[name] = _Line(link, peers[name], anyio.CancelScope(), Bell())
            self._tasks.start_soon(self._keep, line)

    def follow(self, member: NodeId) -> None:
        """Ask `member` for its log, if there is a line to it."""
        if member in self._links:
            self._links[member].link.follow()

    def greet(self, member: NodeId | None) -> None:
        """Say hello at once to `member`, None for all: they hear where we stand, and say where they do."""
        for name, line in self._links.items():
            if member in (name, None):
                line.link.greet()

    def met(self, member: NodeId) -> None:
        """`member` has dialled us, so it can probably be dialled too: a node that starts is found at once."""
        if member in self._links:
            self._links[member].sooner.ring()

    def told(self, member: NodeId, reached_at: str) -> None:
        """`member` says where it is reached: who missed that it has moved finds it there. How a member is
        dialled that this node's file names in `dial` is for that file alone.
        """
        if member in self._links and member not in self._config.node.dial:
            self._links[member].link.told(reached_at)

    def with_session(self, session: int) -> PeerLink | None:
        """The line whose session has this number now."""
        lines = self._links.values()
        return next((line.link for line in lines if line.link.session == session), None)

    async def _keep(self, line: _Line) -> None:
        with line.scope:
            await line.link.run(self._chance, line.sooner)


class _Line(NamedTuple):
    """A link, where it dials, what ends it, and what has it dial at once."""

    link: PeerLink
    address: Address
    scope: anyio.CancelScope
    sooner: Bell
