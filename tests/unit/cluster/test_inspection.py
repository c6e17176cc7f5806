"""What a check finds on a machine before a node starts, and that it leaves no trace."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cluster.cluster_config import MemberConfig
from cluster.config import (
    Address,
    AnonymousAccess,
    AuthConfig,
    NodeConfig,
    ReplicationRole,
    parse_node_config,
)
from cluster.credentials import DAY_MS, wall_ms
from cluster.data_lock import DataLock
from cluster.exposure import FOLDERS
from cluster.inspection import Inspection, inspect
from cluster.meta import Meta, load, save
from cluster.metrics_config import MetricsConfig
from cluster.state import State
from cluster.tables import open_reader
from cluster.volume import INODES_MIN
from redwire.batch import make_batch
from redwire.position import ClusterId, Incarnation, Lsn, NodeId, Position, Region, Reign, Term
from redwire.record import RequestKind, encode_system
from tests.log_files import batch_after, crash, flip, opened, segments
from tools.authority import Authority

META = Meta(node=NodeId("eu-1"), incarnation=Incarnation("ab" * 16))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("shop")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def free() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


@pytest.fixture
def config(tmp_path: Path, authority: Authority, free: int) -> NodeConfig:
    """A node that is in order and has never run."""
    authority.save(tmp_path)
    authority.issue_node("eu-1", ["127.0.0.1"]).save(tmp_path, "eu-1")
    document: dict[str, Any] = {
        "node": {"id": "eu-1", "region": "eu", "role": "primary", "listen": f"127.0.0.1:{free}"},
        "tls": {"ca": "ca.pem", "cert": "eu-1.pem", "key": "eu-1.key"},
        "cluster": {
            "name": "shop",
            "members": [{"id": "eu-1", "region": "eu", "addr": "127.0.0.1:5050"}],
            "admins": ["ops"],
        },
    }
    document["node"]["data_dir"] = "data"
    return parse_node_config(document, f"{tmp_path}/node.yaml")


def test_a_volume_that_is_nearly_full_is_warned_of(config: NodeConfig) -> None:
    floor = config.retention.disk_free_min_bytes
    assert words(inspect(config, wall_ms(), free_bytes=lambda folder: floor + 1)) == ([], [])
    asked: list[Path] = []
    errors, (warning,) = words(inspect(config, wall_ms(), free_bytes=lambda at: asked.append(at) or floor))
    assert not errors
    assert warning.startswith(f"{config.node.data_dir}: {floor} bytes are free on its volume")
    assert asked == [Path(config.node.data_dir).parent]


def test_a_volume_that_is_nearly_out_of_inodes_is_warned_of(config: NodeConfig) -> None:
    for free in (None, INODES_MIN):
        assert words(inspect(config, wall_ms(), free_inodes=lambda folder, free=free: free)) == ([], [])
    errors, (warning,) = words(inspect(config, wall_ms(), free_inodes=lambda folder: 0))
    assert not errors
    assert warning.startswith(f"{config.node.data_dir}: 0 inodes are free on its volume")


def changed(config: NodeConfig, **node: Any) -> NodeConfig:
    return msgspec.structs.replace(config, node=msgspec.structs.replace(config.node, **node))


def words(found: Inspection) -> tuple[list[str], list[str]]:
    return [str(error) for error in found.errors], [*map(str, found.ends + found.warnings + found.remarks)]


def test_a_node_that_is_in_order_has_nothing_said_of_it_and_nothing_done_to_it(
    config: NodeConfig, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    found = inspect(config, wall_ms())
    assert words(found) == ([], [])
    assert found.shown is not None and found.shown.days_left(wall_ms()) == 364
    assert sorted(tmp_path.iterdir()) == before


def test_everything_that_is_wrong_is_found_at_once(config: NodeConfig, tmp_path: Path, taken: int) -> None:
    (tmp_path / "eu-1.key").chmod(0o644)
    (tmp_path / "data").mkdir()
    save(tmp_path / "data", msgspec.structs.replace(META, node=NodeId("us-1")))
    errors, warnings = words(inspect(changed(config, listen=Address("127.0.0.1", taken)), wall_ms()))
    assert len(errors) == 3 and warnings == []
    assert "others than the owner may use this key" in errors[0]
    assert errors[1].startswith(f"{tmp_path}/data belongs to node us-1, not to eu-1")
    what = f"another process listens on 127.0.0.1:{taken}, and no node runs in this data directory"
    assert errors[2] == f"{what}; end that process, or see node.listen"


def test_the_metrics_port_is_tried_like_the_nodes_own(config: NodeConfig, taken: int) -> None:
    there = MetricsConfig(listen=Address("127.0.0.1", taken))
    (error,), _ = words(inspect(msgspec.structs.replace(config, metrics=there), wall_ms()))
    assert error.startswith(f"another process listens on 127.0.0.1:{taken}")
    nowhere = MetricsConfig(listen=Address("192.0.2.1", 9464))
    (error,), _ = words(inspect(msgspec.structs.replace(config, metrics=nowhere), wall_ms()))
    assert error.startswith("cannot listen on 192.0.2.1:9464: ") and error.endswith("see metrics.listen")


def test_a_cluster_that_nobody_may_administer_is_warned_of_before_it_begins(config: NodeConfig) -> None:
    alone = msgspec.structs.replace(config, cluster=msgspec.structs.replace(config.cluster, admins=()))
    errors, (warning,) = words(inspect(alone, wall_ms()))
    assert errors == [] and warning.startswith("cluster.admins names nobody")
    opened = msgspec.structs.replace(alone, auth=AuthConfig(anonymous=AnonymousAccess.WRITE))
    assert words(inspect(opened, wall_ms())) == ([], []), "who opens it to everybody needs no users"


def test_a_certificate_near_its_end_is_warned_of(config: NodeConfig) -> None:
    errors, (warning,) = words(inspect(config, wall_ms() + 340 * DAY_MS))
    assert errors == [] and "eu-1.pem: the certificate expires in 24 days" in warning


def test_a_host_that_clients_dial_and_the_certificate_lacks_is_warned_of(config: NodeConfig) -> None:
    advertised = changed(config, advertise=Address("db.example.net", 443))
    errors, (warning,) = words(inspect(advertised, wall_ms()))
    assert errors == []
    assert "the certificate does not name db.example.net, where clients reach this node" in warning
    assert warning.endswith("issue it anew with --host db.example.net")


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_this_machine_does_not_have_is_an_error(config: NodeConfig, host: str) -> None:
    errors, warnings = words(inspect(changed(config, listen=Address(host, 5050)), wall_ms()))
    assert warnings == []
    assert len(errors) == 1 and errors[0].startswith(f"cannot listen on {host}:5050: ")


def test_a_data_directory_that_is_a_file_or_in_one_is_an_error(config: NodeConfig, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")
    for path in ("data", "data/of/eu-1"):
        errors, _ = words(inspect(changed(config, data_dir=str(tmp_path / path)), wall_ms()))
        assert len(errors) == 1 and "is a file; node.data_dir names a directory; name another" in errors[0]


@pytest.mark.parametrize(
    ("path", "said"), [("closed", "cannot be written to by this user"), ("closed/data", "cannot be made in ")]
)
def test_a_data_directory_that_cannot_be_written_to_is_an_error(
    config: NodeConfig, tmp_path: Path, path: str, said: str
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    asked: list[Path] = []

    def may_write(folder: Path) -> bool:
        asked.append(folder)
        return False

    node = changed(config, data_dir=str(tmp_path / path))
    errors, _ = words(inspect(node, wall_ms(), may_write=may_write))
    assert asked == [closed]
    assert len(errors) == 1 and f"{tmp_path}/{path}: the data directory {said}" in errors[0]


@pytest.mark.parametrize(
    "part", ["lock", "state.db", "state.db-wal", "diverged", "wal", "wal/01", "wal/01/spare", "wal/01/1.log"]
)
def test_a_part_of_the_data_directory_that_somebody_else_made_is_an_error(
    config: NodeConfig, tmp_path: Path, part: str
) -> None:
    path = tmp_path / "data" / part
    path.parent.mkdir(parents=True)
    if part in FOLDERS:
        path.mkdir()
    else:
        path.touch()
    errors, _ = words(inspect(config, wall_ms(), may_write=lambda at: at != path))
    assert len(errors) == 1 and errors[0].startswith(f"{path}: cannot be read and written by this user")


def test_what_no_node_needs_in_its_data_directory_may_be_anybodys(config: NodeConfig, tmp_path: Path) -> None:
    (tmp_path / "data" / "lost+found").mkdir(parents=True)
    found = inspect(config, wall_ms(), may_write=lambda at: at.name != "lost+found")
    assert words(found) == ([], [])


def test_an_audit_log_that_cannot_be_written_is_warned_of(config: NodeConfig, tmp_path: Path) -> None:
    there, there_not = tmp_path / "there", tmp_path / "not" / "audit.log"
    there.mkdir()
    taken, sessions = there / "audit.log", there / "audit-sessions.log"

    def warned(path: Path, closed: Path | None = None) -> list[str]:
        named = msgspec.structs.replace(config.audit, file=str(path))
        found = inspect(
            msgspec.structs.replace(config, audit=named), wall_ms(), may_write=lambda at: at != closed
        )
        errors, warnings = words(found)
        assert errors == []
        return warnings

    cannot = "the audit log cannot be written there"
    assert warned(taken) == [] and list(there.iterdir()) == []
    assert warned(there_not)[0].startswith(f"{there_not}: {cannot}: there is no folder {there_not.parent}")
    assert warned(taken, closed=there)[0].startswith(f"{taken}: {cannot}: not by this user")
    sessions.touch()
    assert warned(taken) == []
    assert warned(taken, closed=sessions)[0].startswith(f"{sessions}: {cannot}: not by this user")
    assert warned(there)[0].startswith(f"{there}: {cannot}: it is a directory")
    os.mkfifo(taken)
    assert warned(taken) == [] and len(warned(taken, closed=taken)) == 1
    beyond = there / ("n" * 300)
    assert warned(beyond)[0].startswith(f"{beyond}: {cannot}: File name too long")
    assert warned(sessions / "audit.log")[0].startswith(f"{sessions}/audit.log: {cannot}: Not a directory")


def test_who_may_not_look_into_the_data_directory_is_told_so_and_nothing_else_fails(
    config: NodeConfig, tmp_path: Path
) -> None:
    """As whoever is not the node's user may not: here it is a link whose name is too long to be looked at."""
    (tmp_path / "data").symlink_to("n" * 300)
    (error,), (warning,) = words(inspect(config, wall_ms()))
    assert error.startswith(f"{tmp_path}/data: ") and "too long" in error
    assert warning.startswith(f"{tmp_path}/data/audit.log: the audit log cannot be written there")


def test_a_damaged_meta_is_an_error(config: NodeConfig, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.cbor").write_bytes(b"rubbish")
    errors, _ = words(inspect(config, wall_ms()))
    assert len(errors) == 1 and "meta.cbor is damaged" in errors[0]


def test_a_meta_that_is_not_there_beside_a_state_is_an_error(config: NodeConfig) -> None:
    (with_state(config) / "meta.cbor").unlink()
    errors, _ = words(inspect(config, wall_ms()))
    assert len(errors) == 1 and "meta.cbor is damaged: it is not there, and state.db is" in errors[0]


def test_a_directory_in_which_a_process_works_is_left_alone(
    config: NodeConfig, tmp_path: Path, taken: int
) -> None:
    lock = DataLock.take(tmp_path / "data")
    (tmp_path / "data" / "meta.cbor").write_bytes(b"half written")
    errors, warnings = words(inspect(changed(config, listen=Address("127.0.0.1", taken)), wall_ms()))
    lock.close()
    assert errors == []
    assert warnings == [
        f"process {os.getpid()} runs in {tmp_path}/data: it was not looked into",
        f"127.0.0.1:{taken} is taken, by process {os.getpid()} if that is this node",
    ]


def test_a_directory_whose_holder_nothing_names_is_left_alone_too(config: NodeConfig, tmp_path: Path) -> None:
    lock = DataLock.take(tmp_path / "data")
    (tmp_path / "data" / "lock").unlink()
    errors, warnings = words(inspect(config, wall_ms()))
    assert list((tmp_path / "data").iterdir()) == []
    lock.close()
    assert errors == []
    assert warnings == [f"process unknown runs in {tmp_path}/data: it was not looked into"]


def with_state(config: NodeConfig, *logged: NodeConfig, folded: bool = True) -> Path:
    """A data directory whose log and state hold these settings; `folded`: SQLite has nothing beside the file,
    as after a stop, and the log its last mark.
    """
    folder = Path(config.node.data_dir)
    folder.mkdir()
    save(folder, msgspec.structs.replace(META, cluster=ClusterId("cd" * 16)))
    wal, _ = opened(folder, incarnation=META.incarnation)
    state = State.open(folder / "state.db")
    for number, each in enumerate(logged, 1):
        record = each.cluster.to_record(ClusterId("cd" * 16), b"s" * 32, {})
        request = encode_system(RequestKind.CONFIG, record.encode())
        batch = make_batch(Reign(Term(1), NodeId("eu-1")), wal.end, [request], 1, number, Lsn(0))
        wal.append([batch], Lsn(0))
        state.apply([batch])
    wal.close() if folded else crash(wal)
    if folded:
        state.checkpoint()
        state.close()
    else:
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            os.link(folder / name, folder / f"{name}.left")
        state.close()
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            os.replace(folder / f"{name}.left", folder / name)
    return folder


OTHER = MemberConfig(id=NodeId("us-1"), region=Region("us"), addr=Address("127.0.0.1", 5051))


def slower(config: NodeConfig) -> NodeConfig:
    return msgspec.structs.replace(
        config, cluster=msgspec.structs.replace(config.cluster, policy_timeout_ms=20_000)
    )


@pytest.mark.parametrize("folded", [True, False], ids=["stopped", "killed"])
def test_a_file_that_differs_from_the_log_is_found_before_the_start(config: NodeConfig, folded: bool) -> None:
    folder = with_state(config, slower(config), folded=folded)
    before = sorted(folder.iterdir())
    (error,), _ = words(inspect(config, wall_ms()))
    assert "cluster.policy_timeout_ms is 10000 here, is 20000 in the log" in error
    assert sorted(folder.iterdir()) == before
    state = State.open(folder / "state.db")
    assert len(state.cluster_records()) == 1
    state.close()


def test_a_file_that_agrees_with_the_log_is_in_order(config: NodeConfig) -> None:
    folder = with_state(config, config, folded=True)
    assert words(inspect(config, wall_ms())) == ([], [])
    assert not (folder / "state.db-shm").exists()


@pytest.mark.parametrize("gone", ["wal", f"wal/{1:010d}", f"wal/{1:010d}/{1:020d}-{1:020d}.log"])
def test_a_log_that_is_not_there_under_a_state_is_an_error(config: NodeConfig, gone: str) -> None:
    path = with_state(config, config) / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    (error,), _ = words(inspect(config, wall_ms()))
    assert "there is no log; LSN 1 was here" in error


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stateless", [False, True], ids=["state", "no state"])
def test_a_log_that_is_damaged_in_the_middle_is_an_error(config: NodeConfig, stateless: bool) -> None:
    folder = with_state(config, config, config, config)
    (path,) = segments(folder)
    second = path.read_bytes().find(b"RWB1", path.read_bytes().find(b"RWB1") + 1)
    flip(path, second + 200)
    if stateless:
        (folder / "state.db").unlink()
    before = contents(folder)
    (error,), _ = words(inspect(config, wall_ms()))
    assert f"{path} is damaged at byte {second} (LSN 2): batch at LSN 2 fails its CRC" in error
    assert contents(folder) == before


def test_a_log_whose_last_write_was_interrupted_is_in_order_and_left_as_it_is(config: NodeConfig) -> None:
    folder = with_state(config, config, folded=False)
    (path,) = segments(folder)
    end = len(path.read_bytes().rstrip(b"\0"))
    for offset in range(end + 8, end + 300):
        flip(path, offset, 0x55)
    before = path.read_bytes()
    assert words(inspect(config, wall_ms())) == ([], [])
    assert path.read_bytes() == before


def test_a_state_that_the_log_does_not_go_on_from_is_an_error(config: NodeConfig) -> None:
    folder = with_state(config, config)
    later = msgspec.structs.replace(META, base=Position(Term(1), Lsn(7), b"7" * 16), generation=2)
    wal, _ = opened(folder, incarnation=META.incarnation, generation=2, base=later.base)
    wal.append([batch_after(later.base)], Lsn(0))
    wal.close()
    save(folder, later)
    (error,), _ = words(inspect(config, wall_ms()))
    assert "state.db is damaged: it stands at LSN 1, and the log goes on only from 8" in error


def test_a_state_that_is_gone_is_an_error_also_where_a_snapshot_is_all_that_there_was(
    config: NodeConfig,
) -> None:
    folder = with_state(config)
    end = Position(Term(1), Lsn(7), b"7" * 16)
    save(folder, msgspec.structs.replace(META, base=end, generation=2, watermark=end.lsn))
    (folder / "state.db").unlink()
    for begun in (False, True):
        if begun:
            (folder / "wal" / "2").mkdir()
        (error,), _ = words(inspect(config, wall_ms()))
        assert "state.db is damaged: it was removed, or is empty, and the log goes on only from 8" in error


def test_a_state_of_another_history_than_the_log_is_an_error(config: NodeConfig, tmp_path: Path) -> None:
    ours = with_state(config, config, config)
    other = tmp_path / "other"
    theirs = msgspec.structs.replace(config.node, data_dir=str(other))
    with_state(msgspec.structs.replace(config, node=theirs), slower(config))
    (other / "state.db").replace(ours / "state.db")
    (error,), _ = words(inspect(config, wall_ms()))
    assert "they are of two histories" in error


def test_a_file_that_the_log_has_left_behind_is_warned_of(config: NodeConfig) -> None:
    with_state(config, config, slower(config))
    errors, (warning,) = words(inspect(config, wall_ms()))
    assert errors == []
    assert warning.startswith(
        "the file is outdated, the log's settings are in force: cluster.policy_timeout_ms"
    )


def led_by(folder: Path, primary: str) -> None:
    """The data directory has accepted a reign of that node."""
    known = load(folder)
    assert known is not None
    save(folder, msgspec.structs.replace(known, term=Term(3), primary=NodeId(primary)))


def test_a_directory_that_followed_another_node_leads_only_by_order(config: NodeConfig) -> None:
    folder = with_state(config, config)
    led_by(folder, "us-1")
    (error,), warnings = words(inspect(config, wall_ms()))
    assert error.startswith(
        "NOT_PRIMARY: this data directory last followed us-1 (term 3); start it as replica"
    )
    assert warnings == []
    assert words(inspect(config, wall_ms(), take_over=True)) == ([], [])
    led_by(folder, "eu-1")
    assert words(inspect(config, wall_ms())) == ([], []), "it led itself"


def test_a_node_that_may_not_lead_and_differs_from_the_log_is_told_both(config: NodeConfig) -> None:
    led_by(with_state(config, slower(config)), "us-1")
    errors, _ = words(inspect(config, wall_ms()))
    assert len(errors) == 2 and "last followed us-1" in errors[0] and "in the log" in errors[1]


def test_a_log_that_may_be_empty_is_not_said_to_be_refused_the_lead(config: NodeConfig) -> None:
    led_by(with_state(config), "us-1")
    assert words(inspect(config, wall_ms())) == ([], [])


def test_a_cluster_whose_only_member_follows_has_nobody_to_lead_it(config: NodeConfig) -> None:
    alone = changed(config, role=ReplicationRole.REPLICA)
    (warning,) = words(inspect(alone, wall_ms()))[1]
    assert warning.startswith("node.role is replica, and there is no other member: nobody leads")
    two = msgspec.structs.replace(config.cluster, members=(*config.cluster.members, OTHER))
    pair = msgspec.structs.replace(alone, cluster=two)
    assert words(inspect(pair, wall_ms())) == ([], []), "the other one's file may say that it leads"
    with_state(config, config)
    assert words(inspect(pair, wall_ms()))[1][0] == warning, (
        "by the log there is none, whatever the file says"
    )


@pytest.mark.parametrize("bytes_max", [0, 1, 8_192, 20_000])
def test_a_state_whose_making_was_interrupted_is_none_yet(config: NodeConfig, bytes_max: int) -> None:
    """As by a kill, or a full disk, at the first start. Here the system ends who writes further than that."""
    folder = with_state(config)
    (folder / "state.db").unlink(missing_ok=True)
    program = f"""if True:
        import resource, signal
        from pathlib import Path
        from cluster.state import State
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_max}, {bytes_max}))
        State.open(Path({str(folder / "state.db")!r}))
    """
    ended = subprocess.run([sys.executable, "-c", program], timeout=60)
    assert ended.returncode == -signal.SIGXFSZ
    assert words(inspect(config, wall_ms())) == ([], [])
    State.open(folder / "state.db").close()


def test_a_state_of_another_program_is_an_error(config: NodeConfig) -> None:
    folder = with_state(config, config, folded=True)
    (folder / "state.db").write_bytes(b"rubbish" * 1_000)
    (error,), _ = words(inspect(config, wall_ms()))
    assert "state.db is damaged" in error


def test_a_still_reader_sees_what_a_killed_writer_left(config: NodeConfig) -> None:
    folder = with_state(config, config, folded=False)
    connection = open_reader(folder / "state.db", still=True)
    assert connection.execute("SELECT count(*) FROM config").fetchone() == (1,)
    connection.close()


def test_a_package_that_somebody_else_put_in_place_of_ours_is_named(
    config: NodeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clusters-2.0.dist-info").mkdir()
    (tmp_path / "clusters-2.0.dist-info" / "RECORD").write_text("cluster/__init__.py,,\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    errors, _ = words(inspect(config, wall_ms()))
    (error,) = errors
    assert error.startswith("the package cluster comes from clusters, not from redwire-cluster")


@pytest.mark.parametrize("name", ["meta.cbor", "state.db", f"wal/{1:010d}/{1:020d}-{1:020d}.log"])
def test_a_pipe_in_the_place_of_a_file_is_found_before_it_holds_up_the_start(
    config: NodeConfig, tmp_path: Path, name: str
) -> None:
    path = with_state(config, config) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    errors, _ = words(inspect(config, wall_ms()))
    assert len(errors) == 1 and errors[0].startswith(f"{path} is damaged")
    assert "it is a pipe, and no file" in errors[0]


def test_a_pipe_in_the_place_of_the_lock_is_found_before_the_start(config: NodeConfig) -> None:
    path = with_state(config, config) / "lock"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    errors, _ = words(inspect(config, wall_ms()))
    assert len(errors) == 1 and errors[0].startswith(f"{path}: it is a pipe, and no file")


@pytest.mark.parametrize("name", ["diverged", "snapshots", "wal"])
@pytest.mark.parametrize("link", [True, False])
def test_what_is_no_folder_in_the_place_of_one_is_found_before_the_start(
    config: NodeConfig, name: str, link: bool
) -> None:
    path = with_state(config, config) / name
    if path.exists():
        shutil.rmtree(path)
    if link:
        path.symlink_to("/nowhere/else")
    else:
        path.touch()
    errors, _ = words(inspect(config, wall_ms()))
    assert len(errors) == 1 and errors[0].startswith(f"{path}: it is no directory")
