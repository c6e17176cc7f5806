"""The command: what it prints, its exit code, and how long it looks."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from redwire.status import Cluster, Primary
from tests.doctor_facts import NOW_MS, asked, bad, cluster, facts, node, only, policy, seen_from
from tools.doctor.facts import Asked, Facts
from tools.doctor.finding import Check, Level, document, text
from tools.doctor.judge import judge
from tools.doctor.survey import survey


def test_the_worst_comes_first_and_programs_get_the_same_keys_every_time() -> None:
    findings = judge(facts(policy("regions(eu,us)", "majority"), "us-1"))
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels, key=list(Level).index)
    shown = document(findings)
    assert (shown["ok"], shown["errors"], shown["warnings"]) == (False, 1, 1)
    assert {tuple(each) for each in shown["findings"]} == {("check", "level", "where", "what", "why", "mend")}
    assert json.loads(json.dumps(shown)) == shown
    told = text(findings)
    assert told.startswith("error    ports ") and told.endswith("\n\n1 error, 1 warning")


async def test_the_command_asks_every_node_and_its_exit_code_says_whether_something_is_wrong(
    cluster: Any, command_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.cli.doctor.SETTLE_S", 0.6)
    ran = await command_line("doctor", "--json", "--uri", cluster.uri(cluster.nodes[0]))
    shown = json.loads(ran.out)
    ports = [each["what"] for each in shown["findings"] if each["check"] == "ports" and each["level"] == "ok"]
    assert ports == ["from here these answer: eu-1, us-1, ap-1"]
    assert ran.code == (0 if shown["ok"] else 1)
    cluster.stop(cluster.nodes[2])
    ran = await command_line("doctor", "--uri", cluster.uri(timeout_ms="1000"))
    assert ran.code == 1 and "error    ports          ap-1: no answer at" in ran.out


class Looks:
    """What the doctor finds out, one look after the other; the last one stays."""

    def __init__(self, *found: Facts) -> None:
        self._found = list(found)
        self.count = 0

    async def __call__(self, uri: str | None, file: str | None) -> Facts:
        self.count += 1
        return self._found.pop(0) if len(self._found) > 1 else self._found[0]


def unheard() -> Facts:
    """us-1 has just started, and has not heard ap-1 yet."""
    return facts(cluster(us_1=node("us-1", rtts_us={"eu-1": 80_000})))


@pytest.mark.parametrize("arguments", [(), ("--json",)])
async def test_a_node_that_has_just_started_is_given_a_moment(
    command_line: Any, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("tools.cli.doctor.survey", looks := Looks(unheard(), facts()))
    ran = await command_line("doctor", "--uri", "reds://eu-1:5050", *arguments)
    assert (ran.code, looks.count) == (0, 2)
    said = "redwire: nodes that run do not hear each other: looking again, for 3 s\n"
    assert ran.err == ("" if arguments else said)


async def test_what_is_wrong_for_longer_is_told_after_that_moment_and_what_cannot_pass_at_once(
    command_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.cli.doctor.SETTLE_S", 0.6)
    monkeypatch.setattr("tools.cli.doctor.survey", looks := Looks(unheard()))
    ran = await command_line("doctor", "--uri", "reds://eu-1:5050")
    assert (ran.code, looks.count) == (1, 2) and "us-1 does not reach ap-1" in ran.out
    monkeypatch.setattr("tools.cli.doctor.survey", looks := Looks(facts(cluster(), "us-1")))
    assert (await command_line("doctor", "--uri", "reds://eu-1:5050")).code == 1
    assert looks.count == 1


async def test_another_process_of_a_nodes_name_is_told_with_its_address_and_is_no_broken_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An old copy of us-1 was started where it stood before, and knows the addresses of then."""
    old = "old-1.example.net:5050"
    cut = seen_from("us-1", cluster(us_1=node("us-1", addr=old, rtts_us={})))
    answers = {each.addr: each for each in asked(cluster())} | {old: Asked("us-1", old, cut)}

    async def ask(_: str, addr: str, name: str) -> Asked:
        await anyio.sleep(0.01 if addr == old else 0)  # its word is the last one
        return answers[addr]

    monkeypatch.setattr("tools.doctor.survey._ask", ask)
    seeds = ",".join(("eu-1.example.net", "ap-1.example.net", "old-1.example.net"))
    found = replace(await survey(f"reds://{seeds}/", None), now_ms=NOW_MS)
    twin = only(found)
    assert (twin.check, twin.level, twin.where) == (Check.NODES, Level.ERROR, "us-1")
    assert twin.what == f"another process answers at {old} by the name us-1"
    assert twin.mend == f"stop the one at {old}"


async def test_a_member_with_the_disk_of_another_cluster_is_told_and_no_line_to_it_is_mended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It answers, knows itself alone, and leads what is on its disk."""
    apart = node("ap-1", health="unhealthy", why="not connected", connected=False, rtts_us={})
    near = (node(name, rtts_us={other: 80_000}) for name, other in (("eu-1", "us-1"), ("us-1", "eu-1")))
    eu_1, us_1 = near
    others = cluster(eu_1=eu_1, us_1=us_1, ap_1=apart)
    alone = replace(
        seen_from("ap-1", others),
        cluster=Cluster(id="cd" * 16, name="shop"),
        primary=Primary(node="ap-1", state="leading"),
        nodes=(node("ap-1", addr="old-1.example.net:5050", rtts_us={}),),
    )
    answers = {each.addr: each for each in asked(others)}
    answers["ap-1.example.net:5050"] = Asked("ap-1", "ap-1.example.net:5050", alone)

    async def ask(_: str, addr: str, name: str) -> Asked:
        return answers[addr]

    monkeypatch.setattr("tools.doctor.survey._ask", ask)
    found = bad(replace(await survey("reds://ap-1.example.net,eu-1.example.net/", None), now_ms=NOW_MS))
    ports, region = sorted(
        (each for each in found if each.level is Level.ERROR), key=lambda each: each.check is Check.NODES
    )
    assert (ports.check, ports.where) == (Check.PORTS, "ap-1")
    assert (
        ports.what
        == "the node at ap-1.example.net:5050 is another cluster's: shop cdcdcdcd, not shop abababab"
    )
    assert "data_dir" in ports.mend and "redwire members list" in ports.mend
    assert (region.check, region.mend) == (Check.NODES, "see ports: what is there is another cluster's")


async def test_the_command_wants_to_know_where_to_look(command_line: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("REDWIRE_URI", raising=False)
    ran = await command_line("doctor")
    assert ran.code == 2 and "--config FILE" in ran.err
