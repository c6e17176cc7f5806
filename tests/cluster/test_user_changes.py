"""What follows from a change of users: sessions that must end, at the primary and at a replica, and how."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from redwire import body, connect_sync
from redwire.dial import Dialled, dial
from redwire.errors import ChannelClosed, RedwireError
from redwire.frame import Frame, Kind, encode_frame
from redwire.handshake import Anonymous, Bearer, Certificate, Credentials, Password
from redwire.message.admin import (
    AccountDone,
    PutToken,
    PutUser,
    RemoveToken,
    RemoveUser,
    ScramRecord,
    SetRole,
)
from redwire.message.client import Open, Opened, encode_write_frame_body
from redwire.message.failure import Failure
from redwire.record import Key, Op, Record, encode_record, encode_write
from redwire.scram import make_verifier
from redwire.tls import client_context
from tests.cluster.handmade import in_time

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NODES = ("eu-1", "us-1", "ap-1")
PASSWORD = "correct horse"
ANSWER_S = 10.0


class Guest:
    """One raw session after its handshake: frames out, frames in, and how it ends."""

    def __init__(self, portal: BlockingPortal, dialled: Dialled) -> None:
        self._portal = portal
        self._dialled = dialled
        self._frames: list[Frame] = [*dialled.early]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._portal.call(self._dialled.channel.close)

    def send(self, kind: Kind, payload: bytes = b"", correlation: int = 1) -> None:
        self._portal.call(self._dialled.channel.write, encode_frame(kind, payload, correlation))

    def ask(self, kind: Kind, payload: bytes = b"", correlation: int = 1) -> Frame:
        """One request, and the next frame."""
        self.send(kind, payload, correlation)
        frame = self.frame()
        assert frame is not None and frame.correlation == correlation, frame
        return frame

    def frame(self) -> Frame | None:
        """The next frame; None once the node has closed."""
        while not self._frames:
            data = self._portal.call(self._receive)
            if not data:
                return None
            self._frames += self._dialled.connection.receive_data(data)
        return self._frames.pop(0)

    def last_words(self) -> list[Frame]:
        """All frames until the node closes, which it must."""
        return [*iter(self.frame, None)]

    def why(self) -> RedwireError:
        """The one last word that is said to our own client."""
        (last,) = self.last_words()
        assert (last.kind, last.correlation) == (Kind.FAILURE, 0)
        return body.decode(last.payload, Failure).to_error()

    def lives(self) -> bool:
        """Whether the session is still served."""
        return self.ask(Kind.PING, b"", 99).kind == Kind.PONG

    async def _receive(self) -> bytes:
        with anyio.fail_after(ANSWER_S), contextlib.suppress(ChannelClosed):
            return await self._dialled.channel.receive()
        return b""


Join = Callable[..., Guest]


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    """Three nodes. A write waits for all of them by default, a change of accounts for two."""
    sections = {"auth": {"anonymous": "write"}}
    shop = module_fleet(*NODES, sections=sections, policy="ack_n=2", floor="majority")
    shop.authority.issue_user("leaver").save(shop.folder, "leaver")
    return shop


@pytest.fixture
def join(shop: Any) -> Iterator[Join]:
    """`join(node, credentials)`: a session, as our own client's unless `spoken` is false."""
    with start_blocking_portal("asyncio") as portal, contextlib.ExitStack() as guests:

        def join(node: str, credentials: Credentials, *, spoken: bool = True, who: str = "") -> Guest:
            folder: Path = shop.folder
            files = (folder / f"{who}.pem", folder / f"{who}.key") if who else (None, None)
            context = client_context(folder / "ca.pem", *files, peer=False)

            async def knock() -> Dialled:
                return await dial("127.0.0.1", shop.ports[node], context, credentials, client_name="test")

            guest = guests.enter_context(Guest(portal, portal.call(knock)))
            if spoken:
                assert guest.ask(Kind.OPEN, body.encode(Open("test", False))).kind == Kind.OPENED
            return guest

        yield join


def token(shop: Any, user: str, role: str = "write") -> tuple[Bearer, str]:
    """A new bearer token, known everywhere; with its id."""
    text, ident = secrets.token_urlsafe(24), f"token-{secrets.token_hex(4)}"
    digest = hashlib.sha256(text.encode()).digest()
    shop.db.admin.change_account(PutToken(id=ident, user=user, role=role, sha256=digest))
    shop.converge()
    return Bearer(text), ident


def rights(shop: Any, name: str, role: Any, *, topology_read: bool, password: str = PASSWORD) -> PutUser:
    """A user whose verifier is the same for the same password: only what else differs is a change."""
    verifier = make_verifier(password, name.encode().ljust(16)[:16])
    record = ScramRecord(
        salt=verifier.salt,
        iterations=verifier.iterations,
        stored_key=verifier.stored_key,
        server_key=verifier.server_key,
    )
    return PutUser(name=name, role=role, verifier=record, topology_read=topology_read)


@pytest.mark.parametrize("node", NODES[:2])
def test_the_sessions_of_a_removed_user_end_and_nobody_elses(shop: Any, join: Join, node: str) -> None:
    for name in ("leaver", "stayer"):
        shop.add_user(name, PASSWORD)
    bearer, _ = token(shop, "leaver")
    leaving = [
        join(node, Password("leaver", PASSWORD)),
        join(node, bearer),
        join(node, Certificate(), who="leaver"),
    ]
    driver = join(node, Password("leaver", PASSWORD), spoken=False)
    staying = [
        join(node, Password("stayer", PASSWORD)),
        join(node, Anonymous()),
        join(node, Certificate(), who="ops"),
    ]
    shop.db.admin.change_account(RemoveUser("leaver"))
    for guest in leaving:
        assert str(guest.why()) == "the user leaver was removed"
    (last,) = driver.last_words()
    assert (last.kind, last.payload) == (Kind.ERROR, b"UNAUTHENTICATED: the user leaver was removed")
    assert all(guest.lives() for guest in staying)


@pytest.mark.parametrize("node", NODES[:2])
def test_a_revoked_token_ends_the_sessions_by_it_and_no_others(shop: Any, join: Join, node: str) -> None:
    shop.add_user("holder", PASSWORD)
    (revoked, ident), (kept, _) = token(shop, "holder"), token(shop, "holder")
    ending, staying = join(node, revoked), [join(node, kept), join(node, Password("holder", PASSWORD))]
    shop.db.admin.change_account(RemoveToken(ident))
    why = ending.why()
    assert str(why) == f"the token {ident} was revoked" and not why.retry
    assert all(guest.lives() for guest in staying)


def test_a_new_password_ends_the_sessions_by_the_old_one_and_leaves_tokens(shop: Any, join: Join) -> None:
    shop.db.admin.change_account(rights(shop, "changing", "write", topology_read=True, password="before"))
    bearer, _ = token(shop, "changing")
    for node in NODES[:2]:
        shop.db.admin.change_account(rights(shop, "changing", "write", topology_read=True, password="before"))
        shop.converge()
        by_password, by_token = join(node, Password("changing", "before")), join(node, bearer)
        shop.db.admin.change_account(rights(shop, "changing", "write", topology_read=True, password="after"))
        why = by_password.why()
        assert str(why) == "the password of the user changing was changed; connect again" and why.retry
        assert by_token.lives()


def test_other_rights_end_what_they_change_and_the_same_ones_again_end_nothing(shop: Any, join: Join) -> None:
    shop.db.admin.change_account(rights(shop, "rising", "write", topology_read=False))
    bearer, _ = token(shop, "rising", "read")
    node = "us-1"
    by_password, by_token = join(node, Password("rising", PASSWORD)), join(node, bearer)
    shop.db.admin.change_account(rights(shop, "rising", "write", topology_read=False))
    shop.converge()
    assert by_password.lives() and by_token.lives()
    shop.db.admin.change_account(SetRole(name="rising", role="admin", topology_read=None))
    why = by_password.why()
    assert str(why) == "the rights of the user rising were changed; connect again" and why.retry
    assert by_token.lives(), "its token may only read, now as before"
    shop.db.admin.change_account(rights(shop, "rising", "admin", topology_read=True))
    assert by_token.why().retry


def test_a_client_whose_rights_have_changed_goes_on_with_the_new_ones_by_itself(shop: Any) -> None:
    shop.db.admin.change_account(rights(shop, "going", "read", topology_read=True))
    shop.converge()
    uri = f"reds://going:correct%20horse@127.0.0.1:{shop.ports['eu-1']}/?ca={shop.folder}/ca.pem"
    with connect_sync(uri) as db:
        assert db.get("going", "nothing") is None
        shop.db.admin.change_account(rights(shop, "going", "write", topology_read=True))
        shop.until(lambda: written(db), "the client may write")


def written(db: Any) -> bool:
    with contextlib.suppress(RedwireError):
        db.put("going", "something", {})
        return True
    return False


def test_an_administrator_by_configuration_stays_whatever_users_bear_his_name(shop: Any, join: Join) -> None:
    by_certificate = join("us-1", Certificate(), who="ops")
    shop.add_user("ops", PASSWORD, "read")
    shop.converge()
    by_password = join("us-1", Password("ops", PASSWORD))
    shop.db.admin.change_account(RemoveUser("ops"))
    assert str(by_password.why()) == "the user ops was removed"
    assert by_certificate.lives()


def test_who_removes_himself_is_answered_first(shop: Any, join: Join) -> None:
    shop.add_user("boss", PASSWORD, "admin")
    boss = join("eu-1", Password("boss", PASSWORD))
    boss.send(Kind.ACCOUNT, in_time(body.encode(RemoveUser("boss"))), 7)
    answer, last = boss.last_words()
    assert (answer.kind, answer.correlation) == (Kind.ACCOUNT_DONE, 7)
    assert AccountDone.decode(answer.payload).missing == ""
    assert body.decode(last.payload, Failure).message == "the user boss was removed"


def test_a_write_under_way_goes_on_and_its_key_finds_it(shop: Any, join: Join) -> None:
    shop.add_user("writer", PASSWORD)
    writer, driver = (join("eu-1", Password("writer", PASSWORD), spoken=spoken) for spoken in (True, False))
    opened = body.decode(writer.ask(Kind.OPEN, body.encode(Open("test", False))).payload, Opened)
    key = Key(opened.client_id, 1, 1)
    shop.pause("ap-1")
    before = shop.status("eu-1").own.received or 0
    request = encode_write([encode_record(Record(Op.PUT, "late", "ours", b"{}"))], key)
    writer.send(Kind.WRITE, encode_write_frame_body(60_000, 1, "", request), 5)
    driver.send(Kind.BULK_INSERT, b'{"collection":"late","payload":{"id":"theirs"}}', 6)
    shop.until(lambda: (shop.status("eu-1").own.received or 0) == before + 2, "both are in the log")
    shop.db.admin.change_account(RemoveUser("writer"))
    assert str(writer.why()) == "the user writer was removed"
    (last,) = driver.last_words()
    assert (last.kind, last.correlation) == (Kind.ERROR, 6)
    assert last.payload.startswith(b"NOT_CONFIRMED: the user writer was removed while this request was under")
    shop.resume("ap-1")
    assert shop.db.resolve(key).receipt.lsn in (before + 1, before + 2)
    shop.converge()
    assert {*shop.documents("ap-1", "late")} == {"ours", "theirs"}


def test_a_driver_that_reads_is_told_why_in_the_place_of_its_answer(shop: Any, join: Join) -> None:
    shop.add_user("asking", PASSWORD, "read")
    driver = join("eu-1", Password("asking", PASSWORD), spoken=False)
    slow = b"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    driver.send(Kind.QUERY, slow, 8)
    shop.db.admin.change_account(RemoveUser("asking"))
    (last,) = driver.last_words()
    assert (last.kind, last.correlation) == (Kind.ERROR, 8)
    assert last.payload == b"UNAUTHENTICATED: the user asking was removed"
