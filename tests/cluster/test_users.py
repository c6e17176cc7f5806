"""Who may come in, and what for: passwords, tokens and strangers, at every node, over the real client."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import pytest
import yaml

from redwire import connect_sync
from redwire.errors import AuthenticationFailed, Code, RedwireError, Refused, RequestInvalid
from redwire.message.admin import PutToken, RemoveToken, RemoveUser

pytestmark = pytest.mark.slow

NODES = ("eu-1", "us-1", "ap-1")
STRANGERS = {"eu-1": "write", "us-1": "off", "ap-1": "read"}
"""What `auth.anonymous` says at each node."""
ROLES = ("read", "write", "admin")
PASSWORD = "correct horse: battery/staple@?"
TRY_S = 20.0


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
    """At one node and no other: as a user, by a token, or as a stranger. No certificate."""
    quoted = "".join(f"%{byte:02x}" for byte in password.encode())
    who = f"{user}:{quoted}@" if user else ""
    options = f"ca={shop.folder}/ca.pem&discovery=off&read=any&timeout_ms={int(TRY_S * 1000)}"
    return f"reds://{who}127.0.0.1:{shop.ports[node]}/?{options}" + (f"&token={token}" if token else "")


def refusal(shop: Any, node: str, **who: str) -> AuthenticationFailed:
    """Why a login is refused, which it must be."""
    with pytest.raises(AuthenticationFailed) as refused, connect_sync(uri(shop, node, **who)):
        pass
    return refused.value


def may(shop: Any, node: str, **who: str) -> str:
    """What somebody may do at a node, found by trying: the highest role whose requests are served."""
    with connect_sync(uri(shop, node, **who)) as db:
        assert db.get("c", "there").value == {"n": 1}
        assert db.status()["node"] == node
        if not served(lambda: db.put("c", f"by-{who}", {"n": 2}, timeout_s=1)):
            assert not served(lambda: db.delete("c", "there", timeout_s=1))
            assert not served(lambda: db.change_account(RemoveUser("nobody"), timeout_s=1))
            return "read"
        return "admin" if served(lambda: db.change_account(RemoveUser("nobody"), timeout_s=1)) else "write"


def served(request: Any) -> bool:
    """Whether a role may do this; a node that does not lead says that instead."""
    try:
        request()
    except Refused as error:
        assert error.code in (Code.FORBIDDEN, Code.NOT_PRIMARY), error
        return error.code is not Code.FORBIDDEN
    except RedwireError as error:
        assert "NOT_PRIMARY" in str(error), error
    return True


@pytest.mark.parametrize("node", NODES)
def test_a_password_opens_every_node_for_what_its_users_role_allows(shop: Any, node: str) -> None:
    assert {role: may(shop, node, user=role) for role in ROLES} == {role: role for role in ROLES}
    assert shop.db.get("c", "there").value == {"n": 1}


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


def give_token(shop: Any, user: str, role: str) -> tuple[str, str]:
    """A new bearer token, known everywhere; with its id."""
    token, ident = secrets.token_urlsafe(24), f"token-{secrets.token_hex(4)}"
    digest = hashlib.sha256(token.encode()).digest()
    shop.db.change_account(PutToken(id=ident, user=user, role=role, sha256=digest))
    shop.converge()
    return token, ident


def test_a_token_opens_every_node_for_its_own_role_until_it_is_revoked(shop: Any) -> None:
    token, ident = give_token(shop, "admin", "write")
    assert [may(shop, node, token=token) for node in NODES] == ["write"] * 3
    shop.db.change_account(RemoveToken(ident))
    shop.converge()
    revoked = {str(refusal(shop, node, token=token)) for node in NODES}
    never = {str(refusal(shop, node, token=token[:-1])) for node in NODES}
    assert revoked == never and len(never) == 1


def test_a_token_for_a_user_who_does_not_exist_is_refused_to_the_administrator(shop: Any) -> None:
    change = PutToken(id="ghost", user="ghost", role="read", sha256=bytes(32))
    with pytest.raises(RequestInvalid, match="ghost"):
        shop.db.change_account(change)


def test_a_removed_user_is_refused_everywhere_with_his_tokens_and_after_restarts_too(shop: Any) -> None:
    shop.add_user("leaver", PASSWORD, "write")
    token, _ = give_token(shop, "leaver", "read")
    for node in NODES:
        assert may(shop, node, user="leaver") == "write"
        assert may(shop, node, token=token) == "read"
    stayer, _ = give_token(shop, "read", "read")
    shop.db.change_account(RemoveUser("leaver"))
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


def test_strangers_may_do_what_each_node_says_and_no_more(shop: Any) -> None:
    assert may(shop, "eu-1") == "write"
    assert may(shop, "ap-1") == "read"
    assert "scram-sha-256" in str(refusal(shop, "us-1"))
