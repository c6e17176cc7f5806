"""One client's session: who may ask what, what every error becomes, and what it hears unasked."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from weakref import ref

import pytest

from cluster.audit_events import Act, ActOutcome
from cluster.service import Service
from cluster.session import Session
from redwire.body import decode, encode
from redwire.errors import Code, ProtocolError, RedwireError, Refused
from redwire.frame import Frame, Kind
from redwire.handshake import Principal, PrincipalKind, Role
from redwire.message.client import Open, Opened
from redwire.message.failure import Failure
from redwire.message.read import Fetch
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.record import CLIENT_BYTES, NO_CLIENT

BLOB = b"who leads"


class Site:
    """A node that has joined or not, does not lead, and writes down what its sessions are told."""

    peer = "127.0.0.1:9"

    def __init__(self, role: Role = Role.ADMIN) -> None:
        self.sent: list[Frame] = []
        self.codes: list[Code] = []
        self.acts: list[Act] = []
        self.listeners: list[Any] = []
        self.joined = True
        announcer = SimpleNamespace(
            blob=lambda principal: BLOB,
            body=lambda principal: b"\0" + BLOB,
            listen=self.listeners.append,
            unlisten=self.listeners.remove,
        )
        counts = SimpleNamespace(answered=self.codes.append)
        service = SimpleNamespace(
            node=SimpleNamespace(bulletin=SimpleNamespace(counts=counts)),
            announcer=announcer,
            audit=SimpleNamespace(record=self.acts.append),
            require_primary=self._require_primary,
            opened=self._opened,
            unjoined=lambda principal: Refused(Code.NOT_READY, f"{principal.name} has to wait"),
            applied=Lsn(7),
            secret=bytes(32),
        )
        self.service = service
        service.joined = service.issues_ids = True
        principal = Principal(PrincipalKind.USER, "app", role, False)
        self.session = Session(cast(Service, service), principal, self)

    def _require_primary(self) -> None:
        raise Refused(Code.NOT_PRIMARY, "this node does not lead")

    def _opened(self, client_id: bytes, principal: Principal) -> Opened:
        return Opened(
            node="eu-1",
            region="eu",
            role="replica",
            cluster="c" * 32,
            name="shop",
            term=1,
            client_id=client_id,
            policy="majority",
            floor="majority",
            policy_timeout_ms=1,
            topology=BLOB,
        )

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        self.sent.append(Frame(kind, 0, stream, correlation, payload))

    def ask(self, kind: int, payload: bytes = b"", correlation: int = 5) -> Frame:
        """The one answer."""
        self.sent.clear()
        self.session.handle(Frame(kind, 0, 0, correlation, payload))
        (answer,) = self.sent
        assert answer.correlation == correlation
        return answer

    def failure(self, kind: int, payload: bytes = b"") -> Failure:
        answer = self.ask(kind, payload)
        assert answer.kind == Kind.FAILURE
        return decode(answer.payload, Failure)


class Wire:
    """A client's connection."""

    peer, buffered_bytes, gone = "127.0.0.1:9", 0, False

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send(self, kind: int, payload: bytes, correlation: int = 0, stream: int = 0) -> None:
        self.sent.append(kind)

    def when_below(self, limit_bytes: int, call: Callable[[], None]) -> None:
        call()


@pytest.fixture
def site() -> Site:
    return Site()


def opened(frame: Frame) -> Opened:
    assert frame.kind == Kind.OPENED
    return decode(frame.payload, Opened)


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.RESOLVE, Kind.ACCOUNT, Kind.CHANGE_SETTINGS])
def test_what_takes_more_than_its_role_is_refused_unread_and_said_how_to_change(kind: Kind) -> None:
    site = Site(Role.READ)
    assert site.session.handles(kind) and not site.session.wants(kind)
    failure = site.failure(kind, b"\xff")
    assert failure.code == Code.FORBIDDEN and "app has role read" in failure.message
    way = "redwire user role app write" if kind in (Kind.WRITE, Kind.RESOLVE) else "redwire dev uri --admin"
    assert way in failure.hint and site.codes == [Code.FORBIDDEN]


def test_only_who_tries_to_administer_is_written_down() -> None:
    site = Site(Role.WRITE)
    for kind in (Kind.ACCOUNT, Kind.ACCOUNTS_REQUEST, Kind.CHANGE_SETTINGS):
        site.failure(kind)
    assert [(act.act, act.outcome) for act in site.acts] == [
        ("account", ActOutcome.REFUSED),
        ("accounts_request", ActOutcome.REFUSED),
        ("change_settings", ActOutcome.REFUSED),
    ]
    reader = Site(Role.READ)
    reader.failure(Kind.WRITE)
    assert reader.acts == []


def test_whoever_asks_a_node_that_does_not_lead_is_told_who_does(site: Site) -> None:
    failure = site.failure(Kind.WRITE)
    assert (failure.code, failure.topology) == (Code.NOT_PRIMARY, BLOB)


def test_a_body_that_cannot_be_is_told_and_ends_the_session(site: Site) -> None:
    with pytest.raises(ProtocolError):
        site.session.handle(Frame(Kind.OPEN, 0, 0, 5, b"\xff"))
    (answer,) = site.sent
    assert (answer.kind, answer.correlation) == (Kind.FAILURE, 5)


def test_a_session_has_one_client_id_however_often_it_opens(site: Site) -> None:
    body = encode(Open("test", False))
    first, again = (opened(site.ask(Kind.OPEN, body)) for _ in range(2))
    assert first.client_id == again.client_id and len(first.client_id) == CLIENT_BYTES
    assert opened(Site().ask(Kind.OPEN, body)).client_id != first.client_id


def test_a_node_without_the_secret_of_its_cluster_issues_no_id_until_it_has_it(site: Site) -> None:
    body = encode(Open("test", False))
    site.service.issues_ids = False
    assert opened(site.ask(Kind.OPEN, body)).client_id == NO_CLIENT
    site.service.issues_ids = True
    issued = opened(site.ask(Kind.OPEN, body)).client_id
    assert issued != NO_CLIENT and opened(site.ask(Kind.OPEN, body)).client_id == issued


def test_a_node_that_has_not_joined_its_cluster_opens_nothing(site: Site) -> None:
    site.service.joined = False
    failure = site.failure(Kind.OPEN, encode(Open("test", True)))
    assert failure.code == Code.NOT_READY and failure.retry and site.listeners == []
    assert failure.message == "app has to wait"


def test_whoever_subscribed_hears_of_each_topology_once_until_it_goes(site: Site) -> None:
    for subscribe in (False, True, True):
        site.ask(Kind.OPEN, encode(Open("test", subscribe)))
    (listener,) = site.listeners
    site.sent.clear()
    listener()
    (pushed,) = site.sent
    assert (pushed.kind, pushed.correlation, pushed.payload) == (Kind.TOPOLOGY, 0, b"\0" + BLOB)
    site.session.close()
    assert site.listeners == []


def test_what_still_waits_for_an_answer_holds_nothing_of_a_client_that_is_gone(site: Site) -> None:
    waiting: list[Callable[[RedwireError | None], None]] = []
    site.service.reads = SimpleNamespace(when_fresh=lambda asked, go, user: waiting.append(go))
    site.service.unread = None
    wire = Wire()
    session = Session(cast(Service, site.service), site.session.principal, wire)
    asked = Fetch("c", "x", Token(ClusterId("c" * 32), Term(1), Lsn(9)), 60_000)
    session.handle(Frame(Kind.FETCH, 0, 0, 5, asked.encode()))
    session.handle(Frame(Kind.TOPOLOGY_REQUEST, 0, 0, 6, b""))
    assert wire.sent == [Kind.TOPOLOGY]
    session.close()
    here = ref(wire)
    del wire, session
    gc.collect()
    assert here() is None
    (go,) = waiting
    go(None)


def test_the_last_word_answers_no_request_and_only_who_has_spoken_would_understand_it(site: Site) -> None:
    assert not site.session.spoken
    site.ask(Kind.TOPOLOGY_REQUEST)
    assert site.session.spoken
    site.sent.clear()
    site.session.end(Refused(Code.UNAUTHENTICATED, "the user app was removed"))
    (last,) = site.sent
    assert (last.kind, last.correlation) == (Kind.FAILURE, 0)
    site.session.close()
