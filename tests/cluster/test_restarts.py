"""Nodes that end and start again under load: nothing acknowledged is lost, and all nodes hold one history."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from redwire.errors import Code, Refused
from tests.cluster.forked import Forked

pytestmark = pytest.mark.slow

TERM_S = 5.0
LIVES = 5


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    """One cluster for all of them; each leaves it whole."""
    return module_fleet("eu-1", "us-1", "ap-1", replica_timeout_ms=2_000)


def test_sigterm_ends_every_node_under_load_within_five_seconds_with_exit_code_0(shop: Any) -> None:
    with shop.writer(lanes=8, pause_s=0) as writer:
        writer.wait_acked()
        for node in shop.nodes:
            began = time.monotonic()
            assert shop.terminate(node) == 0
            assert time.monotonic() - began < TERM_S
            shop.up(node)
            writer.wait_acked()
    shop.check_nothing_lost(writer)


def test_all_nodes_killed_at_once_under_load_lose_nothing_that_was_acknowledged(shop: Any) -> None:
    with shop.writer(lanes=8, pause_s=0, timeout_s=20) as writer:
        writer.wait_acked(100)
        for node in shop.nodes:
            shop.processes[node].kill()
        for node in shop.nodes:
            shop.processes[node].wait()
        shop.up()
        writer.wait_acked(100)
    assert not writer.refused
    shop.check_nothing_lost(writer)


def test_a_primary_killed_again_and_again_under_load_loses_nothing_that_was_acknowledged(shop: Any) -> None:
    term = shop.status("eu-1").term
    with shop.writer(pause_s=0, timeout_s=20) as writer:
        for _ in range(LIVES):
            writer.wait_acked(30)
            shop.kill("eu-1")
            shop.lead("eu-1")
        writer.wait_acked(30)
    assert not writer.refused
    assert shop.status("eu-1").term == term + LIVES
    shop.check_nothing_lost(writer)


@pytest.mark.parametrize("name", ["us-1", "eu-1"], ids=["of a follower", "of the primary"])
def test_a_second_process_on_a_copy_of_the_directory_is_refused_and_ends(
    shop: Any, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "copy.yaml"
    node = yaml.safe_load(shop.config_path(name).read_text())
    node["node"] |= {"data_dir": str(tmp_path / "copy"), "listen": f"127.0.0.2:{shop.ports[name]}"}
    path.write_text(yaml.safe_dump(node))
    with shop.writer(pause_s=0.01) as writer:
        shop.pause(name)  # so that the copy is whole
        shutil.copytree(shop.data_dir(name), tmp_path / "copy")
        shop.resume(name)
        writer.wait_acked()
        twin = Forked(("--config", str(path)), tmp_path / "log")
        assert twin.wait(30) == 1
        writer.wait_acked()
    said = (tmp_path / "log").read_text()
    assert f"stopped: ID_TAKEN: another {name} is connected, with data directory the same or a copy" in said
    assert "begins at LSN" not in said
    assert shop.processes[name].poll() is None
    shop.check_nothing_lost(writer)


def test_a_key_that_was_in_flight_when_the_primary_died_has_one_outcome(shop: Any) -> None:
    """Writes whose client gave up are asked about afterwards: what the cluster says is what nodes hold."""
    with shop.writer(lanes=8, pause_s=0, timeout_s=0.3) as writer:
        writer.wait_acked(50)
        shop.kill("eu-1")
        writer.wait_doubtful(8)
        shop.lead("eu-1")
        writer.wait_acked(20)
    shop.check_nothing_lost(writer)
    held = shop.documents("us-1", writer.collection)
    for ident, error in writer.doubtful.items():
        assert error.key is not None, f"{ident} cannot be asked about: {error}"
        assert (outcome(shop.db, error.key) == "committed") == (ident in held), f"{ident}: {error}"


def outcome(db: Any, key: Any) -> str:
    """What became of a key."""
    try:
        db.resolve(key, timeout_s=30)
    except Refused as error:
        assert error.code is Code.NOT_FOUND
        return "absent"
    return "committed"
