"""A client's frames, one after the other: what waits for room, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from cluster import inbox, server, session
from cluster.drivers import Drivers
from cluster.inbox import WAITING_BYTES_MAX, Inbox
from cluster.queued import Queued
from cluster.server import TURN_S, attend
from cluster.service import Service
from cluster.session import Session
from cluster.session_reads import ANSWER_BYTES_GUESS, READ_AHEAD_BYTES, WAITING_MAX
from cluster.turnstile import Turn
from cluster.unread import ALL_BYTES_MAX, EACH_BYTES_MAX, SCARCE_BYTES_MAX, Unread
from cluster.visit import Visit
from redwire.errors import ChannelClosed, ProtocolError
from redwire.frame import COMPRESSED, Frame, Kind
from redwire.handshake import Principal, PrincipalKind, Role
from redwire.message.client import encode_write_frame_body
from redwire.message.read import Fetch, Fetched
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.record import Op, Record, encode_record, encode_write

ROOM = READ_AHEAD_BYTES // ANSWER_BYTES_GUESS
"""Reads under way before the size of an answer is known."""
SEEN = Token(ClusterId("c" * 32), Term(1), Lsn(9))
PING, BYE = Frame(Kind.PING, 0, 0, 77, b""), Frame(Kind.BYE, 0, 0, 78, b"")
REQUEST = encode_write([encode_record(Record(Op.PUT, "c", "x", b"{}"))])


class Client:
    """In the place of a `Visit`: frames as the test sends them, then its end; and what came back."""

    peer = "127.0.0.1:9"
    gone = False
    in_work_bytes = 0

    def __init__(self) -> None:
        self._coming: list[list[Frame]] = []
        self.heard: list[tuple[int, int]] = []
        self.channel = SimpleNamespace(buffered_bytes=0, drain_below=self._drain_below)
        self.drained: list[int] = []

    @property
    def buffered_bytes(self) -> int:
        return self.channel.buffered_bytes

    def sends(self, *frames: Frame) -> None:
        self._coming.append([*frames])

    async def frames(self, before: object) -> list[Frame]:
        if not self._coming:
            raise ChannelClosed("the client has gone")
        return self._coming.pop(0)

    async def plain(self, frame: Frame, heavy: object) -> Frame:
        return frame

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        self.heard.append((kind, correlation))

    async def _drain_below(self, limit_bytes: int) -> None:
        self.drained.append(limit_bytes)
        self.channel.buffered_bytes = 0


class House:
    """In the place of a `Node` and its `Reads`, which read and log nothing until told."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.reading: list[Callable[[Any], None]] = []
        counts = SimpleNamespace(answered=lambda code: None)
        self.bulletin = SimpleNamespace(counts=counts)
        seconds = count()
        self.unread = Unread(lambda: float(next(seconds)))
        self.turns = 0
        self.clock = lambda: SimpleNamespace(us=0, ms=0)
        self.service = SimpleNamespace(
            node=self,
            reads=self,
            unread=self.unread,
            heavy=None,
            require_primary=lambda: None,
            proposal=lambda *asked, **more: SimpleNamespace(
                caller=asked[0], correlation=asked[1], request=asked[3]
            ),
        )

    def when_fresh(self, asked: Fetch, go: Callable[[None], None], user: str = "") -> None:
        if asked.token is None:
            go(None)

    def read(self, asked: Fetch, answer: Callable[[Any], None]) -> None:
        self.reading.append(answer)

    async def if_crowded(self) -> None:
        pass

    async def come(self) -> None:
        self.turns += 1
        await checkpoint()

    async def attend(self, client: Client, role: Role = Role.WRITE) -> None:
        principal = Principal(PrincipalKind.USER, "app", role, False)
        service, visit = cast(Service, self.service), cast(Visit, client)
        guest, drivers = Session(service, principal, visit), Drivers(service, principal, visit)
        await attend(visit, guest, drivers, service, cast(Turn, self))


def fetch(correlation: int, token: Token | None = None) -> Frame:
    return Frame(Kind.FETCH, 0, 0, correlation, Fetch("c", "x", token, 60_000).encode())


def write(correlation: int, request: bytes = REQUEST) -> Frame:
    return Frame(Kind.WRITE, 0, 0, correlation, encode_write_frame_body(5_000, 1, "", request))


def queued(size: int) -> Queued:
    """So many bytes, of others."""
    waiting = Queued()
    waiting.size = size
    return waiting


async def settled() -> None:
    """Everybody has come as far as they can."""
    for _ in range(10):
        await checkpoint()


@pytest.fixture
def house() -> House:
    return House()


async def test_a_ping_behind_reads_that_wait_for_their_token_is_answered(house: House) -> None:
    client = Client()
    client.sends(*(fetch(n, SEEN) for n in range(WAITING_MAX)), PING)
    client.sends(BYE)
    await house.attend(client)
    assert client.heard == [(Kind.PONG, 77), (Kind.BYE, 78)]


async def test_a_ping_behind_as_many_reads_as_have_room_is_answered_before_they_are(house: House) -> None:
    client = Client()
    client.sends(*map(fetch, range(ROOM)), PING, BYE)
    await house.attend(client)
    assert client.heard == [(Kind.PONG, 77), (Kind.BYE, 78)] and len(house.reading) == ROOM


async def test_one_read_more_waits_until_another_is_answered(house: House) -> None:
    client = Client()
    client.sends(*map(fetch, range(ROOM + 1)), PING, BYE)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.attend, client)
        await settled()
        assert client.heard == [] and len(house.reading) == ROOM
        house.reading[0](Fetched(False, 0, 1, 1))
    assert client.heard == [(Kind.FETCHED, 0), (Kind.PONG, 77), (Kind.BYE, 78)]


async def test_a_write_waits_while_the_nodes_queue_is_full_and_other_requests_do_not(house: House) -> None:
    client = Client()
    house.inbox.settle(queued(WAITING_BYTES_MAX))
    client.sends(PING, fetch(1), write(2))
    client.sends(BYE)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.attend, client)
        await settled()
        assert client.heard == [(Kind.PONG, 77)] and len(house.reading) == 1
        assert house.inbox.events() == house.inbox.proposals() == []
        house.inbox.settle()
    assert [proposal.correlation for proposal in house.inbox.proposals()] == [2]
    assert client.heard[-1] == (Kind.BYE, 78)


async def test_a_session_whose_own_writes_fill_its_share_of_the_queue_waits_and_others_do_not(
    house: House,
) -> None:
    greedy, other = Client(), Client()
    half = bytes(inbox.EACH_BYTES_MAX // 2 - 10)
    large = encode_write(
        [encode_record(Record(Op.PUT, "c", "x", b'{"x": "%s"}' % half.replace(b"\0", b"y")))]
    )
    greedy.sends(write(1, large), write(2, large), write(3), BYE)
    other.sends(write(4), BYE)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.attend, greedy)
        await settled()
        tasks.start_soon(house.attend, other)
        await settled()
        held = house.inbox.proposals()
        assert [proposal.correlation for proposal in held] == [1, 2, 4]
        assert greedy.heard == [] and other.heard == [(Kind.BYE, 78)]
        taken = Queued()
        for proposal in held:
            taken.add(proposal)
        house.inbox.settle(taken)
        await settled()
        assert house.inbox.proposals() == []  # what was taken is not logged yet
        taken.remove(held[0])
        house.inbox.settle(taken)
    assert [proposal.correlation for proposal in house.inbox.proposals()] == [3]


async def test_a_node_says_that_it_lives_while_a_write_keeps_it_from_reading(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "STILL_HERE_S", 0.01)
    client = Client()
    house.inbox.settle(queued(WAITING_BYTES_MAX))
    client.sends(write(1), PING, BYE)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.attend, client)
        with anyio.fail_after(5):
            while len(client.heard) < 2:
                await anyio.sleep(0.01)
        assert set(client.heard) == {(Kind.PONG, 0)} and house.inbox.proposals() == []
        house.inbox.settle()
    assert [proposal.correlation for proposal in house.inbox.proposals()] == [1]
    assert client.heard[-2:] == [(Kind.PONG, 77), (Kind.BYE, 78)]


async def test_a_write_waits_where_the_nodes_queue_has_become_full_while_it_was_expanded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = cast(Any, SimpleNamespace(caller=None, request=bytes(WAITING_BYTES_MAX)))
    client, plain = Client(), write(1)

    async def expanded(frame: Frame, heavy: object) -> Frame:
        house.inbox.propose(full)  # of somebody else
        return plain

    monkeypatch.setattr(client, "plain", expanded)
    client.sends(plain._replace(flags=COMPRESSED), BYE)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.attend, client)
        await settled()
        assert house.inbox.proposals() == [full]
        house.inbox.settle()
        await settled()
        assert len(house.inbox.proposals()) == 1
    assert client.heard == [(Kind.BYE, 78)]


async def test_whoever_does_not_take_its_answers_is_read_no_further_until_it_does(house: House) -> None:
    client = Client()
    client.channel.buffered_bytes = EACH_BYTES_MAX
    client.sends(PING, BYE)
    await house.attend(client)
    assert client.drained == [EACH_BYTES_MAX]


async def test_while_all_leave_too_much_each_may_leave_little_and_reads_nothing_more(house: House) -> None:
    others = [SimpleNamespace(buffered_bytes=EACH_BYTES_MAX) for _ in range(ALL_BYTES_MAX // EACH_BYTES_MAX)]
    for other in others:
        house.unread.enter(other)
    client = Client()
    house.unread.enter(client.channel)
    client.channel.buffered_bytes = SCARCE_BYTES_MAX
    client.sends(PING, fetch(1), fetch(2))
    client.sends(BYE)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.attend, client)
        await settled()
        assert client.drained == [SCARCE_BYTES_MAX]
        assert client.heard == [(Kind.PONG, 77)] and house.reading == []
        others[0].buffered_bytes = 0
        house.unread.let_begin()
        await settled()
        assert len(house.reading) == 2
    assert client.heard == [(Kind.PONG, 77), (Kind.BYE, 78)]


async def test_whoever_has_worked_its_turn_off_waits_for_the_next_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = count()
    monkeypatch.setattr(server.time, "monotonic", lambda: next(seconds) * TURN_S * 0.6)
    client = Client()
    client.sends(*[PING] * 4)
    client.sends(PING, BYE)
    await house.attend(client)
    assert house.turns == 2


async def test_a_request_that_waits_for_its_turn_counts_as_in_work(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "READ_S", TURN_S * 2)
    client, counted = Client(), list[int]()

    async def come() -> None:
        counted.append(client.in_work_bytes)

    monkeypatch.setattr(house, "come", come)
    request = write(1)
    client.sends(request, BYE)
    await house.attend(client)
    assert counted[0] == len(request.payload) > 0


async def test_nothing_is_done_any_more_for_whoever_has_gone(house: House) -> None:
    client = Client()
    client.sends(PING, PING, fetch(1))
    client.gone = True
    with pytest.raises(ChannelClosed):
        await house.attend(client)
    assert client.heard == [(Kind.PONG, 77)] and house.reading == []


async def test_a_node_that_stops_while_it_hears_out_a_member_that_broke_the_protocol_ends_in_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(member: Visit, name: str) -> None:
        raise ExceptionGroup("of a task group", [ProtocolError("no such frame")])

    heard = anyio.Event()

    async def hear_out() -> None:
        heard.set()
        await anyio.sleep_forever()

    listener = object.__new__(server.Server)
    monkeypatch.setattr(listener, "_serve_member", broken)
    member = Principal(PrincipalKind.NODE, "us-1", Role.REPLICATOR, False)
    visit = cast(Visit, SimpleNamespace(channel=SimpleNamespace(hear_out=hear_out)))
    serving = asyncio.ensure_future(listener._serve(visit, member))
    await heard.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_whoever_goes_without_a_goodbye_ends_it_all_the_same(house: House) -> None:
    client = Client()
    client.sends(PING)
    with pytest.raises(ChannelClosed):
        await house.attend(client)
    assert client.heard == [(Kind.PONG, 77)]
