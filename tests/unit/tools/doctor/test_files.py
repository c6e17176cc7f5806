"""A node's own file, held against what is in force."""

from __future__ import annotations

import json
import socket
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cluster.advice import Advice
from cluster.config import NodeConfig, parse_node_config
from cluster.credentials import DAY_MS
from cluster.inspection import Inspection
from cluster.settings import Settings
from redwire.errors import ConfigInvalid, DeadlineExceeded, TlsInvalid
from redwire.position import Lsn
from redwire.tls import certificate_validity_ms
from tests.doctor_facts import NAMES, NOW_MS, bad, facts, only
from tools.authority import Authority
from tools.dev.cluster_folder import free_ports
from tools.doctor.facts import Door, Facts, FileFacts
from tools.doctor.finding import Check, Level
from tools.doctor.judge import judge
from tools.doctor.survey import survey

CONFIG: dict[str, Any] = {
    "node": {"id": "eu-1", "region": "eu", "role": "primary", "listen": "127.0.0.1:5050", "data_dir": "data"},
    "tls": {"ca": "ca.pem", "cert": "eu-1.pem", "key": "eu-1.key"},
    "cluster": {
        "name": "shop",
        "members": [{"id": name, "region": name[:2], "addr": f"{name}.example.net:5050"} for name in NAMES],
    },
}


def config(**cluster: Any) -> NodeConfig:
    return parse_node_config(CONFIG | {"cluster": CONFIG["cluster"] | cluster}, "node.yaml")


def logged(**cluster: Any) -> Settings:
    """Settings in force, as they are told to somebody outside."""
    view = Settings(Lsn(3), config(**cluster).cluster).view()
    return Settings.shown(view, "shop")


def file(config: NodeConfig, **changes: Any) -> FileFacts:
    known: dict[str, Any] = {"errors": (), "ends": (), "warnings": (), "remarks": (), "shown": None}
    return FileFacts("node.yaml", config, Inspection(**(known | changes)))


def test_a_file_that_is_right_is_told_to_be_and_what_a_running_node_hides_is_no_warning() -> None:
    findings = judge(
        facts(file=file(config(), remarks=(Advice("process 7 runs in data"),)), settings=logged())
    )
    assert {finding.level for finding in findings} == {Level.OK}
    assert {"eu-1 of shop can start", "its section cluster says what is in force since LSN 3"} < {
        finding.what for finding in findings
    }


@pytest.mark.parametrize(
    ("kind", "what", "mend"),
    [
        ("user", "the certificate of ops", "redwire certs issue user ops --out renewed"),
        ("node", "our certificate", "have its issuer renew it"),
    ],
)
async def test_our_own_certificate_is_named_by_what_it_says_not_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, what: str, mend: str
) -> None:
    authority = Authority.create("shop")
    ca, _ = authority.save(tmp_path)
    issued = authority.issue_user("ops") if kind == "user" else authority.issue_node("ops", ["127.0.0.1"])
    cert, key = issued.save(tmp_path, "client")
    soon_ms = certificate_validity_ms(cert)[1] - 10 * DAY_MS
    monkeypatch.setattr("tools.doctor.survey.wall_ms", lambda: soon_ms)
    uri = f"reds://127.0.0.1:{free_ports(1)[0]}/?ca={ca}&cert={cert}&key={key}&timeout_ms=200"
    ending = next(each for each in bad(await survey(uri, None)) if each.where == str(cert))
    assert ending.what.startswith(f"{what} ends in 10 days") and ending.mend == mend


async def test_a_certificate_that_ends_while_the_doctor_looks_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.create("shop")
    ca, _ = authority.save(tmp_path)
    cert, key = authority.issue_node("eu-1", ["127.0.0.1"]).save(tmp_path, "eu-1")
    node = {"id": "eu-1", "region": "eu", "role": "primary", "listen": f"127.0.0.1:{free_ports(1)[0]}"}
    node |= {"advertise": "127.0.0.1:5050", "data_dir": str(tmp_path / "data")}
    member = {"id": "eu-1", "region": "eu", "addr": "127.0.0.1:5050"}
    written = {"node": node, "cluster": {"name": "shop", "members": [member], "admins": ["ops"]}}
    written["tls"] = {"ca": str(ca), "cert": str(cert), "key": str(key)}
    path = tmp_path / "node.yaml"
    path.write_text(json.dumps(written))
    soon_ms = certificate_validity_ms(cert)[1] - 10 * DAY_MS
    days = count()
    monkeypatch.setattr("tools.doctor.survey.wall_ms", lambda: soon_ms + next(days) * DAY_MS)
    found = bad(await survey(None, str(path)))
    assert [each.check for each in found] == [Check.CERTIFICATES]


def test_a_file_that_cannot_be_read_is_an_error_with_its_hint() -> None:
    error = ConfigInvalid("node.yaml", "node.role", "king is not primary or replica", hint="write replica")
    bare = ConfigInvalid("node.yaml", "node.role", "king is not primary or replica")
    found = only(Facts(NOW_MS, "0.1.0", file=FileFacts("node.yaml", error=bare)))
    assert found.mend == "redwire-node check --config node.yaml"
    found = only(Facts(NOW_MS, "0.1.0", file=FileFacts("node.yaml", error=error)))
    assert (found.check, found.level, found.mend) == (Check.CONFIG, Level.ERROR, "write replica")


def test_what_a_check_of_the_node_finds_is_found() -> None:
    error = TlsInvalid(Path("eu-1.pem"), "the certificate has expired", hint="issue it anew")
    warned = Advice("eu-1.pem: the certificate does not name db", "issue it anew with --host db")
    found = bad(Facts(NOW_MS, "0.1.0", file=file(config(), errors=(error,), warnings=(warned,))))
    assert [(each.level, each.mend) for each in found] == [
        (Level.ERROR, "issue it anew"),
        (Level.WARNING, "issue it anew with --host db"),
    ]


def test_settings_that_the_file_says_otherwise_are_named_with_both() -> None:
    members = [dict(each) for each in CONFIG["cluster"]["members"]]
    members[1]["addr"], members[2]["region"] = "10.0.0.9:5050", "us"
    ours = config(policy="ack_n=1", policy_timeout_ms=2_000, admins=["eve"])
    there = logged(members=members, admins=["ops"])
    assert [finding.what for finding in bad(facts(file=file(ours), settings=there))] == [
        "cluster.policy is ack_n=1 here, is majority in the log",
        "cluster.floor is ack_n=1 here, is majority in the log",
        "cluster.policy_timeout_ms is 2000 here, is 10000 in the log",
        "cluster.admins: eve stands here, is missing in the log",
        "cluster.members: us-1 is a voter in us at us-1.example.net:5050 here, "
        "is a voter in us at 10.0.0.9:5050 in the log",
        "cluster.members: ap-1 is a voter in ap at ap-1.example.net:5050 here, "
        "is a voter in us at ap-1.example.net:5050 in the log",
        "cluster.admins: ops is missing here, stands in the log",
    ]


def test_a_file_that_was_held_against_nothing_is_not_called_well() -> None:
    silent = DeadlineExceeded("no node answered within 5 s", phase="answer")
    found = only(facts(file=file(config()), settings=silent))
    assert (found.check, found.level, found.why) == (Check.SETTINGS, Level.WARNING, silent.message)
    young = judge(facts(file=file(config()), settings=replace(logged(), lsn=Lsn(0))))
    assert Check.SETTINGS not in {finding.check for finding in young}


def test_a_peer_that_is_not_reached_from_this_host_is_an_error() -> None:
    shut = Door("us-1", "us-1.example.net:5050", "no answer within 3 s")
    doors = (shut, Door("ap-1", "10.0.0.9:7001", ""))
    found = only(Facts(NOW_MS, "0.1.0", file=replace(file(config()), doors=doors)))
    assert (found.check, found.where, found.why) == (Check.PORTS, "here to us-1", "no answer within 3 s")
    assert "node.dial" in found.mend


async def test_a_peer_is_looked_for_where_the_settings_in_force_have_it_not_where_the_file_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, left = free_ports(2)
    node = {"id": "eu-1", "region": "eu", "role": "replica", "listen": f"127.0.0.1:{free}"}
    members = [{"id": name, "region": "eu", "addr": f"127.0.0.1:{left}"} for name in ("eu-1", "eu-2")]
    members[0]["addr"] = f"127.0.0.1:{free}"
    written = {"node": node | {"data_dir": "data"}, "tls": {"ca": "ca.pem", "cert": "c.pem", "key": "c.key"}}
    path = tmp_path / "node.yaml"
    path.write_text(json.dumps(written | {"cluster": {"name": "shop", "members": members}}))
    with socket.create_server(("127.0.0.1", 0)) as moved:
        addr = f"127.0.0.1:{moved.getsockname()[1]}"
        elsewhere = {"id": "us-1", "region": "us", "addr": f"[::1]:{left}"}  # where IPv6 need not be
        told = logged(members=[members[0], members[1] | {"addr": addr}, elsewhere])

        async def settings(*_: object) -> Settings:
            return told

        monkeypatch.setattr("tools.doctor.survey._settings", settings)
        found = await survey(f"red://127.0.0.1:{free}/?timeout_ms=100", str(path))
    assert found.file is not None and found.file.doors[0] == Door("eu-2", addr, "")
    assert [(door.member, door.addr) for door in found.file.doors[1:]] == [("us-1", f"[::1]:{left}")]


def test_no_audit_and_strangers_are_told() -> None:
    loose = parse_node_config(
        CONFIG | {"audit": {"file": "off"}, "auth": {"anonymous": "write"}}, "node.yaml"
    )
    whats = [finding.what for finding in bad(Facts(NOW_MS, "0.1.0", file=file(loose)))]
    assert whats == ["audit is off", "auth.anonymous is write"]
