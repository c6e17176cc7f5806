"""Who somebody is not: certificates, names and data directories that belong to somebody else."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cluster.roster import TWIN_MS
from redwire.body import encode
from redwire.errors import Code
from redwire.frame import Kind, encode_frame
from redwire.handshake import PREFACE
from tests.cluster.forked_cluster import ForkedCluster
from tests.reports import report
from tools.authority import Authority, Issued
from tools.dev.plan import ClusterPlan, NodePlan

LONG_AGO = datetime.now(UTC) - timedelta(days=1000)
FAR_AHEAD = datetime.now(UTC) + timedelta(days=1000)
HOSTS = ["127.0.0.1", "localhost"]
PATIENCE_S = 20.0

Issue = Callable[[Authority, str], Issued]
"""Makes the certificate that stands for a node of this name, out of the cluster's authority."""


def self_signed(authority: Authority, node: str) -> Issued:
    """A certificate that vouches for itself, under the very name of the cluster's authority."""
    other = Authority.create(authority.cluster)
    leaf = other.issue_node(node, HOSTS)
    return Issued(other.pem, _key_of(other), leaf.not_after)


def _key_of(authority: Authority) -> bytes:
    return authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def of_another_cluster(authority: Authority, node: str) -> Issued:
    """Signed by the same key, for a node of this name in a cluster of another name."""
    return Authority("store", authority.certificate, authority.key).issue_node(node, HOSTS)


NOBODY: dict[str, Issue] = {
    "by another authority of the same name": lambda a, n: Authority.create(a.cluster).issue_node(n, HOSTS),
    "by itself": self_signed,
    "until long ago": lambda a, n: a.issue_node(n, HOSTS, days=1, now=LONG_AGO),
    "not before far ahead": lambda a, n: a.issue_node(n, HOSTS, now=FAR_AHEAD),
}
"""What TLS alone refuses."""


# --- whoever dials a node


def shown(site: Any, folder: Path, issued: Issued, **how: Any) -> Any:
    """A connection that shows this certificate."""
    issued.save(folder, "shown")
    return site.tls_by(site.context("shown", folder=folder, **how))


@pytest.mark.parametrize("issue", NOBODY.values(), ids=NOBODY)
def test_a_certificate_that_is_not_valid_ends_the_connection_before_a_word(
    site: Any, tmp_path: Path, issue: Issue
) -> None:
    with shown(site, tmp_path, issue(site.cluster.authority, "us-1")) as wire:
        wire.send(PREFACE, encode_frame(Kind.HELLO, site.hello_body("certificate"), 1))
        assert wire.last_words() == []


STRANGERS: dict[str, tuple[Issue, dict[str, Any]]] = {
    "a member's, over TLS 1.2": (lambda a, n: a.issue_node(n), {"version": ssl.TLSVersion.TLSv1_2}),
    "of no member": (lambda a, n: a.issue_node("us-9"), {}),
    "of another cluster's member": (of_another_cluster, {}),
    "of a user that does not exist": (lambda a, n: a.issue_user("nobody"), {}),
    "of a user called like a member": (lambda a, n: a.issue_user(n), {}),
    "of a node called like an administrator": (lambda a, n: a.issue_node("ops"), {}),
}


@pytest.mark.parametrize(("issue", "how"), STRANGERS.values(), ids=STRANGERS)
def test_a_valid_certificate_of_nobody_here_is_worth_nothing(
    site: Any, tmp_path: Path, issue: Issue, how: dict[str, Any]
) -> None:
    with shown(site, tmp_path, issue(site.cluster.authority, "us-1"), **how) as wire:
        wire.send(PREFACE, encode_frame(Kind.HELLO, site.hello_body("certificate"), 1))
        (answer,) = wire.last_words()
        assert answer.kind == Kind.AUTH_FAIL
        assert "no common authentication method" in json.loads(answer.payload)["reason"]
    with site.tls_by(site.context("shown", folder=tmp_path, **how)) as wire:
        site.authenticate(wire, "anonymous")
        assert str(wire.error(Kind.FOLLOW, encode(report()))).startswith("FORBIDDEN")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"node": "eu-1"}, Code.OTHER_NODE),
        ({"node": "us-2"}, Code.OTHER_NODE),
        ({"node": ""}, Code.OTHER_NODE),
        ({"name": "store"}, Code.OTHER_CLUSTER),
        ({"cluster": "ab" * 16}, Code.OTHER_CLUSTER),
    ],
)
@pytest.mark.parametrize("kind", [Kind.PEER_HELLO, Kind.FOLLOW])
def test_a_member_that_says_it_is_somebody_else_is_sent_away(
    site: Any, kind: Kind, said: dict[str, object], code: Code
) -> None:
    with site.nothing_written(), site.login("us-1") as wire:
        wire.send_frame(kind, encode(report(**said)), 0)
        (last,) = wire.last_words()
        assert site.failure(last).code is code


@pytest.mark.parametrize(("directory", "said"), [("cd" * 16, "cd" * 16), ("ab" * 16, "the same or a copy")])
def test_of_two_processes_with_one_id_the_second_is_refused_and_the_first_stays(
    site: Any, directory: str, said: str
) -> None:
    def hello(wire: Any, **who: str) -> Any:
        wire.send_frame(Kind.PEER_HELLO, encode(report(**who)), 0)
        return wire.frame()

    with site.login("us-1") as first:
        assert hello(first, incarnation=directory).kind == Kind.PEER_WELCOME
        for kind in (Kind.PEER_HELLO, Kind.FOLLOW):
            with site.login("us-1") as second:
                second.send_frame(kind, encode(report(process="0d" * 16)), 0)
                (last,) = second.last_words()
                refusal = site.failure(last)
                assert refusal.code is Code.ID_TAKEN and f"data directory {said}" in str(refusal)
                assert "two processes have this id: stop one of them" in str(refusal)
        with site.login("us-1") as again:  # the same process over a second line, as after a broken one
            assert hello(again, incarnation=directory).kind == Kind.PEER_WELCOME
        assert hello(first, incarnation=directory).kind == Kind.PEER_WELCOME


def test_a_second_process_of_one_id_that_comes_again_and_again_is_an_event(own_site: Any) -> None:
    site = own_site()

    def second() -> Any:
        with site.login("us-1") as wire:
            wire.send_frame(Kind.PEER_HELLO, encode(report(process="0d" * 16, incarnation="cd" * 16)), 0)
            (last,) = wire.last_words()
            return site.failure(last).code

    def told() -> list[str]:
        return [event.text for event in site.status().events if event.kind == "id_taken"]

    until_s = time.monotonic() + TWIN_MS / 1000 + 1
    with site.login("us-1") as first:
        while time.monotonic() < until_s:
            early = time.monotonic() < until_s - 2
            first.send_frame(Kind.PEER_HELLO, encode(report()), 0)
            assert first.frame().kind == Kind.PEER_WELCOME
            assert second() is Code.ID_TAKEN
            assert not (early and told()), "who starts anew is refused for a while, too"
            time.sleep(0.5)
        (text,) = told()
    assert text.startswith("a second us-1 comes from 127.0.0.1:")
    assert text.endswith(f"with data directory {'cd' * 16}, and is refused: stop one of the two")


# --- whoever a node dials

WRONG_LISTENERS: dict[str, tuple[Issue, ssl.TLSVersion | None, str]] = {
    "alien": (NOBODY["by another authority of the same name"], None, "is not accepted: "),
    "self": (self_signed, None, "is not accepted: self-signed certificate"),
    "old": (NOBODY["until long ago"], None, "is not accepted: certificate has expired"),
    "young": (NOBODY["not before far ahead"], None, "is not accepted: certificate is not yet valid"),
    "other": (lambda a, n: a.issue_node("right", HOSTS), None, "is not accepted: Hostname mismatch"),
    "me": (lambda a, n: a.issue_node("eu-1", HOSTS), None, "is not accepted: Hostname mismatch"),
    "store": (of_another_cluster, None, "is not accepted: Hostname mismatch"),
    "user": (lambda a, n: a.issue_user(n), None, "is not accepted: "),
    "tls12": (lambda a, n: a.issue_node(n, HOSTS), ssl.TLSVersion.TLSv1_2, "TLS handshake with "),
}
"""Who answers at the address of the member of that name: certificate, TLS, and what the node says of it."""
LIARS: dict[str, tuple[dict[str, object], Code]] = {
    "liar": ({"node": "right"}, Code.OTHER_NODE),
    "stray": ({"node": "stray", "name": "store"}, Code.OTHER_CLUSTER),
}
"""Who is right by certificate, and then says something else."""


class Dialler:
    """A node that dials many members at once, and a listener for each of them."""

    def __init__(self, folder: Path) -> None:
        names = ("eu-1", "right", *WRONG_LISTENERS, *LIARS, "plain")
        plan = ClusterPlan(tuple(NodePlan(name, "eu") for name in names))
        self.cluster = ForkedCluster(plan, folder)
        self.listeners = {
            name: socket.create_server(("127.0.0.1", self.cluster.ports[name])) for name in names[1:]
        }
        self.cluster.start_node("eu-1")

    def close(self) -> None:
        self.cluster.stop()
        for listener in self.listeners.values():
            listener.close()

    def accept(self, name: str) -> socket.socket:
        """The node's next connection to the member of this name."""
        self.listeners[name].settimeout(PATIENCE_S)
        sock, _ = self.listeners[name].accept()
        sock.settimeout(PATIENCE_S)
        return sock

    def accept_tls(
        self, name: str, folder: Path, issue: Issue, version: ssl.TLSVersion | None = None
    ) -> ssl.SSLSocket:
        """The same over TLS, with that certificate. Raises `OSError` where the node breaks it off."""
        cert, key = issue(self.cluster.authority, name).save(folder, name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        context.maximum_version = version or ssl.TLSVersion.MAXIMUM_SUPPORTED
        sock = self.accept(name)
        try:
            return context.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            raise


@pytest.fixture(scope="module")
def dialler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dialler]:
    made = Dialler(tmp_path_factory.mktemp("dialler"))
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("name", WRONG_LISTENERS)
def test_a_node_breaks_off_before_it_says_a_word_to_somebody_else(
    dialler: Dialler, tmp_path: Path, name: str
) -> None:
    issue, version, why = WRONG_LISTENERS[name]
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        dialler.accept_tls(name, tmp_path, issue, version).close()
    said = dialler.cluster.wait_log("eu-1", f"no line to {name}: ", timeout_s=PATIENCE_S)
    assert why in said


def test_a_node_says_nothing_but_tls_to_a_listener_without_it(dialler: Dialler) -> None:
    with dialler.accept("plain") as sock:
        hello = sock.recv(1 << 16)
        assert hello.startswith(b"\x16\x03") and PREFACE not in hello[:2]
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        rest = sock.recv(1 << 16)
        assert len(rest) <= 7, "a TLS alert at most"
    assert "TLS handshake" in dialler.cluster.wait_log("eu-1", "no line to plain: ", timeout_s=PATIENCE_S)


@pytest.mark.parametrize("name", ["right", *LIARS])
def test_a_node_listens_to_a_member_that_is_who_it_says_and_hangs_up_on_any_other(
    site: Any, dialler: Dialler, tmp_path: Path, name: str
) -> None:
    said, code = LIARS.get(name, ({"node": "right"}, None))
    with dialler.accept_tls(name, tmp_path, lambda a, n: a.issue_node(n, HOSTS)) as sock:
        wire = site.wire(sock)
        assert sock.recv(len(PREFACE)) == PREFACE
        assert wire.frame().kind == Kind.HELLO
        ack = {"auth": "certificate", "features": 0, "server": "x", "version": 1}
        wire.send_frame(Kind.HELLO_ACK, json.dumps(ack).encode())
        assert wire.frame().kind == Kind.AUTH_RESPONSE
        ok = {"features": 0, "role": "replicator", "session_id": "x", "username": "eu-1"}
        wire.send_frame(Kind.AUTH_OK, json.dumps(ok).encode())
        assert wire.frame().kind == Kind.PEER_HELLO
        wire.send_frame(Kind.PEER_WELCOME, encode(report(**said)), 0)
        if code is None:
            assert wire.frame().kind == Kind.PEER_HELLO, "a second later it is still there"
            return
        assert all(frame.kind == Kind.FAILURE for frame in wire.last_words())
    assert code in dialler.cluster.wait_log("eu-1", f"no line to {name}: {code}", timeout_s=PATIENCE_S)


# --- whose files these are


def node_command(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `redwire-node` to its end."""
    command = [sys.executable, "-m", "cluster.main", *arguments, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_a_second_process_on_one_data_directory_ends_and_says_what_to_do(site: Any) -> None:
    ran = node_command(site.cluster.config_path("eu-1"))
    assert ran.returncode == 1
    assert f"{site.cluster.data_dir('eu-1')} is in use by process {site.pid}" in ran.stderr
    assert "stop that process, or give this node a data directory of its own" in ran.stderr


def test_another_nodes_data_directory_is_refused(site: Any, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    shutil.copy(site.cluster.data_dir("us-1") / "meta.cbor", copy)
    document = yaml.safe_load(site.cluster.config_path("eu-1").read_text())
    document["node"]["data_dir"] = str(copy)
    config = tmp_path / "eu-1.yaml"
    config.write_text(yaml.safe_dump(document))
    before = (copy / "meta.cbor").read_bytes()
    ran = node_command(config)
    assert ran.returncode == 1
    assert f"{copy} belongs to node us-1, not to eu-1; give every node a directory of its own" in ran.stderr
    assert (copy / "meta.cbor").read_bytes() == before


@pytest.mark.parametrize(("action", "mode"), [("check", 0o640), ("run", 0o604)])
def test_a_key_that_others_can_read_is_refused(site: Any, action: str, mode: int) -> None:
    key = site.cluster.folder / "us-1.key"
    key.chmod(mode)
    try:
        ran = node_command(site.cluster.config_path("us-1"), action)
    finally:
        key.chmod(0o600)
    assert ran.returncode == 1
    assert f"{key}: others than the owner may use this key (mode {mode:04o}); chmod 600" in ran.stderr
