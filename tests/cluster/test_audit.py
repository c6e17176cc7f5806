"""The audit log of real nodes, compared with what was done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import ssl
import stat
from typing import Any

import anyio
import pytest
import yaml

from redwire import connect_sync
from redwire.dial import dial
from redwire.errors import AuthenticationFailed, ConnectFailed, RedwireError, Refused
from redwire.handshake import Bearer
from redwire.message.admin import PutToken, RemoveToken, RemoveUser, SetRole
from redwire.message.settings import SetPolicy
from redwire.tls import client_context
from tools.authority import Authority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NODES = ("eu-1", "us-1")
PASSWORD = "correct horse battery"
TOKEN = "a-token-that-nobody-may-read-in-a-log"
GUESS = "a-guess-that-may-have-been-a-password"
PARTS = ("audit.log", "audit-sessions.log", "audit-refused.log")
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    shop = module_fleet(*NODES)
    shop.authority.issue_user("stranger").save(shop.folder, "stranger")
    Authority.create("shop").issue_user("forged").save(shop.folder, "forged")
    return shop


def lines(shop: Any, node: str, event: str = "", since: int = 0) -> list[dict[str, Any]]:
    """The audit log of a node from a line on, by time, each line checked for what all of them have."""
    found: list[dict[str, Any]] = []
    for name in PARTS:
        path = shop.data_dir(node) / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        found += [json.loads(line) for line in path.read_text("ascii").splitlines()]
    found = sorted(found, key=lambda each: str(each["time"]))[since:]
    for each in found:
        assert TIME.fullmatch(each["time"]) and each["node"] == node
    return [each for each in found if event in ("", each["event"])]


def told(event: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(event[name] for name in names)


def uri(shop: Any, node: str, who: str = "", proof: str = "") -> str:
    return f"reds://{who}127.0.0.1:{shop.ports[node]}/?ca={shop.folder}/ca.pem&discovery=off&read=any{proof}"


def knock(text: str) -> None:
    with contextlib.suppress(AuthenticationFailed, ConnectFailed), connect_sync(text, name="knock"):
        pass


def certificate(shop: Any, who: str) -> str:
    return f"&cert={shop.folder}/{who}.pem&key={shop.folder}/{who}.key"


def test_who_comes_in_and_who_is_refused_stands_there_with_its_method_and_why(shop: Any) -> None:
    shop.add_user("app", PASSWORD, "write")
    digest = hashlib.sha256(TOKEN.encode()).digest()
    shop.db.admin.change_account(PutToken(id="app-1", user="app", role="read", sha256=digest))
    shop.converge()
    shop.until(lambda: lines(shop, "us-1", "accepted")[-1]["name"] == "ops", "who asked us-1 stands there")
    since = len(lines(shop, "us-1"))
    for who, proof in (
        ("app:correct%20horse%20battery@", ""),
        ("", f"&token={TOKEN}"),
        ("", certificate(shop, "ops")),
        (f"app:{GUESS}@", ""),
        (f"nobody:{GUESS}@", ""),
        ("", f"&token={GUESS}"),
        ("", certificate(shop, "stranger")),
        ("", certificate(shop, "forged")),
        ("", ""),
    ):
        knock(uri(shop, "us-1", who, proof))
    shop.until(lambda: len(lines(shop, "us-1", "refused", since)) == 6, "six refusals stand in the log")
    accepted = lines(shop, "us-1", "accepted", since)
    assert [told(each, "method", "kind", "name", "role", "token") for each in accepted] == [
        ("scram-sha-256", "user", "app", "write", ""),
        ("bearer", "user", "app", "read", "app-1"),
        ("certificate", "user", "ops", "admin", ""),
    ]
    refused = lines(shop, "us-1", "refused", since)
    assert [told(each, "method", "name", "certificate") for each in refused] == [
        ("scram-sha-256", "app", ""),
        ("scram-sha-256", "nobody", ""),
        ("bearer", "", ""),
        ("", "", "redwire://shop/user/stranger"),
        ("certificate", "", ""),
        ("", "", ""),
    ]
    assert refused[2]["why"] == "the token is not known: it was revoked, or is another cluster's"
    assert "no common authentication method" in refused[3]["why"] and refused[4]["why"].startswith("TLS: ")
    assert all(each["address"].startswith("127.0.0.1:") for each in accepted + refused)
    members = {told(each, "kind", "name", "role") for each in lines(shop, "us-1", "accepted")}
    assert ("node", "eu-1", "replicator") in members


def test_who_changed_what_stands_there_at_its_lsn_and_what_came_of_it(shop: Any) -> None:
    since = len(lines(shop, "eu-1"))
    shop.add_user("acts", PASSWORD, "write", topology_read=False)
    digest = hashlib.sha256(TOKEN.encode()).digest()
    lsns = [shop.status("eu-1").own.applied]
    for change in (
        PutToken(id="acts-1", user="acts", role="read", sha256=digest),
        RemoveToken("acts-1"),
        SetRole(name="acts", role="read", topology_read=None),
        RemoveUser("acts"),
        RemoveUser("acts"),
    ):
        with contextlib.suppress(RedwireError):
            shop.db.admin.change_account(change)
        lsns.append(shop.status("eu-1").own.applied)
    shop.add_user("app", PASSWORD, "write")
    with connect_sync(uri(shop, "eu-1", "app:correct%20horse%20battery@")) as db, pytest.raises(Refused):
        db.admin.change_account(RemoveUser("app"))
    acts = shop.until(lambda: len(a := lines(shop, "eu-1", "act", since)) == 8 and a, "eight acts are there")
    assert [told(each, "act", "target", "detail", "outcome", "lsn") for each in acts[:6]] == [
        ("put_user", "acts", {"role": "write", "topology_read": False}, "done", lsns[0]),
        ("put_token", "acts-1", {"user": "acts", "role": "read"}, "done", lsns[1]),
        ("remove_token", "acts-1", {}, "done", lsns[2]),
        ("set_role", "acts", {"role": "read"}, "done", lsns[3]),
        ("remove_user", "acts", {}, "done", lsns[4]),
        ("remove_user", "acts", {}, "nothing", lsns[5]),
    ]
    assert {each["by"]["name"] for each in acts[:7]} == {"ops"} and acts[0]["term"] == 1
    assert told(acts[7], "act", "outcome", "lsn") == ("account", "refused", None)
    assert acts[7]["by"]["name"] == "app" and "app has role write" in acts[7]["why"]


def test_a_change_of_the_settings_stands_there_in_words(shop: Any) -> None:
    since = len(lines(shop, "eu-1"))
    changed = shop.db.admin.change_settings(SetPolicy(policy_timeout_ms=9_000))
    (act,) = shop.until(lambda: lines(shop, "eu-1", "act", since), "the change is written down")
    assert told(act, "act", "target", "outcome", "lsn", "term") == (
        *("change_settings", "shop", "done"),
        *(changed.lsn, changed.term),
    )
    assert act["detail"] == {"text": changed.text, "lost": ""} and act["by"]["name"] == "ops"


def test_a_session_that_is_ended_stands_there_and_secrets_never_do(shop: Any) -> None:
    shop.add_user("ending", PASSWORD, "write")
    shop.converge()
    with connect_sync(uri(shop, "us-1", "ending:correct%20horse%20battery@")) as db:
        assert db.get("c", "nothing") is None
        shop.db.admin.change_account(RemoveUser("ending"))
        (ended,) = shop.until(
            lambda: [e for e in lines(shop, "us-1", "ended") if e["session"]["name"] == "ending"],
            "the end of the session is written down",
        )
    assert ended["why"] == "the user ending was removed"
    secrets = (PASSWORD, "correct%20horse", TOKEN, GUESS, hashlib.sha256(TOKEN.encode()).hexdigest())
    for node in NODES:
        text = "".join((shop.data_dir(node) / name).read_text() for name in PARTS)
        assert not [secret for secret in secrets if secret in text]


def test_a_flood_of_guesses_gets_few_lines_and_every_guess_is_counted(shop: Any) -> None:
    since = len(lines(shop, "us-1"))

    async def guess(context: ssl.SSLContext, places: anyio.CapacityLimiter) -> None:
        async with places:
            with pytest.raises(AuthenticationFailed):
                await dial("127.0.0.1", shop.ports["us-1"], context, Bearer(GUESS), client_name="flood")

    async def flood() -> None:
        context, places = client_context(shop.folder / "ca.pem", peer=False), anyio.CapacityLimiter(20)
        async with anyio.create_task_group() as guesses:
            for _ in range(120):
                guesses.start_soon(guess, context, places)

    anyio.run(flood)

    def counted() -> int:
        more = sum(each["refused"] for each in lines(shop, "us-1", "unlisted", since))
        return len(lines(shop, "us-1", "refused", since)) + more

    shop.until(lambda: counted() == 120, "every guess is counted")
    assert lines(shop, "us-1", "unlisted", since)


def test_a_file_that_cannot_be_written_is_said_once_and_nothing_else_breaks(fleet: Any) -> None:
    shop = fleet("eu-1", start=False)
    path = shop.config_path("eu-1")
    audit = shop.folder / "no" / "such" / "folder" / "audit.log"
    document = yaml.safe_load(path.read_text()) | {"audit": {"file": str(audit)}}
    path.write_text(yaml.safe_dump(document))
    shop.start()
    shop.wait_ready()
    shop.wait_log("eu-1", "cannot be written, and its lines are lost")
    shop.db.put("c", "a", {})
    shop.add_user("app", PASSWORD)
    audit.parent.mkdir(parents=True)
    shop.add_user("app", PASSWORD)
    shop.wait_log("eu-1", "the audit log is written again")
    shop.until(lambda: '"event": "lost"' in audit.read_text(), "the lines that are lost are counted")
    assert '"put_user"' in audit.read_text()
    assert shop.said("eu-1").count("cannot be written") == 1


def test_an_audit_log_that_is_off_is_no_file(fleet: Any) -> None:
    shop = fleet("eu-1", sections={"audit": {"file": "off"}})
    shop.add_user("app", PASSWORD)
    assert not list(shop.data_dir("eu-1").glob("audit*"))
