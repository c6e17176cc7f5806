"""Which topology this node tells its callers, and who wants to hear of changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from cluster.topology_advertiser import ReplicaView, TopologyAdvertiser, TopologyAuthGate
from redwire.handshake import Principal
from redwire.message.client import TopologyNotice
from redwire.position import Lsn, NodeId, Region
from redwire.topology import Endpoint, ReplicaEntry, Topology, decode
from regions.binding import Member

Listener = Callable[[], None]


class Announcer:
    """The primary's own topology while this node leads; otherwise the last one that a primary sent, unchanged
    (R12). Before there was one it is where the members are by the settings, so that whoever knows this node
    alone finds the others: nobody leads there, and nobody is called healthy.
    """

    def __init__(self, region: Region, members: Sequence[Member] = ()) -> None:
        """In `region`; `members` are those of the settings in force."""
        self._advertiser: TopologyAdvertiser | None = None
        self._region = region
        self._current = self._unled(members)
        self._lost = True
        self._listeners: dict[Listener, None] = {}  # in their order

    @property
    def current(self) -> Topology:
        """The whole topology, for this node's own use."""
        return self._current

    def lead(self, advertiser: TopologyAdvertiser) -> None:
        """This node numbers the topologies from now on."""
        self._advertiser = advertiser
        self._change(advertiser.current, lost=False)

    def members_changed(self, members: Sequence[Member]) -> None:
        """These are the members from now on. While leading the next `observe` tells so."""
        if self._advertiser is not None:
            self._advertiser.members = tuple(members)
        elif not self._current.epoch:
            self._current = self._unled(members)

    def follow(self) -> None:
        """This node relays from now on, and has no primary yet."""
        self._advertiser = None
        self._change(self._current, lost=True)

    def observe(self, replicas: Mapping[NodeId, ReplicaView], now_ms: int) -> None:
        """While leading: how the others do. Listeners are told when that began a new epoch."""
        if self._advertiser is not None:
            changed = self._advertiser.observe(replicas, now_ms)
            self._current = self._advertiser.current
            if changed:
                self._tell()

    def relay(self, blob: bytes) -> None:
        """While following: what the primary sent. Raises `TopologyInvalid`; an older epoch is ignored."""
        topology = decode(blob)
        if self._advertiser is None and topology is not None and topology.epoch >= self._current.epoch:
            self._change(topology, lost=False)

    def lost_primary(self, lost: bool) -> None:
        """While following: whether the primary is in reach; said beside the topology, not in it."""
        if self._advertiser is None and lost != self._lost:
            self._change(self._current, lost=lost)

    def blob(self, principal: Principal | None) -> bytes:
        """The topology that `principal` may see, as the v1 blob."""
        return TopologyAuthGate.view(self._current, principal).encode()

    def body(self, principal: Principal | None) -> bytes:
        """The body of a Topology frame for `principal`."""
        return TopologyNotice(self._lost, self.blob(principal)).encode()

    def listen(self, listener: Listener) -> None:
        """Call `listener` after every change."""
        self._listeners[listener] = None

    def unlisten(self, listener: Listener) -> None:
        """Call it no more."""
        self._listeners.pop(listener, None)

    def _unled(self, members: Sequence[Member]) -> Topology:
        entries = (ReplicaEntry(member.addr, member.region, False, None, Lsn(0)) for member in members)
        return Topology(0, Endpoint("", self._region), tuple(entries))

    def _change(self, topology: Topology, *, lost: bool) -> None:
        changed = (topology.epoch, lost) != (self._current.epoch, self._lost)
        self._current, self._lost = topology, lost
        if changed:
            self._tell()

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()


class Epochs:
    """Which epoch each session was told last. A session that has ended is forgotten."""

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._epochs)

    def behind(self, sessions: Collection[int], epoch: int) -> list[int]:
        """Those of `sessions`, which are all that there are, who do not know `epoch`; they are told now."""
        before, self._epochs = self._epochs, dict.fromkeys(sessions, epoch)
        return [session for session in sessions if before.get(session) != epoch]
