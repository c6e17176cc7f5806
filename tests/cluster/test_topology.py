"""What callers learn of the cluster's shape: strangers little, the entitled all, subscribers every change."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from redwire import connect_sync, topology
from redwire.body import decode, encode
from redwire.connection import ClientConnection
from redwire.frame import Frame, Kind
from redwire.handshake import Anonymous, Certificate, Credentials, Password
from redwire.message.client import Open, Opened, TopologyNotice, encode_write_frame_body
from redwire.message.failure import Failure
from redwire.record import Op, Record, encode_record, encode_write
from redwire.scram import salted_password
from redwire.tls import client_context
from redwire.topology import Topology

pytestmark = pytest.mark.slow

NODES = ("eu-1", "us-1", "ap-1")
REPLICA_TIMEOUT_MS = 3_000
ANSWER_S = 20.0
TERM_SHIFT = 24
SEER, BLIND = Password("seer", "sees all"), Password("blind", "sees little")
"""With and without `cluster:topology:read`; both may write."""


class Caller:
    """One authenticated connection to one node. `pushes` are the topologies that nobody here asked for."""

    def __init__(self, shop: Any, node: str, credentials: Credentials) -> None:
        files = [shop.folder / "ca.pem"]
        if isinstance(credentials, Certificate):
            files += [shop.folder / "ops.pem", shop.folder / "ops.key"]
        context = client_context(*files, peer=False)
        address = "127.0.0.1", shop.ports[node]
        tcp = socket.create_connection(address, timeout=ANSWER_S)
        self.sock = context.wrap_socket(tcp, server_hostname=address[0])
        self.pushes: list[TopologyNotice] = []
        self._connection = ClientConnection(credentials, nonce=secrets.token_hex(8), client_name="test")
        self._correlation = 100
        while self._connection.established is None:
            self.sock.sendall(b"".join(self._connection.data_to_send()))
            data = self.sock.recv(1 << 16)
            self._connection.receive_data(data) if data else self._connection.receive_eof()
            if self._connection.challenge is not None:
                assert isinstance(credentials, Password)
                salted = salted_password(credentials.password, self._connection.challenge)
                self._connection.provide_salted_password(salted)
        self.before = seen(self._connection.established.hello_topology)
        self.after = seen(self._connection.established.topology)

    def ask(self, kind: int, payload: bytes = b"") -> Frame:
        """The answer to one request; pushes before it are kept."""
        self._correlation += 1
        self._connection.send(kind, payload, self._correlation)
        self.sock.sendall(b"".join(self._connection.data_to_send()))
        while True:
            for frame in self._receive(ANSWER_S):
                if frame.correlation == self._correlation:
                    return frame

    def subscribe(self, *, pushes: bool = True) -> Topology | None:
        """What Opened says."""
        answer = self.ask(Kind.OPEN, encode(Open("test", pushes)))
        return seen(decode(answer.payload, Opened).topology)

    def listen(self) -> list[TopologyNotice]:
        """All pushes so far, with those that have arrived by now."""
        with contextlib.suppress(TimeoutError):
            while True:
                self._receive(0.01)
        return self.pushes

    def _receive(self, timeout_s: float) -> list[Frame]:
        self.sock.settimeout(timeout_s)
        data = self.sock.recv(1 << 18)
        assert data, "the node closed the connection"
        frames = self._connection.receive_data(data)
        unasked = [frame for frame in frames if frame.correlation == 0]
        assert {frame.kind for frame in unasked} <= {Kind.TOPOLOGY}
        self.pushes += [TopologyNotice.decode(frame.payload) for frame in unasked]
        return frames


def seen(blob: bytes | None) -> Topology | None:
    return None if blob is None else topology.decode(blob)


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    """Three regions with links that can be cut, and two users. Each test leaves it whole."""
    pairs = [("eu", "us"), ("ap", "eu"), ("ap", "us")]
    shop = module_fleet(
        *NODES,
        rtt_ms=dict.fromkeys(pairs, 2.0),
        sections={"auth": {"anonymous": "read"}},
        replica_timeout_ms=REPLICA_TIMEOUT_MS,
    )
    shop.add_user(SEER.user, SEER.password)
    shop.add_user(BLIND.user, BLIND.password, topology_read=False)
    settle(shop)
    return shop


@pytest.fixture
def call(shop: Any) -> Iterator[Any]:
    """`call("us-1", SEER)`: a caller, hung up at the end."""
    with contextlib.ExitStack() as ends:

        def dial(node: str, credentials: Credentials) -> Caller:
            caller = Caller(shop, node, credentials)
            ends.callback(caller.sock.close)
            return caller

        yield dial


def settle(shop: Any) -> None:
    """Wait until all nodes tell the same topology, in which everybody is well, and know the users."""
    shop.converge()

    def told() -> bool:
        shapes = []
        for node in NODES:
            caller = Caller(shop, node, SEER)
            caller.sock.close()
            shapes.append(caller.after)
        return len({shape.epoch for shape in shapes}) == 1 and all(
            replica.healthy for shape in shapes for replica in shape.replicas
        )

    shop.until(told, "one topology in which all are healthy")


def address(shop: Any, node: str) -> str:
    return f"127.0.0.1:{shop.ports[node]}"


def is_whole(shop: Any, shape: Topology) -> bool:
    """Whether this is the whole cluster, by the addresses that it advertises, and who leads it."""
    leader = shape.primary.addr == address(shop, shop.leader)
    others = {(replica.addr, replica.region) for replica in shape.replicas}
    return leader and others == {(address(shop, node), node.split("-")[0]) for node in shop.followers}


def is_primary_only(shop: Any, shape: Topology) -> bool:
    return shape.primary.addr == address(shop, shop.leader) and shape.replicas == ()


@pytest.mark.parametrize("node", NODES)
def test_every_node_tells_strangers_the_primary_in_the_real_epoch_and_the_entitled_the_rest(
    shop: Any, call: Any, node: str
) -> None:
    seer, blind, nobody, admin = (call(node, who) for who in (SEER, BLIND, Anonymous(), Certificate()))
    assert is_whole(shop, seer.after)
    assert is_whole(shop, admin.before) and is_whole(shop, admin.after)
    for stranger in (seer, blind, nobody):
        assert is_primary_only(shop, stranger.before)
        assert stranger.before.epoch == seer.after.epoch
    assert blind.after is nobody.after is None


@pytest.mark.parametrize("node", NODES)
def test_without_the_capability_no_answer_of_any_node_tells_more_than_the_primary(
    shop: Any, call: Any, node: str
) -> None:
    for who, test in ((SEER, is_whole), (BLIND, is_primary_only)):
        caller = call(node, who)
        assert test(shop, caller.subscribe())
        answer = caller.ask(Kind.TOPOLOGY_REQUEST)
        assert test(shop, seen(TopologyNotice.decode(answer.payload).blob))
        if node != shop.leader:
            record = encode_record(Record(Op.PUT, "c", "x", b"{}"))
            refusal = caller.ask(Kind.WRITE, encode_write_frame_body(5_000, 1, "", encode_write([record])))
            assert test(shop, seen(decode(refusal.payload, Failure).topology))


@pytest.mark.parametrize("node", NODES)
def test_any_node_leads_a_client_to_the_primary_and_every_advertised_address_can_be_dialled(
    shop: Any, node: str
) -> None:
    with connect_sync(shop.uri(node)) as db:
        db.put("seeds", node, {"n": 1})
        shape = db.topology()
        assert is_whole(shop, shape)
        for addr in (shape.primary.addr, *(replica.addr for replica in shape.replicas)):
            assert addr == address(shop, db.status(addr).vantage.node)


def told(shop: Any, callers: list[Caller], epoch: int, fact: Callable[[Topology], bool], what: str) -> int:
    """Wait until the last push to each is newer than `epoch`, and `fact` holds where all of it is seen; its
    epoch.
    """

    def lasts() -> list[Topology]:
        shapes = [seen(caller.listen()[-1].blob) for caller in callers if caller.listen()]
        well = [shape for shape in shapes if shape.epoch > epoch and (not shape.replicas or fact(shape))]
        return well if len(well) == len(callers) and len({shape.epoch for shape in well}) == 1 else []

    return shop.until(lasts, what)[0].epoch


def test_a_change_is_pushed_to_whoever_subscribed_and_to_nobody_else(shop: Any, call: Any) -> None:
    leader, (stays, victim) = shop.leader, shop.followers
    subscribed = [call(node, who) for node in (leader, stays) for who in (SEER, BLIND)]
    epoch = max(caller.subscribe().epoch for caller in subscribed)
    driver, quiet = call(stays, SEER), call(leader, SEER)
    quiet.subscribe(pushes=False)

    def well(shape: Topology) -> bool:
        return next(row.healthy for row in shape.replicas if row.addr == address(shop, victim))

    shop.kill(victim)
    gone = told(shop, subscribed, epoch, lambda shape: not well(shape), f"{victim} is gone")
    shop.start_node(victim)
    told(shop, subscribed, gone, well, f"{victim} is back")
    for caller in subscribed:
        shapes = [seen(notice.blob) for notice in caller.pushes]
        assert len({shape.epoch for shape in shapes}) == len(shapes), "an epoch was told twice"
        assert all(bool(shape.replicas) == (caller.after is not None) for shape in shapes)
    for silent in (driver, quiet):
        assert silent.ask(Kind.PING).kind == Kind.PONG
        assert silent.listen() == []
    settle(shop)


def test_a_new_primary_is_told_under_a_newer_epoch_and_until_then_the_old_one_is_called_lost(
    shop: Any, call: Any
) -> None:
    old, (new, stays) = shop.leader, shop.followers
    subscribed = [call(stays, who) for who in (SEER, BLIND)]
    epoch = subscribed[0].subscribe().epoch
    subscribed[1].subscribe()
    assert shop.terminate(old) == 0
    shop.set_role(old, "replica")
    shop.start_node(old)
    shop.crown(new)
    term = shop.status(new).term
    least = (term << TERM_SHIFT) - 1
    told(shop, subscribed, least, lambda shape: is_whole(shop, shape), f"{new} leads")
    for caller in subscribed:
        shapes = [seen(notice.blob) for notice in caller.pushes]
        assert [shape.epoch for shape in shapes] == sorted(shape.epoch for shape in shapes)
        lost = [shape for notice, shape in zip(caller.pushes, shapes, strict=True) if notice.primary_lost]
        assert lost and {(shape.epoch, shape.primary.addr) for shape in lost} == {(epoch, address(shop, old))}
        assert not caller.pushes[-1].primary_lost and shapes[-1].primary.addr == address(shop, new)
    settle(shop)


def test_a_client_never_goes_back_to_the_older_epoch_of_a_node_that_was_cut_off(shop: Any, call: Any) -> None:
    cut_off = shop.followers[-1]
    region = cut_off.split("-")[0]
    with connect_sync(shop.uri(shop.leader)) as db:
        shop.isolate(cut_off)
        shop.until(lambda: any(not row.healthy for row in db.topology().replicas), f"{cut_off} is missed")
        new = db.routing.epoch
        old = call(cut_off, SEER)
        assert old.after.epoch < new
        assert db.get("seeds", "none", read=f"region:{region}") is None
        node = next(node for node in db.routing.nodes if node.addr == address(shop, cut_off))
        assert node.rtt_us is not None, "it was not asked"
        assert db.routing.epoch == new
        shop.heal(cut_off)
        shop.until(lambda: db.routing.epoch != new, "the client is told that it is back")
        assert db.routing.epoch > new
    settle(shop)


def test_clients_are_sent_to_where_a_node_says_that_they_reach_it(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1", "ap-1", start=False)
    public = {node: f"localhost:{shop.ports[node]}" for node in ("eu-1", "us-1")}
    for node, addr in public.items():
        document = yaml.safe_load(shop.config_path(node).read_text())
        document["node"]["advertise"] = addr
        shop.config_path(node).write_text(yaml.safe_dump(document))
    shop.up()
    shop.converge()
    expected = [public["eu-1"], public["us-1"], address(shop, "ap-1")]

    def addresses(db: Any) -> list[str]:
        shape = db.topology()
        return [shape.primary.addr, *(replica.addr for replica in shape.replicas)]

    for node in shop.nodes:
        with connect_sync(shop.uri(node)) as db:
            shop.until(lambda db=db: addresses(db) == expected, f"{node} tells where clients reach each")
            db.put("c", node, {"n": 1})
            assert [db.status(addr).vantage.node for addr in expected] == list(shop.nodes)
    assert shop.terminate("eu-1") == 0
    shop.crown("us-1")
    with connect_sync(shop.uri("ap-1")) as db:
        shop.until(
            lambda: addresses(db)[0] == public["us-1"], "the new primary is told by its public address"
        )
