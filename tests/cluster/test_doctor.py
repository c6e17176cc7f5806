"""`redwire doctor` over real nodes: what was done to them is what it finds, and nothing else is an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NODES = ("eu-1", "us-1", "ap-1")
RTT_MS = {("eu", "us"): 8.0, ("ap", "eu"): 24.0, ("ap", "us"): 16.0}
TIMEOUT_MS = 2_000
DONE_S = 60.0
HOSTS = ["127.0.0.1", "localhost"]


def doctor(*arguments: str, uri: str | None = None) -> tuple[int, list[dict[str, str]]]:
    """Exit code and findings."""
    environment = {name: value for name, value in os.environ.items() if name != "REDWIRE_URI"}
    ran = subprocess.run(
        [sys.executable, "-m", "tools.cli.main", "doctor", "--json", *arguments],
        env=environment if uri is None else environment | {"REDWIRE_URI": uri},
        capture_output=True,
        text=True,
        timeout=DONE_S,
        check=False,
    )
    assert ran.stderr == ""
    document = json.loads(ran.stdout)
    assert ran.returncode == (0 if document["ok"] else 1)
    return ran.returncode, document["findings"]


def errors(findings: list[dict[str, str]]) -> set[tuple[str, str]]:
    """(check, where) of what does not work."""
    return {(each["check"], each["where"]) for each in findings if each["level"] == "error"}


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    """Three regions, of which the test breaks something and mends it again."""
    return module_fleet(*NODES, rtt_ms=RTT_MS, policy="majority", replica_timeout_ms=TIMEOUT_MS)


def is_whole(shop: Any) -> bool:
    """Whether every node follows, and measures the way to every other one."""
    documents = [shop.status(node) for node in NODES]
    return all(
        len(document.own.rtts_us) == 2 and {row.health for row in document.nodes} == {"healthy"}
        for document in documents
    )


@pytest.fixture(autouse=True)
def whole(shop: Any) -> None:
    shop.until(lambda: is_whole(shop), "all are well, and measured each other")


def test_a_cluster_that_is_well_has_no_errors_and_every_check_has_an_answer(shop: Any) -> None:
    code, findings = doctor("--config", str(shop.config_path("us-1")), uri=shop.uri())
    assert errors(findings) == set() and code == 0
    answered = {each["check"] for each in findings}
    assert answered >= {
        "config",
        "settings",
        "ports",
        "pairs",
        "leader",
        "quorum",
        "nodes",
        "clocks",
        "versions",
    }
    whats = [each["what"] for each in findings if each["level"] == "ok"]
    assert "us-1 of shop can start" in whats and "from here these answer: eu-1, us-1, ap-1" in whats
    assert any(what.startswith("its section cluster says what is in force since LSN ") for what in whats)
    assert any(what.startswith("eu-1, us-1, ap-1 reach each other, within ") for what in whats)


def test_a_killed_node_and_the_region_that_is_out_with_it_are_found_from_any_host(shop: Any) -> None:
    shop.kill("ap-1")
    shop.until(lambda: not is_healthy(shop, "ap-1"), "eu-1 has noticed")
    try:
        code, findings = doctor(uri=shop.uri())
        found = {each for each in errors(findings) if each[0] != "pairs"}  # which a busy machine may see too
        assert (code, found) == (1, {("ports", "ap-1"), ("nodes", "ap")})
        (port,) = [each for each in findings if (each["check"], each["level"]) == ("ports", "error")]
        assert f"127.0.0.1:{shop.ports['ap-1']}" in port["what"] and "refused" in port["why"]
        assert port["mend"].startswith(f"redwire dev start ap-1 --dir {shop.folder} ")  # it is of that kind
        code, findings = doctor("--config", str(shop.config_path("ap-1")))
        assert (code, errors(findings)) == (0, set()), "its files are in order: it could start"
    finally:
        shop.start_node("ap-1")


def is_healthy(shop: Any, node: str) -> bool:
    row = shop.status("eu-1").node(node)
    return row is not None and row.health == "healthy"


def test_a_link_that_is_cut_one_way_is_named_though_every_node_answers(shop: Any) -> None:
    assert shop.command("cut ap-us from ap") == "ok"
    try:
        shop.until(lambda: "us-1" not in shop.status("ap-1").own.rtts_us, "ap-1 has lost us-1")
        shop.until(lambda: "ap-1" not in shop.status("us-1").own.rtts_us, "us-1 has lost ap-1")
        code, findings = doctor(uri=shop.uri())
        assert (code, errors(findings)) == (1, {("pairs", "us-1 to ap-1")})
        (pair,) = [each for each in findings if each["check"] == "pairs"]
        assert pair["what"] == "us-1 and ap-1 do not reach each other"
    finally:
        assert shop.command("heal ap-us") == "ok"


def test_a_certificate_that_ends_soon_is_a_warning_with_the_command_that_renews_it(shop: Any) -> None:
    paths = [shop.folder / f"us-1.{end}" for end in ("pem", "key")]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    shop.authority.issue_node("us-1", HOSTS, days=6).save(shop.folder, "us-1")
    reload(shop)
    try:
        shop.until(lambda: ends_soon(shop), "us-1 tells of its new certificate")
        code, findings = doctor(uri=shop.uri())
        assert (code, errors(findings)) == (0, set())
        (found,) = [each for each in findings if (each["check"], each["where"]) == ("certificates", "us-1")]
        assert found["level"] == "warning" and "in 5 d 23 h" in found["what"]
        assert found["mend"].startswith("redwire certs issue node us-1 ")
    finally:
        for path, data in zip(paths, before, strict=True):
            path.write_bytes(data)
        reload(shop)


def ends_soon(shop: Any) -> bool:
    status = shop.status("eu-1")
    row = status.node("us-1")
    return row.certificate_ends_at_ms - status.vantage.at_ms < 7 * 86_400_000


def reload(shop: Any) -> None:
    mark = shop.mark("us-1")
    shop.signal_node("us-1", signal.SIGHUP)
    shop.wait_log("us-1", "reloaded: new connections go by", since=mark)


def test_a_node_that_waits_for_its_majority_is_told_from_one_that_is_not_there(fleet: Any) -> None:
    new = fleet(*NODES, start=False)
    new.start_node("eu-1")
    new.wait_log("eu-1", "a new cluster needs a majority of its members")
    code, findings = doctor(uri=new.uri())
    assert code == 1
    (found,) = [each for each in findings if each["where"] == "eu-1"]
    assert found["what"] == f"it answers at 127.0.0.1:{new.ports['eu-1']}, and waits"
    assert found["why"].endswith("a majority of it runs; not heard yet: ap-1, us-1")
    silent = [each for each in findings if each["check"] == "ports"]
    assert len(silent) == 2 and all(each["what"].startswith("no answer at ") for each in silent)
    by_password = f"reds://ann:secret@127.0.0.1:{new.ports['eu-1']}/?ca={new.folder}/ca.pem"
    code, findings = doctor(uri=by_password)
    (found,) = [each for each in findings if each["level"] == "error"]
    assert code == 1
    assert found["what"] == f"it answers at 127.0.0.1:{new.ports['eu-1']}, and waits"
    assert found["why"] == "this node has not joined its cluster yet"
