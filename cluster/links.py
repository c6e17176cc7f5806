"""The lines from this node to all other members, one each, as the settings name them."""

from __future__ import annotations

import random

import anyio
from anyio.abc import TaskGroup

from cluster.config import NodeConfig
from cluster.credentials import NodeCredentials
from cluster.node import Node
from cluster.peers import Link
from redwire.errors import Code, Refused
from redwire.position import NodeId


class Links:
    """`run` keeps every line up; `match_settings` begins and ends lines when the members have changed.

    `credentials` prove who we are to the members; None, without TLS, is for a node that has no peers.
    """

    def __init__(self, node: Node, config: NodeConfig, credentials: NodeCredentials | None) -> None:
        self._node = node
        self._config = config
        self._credentials = credentials
        self._links: dict[NodeId, tuple[Link, anyio.CancelScope]] = {}
        self._chance = random.Random()
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Keep the lines up until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            self.match_settings()
            await anyio.sleep_forever()

    def match_settings(self) -> None:
        """Dial who is new, and part from who is no member any more."""
        if self._tasks is None or self._credentials is None:
            return
        members = self._node.storage.settings.cluster.members
        peers = {member.id: member for member in members if member.id != self._node.storage.me}
        for gone in [member for member in self._links if member not in peers]:
            self._links.pop(gone)[1].cancel()
        for session, end in list(self._node.roster.ends.items()):
            if end.node not in peers:
                refusal = Refused(Code.OTHER_CLUSTER, f"{end.node} is no member of this cluster any more")
                self._node.outbox.drop(session, refusal)
        for member in [member for member in peers.values() if member.id not in self._links]:
            address = self._config.node.dial.get(member.id, member.addr)
            link = Link(self._node, self._config, member.id, address, self._credentials.client_context)
            scope = anyio.CancelScope()
            self._links[member.id] = link, scope
            self._tasks.start_soon(self._keep, link, scope)

    def follow(self, member: NodeId) -> None:
        """Ask `member` for its log, if there is a line to it."""
        if member in self._links:
            self._links[member][0].follow()

    def with_session(self, session: int) -> Link | None:
        """The line whose session has this number now."""
        return next((link for link, _ in self._links.values() if link.session == session), None)

    async def _keep(self, link: Link, scope: anyio.CancelScope) -> None:
        with scope:
            await link.run(self._chance)
