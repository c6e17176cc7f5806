"""Certificates and authorities that are replaced under a running cluster, and the log that tells of it."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.peers import HELLO_S, SILENCE_S
from redwire import connect_sync
from redwire.errors import RedwireError
from tools.authority import Authority, Issued

pytestmark = pytest.mark.slow

NODES = ("eu-1", "us-1", "ap-1")
HOSTS = ["127.0.0.1", "localhost"]
PATIENCE_S = 30.0
SECRET = "correct-horse-battery"


def node_command(shop: Any, node: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `redwire-node` beside the node."""
    command = [sys.executable, "-m", "cluster.main", *arguments, "--config", str(shop.config_path(node))]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def reload(shop: Any, node: str) -> None:
    """By the signal alone: a command for each would take longer than all else."""
    mark = shop.mark(node)
    shop.signal_node(node, signal.SIGHUP)
    shop.wait_log(node, f"reloaded: new connections go by {shop.folder}/{node}.pem", since=mark)


def put(folder: Path, name: str, issued: Issued) -> None:
    """Replace a certificate and its key."""
    for path in (folder / f"{name}.pem", folder / f"{name}.key"):
        path.unlink()
    issued.save(folder, name)


def trust(shop: Any, *authorities: Authority) -> None:
    """Everybody's trust bundle; the nodes of a test share the file."""
    (shop.folder / "ca.pem").write_bytes(b"".join(authority.pem for authority in authorities))
    for node in NODES:
        reload(shop, node)


def shown(shop: Any, node: str) -> str:
    """The hash of the certificate that a new connection meets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", shop.ports[node]), timeout=PATIENCE_S) as tcp,
        context.wrap_socket(tcp) as sock,
    ):
        return hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()


def test_an_authority_is_replaced_by_another_one_while_the_cluster_writes(fleet: Any) -> None:
    shop = fleet(*NODES)
    old, new = shop.authority, Authority.create("shop")
    trust(shop, old, new)
    stays = connect_sync(shop.uri("eu-1", discovery="off", read="any"))
    stays.__enter__()
    try:
        with shop.writer() as writer:
            for node in NODES:
                before = shown(shop, node)
                put(shop.folder, node, new.issue_node(node, HOSTS))
                reload(shop, node)
                assert shown(shop, node) != before
                if node == "us-1":  # of one authority, among peers of either
                    mark = shop.mark("ap-1")
                    assert shop.terminate("ap-1") == 0
                    shop.start_node("ap-1")
                    for peer in ("eu-1", "us-1"):
                        shop.wait_log("ap-1", f"connected to {peer} at ", since=mark)
                    shop.wait_log("ap-1", "has caught up with eu-1", since=mark)
                writer.wait_acked()
        old_files = {name: (shop.folder / f"ops.{name}").read_bytes() for name in ("pem", "key")}
        put(shop.folder, "ops", new.issue_user("ops"))
        trust(shop, new)
        assert stays.put("c", "x", {"n": 1}).receipt, "a connection that was open lives on"
        check_refused(shop, old_files)
        assert shop.terminate("eu-1") == 0
        shop.start_node("eu-1")
        assert stays.put("c", "x", {"n": 2}).receipt, "and its next one goes by the new files"
        assert shop.terminate("us-1") == 0
        mark = shop.mark("us-1")
        shop.start_node("us-1")
        shop.wait_log("us-1", "has caught up with eu-1", since=mark)
        shop.check_nothing_lost(writer)
    finally:
        stays.__exit__(None, None, None)


def test_a_member_whose_certificate_is_refused_is_not_told_that_it_was_removed(fleet: Any) -> None:
    shop = fleet(*NODES)
    old, new = shop.authority, Authority.create("shop")
    mark = shop.mark("us-1")
    assert shop.terminate("us-1") == 0
    (shop.folder / "ca.pem").write_bytes(new.pem)
    put(shop.folder, "eu-1", new.issue_node("eu-1", HOSTS))
    reload(shop, "eu-1")
    (shop.folder / "ca.pem").write_bytes(old.pem + new.pem)
    shop.start_node("us-1")
    shop.wait_log("us-1", "connected to ap-1 at ", since=mark)
    shop.wait_log("us-1", "no line to eu-1: ", since=mark)
    assert "knows no member" not in shop.said("us-1", since=mark)


def test_whose_certificate_is_not_accepted_between_nodes_is_told_what_helps_there(fleet: Any) -> None:
    shop = fleet(*NODES)
    assert shop.terminate("us-1") == 0
    document = yaml.safe_load(shop.config_path("us-1").read_text())
    document["node"]["dial"] = {"eu-1": f"127.0.0.1:{shop.ports['ap-1']}"}
    shop.config_path("us-1").write_text(yaml.safe_dump(document))
    mark = shop.mark("us-1")
    shop.start_node("us-1")
    shop.wait_log("us-1", "is not accepted: Hostname mismatch", since=mark)
    assert "another node answers there, or one with another's files" in shop.said("us-1", mark)
    assert shop.terminate("us-1") == 0
    new = Authority.create("shop")
    (shop.folder / "ca.pem").write_bytes(new.pem)
    put(shop.folder, "us-1", new.issue_node("us-1", HOSTS))
    mark = shop.mark("us-1")
    shop.start_node("us-1")
    said = shop.wait_log("us-1", "no line to ap-1: the certificate of ", since=mark)
    assert "; tls.ca of this node names no authority that issued it: " in said


def check_refused(shop: Any, old_files: dict[str, bytes]) -> None:
    """The administrator's certificate of the authority that is gone opens no new connection."""
    for name, data in old_files.items():
        path = shop.folder / f"old-ops.{name}"
        path.write_bytes(data)
        path.chmod(0o600)
    uri = shop.uri("eu-1", discovery="off").replace("/ops.", "/old-ops.")
    with (
        pytest.raises(RedwireError) as refused,
        connect_sync(uri) as db,
    ):
        db.put("c", "y", {"n": 1}, timeout_s=3.0)
    assert "certificate" in str(refused.value)


def test_a_set_that_does_not_fit_is_refused_twice_over_and_the_old_one_stays(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1")
    before = shown(shop, "eu-1")
    good = (shop.folder / "eu-1.key").read_bytes()
    (shop.folder / "eu-1.key").write_bytes((shop.folder / "us-1.key").read_bytes())
    mark = shop.mark("eu-1")
    ran = node_command(shop, "eu-1", "reload")
    assert ran.returncode == 1
    assert f"{shop.folder}/eu-1.key: not the key of {shop.folder}/eu-1.pem" in ran.stderr
    assert "reload" not in shop.said("eu-1", mark), "the node was not bothered with it"
    shop.signal_node("eu-1", signal.SIGHUP)
    said = shop.wait_log("eu-1", "reload refused, what was in use stays in use: ", since=mark)
    assert " error " in said and f"{shop.folder}/eu-1.key: not the key of" in said
    assert shown(shop, "eu-1") == before
    shop.db.put("c", "x", {"n": 1})
    (shop.folder / "eu-1.key").write_bytes(good)
    ran = node_command(shop, "eu-1", "reload")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"eu-1 of shop: reloaded: new connections go by {shop.folder}/eu-1.pem")
    answer = json.loads(node_command(shop, "eu-1", "reload", "--json").stdout)
    assert answer["ok"] and answer["certificate"]["sha256"] == before
    assert answer["certificate"]["days_left"] == 364


def test_the_log_is_json_where_it_is_told_to_and_holds_no_secret(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1", sections={"log": {"format": "json", "level": "debug"}})
    shop.add_user("app", SECRET)
    shop.converge()
    for password in (SECRET, f"{SECRET}-wrong"):
        try:
            with connect_sync(shop.uri(user="app", password=password)) as db:
                db.put("c", "x", {"n": 1})
        except RedwireError:
            assert password != SECRET
    reload_ran = node_command(shop, "eu-1", "reload")
    assert reload_ran.returncode == 0
    messages: dict[str, list[str]] = {}
    for node in shop.nodes:
        assert shop.terminate(node) == 0
        lines = [json.loads(line) for line in shop.said(node).splitlines()]
        assert {tuple(line) for line in lines} == {("time", "level", "node", "message")}
        assert {line["node"] for line in lines} == {node}
        assert all(re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}Z", line["time"]) for line in lines)
        messages[node] = [line["message"] for line in lines]
    assert "us-1 has joined: its log is proven up to LSN 0" in messages["eu-1"]
    assert any(text.startswith("follows eu-1 in term 1 from LSN ") for text in messages["us-1"])
    everything = "".join(shop.said(node) for node in shop.nodes)
    keys = [(shop.folder / f"{node}.key").read_text().splitlines()[1] for node in shop.nodes]
    assert not [secret for secret in (SECRET, *keys) if secret in everything]


def test_a_line_that_breaks_is_called_that_and_no_refusal(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1")
    shop.wait_log("eu-1", "us-1 has caught up")
    mark, began = shop.mark("eu-1"), time.monotonic()
    shop.pause("us-1")
    shop.wait_log("eu-1", "no line to us-1: us-1 has been silent for ", since=mark)
    silence_s = SILENCE_S + 2 * HELLO_S
    shop.until(lambda: time.monotonic() > began + silence_s, "us-1 too has heard nothing for long enough")
    resumed = shop.mark("eu-1")
    shop.resume("us-1")
    shop.wait_log("eu-1", "us-1 has caught up at LSN", since=resumed)
    said = shop.said("eu-1", mark)
    assert "us-1 is gone: its connection has ended" in said
    assert "us-1 ends its session: eu-1 has been silent for" in said
    assert "refuses to follow" not in said


def test_a_hangup_while_a_node_stops_does_not_kill_it(fleet: Any) -> None:
    shop = fleet("eu-1")
    process = shop.processes["eu-1"]
    process.terminate()
    while process.poll() is None:
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0


def test_a_host_beside_the_certificate_shows_in_a_check_of_the_running_node(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1")
    document = yaml.safe_load(shop.config_path("eu-1").read_text())
    document["node"]["advertise"] = f"db.example.net:{shop.ports['eu-1']}"
    shop.config_path("eu-1").write_text(yaml.safe_dump(document))
    ran = node_command(shop, "eu-1", "check")
    assert ran.returncode == 0
    pid = shop.processes["eu-1"].pid
    assert "the certificate does not name db.example.net" in ran.stderr
    assert f"127.0.0.1:{shop.ports['eu-1']} is taken, by process {pid} if that is this node" in ran.stderr


def test_a_certificate_that_lacks_what_clients_dial_is_warned_of_at_the_start_and_at_a_reload(
    fleet: Any,
) -> None:
    shop = fleet("eu-1")
    text = "the certificate does not name 127.0.0.1, where clients reach this node"
    assert text not in shop.said("eu-1")
    mark = shop.mark("eu-1")
    put(shop.folder, "eu-1", shop.authority.issue_node("eu-1", ["localhost"]))
    ran = node_command(shop, "eu-1", "reload")
    assert ran.returncode == 0 and text in ran.stderr
    shop.wait_log("eu-1", text, since=mark)
    assert shop.terminate("eu-1") == 0
    mark = shop.mark("eu-1")
    shop.start_node("eu-1")
    shop.wait_log("eu-1", text, since=mark)
