"""`redwire status`, `lag`, `events` and `topology` against a fake cluster."""

from __future__ import annotations

import json
import time

import anyio
import pytest
from msgspec.structs import replace

from redwire.status import Event, Lag, NodeStatus, Status, Vantage, decode
from tools.cli import words
from tools.cli.status import FOLLOW_S, SHOWN_MAX, Shown, show_events

QUICK_S = 8.0
"""Far below the half minute that a client has for a call; most of it is for starting Python."""


async def test_status_is_one_document_whoever_answers(cluster, command_line) -> None:
    for node in cluster.nodes:
        uri = cluster.uri(node, discovery="off")
        ran = await command_line("status", "--json", "--uri", uri)
        found = decode(ran.out.encode())
        assert ran.code == 0
        assert (found.vantage.node, found.vantage.source) == (node.name, "eu-1")
        assert [row.id for row in found.nodes] == ["eu-1", "us-1", "ap-1"]


async def test_status_says_who_leads_whether_the_quorum_is_met_and_how_each_node_is(
    cluster, command_line
) -> None:
    text = (await command_line("status", "--uri", cluster.uri(cluster.nodes[0]))).out
    assert "cluster shop" in text and "eu-1 leads since" in text and "quorum   met" in text
    (row,) = [line for line in text.splitlines() if line.startswith("us-1")]
    assert "us-1  us" in row and "replica" in row and "caught up" in row
    (leader,) = [line for line in text.splitlines() if line.startswith("eu-1  eu")]
    assert "primary" in leader and leader.split().count("?") == 1  # the free space of its disk


async def test_status_says_that_there_is_no_primary_and_since_when_and_calls_no_lag_known(
    cluster, command_line
) -> None:
    cluster.leader = None
    began = time.monotonic()
    ran = await command_line("status", "--uri", cluster.uri())
    assert time.monotonic() - began < QUICK_S
    assert ran.code == 0
    assert "NO PRIMARY: eu-1 was the last one, silent since 22:12:46 UTC (34 s)" in ran.out
    assert "quorum   unknown: no primary is in sight" in ran.out
    assert "caught up" not in ran.out and "healthy" not in ran.out


async def test_a_dead_primary_in_the_uri_does_not_hold_up_who_looks(cluster, command_line) -> None:
    cluster.stop(cluster.nodes[0])
    cluster.leader = None
    began = time.monotonic()
    ran = await command_line("status", "--json", "--uri", cluster.uri(cluster.nodes[0], cluster.nodes[1]))
    assert time.monotonic() - began < QUICK_S
    assert decode(ran.out.encode()).vantage.node == "us-1"


async def test_a_cluster_of_which_nobody_answers_is_an_error(cluster, command_line) -> None:
    for node in cluster.nodes:
        cluster.stop(node)
    ran = await command_line("status", "--uri", cluster.uri(timeout_ms="800"))
    assert ran.code == 5 and "no node was reached" in ran.err and "refused" in ran.err


async def test_one_nodes_own_view_is_asked_of_that_node_alone(cluster, command_line) -> None:
    cluster.stop(cluster.nodes[0])
    uri = cluster.uri(cluster.nodes[0])
    for verb in ("status", "lag", "events"):
        ran = await command_line(verb, "--json", "--node", cluster.nodes[2].addr, "--uri", uri)
        assert ran.code == 0, ran.err
    ran = await command_line("status", "--json", "--node", cluster.nodes[2].addr, "--uri", uri)
    assert decode(ran.out.encode()).vantage.node == "ap-1"


def test_status_says_that_the_node_whose_view_it_is_was_removed() -> None:
    seen = told("ap-1", "eu-1", "us-1", "ap-1")
    assert words.head_lines(seen)[0].endswith("seen by ap-1 (ap)")
    gone = told("ap-1", "eu-1", "us-1")
    assert words.head_lines(gone)[0].endswith("seen by ap-1 (ap), which is no member of it")
    hidden = replace(gone, vantage=replace(gone.vantage, hides_others=True))
    assert "no member" not in words.head_lines(hidden)[0]


def told(by: str, *nodes: str) -> Status:
    """What a node says where these are members."""
    return Status(vantage=Vantage(node=by, region=by[:2]), nodes=tuple(NodeStatus(id=node) for node in nodes))


async def test_a_node_can_be_asked_by_its_name(cluster, command_line) -> None:
    ran = await command_line("status", "--json", "--node", "ap-1", "--uri", cluster.uri())
    assert decode(ran.out.encode()).vantage.node == "ap-1"
    for node, hint in (("ap-2", "did you mean ap-1?"), ("paris", "nodes are eu-1, us-1, ap-1")):
        ran = await command_line("lag", "--node", node, "--uri", cluster.uri())
        assert ran.code == 2 and not ran.out
        assert f"'{node}' is no node, and no address such as {cluster.nodes[0].addr}; {hint}" in ran.err


async def test_lag_shows_the_followers_and_not_the_primary(cluster, command_line) -> None:
    uri = ("--uri", cluster.uri())
    text = (await command_line("lag", *uri)).out
    assert [line.split()[0] for line in text.splitlines()[3:]] == ["us-1", "ap-1"]
    assert "caught up" in text
    nodes = json.loads((await command_line("lag", "--json", *uri)).out)["nodes"]
    assert [node["lag"]["state"] for node in nodes] == ["caught_up"] * 3


@pytest.mark.parametrize(
    ("lag", "there", "in_short"),
    [
        (Lag(state="behind", records=3, catch_up_ms=2_500), "2.5 s", "behind 3 records; there in 2.5 s"),
        (Lag(state="behind", records=3), "never", "behind 3 records; no nearer yet"),
        (Lag(state="unknown"), "?", "unknown, never heard"),
        (Lag(state="caught_up", catch_up_ms=0), "0.0 ms", "caught up"),
    ],
)
def test_who_never_catches_up_is_told_from_whom_nobody_knows(lag: Lag, there: str, in_short: str) -> None:
    assert (words.there_in(lag), words.lag(lag, 0)) == (there, in_short)


async def test_events_come_one_a_line_with_their_date_when_that_is_not_today(cluster, command_line) -> None:
    cluster.events = [
        Event(node="ap-1", sequence=8, at_ms=1_699_800_000_000, kind="disk_working", text="room again"),
        Event(node="eu-1", sequence=1, at_ms=1_700_000_000_000, kind="reign_begun", text="term 1 begins"),
        Event(node="us-1", sequence=4, at_ms=1_700_000_001_000, level="error", kind="disk_full", text="full"),
    ]
    uri = ("--uri", cluster.uri())
    lines = (await command_line("events", *uri)).out.splitlines()
    assert lines == [
        "Nov 12 14:40  info     ap-1  disk_working: room again",
        "22:13:20      info     eu-1  reign_begun: term 1 begins",
        "22:13:21      error    us-1  disk_full: full",
    ]
    shown = [json.loads(line) for line in (await command_line("events", "--json", *uri)).out.splitlines()]
    assert [(event["node"], event["kind"]) for event in shown] == [
        ("ap-1", "disk_working"),
        ("eu-1", "reign_begun"),
        ("us-1", "disk_full"),
    ]


@pytest.mark.parametrize("as_json", [False, True])
async def test_following_one_node_outlasts_its_restart_and_says_once_that_it_is_away(
    cluster, capsys, as_json
) -> None:
    node, told = cluster.nodes[2], {"out": "", "err": ""}
    port = int(node.addr.rpartition(":")[2])

    async def until(stream: str, text: str) -> None:
        with anyio.fail_after(10 * FOLLOW_S):
            while text not in told[stream]:
                await anyio.sleep(0.05)
                new = capsys.readouterr()
                told["out"] += new.out
                told["err"] += new.err

    cluster.events = [Event(node="ap-1", sequence=1, kind="follows", text="before")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(show_events, cluster.uri(node), node.addr, True, as_json)
        await until("out", "before")
        cluster.stop(node)
        await until("err", f"cannot connect to {node.addr}")
        cluster.events.append(Event(node="ap-1", sequence=2, kind="follows", text="after"))
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
        await tasks.start(cluster.run, node, listener)
        await until("out", "after")
        cluster.stop(node)
        tasks.cancel_scope.cancel()
    assert told["out"].count("before") == 1
    complaints = told["err"].splitlines()
    assert len(complaints) == len(set(complaints))
    for line in complaints:
        if as_json:
            assert json.loads(line)["exit_code"] is None, "it goes on"
        else:
            assert line.startswith("redwire: ")


async def test_topology_tells_what_strangers_and_what_this_user_see(cluster, command_line) -> None:
    uri = cluster.uri(cluster.nodes[1], user="app:secret@")
    shown = json.loads((await command_line("topology", "--json", "--uri", uri)).out)
    assert shown["user"] == "app" and shown["addr"] == cluster.nodes[1].addr
    assert shown["full"]["primary"] == {"addr": cluster.leader.addr, "region": "eu"}
    assert [replica["region"] for replica in shown["full"]["replicas"]] == ["us", "ap"]
    text = (await command_line("topology", "--uri", uri)).out
    rows = [line.split() for line in text.splitlines()]
    assert f"asked {cluster.nodes[1].addr}, as app with role write" in text
    assert ["epoch", str(shown["full"]["epoch"])] in rows
    assert ["HelloAck", cluster.leader.addr, "eu", "primary"] in rows
    assert ["AuthOk", cluster.leader.addr, "eu", "primary"] in rows
    assert [row[:4] for row in rows if "replica" in row][-2:] == [
        [node.addr, node.name[:2], "replica", "healthy"] for node in cluster.nodes[1:]
    ]


async def test_topology_says_that_its_node_has_lost_the_primary_and_that_no_lag_is_known(
    cluster, command_line
) -> None:
    cluster.lost = True
    uri = cluster.uri(cluster.nodes[1], user="app:secret@")
    assert json.loads((await command_line("topology", "--json", "--uri", uri)).out)["primary_lost"] is True
    text = (await command_line("topology", "--uri", uri)).out
    assert "NO PRIMARY" in text
    replicas = [line.split() for line in text.splitlines() if " replica " in line]
    assert [row[3:6] for row in replicas] == [["was", "healthy", "?"]] * len(replicas) != []


def test_an_event_is_shown_once_however_often_it_is_told_and_not_kept_for_ever() -> None:
    shown, first = Shown(), Event(node="eu-1", sequence=0, kind="disk_full")
    assert shown.new([first, first]) == [first]
    for number in range(1, 2 * SHOWN_MAX):
        event = Event(node="us-1", sequence=number, kind="member_left")
        assert shown.new([first, event]) == [event]
    assert len(shown) == SHOWN_MAX
