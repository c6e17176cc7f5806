"""The folder of a cluster on this machine: what stays in it from one start to the next, and what does not."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from cluster.config import parse_node_config
from redwire import uri as connection_uri
from redwire.tls import certificate_expiry_ms
from tools.authority import Authority
from tools.dev import cluster_folder
from tools.dev.bring_up import bring_up
from tools.dev.cluster_folder import (
    ADMIN,
    LINKS,
    PORTS,
    STATE,
    UNFINISHED,
    ClusterFolder,
    free_ports,
    held,
    is_free,
    make_private,
)
from tools.dev.dev_cluster import LOCK, DevCluster, locked
from tools.dev.place import typed
from tools.dev.plan import ClusterPlan, Wanted
from tools.errors import ClusterMissing, ClusterRuns, NodeNotReady, PlanInvalid

PLAN = Wanted("dev", (("eu", 1), ("us", 2)), (("eu-us", 80.0),), 4.0, {"policy": "regions(eu,us)"}).plan(None)


@pytest.fixture
def written(tmp_path: Path) -> ClusterFolder:
    folder = ClusterFolder(PLAN, tmp_path / "a folder" / "dev")
    folder.write()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_what_was_written_can_be_opened(written: ClusterFolder) -> None:
    again = ClusterFolder.open(written.folder)
    assert (again.plan, again.ports) == (PLAN, written.ports)
    assert again.link_specs() == written.link_specs()
    assert stat.S_IMODE(written.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("way", ["../dev/../dev", "../link"])
def test_a_folder_is_the_same_by_whatever_way_it_is_named(written: ClusterFolder, way: str) -> None:
    written.folder.with_name("link").symlink_to(written.folder)
    again = ClusterFolder.open(written.folder / way)
    assert (again.folder, again.commands) == (written.folder, written.commands)
    assert typed(written.folder / way, "up") == typed(written.folder, "up")


def test_nobody_else_reads_what_is_written_whatever_the_umask_says(tmp_path: Path) -> None:
    folder = ClusterFolder(PLAN, tmp_path / "dev")
    before = os.umask(0)
    try:
        tmp_path.joinpath("dev").mkdir()
        (folder.folder / UNFINISHED).touch(0o666)
        folder.write()
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.folder.iterdir()}
    certificates = {name: mode for name, mode in found.items() if name.endswith(".pem")}
    assert {found[name] for name in found.keys() - certificates.keys()} == {0o600}
    assert {"cluster.json", "links.json", "us-1.yaml", "us-1.key", "ca.pem"} <= found.keys()


def test_a_folder_that_others_may_write_to_is_ours_alone_then(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    make_private(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_folder_of_somebody_else_is_refused_and_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(PlanInvalid, match="another user's"):
        make_private(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_folder_with_other_files_is_refused_before_anything_of_it_changes(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(PlanInvalid, match=r"holds thesis\.txt"):
        bring_up(tmp_path, Wanted(None, (), (), None, {}), lambda line: None)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_second_start_finds_certificates_ports_and_files_as_they_were(written: ClusterFolder) -> None:
    before = contents(written.folder)
    ClusterFolder(PLAN, written.folder).write()
    assert contents(written.folder) == before


def test_a_certificate_is_renewed_when_it_is_old_or_half_there(written: ClusterFolder) -> None:
    before = contents(written.folder)
    long_ago = datetime.now(UTC) - timedelta(days=364, hours=12)
    for suffix in ("pem", "key"):
        (written.folder / f"us-1.{suffix}").unlink()
    Authority.load(written.folder).issue_node("us-1", now=long_ago).save(written.folder, "us-1")
    (written.folder / "us-2.key").unlink()
    ClusterFolder(PLAN, written.folder).write()
    after = contents(written.folder)
    assert {name for name in after if after[name] != before[name]} == {
        "us-1.pem",
        "us-1.key",
        "us-2.pem",
        "us-2.key",
    }
    assert certificate_expiry_ms(written.folder / "us-1.pem") > (time.time() + 300 * 86_400) * 1000


def test_a_lost_authority_makes_all_certificates_anew(written: ClusterFolder) -> None:
    before = contents(written.folder)
    (written.folder / "ca.key").unlink()
    ClusterFolder(PLAN, written.folder).write()
    after = contents(written.folder)
    assert all(after[f"{name}.pem"] != before[f"{name}.pem"] for name in ("ca", ADMIN, *written.ports))


def test_an_operators_change_of_a_nodes_file_stays(written: ClusterFolder) -> None:
    path = written.config_path("us-1")
    path.write_text(path.read_text().replace("role: replica", "role: primary"))
    written.config_path("eu-1").unlink()
    ClusterFolder(PLAN, written.folder).write()
    assert "role: primary" in path.read_text()
    assert written.config_path("eu-1").exists()


def test_every_nodes_file_is_in_order_and_dials_the_other_regions_through_links(
    written: ClusterFolder,
) -> None:
    ports = {spec.listen_port: spec for spec in written.link_specs()}
    for node in PLAN.nodes:
        path = written.config_path(node.id)
        config = parse_node_config(yaml.safe_load(path.read_text()), str(path))
        for other in config.cluster.members:
            dialled = config.node.dial.get(other.id, other.addr).port
            if other.region == node.region:
                assert dialled == written.ports[other.id]
            else:
                spec = ports[dialled]
                assert (spec.here, spec.target_port) == (node.region, written.ports[other.id])
                assert (spec.name, spec.one_way_ms, spec.jitter_ms) == ("eu-us", 40, 2)


def test_clients_in_a_region_reach_its_nodes_directly_and_others_through_links(
    written: ClusterFolder,
) -> None:
    ports = {spec.listen_port: spec for spec in written.link_specs()}
    config = connection_uri.parse(written.uri(user="app", password="a/b:c@d", within="us"))
    assert (config.user, config.password, config.region, config.discovery) == ("app", "a/b:c@d", "us", False)
    assert config.ca == str(written.folder / "ca.pem")
    seeds = dict(zip(written.ports, (int(seed.rpartition(":")[2]) for seed in config.seeds), strict=True))
    assert (seeds["us-1"], seeds["us-2"]) == (written.ports["us-1"], written.ports["us-2"])
    assert (ports[seeds["eu-1"]].here, ports[seeds["eu-1"]].target_port) == ("us", written.ports["eu-1"])


def test_one_region_has_no_links(tmp_path: Path) -> None:
    folder = ClusterFolder(Wanted("dev", (("eu", 2),)).plan(None), tmp_path)
    assert folder.link_specs() == []
    assert list(folder.commands) == ["eu-1", "eu-2"]
    assert list(ClusterFolder(PLAN, tmp_path).commands) == ["eu-1", "us-1", "us-2", LINKS]


def test_all_ports_of_a_cluster_differ(written: ClusterFolder) -> None:
    ports = [*written.ports.values(), *(spec.listen_port for spec in written.link_specs())]
    assert len(set(ports)) == len(ports) == 3 + 4 + 3


def test_purging_removes_what_is_ours_and_nothing_else(written: ClusterFolder) -> None:
    (written.data_dir("eu-1") / "wal").mkdir(parents=True)
    written.log_path("eu-1").write_text("x")
    (written.folder / "notes.txt").write_text("mine")
    written.purge()
    assert contents(written.folder) == {"notes.txt": b"mine"}
    assert [path.name for path in written.folder.iterdir()] == ["notes.txt"]


def test_purging_takes_an_empty_folder_with_it(written: ClusterFolder) -> None:
    dev = DevCluster.open(written.folder)
    dev.write_password("x")
    with locked(written.folder):
        dev.purge()
    assert not written.folder.exists()


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1', '{"name": 3}'])
def test_a_damaged_state_file_is_named(written: ClusterFolder, text: str) -> None:
    (written.folder / STATE).write_text(text)
    with pytest.raises(ClusterMissing, match=rf"{STATE} does not describe a cluster"):
        ClusterFolder.open(written.folder)


def test_a_folder_whose_names_would_lead_out_of_it_is_no_cluster(written: ClusterFolder) -> None:
    path = written.folder / STATE
    path.write_text(path.read_text().replace('"us-1"', '"../us-1"'))
    with pytest.raises(ClusterMissing, match="'../us-1' is no name"):
        ClusterFolder.open(written.folder)


def test_a_folder_without_a_cluster_says_so(tmp_path: Path) -> None:
    assert not ClusterFolder.is_one(tmp_path)
    with pytest.raises(ClusterMissing, match="there is no cluster in"):
        ClusterFolder.open(tmp_path)


def test_a_start_leaves_a_folder_alone_that_belongs_to_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(PlanInvalid, match="holds thesis.tex, and no cluster"):
        bring_up(tmp_path, Wanted("dev"), print)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_that_cannot_be_writes_nothing(tmp_path: Path) -> None:
    wanted = Wanted("dev", (("eu", 1), ("us", 1)), settings={"policy": "regions(eu,paris)"})
    with pytest.raises(Exception, match=r"cluster\.policy"):
        bring_up(tmp_path / "dev", wanted, print)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", ["write_certificates", "_replace", "os.replace"])
def test_a_first_start_that_is_interrupted_while_it_writes_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    whole, times = cluster_folder.write_certificates, 0

    def half(folder: Path, cluster: str, users: Sequence[str], nodes: Sequence[str]) -> None:
        whole(folder, cluster, users, nodes[:1])
        raise KeyboardInterrupt

    def third(*_: object) -> None:
        nonlocal times
        times += 1
        if times == 3:
            raise KeyboardInterrupt
        real(*_)

    real: Callable[..., None] = os.replace if cut == "os.replace" else cluster_folder._replace
    monkeypatch.setattr(f"tools.dev.cluster_folder.{cut}", half if cut == "write_certificates" else third)
    with pytest.raises(KeyboardInterrupt):
        bring_up(tmp_path / "dev", Wanted("dev", (("eu", 2), ("us", 1))), print)
    assert list(tmp_path.iterdir()) == []


def test_a_purge_takes_the_drafts_of_a_start_that_was_killed(written: ClusterFolder) -> None:
    for name in (UNFINISHED, "links.json.new", "us-1.yaml.new"):
        (written.folder / name).touch()
    written.purge()
    assert not written.folder.exists()


def test_a_start_that_asks_for_another_cluster_leaves_the_one_that_is_there(written: ClusterFolder) -> None:
    before = contents(written.folder)
    with pytest.raises(PlanInvalid, match="the cluster that is there consists of eu-1, us-1, us-2"):
        bring_up(written.folder, Wanted("dev", (("eu", 3),)), print)
    assert contents(written.folder) == before | {LOCK: b""}


def test_a_start_names_the_port_that_somebody_else_has_taken(written: ClusterFolder) -> None:
    port = written.ports["us-1"]
    refused = pytest.raises(NodeNotReady, match=f"port {port}, which is that of us-1")
    with socket.create_server(("127.0.0.1", port)), refused:
        bring_up(written.folder, Wanted("dev"), print)


def test_two_commands_do_not_start_and_end_processes_at_once(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(ClusterRuns, match="another command is at work"), locked(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass


def test_the_application_has_no_uri_before_its_user_was_made(written: ClusterFolder) -> None:
    dev = DevCluster.open(written.folder)
    with pytest.raises(ClusterMissing, match="never was up"):
        dev.app_uri()
    dev.write_password("secret")
    assert stat.S_IMODE(dev.password_path.stat().st_mode) == 0o600
    assert connection_uri.parse(dev.app_uri()).password == "secret"
    with pytest.raises(PlanInvalid, match="uk is no region; did you mean us"):
        dev.app_uri("uk")
    for damage in (b"", b"\xff\xfe"):
        dev.password_path.write_bytes(damage)
        with pytest.raises(ClusterMissing, match="app.password is damaged: it holds no password; remove it"):
            dev.app_uri()


def test_the_uris_begin_with_who_leads_for_drivers_take_the_first_host(written: ClusterFolder) -> None:
    dev = DevCluster.open(written.folder)
    dev.write_password("secret")
    for node, role in (("eu-1", "replica"), ("us-2", "primary")):
        text = dev.config_path(node).read_text()
        dev.config_path(node).write_text(re.sub(r"role: \w+", f"role: {role}", text))
    for uri in (dev.app_uri(), dev.admin_uri()):
        ports = [int(seed.rpartition(":")[2]) for seed in connection_uri.parse(uri).seeds]
        assert ports == [dev.ports[node] for node in ("us-2", "eu-1", "us-1")]


def test_one_port_that_is_not_known_moves_no_other(written: ClusterFolder) -> None:
    path = written.folder / STATE
    state = json.loads(path.read_text())
    before = dict(state["ports"])
    del state["ports"]["us-2"]
    path.write_text(json.dumps(state))
    again = ClusterFolder.open(written.folder)
    again.write()
    after = json.loads(path.read_text())["ports"]
    assert {name: after[name] for name in before if name != "us-2"} == {
        name: before[name] for name in before if name != "us-2"
    }
    assert after.keys() == before.keys() and len(set(after.values())) == len(after)


def test_ports_that_are_taken_are_not_free() -> None:
    taken = frozenset(PORTS) - {PORTS[7]}
    assert list(free_ports(2, taken)) in ([], [PORTS[7]])


def test_ports_are_free_and_below_those_of_outgoing_connections() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(10_000 <= port < 30_000 for port in ports)


def test_a_port_that_is_held_is_nobodys_to_take_and_its_owners_to_listen_on() -> None:
    (port,) = free_ports(1)
    all_others = frozenset(PORTS) - {port}
    with held(port):
        assert is_free(port) and not free_ports(1, all_others)
        with socket.create_server(("127.0.0.1", port)):
            assert not is_free(port)
            held(port).close()
        assert not free_ports(1, all_others)
    assert list(free_ports(1, all_others)) == [port]


def test_a_plan_without_named_pairs_has_no_links(tmp_path: Path) -> None:
    assert ClusterFolder(ClusterPlan(PLAN.nodes), tmp_path).link_specs() == []
