"""Real nodes seen from outside: metrics, probes and the service manager, while members go and disks fail."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from redwire import connect_sync
from redwire.errors import RedwireError, Refused
from tools.dev.cluster_folder import free_ports

pytestmark = pytest.mark.slow

NODES = ("eu-1", "us-1", "ap-1")
TIMEOUT_MS = 1_500
WRITES = 20
SOON_S = 10.0
METRICS = (Path(__file__).parents[2] / "docs" / "METRICS.md").read_text()
BIG = {"body": "x" * (7 << 20)}


class Watched:
    """A fleet with metrics ports, and whoever looks at them."""

    def __init__(self, shop: Any, **section: str) -> None:
        """Writes the ports into the nodes' files; nothing runs yet."""
        self.shop = shop
        self.ports = dict(zip(shop.nodes, free_ports(len(shop.nodes)), strict=True))
        for node, port in self.ports.items():
            path = shop.config_path(node)
            document = yaml.safe_load(path.read_text())
            document["metrics"] = {"listen": f"127.0.0.1:{port}"} | section
            path.write_text(yaml.safe_dump(document, sort_keys=False))

    def get(self, node: str, path: str, context: ssl.SSLContext | None = None) -> tuple[int, str]:
        """(status, body) of the answer."""
        if context is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.ports[node], timeout=SOON_S)
        else:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.ports[node], timeout=SOON_S, context=context
            )
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def why(self, node: str, path: str) -> str:
        """Why a probe fails; "" when it does not."""
        status, body = self.get(node, path)
        why: str = json.loads(body)["why"]
        assert status == (503 if why else 200)
        return why

    def value(self, node: str, name: str, **labels: str) -> float | None:
        """One sample of a node; None where there is none."""
        own = {"cluster": "shop", "node": node} | labels
        for family in text_string_to_metric_families(self.get(node, "/metrics")[1]):
            for sample in family.samples:
                if sample.name == name and own.items() <= sample.labels.items():
                    return sample.value
        return None

    def until(self, node: str, name: str, value: float | None, **labels: str) -> None:
        """Wait until a sample is so."""
        what = f"{name}{labels} of {node} is {value}"
        self.shop.until(lambda: self.value(node, name, **labels) == value, what)


@pytest.fixture
def watched(fleet: Any) -> Watched:
    """Three nodes that are well."""
    made = Watched(fleet(*NODES, start=False, faults=True, replica_timeout_ms=TIMEOUT_MS))
    made.shop.up()
    for node in ("us-1", "ap-1"):
        made.until("eu-1", "redwire_member_healthy", 1, member=node)
    return made


@pytest.fixture
def lone(fleet: Any) -> Watched:
    """One node that does not run yet."""
    return Watched(fleet("eu-1", start=False, faults=True))


class Manager:
    """Stands for systemd at the other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))

    def hear(self, word: str, timeout_s: float = SOON_S) -> None:
        """Wait until the node says `word`; what it says before is passed over."""
        self.sock.settimeout(timeout_s)
        while not self.sock.recv(4_096).decode().startswith(word):
            pass

    def is_silent_for(self, timeout_s: float) -> bool:
        """Whether nothing more is said for so long, once what was said is taken."""
        self.sock.setblocking(False)
        try:
            while True:
                self.sock.recv(4_096)
        except BlockingIOError:
            self.sock.settimeout(timeout_s)
        try:
            self.sock.recv(4_096)
        except TimeoutError:
            return True
        return False


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """Nodes that are started now have a service manager that wants a word every second."""
    path = tmp_path / "notify"
    made = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    yield made
    made.sock.close()


def test_a_node_serves_every_name_of_the_document_with_the_numbers_of_what_was_done(watched: Watched) -> None:
    shop = watched.shop
    for number in range(WRITES):
        shop.db.put("c", f"{number}", {"n": number})
    with pytest.raises(Refused):
        shop.db.put("c", "x", {}, policy="local")
    with pytest.raises(RedwireError), connect_sync(shop.uri().replace("cert=", "x=")) as db:
        db.get("c", "0")
    head = shop.converge()
    names = re.findall(r"^\| `(\w+)` \| (\w+) \|", METRICS, re.MULTILINE)
    for node in NODES:
        _, text = watched.get(node, "/metrics")
        assert re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE) == names
        for name in ("received", "durable", "applied"):
            assert watched.value(node, f"redwire_{name}_lsn") == head
    assert watched.value("eu-1", "redwire_commits_total") == WRITES
    assert watched.value("eu-1", "redwire_refusals_total", code="COMMIT_POLICY_BELOW_FLOOR") == 1
    assert watched.value("eu-1", "redwire_commit_seconds_count", stage="total") == WRITES
    assert (watched.value("eu-1", "redwire_sessions") or 0) >= 1
    assert (watched.value("us-1", "redwire_disk_sync_seconds_count") or 0) > 0
    assert watched.value("us-1", "redwire_quorum_met") is None
    assert watched.value("us-1", "redwire_member_healthy", member="eu-1") is None


def test_members_that_go_are_seen_and_no_node_that_stays_is_called_dead(watched: Watched) -> None:
    shop = watched.shop
    shop.pause("us-1")
    shop.fill("c", 50)
    shop.until(
        lambda: (watched.value("eu-1", "redwire_member_lag_records", member="us-1") or 0) > 0, "us-1 lags"
    )
    watched.until("eu-1", "redwire_member_healthy", 0, member="us-1")
    assert watched.why("eu-1", "/readyz?for=write") == ""
    shop.resume("us-1")
    watched.until("eu-1", "redwire_member_healthy", 1, member="us-1")
    shop.until(lambda: watched.why("us-1", "/readyz?for=read&max_lag_ms=5000") == "", "us-1 is near")
    assert "eu-1 does" in watched.why("us-1", "/readyz?for=write")
    shop.kill("us-1")
    shop.kill("ap-1")
    watched.until("eu-1", "redwire_quorum_met", 0)
    assert watched.why("eu-1", "/readyz?for=write") != "" == watched.why("eu-1", "/readyz?for=read")
    assert watched.why("eu-1", "/livez") == ""
    shop.kill("eu-1")
    shop.start_node("us-1")
    shop.wait_log("us-1", "listens on", since=0)
    shop.until(lambda: _answers(watched, "us-1"), "us-1 answers")
    assert watched.why("us-1", "/livez") == "" == watched.why("us-1", "/readyz?for=read")
    assert watched.why("us-1", "/readyz?for=read&max_lag_ms=60000") == "its lag is unknown"
    assert watched.why("us-1", "/readyz?for=write") == "us-1 does not lead"
    assert watched.value("us-1", "redwire_primary_in_sight") == 0


def _answers(watched: Watched, node: str) -> bool:
    try:
        return watched.get(node, "/livez")[0] == 200
    except OSError:
        return False


def test_a_full_disk_is_seen_and_no_reason_to_start_a_node_anew(watched: Watched) -> None:
    shop = watched.shop
    assert shop.terminate("us-1") == 0  # what it had allocated ahead goes with it
    shop.disk("us-1", "allocate /wal/ fail 28")
    shop.start_node("us-1")
    watched.until("eu-1", "redwire_member_healthy", 1, member="us-1")
    for number in range(40):
        shop.db.put("c", f"{number}", BIG, timeout_s=SOON_S)
        if watched.value("us-1", "redwire_disk_state", state="full"):
            break
    watched.until("us-1", "redwire_disk_state", 1, state="full")
    watched.until("eu-1", "redwire_member_healthy", 0, member="us-1")
    assert watched.value("us-1", "redwire_log_room_bytes") == 0
    assert (watched.value("ap-1", "redwire_log_room_bytes") or 0) > 16 << 20
    assert watched.why("us-1", "/livez") == "" == watched.why("us-1", "/readyz?for=read")
    assert watched.why("eu-1", "/readyz?for=write") == ""
    shop.disk("us-1")
    watched.until("us-1", "redwire_disk_state", 0, state="full")
    assert watched.why("us-1", "/livez") == ""
    shop.converge()


def test_a_disk_that_hangs_is_no_life_and_the_service_manager_hears_nothing(
    lone: Watched, manager: Manager
) -> None:
    lone.shop.up()
    manager.hear("READY=1")
    manager.hear("WATCHDOG=1")
    assert lone.why("eu-1", "/livez") == ""
    lone.shop.disk("eu-1", "sync /pulse hang")
    why = lone.shop.until(lambda: lone.why("eu-1", "/livez"), "the silence of the disk is noticed")
    assert why.startswith("the disk has not answered for 20 s")
    assert "not answered" in lone.why("eu-1", "/readyz?for=read")
    assert manager.is_silent_for(2.0)
    lone.shop.disk("eu-1")
    manager.hear("WATCHDOG=1")
    lone.shop.until(lambda: lone.why("eu-1", "/livez") == "", "the disk answers again")
    lone.shop.wait_log("eu-1", "the disk answers again")


def test_the_service_manager_hears_of_the_start_of_a_reload_and_of_the_end(
    lone: Watched, manager: Manager
) -> None:
    lone.shop.up()
    manager.hear("READY=1")
    lone.shop.signal_node("eu-1", signal.SIGHUP)
    manager.hear("RELOADING=1\nMONOTONIC_USEC=")
    manager.hear("READY=1")
    assert lone.shop.terminate("eu-1") == 0
    manager.hear("STOPPING=1")


def test_over_tls_metrics_are_for_those_who_may_see_the_cluster_and_probes_for_all(fleet: Any) -> None:
    watched = Watched(fleet("eu-1", start=False), tls="on")
    watched.shop.up()
    folder = watched.shop.folder
    anybody = ssl.create_default_context(cafile=folder / "ca.pem")
    assert watched.get("eu-1", "/metrics", anybody)[0] == 403
    assert watched.get("eu-1", "/livez", anybody)[0] == 200
    administrator = ssl.create_default_context(cafile=folder / "ca.pem")
    administrator.load_cert_chain(folder / "ops.pem", folder / "ops.key")
    status, text = watched.get("eu-1", "/metrics", administrator)
    assert status == 200 and "redwire_term" in text
