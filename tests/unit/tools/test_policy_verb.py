"""`redwire policy check`: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from redwire.errors import UnknownOutcome
from regions.prover import Writable
from tools.verdict import LEGEND

Run = Callable[..., Awaitable[Any]]

SOUND = """\
What is promised
what     value
policy   ack_n=1 & regions(2 of ap,eu,us)
promise  a confirmed write survives the loss of any one node
floor    the same
primary  eu-1
voters   eu-1, eu-2, us-1, ap-1

Writes by ack_n=1 & regions(2 of ap,eu,us), when disks are lost
lost         writes kept  still writable  safe successor
eu-1         yes          with successor  yes
eu-2         yes          yes             yes
us-1         yes          yes             yes
ap-1         yes          yes             yes
eu-1 + eu-2  yes          no              no
eu-1 + us-1  no           no              no
eu-1 + ap-1  no           no              no
eu-2 + us-1  yes          yes             no
eu-2 + ap-1  yes          yes             no
us-1 + ap-1  yes          no              no
region eu    yes          no              no
region us    yes          yes             yes
region ap    yes          yes             yes

Single points of failure
effect             node or region
loses data         none
stops writes       region eu
no safe successor  region eu

Expected commit by ack_n=1 & regions(2 of ap,eu,us)
primary  p50
eu-1     82.5 ms

"""

EMPTY = """\
What is promised
what     value
policy   regions(eu)
promise  regions(eu) promises one disk: while eu-1 leads, a confirmed write may be on eu-1 alone \
and is lost with it
floor    the same
primary  whoever leads
voters   eu-1, us-1, us-2

Writes by regions(eu), when disks are lost
lost         writes kept  still writable       safe successor
eu-1         no           no                   no
us-1         yes          yes                  yes
us-2         yes          yes                  yes
eu-1 + us-1  no           no                   no
eu-1 + us-2  no           no                   no
us-1 + us-2  yes          unless primary lost  no
region eu    no           no                   no
region us    yes          unless primary lost  no

Single points of failure
effect             node or region
loses data         eu-1, region eu
stops writes       eu-1, region eu, region us
no safe successor  eu-1, region eu, region us

Expected commit by regions(eu)
primary  p50
eu-1     0 ms
us-1     unknown: no RTT to eu-1
us-2     unknown: no RTT to eu-1

"""

CLUSTER = """\
cluster:
  name: shop
  members:
    - {id: eu-1, region: eu, addr: "eu-1.example.net:5050"}
    - {id: us-1, region: us, addr: "us-1.example.net:5050"}
    - {id: ap-1, region: ap, addr: "ap-1.example.net:5050"}
    - {id: sa-1, region: sa, addr: "sa-1.example.net:5050", kind: reader}
  policy: regions(eu,us)
  floor: majority
"""
NODE = """\
node: {id: eu-1, region: eu, role: primary, listen: "0.0.0.0:5050", data_dir: data}
tls: {ca: ca.pem, cert: eu-1.pem, key: eu-1.key}
"""


@pytest.fixture
def cluster_file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "cluster.yaml"
        path.write_text(text)
        return str(path)

    return write


async def test_a_sound_policy_is_printed_and_done(command_line: Run) -> None:
    rtts = ("--rtt", "eu-us=80ms", "--rtt", "ap-eu=0.12s", "--fsync", "2.5ms")
    ran = await command_line(
        *("policy", "check", "ack_n=1 & regions(2 of eu,us,ap)", "--nodes", "eu:2,us:1,ap:1"),
        *("--primary", "eu-1", *rtts),
    )
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == SOUND + LEGEND.text() + "\n"


async def test_an_empty_promise_is_printed_and_refused(command_line: Run) -> None:
    ran = await command_line("policy", "check", "regions(eu)", "--nodes", "eu:1,us:2")
    assert ran.code == 4
    assert ran.out == EMPTY + LEGEND.text() + "\n"
    assert ran.err == (
        "redwire: regions(eu) promises one disk: while eu-1 leads, a confirmed write may be on eu-1 alone "
        "and is lost with it; ask for ack_n=1 & regions(eu)\n"
    )


async def test_the_json_document_has_the_same_keys_always(command_line: Run) -> None:
    found = []
    for arguments in (
        ("majority", "--nodes", "eu:2,us:2,ap:1", "--rtt", "eu-us=80ms", "--rtt", "eu-ap=120ms"),
        ("majority", "--floor", "local", "--nodes", "eu:1,us:1", "--primary", "us-1"),
        ("local", "--nodes", "eu:3"),
    ):
        ran = await command_line("policy", "check", *arguments, "--json")
        found.append(json.loads(ran.out))
    for document in found:
        assert list(document) == ["primary", "members", "policy", "floor", "promises"]
        for promise in (document["promises"]["policy"], document["promises"]["floor"]):
            assert list(promise) == ["promise", "empty", "losses", "single_points", "commit"]
            assert list(promise["single_points"]) == ["data", "writes", "successor"]
            for loss in promise["losses"]:
                assert list(loss) == ["region", "nodes", "kept", "writable", "successor"]
                assert loss["writable"] in list(Writable)
            for time in promise["commit"]:
                assert list(time) == ["primary", "p50_ms", "unmeasured"]
    five, two, one_region = (document["promises"] for document in found)
    assert five["policy"] == five["floor"]
    assert five["policy"]["commit"][0] == {"primary": "eu-1", "p50_ms": 80.0, "unmeasured": []}
    assert five["policy"]["commit"][2] == {"primary": "us-1", "p50_ms": None, "unmeasured": ["ap-1"]}
    assert len(five["policy"]["losses"]) == 5 + 10 + 3
    assert found[1]["floor"] == "local" and two["floor"]["empty"] and not two["policy"]["empty"]
    assert [time["primary"] for time in two["policy"]["commit"]] == ["us-1"]
    assert one_region["policy"]["single_points"]["data"] == {
        "nodes": ["eu-1", "eu-2", "eu-3"],
        "regions": ["eu"],
    }


async def test_a_files_floor_holds_and_its_round_trips_are_used(
    command_line: Run, cluster_file: Callable[[str], str]
) -> None:
    file = cluster_file(CLUSTER + "rtt: {eu-us: 80ms, us-ap: 150ms, eu-ap: 120ms}\n")
    ran = await command_line(
        "policy", "check", "regions(eu,us)", "--config", file, "--rtt", "us-ap=90ms", "--json"
    )
    document = json.loads(ran.out)
    assert ran.code == 0
    assert document["floor"] == "majority"
    promises = document["promises"]
    assert [time["p50_ms"] for time in promises["policy"]["commit"]] == [80.0, 80.0, 120.0]
    assert [time["p50_ms"] for time in promises["floor"]["commit"]] == [80.0, 80.0, 90.0]
    stops = {"nodes": ["eu-1", "us-1"], "regions": ["eu", "us"]}
    assert promises["policy"]["single_points"]["writes"] == stops
    ran = await command_line("policy", "check", "regions(eu,us)", "--config", file)
    assert "readers      sa-1: their copies count for nothing" in ran.out
    assert "Writes by majority, when disks are lost" in ran.out


async def test_a_nodes_file_will_do_and_quorum_is_its_policy(
    command_line: Run, cluster_file: Callable[[str], str]
) -> None:
    file = cluster_file(NODE + CLUSTER)
    ran = await command_line("policy", "check", "quorum", "--config", file, "--json")
    assert (ran.code, json.loads(ran.out)["policy"]) == (0, "regions(eu,us)")


REFUSED = [
    (("ack_n=5", "--nodes", "eu:3"), "can never be met"),
    (("majority & regions(eu,mars)", "--nodes", "eu:3"), "no voter in mars"),
    (("remote_wal", "--nodes", "eu:3"), "no archive"),
    (("majority", "--floor", "ack_n=4", "--nodes", "eu:3"), "ack_n=4 can never be met"),
    (("ack_n=1", "--floor", "majority", "--nodes", "eu:2,us:3"), "check ack_n=1 & majority"),
    (("ack_n=4", "--floor", "regions(eu,us)", "--nodes", "eu:6,us:6"), "compared for at most 9 voters"),
    (("quorum", "--nodes", "eu:1"), "local promises one disk"),
    (("majority", "--nodes", "eu:1"), "eu-1 is the only voter"),
]


@pytest.mark.parametrize(("arguments", "reason"), REFUSED)
async def test_a_policy_that_should_not_be_set_is_exit_code_4(
    arguments: tuple[str, ...], reason: str, command_line: Run
) -> None:
    ran = await command_line("policy", "check", *arguments)
    assert ran.code == 4
    assert ran.err.startswith("redwire: ") and reason in ran.err


USAGE = [
    (("majority",), "either --config FILE or --nodes"),
    (("majority", "--nodes", "eu:2", "--config", "x.yaml"), "either --config FILE or --nodes"),
    (("majorty", "--nodes", "eu:2"), "did you mean majority?"),
    (("majority", "--floor", "ack_n=0", "--nodes", "eu:2"), "write 'local'"),
    (("majority", "--nodes", "eu"), "'eu' is no region with a number"),
    (("majority", "--nodes", "EU:2"), "'EU:2' is no region with a number"),
    (("majority", "--nodes", "eu:0"), "'eu:0' is no region with a number"),
    (("majority", "--nodes", "eu:2,eu:1"), "the region eu is named twice"),
    (("majority", "--nodes", "eu:60,us:5"), "65 voters, at most 64"),
    (("majority", "--nodes", "eu:2", "--primary", "eu2"), "did you mean eu-2?"),
    (("majority", "--nodes", "eu:2", "--primary", "mars-44"), "voters are eu-1, eu-2"),
    (("majority", "--nodes", "eu:2,us:1", "--rtt", "eu-su=1ms"), "did you mean eu-us?"),
    (("majority", "--nodes", "eu:2,us:1", "--rtt", "eu-us"), "'' is no duration"),
    (("majority", "--nodes", "eu:2", "--fsync", "fast"), "'fast' is no duration"),
]


@pytest.mark.parametrize(("arguments", "reason"), USAGE)
async def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], reason: str, command_line: Run) -> None:
    ran = await command_line("policy", "check", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert reason in ran.err


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [("--timeout", "3600s", 5), ("--replica-timeout", "600s", 5), ("--replica-timeout", "601s", 2)],
)
async def test_a_timeout_may_be_as_long_as_the_setting_can_be(
    option: str, value: str, code: int, command_line: Run
) -> None:
    ran = await command_line("policy", "set", option, value, "--uri", "red://127.0.0.1:1/?timeout_ms=200")
    assert ran.code == code
    assert code == 5 or "what can be: whole milliseconds, 1000 to 600000" in ran.err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "expected a mapping with cluster, rtt"),
        ("rtt: {}", "cluster: is missing"),
        (CLUSTER + "rrt: {}", "rrt: unknown key; did you mean rtt?"),
        (CLUSTER + "rtt: {eu-uss: 80ms}", "rtt: 'eu-uss' is no pair of regions; did you mean eu-us?"),
        (CLUSTER + "rtt: {eu-us: 80}", "rtt.eu-us: expected text, not 80"),
        (CLUSTER.replace("us-1, r", "eu-1, r"), "cluster.members[1].id: eu-1 stands in"),
        (NODE + CLUSTER + "rtt: {eu-us: 80ms}", "rtt: unknown key"),
    ],
)
async def test_a_file_that_describes_no_cluster_is_exit_code_1_and_named(
    text: str, reason: str, command_line: Run, cluster_file: Callable[[str], str]
) -> None:
    file = cluster_file(text)
    ran = await command_line("policy", "check", "majority", "--config", file)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"redwire: {file}: ") and reason in ran.err


def test_on_a_terminal_the_tables_are_drawn() -> None:
    """A real terminal of 80 columns, so a real process."""
    ours, theirs = pty.openpty()
    command = (sys.executable, "-m", "tools.cli.main", "policy", "check", "majority", "--nodes", "eu:2,us:1")
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 1 << 16):
                shown += data
        except OSError:  # how a terminal says that the other side is gone
            pass
    os.close(ours)
    lines = re.sub("\x1b\\[[0-9;]*m", "", shown.decode()).splitlines()
    assert process.returncode == 0
    head = next(at for at, line in enumerate(lines) if re.match("lost +writes kept ", line))
    assert set(lines[head + 1].strip()) == {"─"}
    assert any(re.match("region eu +no +no +no", line) for line in lines)
    assert max(map(len, lines)) <= 80
    assert " ".join(map(str.strip, lines)).endswith(" ".join(LEGEND.words.split()))


@pytest.mark.parametrize("words", [("--dry-run",), (), ("--yes",)])
async def test_a_plan_that_nobody_answers_has_certainly_changed_nothing(
    command_line: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def silence(*_: object) -> None:
        raise UnknownOutcome("no answer within 1 s", phase="answer", hint="look at the settings")

    monkeypatch.setattr("tools.cli.change.with_client", silence)
    ran = await command_line("policy", "set", "majority", *words, "--uri", "reds://eu-1:5050")
    assert (ran.code, ran.err) == (5, "redwire: no answer within 1 s; nothing was changed\n")
