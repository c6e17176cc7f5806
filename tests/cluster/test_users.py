"""Who may come in, and what for: passwords, tokens and strangers, at every node, over the real client."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from redwire import connect_sync
from redwire.errors import AuthenticationFailed, Code, Conflict, Refused
from redwire.message.admin import PutToken, RemoveToken, RemoveUser, TokenRow, UserRow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NODES = ("eu-1", "us-1", "ap-1")
STRANGERS = {"eu-1": "read", "us-1": "off", "ap-1": "read"}
"""What `auth.anonymous` says at each node."""
ROLES = ("read", "write", "admin")
SERVED = {(False, False, False): "read", (True, True, False): "write", (True, True, True): "admin"}
"""A role by whether it may put, delete, and change accounts."""
PASSWORD = "correct horse: battery/staple@?"


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    """Three nodes and a user for each role, known everywhere."""
    shop = module_fleet(*NODES, start=False)
    for node, anonymous in STRANGERS.items():
        path = shop.config_path(node)
        document = yaml.safe_load(path.read_text()) | {"auth": {"anonymous": anonymous}}
        path.write_text(yaml.safe_dump(document))
    shop.start()
    shop.wait_ready()
    for role in ROLES:
        shop.add_user(role, PASSWORD, role)
    shop.db.put("c", "there", {"n": 1})
    shop.converge()
    return shop


def uri(shop: Any, node: str, *, user: str = "", password: str = PASSWORD, token: str = "") -> str:
    """By way of one node: as a user, by a token, or as a stranger who stays there. No certificate."""
    quoted = "".join(f"%{byte:02x}" for byte in password.encode())
    who = f"{user}:{quoted}@" if user else ""
    proof = f"&token={token}" if token else "" if user else "&discovery=off&read=any"
    return f"reds://{who}127.0.0.1:{shop.ports[node]}/?ca={shop.folder}/ca.pem{proof}"


def refusal(shop: Any, node: str, **who: str) -> AuthenticationFailed:
    """Why a login is refused, which it must be."""
    with pytest.raises(AuthenticationFailed) as refused, connect_sync(uri(shop, node, **who)):
        pass
    return refused.value


def may(shop: Any, node: str, **who: str) -> str:
    """What somebody may do who comes in by a node, found by trying: the role that all of it amounts to."""
    with connect_sync(uri(shop, node, **who)) as db:
        assert db.status(f"127.0.0.1:{shop.ports[node]}").vantage.node == node
        assert db.get("c", "there").value == {"n": 1}
        served = (
            allowed(lambda: db.put("c", "new", {"n": 2})),
            allowed(lambda: db.delete("c", "new")),
            allowed(lambda: db.admin.change_account(RemoveUser("nobody"))),
        )
    return SERVED[served]


def allowed(request: Callable[[], object]) -> bool:
    """Whether the role was enough; removing nobody is then answered by just that."""
    try:
        request()
    except Conflict as nothing:
        assert nothing.status == "NOT_FOUND" and "there is no user nobody" in str(nothing)
    except Refused as error:
        assert error.code is Code.FORBIDDEN, error
        return False
    return True


@pytest.mark.parametrize("node", NODES)
def test_a_password_opens_every_node_for_what_its_users_role_allows(shop: Any, node: str) -> None:
    assert [may(shop, node, user=role) for role in ROLES] == [*ROLES]


@pytest.mark.parametrize("node", NODES)
def test_a_wrong_password_and_an_unknown_user_are_refused_in_the_same_words(shop: Any, node: str) -> None:
    wrong = refusal(shop, node, user="write", password="guess")
    unknown = refusal(shop, node, user="nobody", password="guess")
    of_another = refusal(shop, node, user="nobody")
    assert str(wrong) == str(unknown) == str(of_another)
    assert wrong.code is unknown.code is Code.UNAUTHENTICATED
    assert not wrong.retry and not unknown.retry


def test_a_new_password_replaces_the_old_one_everywhere(shop: Any) -> None:
    shop.add_user("changing", "before", "read")
    shop.add_user("changing", "after", "write")
    shop.converge()
    for node in NODES:
        assert may(shop, node, user="changing", password="after") == "write"
        refusal(shop, node, user="changing", password="before")


def test_what_is_slow_about_a_password_is_done_once_for_all_who_use_it_at_all_nodes(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    derive = hashlib.pbkdf2_hmac
    derived: list[bytes] = []

    def counted(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        derived.append(salt)
        return derive(name, password, salt, iterations)

    shop.add_user("often", PASSWORD, "read")
    shop.converge()
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", counted)
    for node in (*NODES, *NODES):
        with connect_sync(uri(shop, node, user="often")) as db:
            assert db.get("c", "there").value == {"n": 1}
    assert len(derived) == 1


def give_token(shop: Any, user: str, role: str) -> tuple[str, str]:
    """A new bearer token, known everywhere; with its id."""
    token, ident = secrets.token_urlsafe(24), f"token-{secrets.token_hex(4)}"
    digest = hashlib.sha256(token.encode()).digest()
    shop.db.admin.change_account(PutToken(id=ident, user=user, role=role, sha256=digest))
    shop.converge()
    return token, ident


def test_a_token_opens_every_node_for_its_own_role_until_it_is_revoked(shop: Any) -> None:
    token, ident = give_token(shop, "admin", "write")
    assert [may(shop, node, token=token) for node in NODES] == ["write"] * 3
    shop.db.admin.change_account(RemoveToken(ident))
    shop.converge()
    revoked = {str(refusal(shop, node, token=token)) for node in NODES}
    never = {str(refusal(shop, node, token=token[:-1])) for node in NODES}
    assert revoked == never and len(never) == 1


def test_what_is_not_there_is_not_called_changed_and_the_nearest_name_is_told(shop: Any) -> None:
    for change, said in (
        (
            PutToken(id="ghost", user="wrote", role="read", sha256=bytes(32)),
            "no user wrote; did you mean write?",
        ),
        (RemoveUser("raed"), "no user raed; did you mean read?"),
        (RemoveUser("ops"), "no user ops: ops is an administrator by configuration"),
        (RemoveToken("ghost"), "no token ghost"),
    ):
        before = shop.status("eu-1").own.applied
        with pytest.raises(Conflict, match=said.replace("?", r"\?")) as nothing:
            shop.db.admin.change_account(change)
        assert nothing.value.status == "NOT_FOUND"
        assert nothing.value.facts["lsn"] == before + 1, "it is in the log, and changed nothing"


def test_every_node_lists_users_and_tokens_as_it_has_applied_them(shop: Any) -> None:
    shop.add_user("listed", PASSWORD, "write", topology_read=False)
    _, ident = give_token(shop, "listed", "read")
    for node in NODES:
        addr = f"127.0.0.1:{shop.ports[node]}"
        page = shop.db.admin.users(addr, after="list")
        assert page.users[0] == UserRow("listed", "write", False, 1)
        assert page.admins == ("ops",) and page.applied == shop.status(node).own.applied
        tokens = shop.db.admin.tokens("listed", addr)
        assert (tokens.tokens, tokens.more) == ((TokenRow(ident, "listed", "read"),), False)
        with pytest.raises(Refused, match="there is no user liste; did you mean listed") as nobody:
            shop.db.admin.tokens("liste", addr)
        assert nobody.value.code is Code.NOT_FOUND
    with connect_sync(uri(shop, "eu-1", user="write")) as db, pytest.raises(Refused) as refused:
        db.admin.users()
    assert refused.value.code is Code.FORBIDDEN


def test_a_removed_user_is_refused_everywhere_with_his_tokens_and_after_restarts_too(shop: Any) -> None:
    shop.add_user("leaver", PASSWORD, "write")
    token, _ = give_token(shop, "leaver", "read")
    for node in NODES:
        assert may(shop, node, user="leaver") == "write"
        assert may(shop, node, token=token) == "read"
    stayer, _ = give_token(shop, "read", "read")
    shop.db.admin.change_account(RemoveUser("leaver"))
    shop.converge()
    gone = {node: str(refusal(shop, node, user="leaver")) for node in NODES}
    for node in NODES:
        refusal(shop, node, token=token)
        assert shop.terminate(node) == 0
    shop.up()
    shop.converge()
    for node in NODES:
        assert str(refusal(shop, node, user="leaver")) == gone[node]
        refusal(shop, node, token=token)
        assert may(shop, node, user="read") == "read"
        assert may(shop, node, token=stayer) == "read"


def test_strangers_may_read_where_the_node_says_so_and_are_refused_elsewhere(shop: Any) -> None:
    assert may(shop, "eu-1") == "read"
    with connect_sync(uri(shop, "ap-1")) as db:
        assert db.get("c", "there").value == {"n": 1}
    assert "no common authentication method" in str(refusal(shop, "us-1"))
