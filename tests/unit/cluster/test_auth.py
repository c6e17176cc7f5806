"""Who may come in, and who may stay: a session stays while its credentials would open the same one again."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from cluster.accounts import Accounts
from cluster.address import Address
from cluster.announcer import Announcer
from cluster.audit_events import Accepted, Rejected
from cluster.auth import Authenticator, forbidden, outcome, token_of
from cluster.cluster_config import ClusterConfig, MemberConfig
from cluster.config import AnonymousAccess
from redwire.errors import Code
from redwire.frame import Kind
from redwire.handshake import Attempt, Identity, Method, Principal, PrincipalKind, Role
from redwire.message.admin import AccountChange, PutToken, PutUser, RemoveToken, RemoveUser, ScramRecord
from redwire.position import NodeId, Region

VERIFIER = ScramRecord(salt=bytes(16), iterations=16_384, stored_key=bytes(32), server_key=bytes(32))
ANN = PutUser(name="ann", role="write", verifier=VERIFIER, topology_read=False)
TOKEN = PutToken(id="t1", user="ann", role="read", sha256=hashlib.sha256(b"secret").digest())
READER = PutToken(id="t2", user="ann", role="admin", sha256=hashlib.sha256(b"other").digest())


class Site:
    """An authenticator whose accounts are changed by hand."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        member = MemberConfig(id=NodeId("eu-1"), region=Region("eu"), addr=Address("127.0.0.1", 5050))
        cluster = ClusterConfig(name="shop", members=(member,), admins=("ops",))
        announcer = Announcer(Region("eu"))
        self.authenticator = Authenticator(
            lambda: cluster, AnonymousAccess.READ, lambda: self.accounts, lambda: b"s" * 32, announcer, str
        )
        for change in (ANN, TOKEN, READER):
            self.apply(change)

    def apply(self, change: AccountChange) -> None:
        self.accounts = self.accounts.after(change)

    def by_certificate(self, name: str = "ann") -> Principal:
        principal = self.authenticator.identify(Identity("shop", PrincipalKind.USER, name), None)
        assert principal is not None
        return principal

    def by_password(self) -> Principal:
        known = self.authenticator.verifier("ann")
        assert known is not None
        return known[1]

    def by_token(self, secret: str = "secret") -> Principal:
        principal = self.authenticator.bearer(secret)
        assert principal is not None
        return principal

    def why(self, principal: Principal) -> tuple[str, bool] | None:
        verdict = self.authenticator.judge(principal)
        return None if verdict is None else (verdict.message, verdict.retry)


@pytest.fixture
def site() -> Site:
    return Site()


def replaced(**fields: Any) -> PutUser:
    return msgspec.structs.replace(ANN, **fields)


REMOVED = ("the user ann was removed", False)
REVOKED = ("the token t1 was revoked", False)
PASSWORD = ("the password of the user ann was changed", True)
RIGHTS = ("the rights of the user ann were changed", True)
NEW = msgspec.structs.replace(VERIFIER, salt=b"x" * 16)


@pytest.mark.parametrize(
    ("change", "password", "certificate", "token"),
    [
        (RemoveUser("ann"), REMOVED, REMOVED, REMOVED),
        (RemoveUser("bob"), None, None, None),
        (RemoveToken("t1"), None, None, REVOKED),
        (RemoveToken("t2"), None, None, None),
        (msgspec.structs.replace(TOKEN, sha256=bytes(32)), None, None, REVOKED),
        (msgspec.structs.replace(TOKEN), None, None, None),
        (replaced(), None, None, None),
        (replaced(verifier=NEW), PASSWORD, None, None),
        (replaced(role="admin"), RIGHTS, RIGHTS, None),
        (replaced(role="read"), RIGHTS, RIGHTS, None),
        (replaced(topology_read=True), RIGHTS, RIGHTS, RIGHTS),
        (replaced(verifier=NEW, role="read"), PASSWORD, RIGHTS, None),
    ],
)
def test_a_session_stays_while_what_opened_it_would_open_the_same_again(
    site: Site, change: AccountChange, password: object, certificate: object, token: object
) -> None:
    principals = site.by_password(), site.by_certificate(), site.by_token()
    assert [site.why(principal) for principal in principals] == [None, None, None]
    site.apply(change)
    assert [site.why(principal) for principal in principals] == [password, certificate, token]


def test_a_token_is_never_above_its_user_also_when_the_user_falls(site: Site) -> None:
    principal = site.by_token("other")
    assert principal.role is Role.WRITE
    site.apply(replaced(role="read"))
    assert site.why(principal) == RIGHTS and site.by_token("other").role is Role.READ


def test_who_rests_on_no_account_is_not_judged(site: Site) -> None:
    node = Principal(PrincipalKind.NODE, "eu-1", Role.REPLICATOR, True)
    stranger, admin = site.authenticator.anonymous(), site.by_certificate("ops")
    site.apply(RemoveUser("ann"))
    site.apply(RemoveUser("ops"))
    assert stranger is not None
    assert [site.why(who) for who in (node, stranger, admin)] == [None, None, None]


def test_what_a_principal_rests_on_is_not_shown_and_makes_it_no_other(site: Site) -> None:
    assert "verifier" not in repr(site.by_password()) and "sha256" not in repr(site.by_token())
    assert site.by_password() == site.by_certificate()
    assert (token_of(site.by_token()), token_of(site.by_password())) == ("t1", "")


def test_who_may_not_is_told_which_role_it_has_which_it_takes_and_how_that_is_changed(site: Site) -> None:
    stranger = site.authenticator.anonymous()
    assert stranger is not None
    site.apply(replaced(role="read"))
    reader = site.by_password()
    site.apply(ANN)
    way = "an administrator changes that: redwire user role ann write"
    for who, role, has, hint in [
        (stranger, Role.WRITE, f"{stranger.name} has role read", "come in as a user with role write"),
        (site.by_password(), Role.ADMIN, "ann has role write", "such a URI of a cluster on this machine"),
        (reader, Role.WRITE, "ann has role read", way),
        (site.by_token(), Role.WRITE, "ann has role read", "redwire user token ann --role write"),
    ]:
        error = forbidden(who, Kind.WRITE, role)
        assert error.code is Code.FORBIDDEN and error.message.endswith(f"{has}; WRITE (0x40) takes {role}")
        assert error.hint.endswith(hint)


def test_the_line_about_a_handshake_says_who_came_or_why_not(site: Site) -> None:
    came = outcome("1.2.3.4:5", Attempt(Method.BEARER), site.by_token(), None)
    assert came == Accepted(
        address="1.2.3.4:5", method="bearer", kind="user", name="ann", role="read", token="t1"
    )
    identity = Identity("shop", PrincipalKind.USER, "carl")
    refused = outcome("1.2.3.4:5", Attempt(None, "", "no common method"), None, identity)
    assert refused == Rejected(
        address="1.2.3.4:5",
        method="",
        name="",
        certificate="redwire://shop/user/carl",
        why="no common method",
    )
    assert outcome("1.2.3.4:5", Attempt(Method.SCRAM, "ann"), None, None) is None
