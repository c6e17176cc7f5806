"""`redwire dev` without a cluster: wrong usage, names that are not there, and how things are shown."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tools.cli.dev_roles import asked as asked_roles
from tools.cli.dev_view import Pings, last_lines, status_document, status_parts
from tools.dev.bring_up import bring_up
from tools.dev.cluster_folder import ClusterFolder
from tools.dev.dev_cluster import DevCluster, DevNode, DevStatus, NodeState
from tools.dev.distances import Distance
from tools.dev.ping import Way
from tools.dev.plan import Wanted
from tools.errors import ClusterRuns, PlanInvalid
from tools.grid import plain

CommandLine = Callable[..., Awaitable[Any]]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "redwire" / "dev"


@pytest.fixture
def stopped(state: Path) -> ClusterFolder:
    """The cluster `dev`, which does not run."""
    folder = ClusterFolder(Wanted("dev", (("eu", 1), ("us", 1))).plan(None), state / "dev")
    folder.write()
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("up", "--region", "eu:x"), "'eu:x' does not say how many nodes; write eu:2"),
        (("up", "--rtt", "eu-us"), "'eu-us' is no round trip; write eu-us=80ms"),
        (("up", "--jitter", "little"), "'little' is no duration; write it as 80ms"),
        (("up", "--name", "My Cluster"), "'My Cluster' is no cluster name"),
        (("slow", "eu-us", "soon"), "'soon' is no duration"),
        (("logs", "eu-1", "-f", "--json"), "--follow has no end"),
    ],
)
async def test_wrong_usage_ends_with_code_2_and_says_what_is_right(
    command_line: CommandLine, stopped: ClusterFolder, words: tuple[str, ...], message: str
) -> None:
    ran = await command_line("dev", *words)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("status", "--name", "dew"), "there is no cluster called dew; did you mean dev?"),
        (("status", "--name", "production"), "there is no cluster called production; others are dev"),
        (("kill", "eu-2"), "eu-2 is no node of dev; did you mean eu-1?"),
        (("kill", "eu-1"), "eu-1 does not run; start it: redwire dev start eu-1"),
        (("start", "paris"), "paris is no node of dev; nodes are eu-1, us-1"),
        (("start", "eu-1"), "dev does not run; start all of it: redwire dev up"),
        (("cut", "eu-uk"), "'eu-uk' is no pair of regions; did you mean eu-us?"),
        (("cut", "eu-us"), "the links of dev do not run; start all of it: redwire dev up\n"),
        (("heal",), "the links of dev do not run; start all of it: redwire dev up\n"),
        (("uri",), "dev never was up; start it: redwire dev up"),
        (("uri", "--admin", "--in", "uk"), "uk is no region; did you mean us?"),
    ],
)
async def test_what_cannot_be_done_ends_with_code_1_and_says_why(
    command_line: CommandLine, stopped: ClusterFolder, words: tuple[str, ...], message: str
) -> None:
    ran = await command_line("dev", *words)
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err


async def test_without_any_cluster_the_way_to_one_is_told(command_line: CommandLine) -> None:
    ran = await command_line("dev", "status")
    assert ran.err == (
        "redwire: there is no cluster called dev; make one: redwire dev up; "
        "one that was made with --dir is named by it: redwire dev status --dir FOLDER\n"
    )


async def test_a_cluster_that_was_made_in_a_folder_is_not_found_by_its_name(
    command_line: CommandLine, stopped: ClusterFolder, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    ClusterFolder(replace(stopped.plan, name="two"), elsewhere).write()
    ran = await command_line("dev", "uri", "--name", "two")
    assert ran.code == 1 and "no cluster called two" in ran.err
    assert ran.err.endswith("; one that was made with --dir is named by it: redwire dev uri --dir FOLDER\n")
    ran = await command_line("dev", "status", "--dir", str(elsewhere))
    assert ran.code == 0 and ran.out.startswith(f"two, in {elsewhere}")


async def test_a_cluster_that_does_not_run_is_shown_and_can_be_removed(
    command_line: CommandLine, stopped: ClusterFolder
) -> None:
    ran = await command_line("dev", "status")
    assert ran.code == 0
    assert "The links between the regions are down." in ran.out
    assert (await command_line("dev", "logs", "us-1")).out == "\n"
    assert (await command_line("dev", "down")).out == f"nothing ran; its data stays in {stopped.folder}\n"
    assert (await command_line("dev", "down", "--purge")).out == (
        f"nothing ran; removed its data in {stopped.folder}\n"
    )
    assert not stopped.folder.exists()


async def test_the_folder_can_be_named(command_line: CommandLine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    ClusterFolder(Wanted("shop", (("eu", 1),)).plan(None), elsewhere).write()
    ran = await command_line("dev", "status", "--dir", str(elsewhere))
    assert ran.out.startswith(f"shop, in {elsewhere}\n")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("start", "eu-1"), "start all of it: redwire dev up"),
        (("kill", "eu-1"), "start it: redwire dev start eu-1"),
        (("ping", "eu-us"), "start one: redwire dev start us-1"),
        (("uri",), "start it: redwire dev up"),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_what_to_type_names_the_cluster_that_is_meant(
    command_line: CommandLine,
    state: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    hint: str,
    elsewhere: bool,
) -> None:
    folder = tmp_path / "else where" if elsewhere else state / "d3"
    place = ("--dir", str(folder)) if elsewhere else ("--name", "d3")
    ClusterFolder(Wanted("d3", (("eu", 1), ("us", 1))).plan(None), folder).write()
    ran = await command_line("dev", *words, *place)
    assert ran.code == 1 and ran.err.endswith(f"{hint} {shlex.join(place)}\n")


def test_whose_data_is_to_be_given_up_is_said_by_name(state: Path) -> None:
    ClusterFolder(Wanted("d3", (("eu", 1),)).plan(None), state / "d3").write()
    with pytest.raises(PlanInvalid, match="give its data up: redwire dev down --purge --name d3"):
        bring_up(state / "d3", Wanted("d3", (("eu", 3),)), print)


@pytest.mark.parametrize("text", ["", "node", "node: {id", "node: {id: eu-1}", "\x00"])
async def test_a_file_that_was_cut_short_is_told_with_what_to_type(
    command_line: CommandLine, stopped: ClusterFolder, text: str
) -> None:
    path = stopped.config_path("eu-1")
    path.write_text(text)
    ran = await command_line("dev", "status")
    assert ran.code == 1 and f"{path} is damaged" in ran.err
    assert ran.err.endswith("; remove it and start it again, which writes it anew: redwire dev up\n")


async def test_what_a_start_did_not_come_to_write_is_told_with_what_to_type(
    command_line: CommandLine, stopped: ClusterFolder
) -> None:
    stopped.config_path("us-1").unlink()
    ran = await command_line("dev", "status")
    assert ran.code == 1
    assert ran.err.endswith("an earlier start did not come to its end; start it again: redwire dev up\n")


def test_a_folder_that_lies_too_deep_for_sqlite_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["d" * 100] * 5)
    with pytest.raises(PlanInvalid, match="at most 480 are possible; name a shorter folder"):
        bring_up(deep, Wanted("dev", (("eu", 1),)), print)
    assert not deep.exists()


async def test_an_interrupt_that_came_once_the_cluster_was_up_does_not_say_that_nothing_runs(
    command_line: CommandLine, stopped: ClusterFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(folder: Path, wanted: Wanted, tell: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.cli.dev.bring_up", late)
    assert "nothing that was started runs any more" in (await command_line("dev", "up")).err
    with subprocess.Popen(stopped.commands["eu-1"], stderr=subprocess.DEVNULL) as process:
        try:
            ran = await command_line("dev", "up")
        finally:
            process.kill()
    assert ran.code == 130
    assert ran.err.endswith("redwire: interrupted; still running: eu-1; end it: redwire dev down\n")


async def test_a_cluster_that_is_not_there_is_made_by_its_name(command_line: CommandLine) -> None:
    ran = await command_line("dev", "status", "--name", "d3")
    assert "; make one: redwire dev up --name d3; " in ran.err


STATUS = DevStatus(
    "dev",
    Path("/x"),
    (
        DevNode("eu-1", "eu", "primary", "127.0.0.1:10001", 41, NodeState.RUNNING, told=True),
        DevNode("us-1", "us", "replica", "127.0.0.1:10002", None, NodeState.DOWN),
        DevNode("ap-1", "ap", "replica", "127.0.0.1:10003", 43, NodeState.PAUSED, by_hand=True),
    ),
    40,
    "",
    (
        Distance("eu", "us", 80, 5, ("us",)),
        Distance("eu", "ap", 120.5, 0),
        Distance("ap", "us", 9, 0, ("ap", "us")),
    ),
)


def test_a_status_shows_nodes_and_round_trips() -> None:
    assert plain(status_parts(STATUS)) == (
        "dev, in /x\n"
        "node  region  role                  address          pid  state\n"
        "eu-1  eu      primary               127.0.0.1:10001  41   running\n"
        "us-1  us      replica, by its file  127.0.0.1:10002  -    down\n"
        "ap-1  ap      replica, by its file  127.0.0.1:10003  43   paused, by hand\n\n"
        "Round trips\n"
        "region  eu                       us                       ap\n"
        "eu      -                        80 ms + 5, cut us to eu  120.5 ms\n"
        "us      80 ms + 5, cut us to eu  -                        9 ms, cut\n"
        "ap      120.5 ms                 9 ms, cut                -\n\n"
        "The links are process 40."
    )


def test_links_that_do_not_say_how_they_are_hide_no_node() -> None:
    status = replace(STATUS, links_why="nobody takes commands", distances=())
    shown = plain(status_parts(status))
    assert "eu-1  eu      primary" in shown and "Round trips" not in shown
    again = "redwire dev down --dir /x; redwire dev up --dir /x"
    assert shown.endswith(f"The links are process 40; nobody takes commands: {again}")


def test_a_status_for_programs_holds_the_same() -> None:
    document = status_document(STATUS)
    assert (document["name"], document["dir"], document["links"]) == ("dev", "/x", {"pid": 40, "why": ""})
    assert document["nodes"][1] == {
        "id": "us-1",
        "region": "us",
        "role": "replica",
        "addr": "127.0.0.1:10002",
        "pid": None,
        "state": "down",
        "by_hand": False,
        "told": False,
    }
    assert document["distances"][0] == {
        "here": "eu",
        "there": "us",
        "rtt_ms": 80,
        "jitter_ms": 5,
        "cut_from": ("us",),
    }


@pytest.mark.parametrize(
    ("count", "lines"), [(0, []), (1, ["c"]), (3, ["a", "b", "c"]), (9, ["a", "b", "c"])]
)
def test_the_last_lines_of_a_log(tmp_path: Path, count: int, lines: list[str]) -> None:
    path = tmp_path / "log"
    path.write_text("a\nb\nc\n")
    said = last_lines(path, count)
    assert (said.lines, said.end) == (lines, 6)


def test_what_runs_is_asked_of_the_system(stopped: ClusterFolder) -> None:
    dev = DevCluster.open(stopped.folder)
    dev.up_marker.touch()
    assert dev.processes() == {}
    assert [node.state for node in dev.status().nodes] == [NodeState.DOWN, NodeState.DOWN]


@pytest.fixture
def foreground(stopped: ClusterFolder) -> Iterator[int]:
    """The process of somebody else who holds the data of eu-1, as a redwire-node on a terminal does."""
    script = (
        "import sys, pathlib; from cluster.data_lock import DataLock;"
        "lock = DataLock.take(pathlib.Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(stopped.data_dir("eu-1"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.read(1)
        try:
            yield process.pid
        finally:
            process.kill()


async def test_a_node_that_was_started_by_hand_is_called_that(
    command_line: CommandLine, stopped: ClusterFolder, foreground: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.cli.dev_roles.ANSWER_S", 0.2)  # who holds the data answers nobody
    ran = await command_line("dev", "status", "--json")
    node = json.loads(ran.out)["nodes"][0]
    assert (node["state"], node["by_hand"], node["pid"]) == ("running", True, foreground)
    assert "running, by hand" in (await command_line("dev", "status")).out
    ran = await command_line("dev", "start", "eu-1")
    assert (ran.code, ran.err) == (1, f"redwire: eu-1 runs already, by hand, as process {foreground}\n")
    ran = await command_line("dev", "down")
    assert ran.out.startswith(f"nothing ran; eu-1 (process {foreground}) was started by hand and runs on; ")
    ran = await command_line("dev", "down", "--purge")
    message = f"redwire: started by hand, and still running: eu-1 (process {foreground}); end it where it"
    assert ran.code == 1 and ran.err.startswith(message)
    assert stopped.data_dir("eu-1").exists()
    assert (await command_line("dev", "kill", "eu-1")).out == f"eu-1 (process {foreground}) was killed\n"
    assert (await command_line("dev", "status", "--json")).out.count('"down"') == 2


def test_a_cluster_of_which_a_node_runs_by_hand_is_not_started_beside_it(
    stopped: ClusterFolder, foreground: int
) -> None:
    with pytest.raises(ClusterRuns, match=rf"still running: eu-1 \(process {foreground}\); end it where"):
        bring_up(stopped.folder, Wanted("dev"), print)


@pytest.mark.parametrize("quiet", [False, True])
def test_pings_say_what_is_measured_before_the_first_one_unless_for_a_program(
    capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    with Pings(Way("eu", "us", "us-1", 80), 200, quiet=quiet) as pings:
        said = capsys.readouterr().err
        pings.at(1)
    expected = "pinging us-1 from eu, 200 times through the links and 200 times without them; about 16 s\n"
    assert said == ("" if quiet else expected)
    assert capsys.readouterr().err == ""


def test_pings_on_a_terminal_say_how_far_they_have_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Pings(Way("eu", "us", "us-1", 80), 200, quiet=False) as pings:
        pings.at(42)
    assert "42 of 200" in capsys.readouterr().err


async def test_a_node_that_answers_says_its_role_itself_and_another_ones_is_its_files(cluster) -> None:
    cluster.nodes[1].frozen = True
    files = tuple(
        DevNode(node.name, node.name[:2], "observer", node.addr, 40, state)
        for node, state in zip(
            cluster.nodes, (NodeState.RUNNING, NodeState.RUNNING, NodeState.DOWN), strict=True
        )
    )
    status = replace(STATUS, nodes=files)
    uris = {node.name: cluster.uri(node) for node in cluster.nodes}
    found = await asked_roles(status, uris.__getitem__)
    assert [(node.role, node.told) for node in found.nodes] == [
        ("primary", True),
        ("observer", False),
        ("observer", False),
    ]
