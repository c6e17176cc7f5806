"""A cluster's own processes: what is said when a node does not do what it was started for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.dev.local_cluster import LocalCluster
from tools.dev.plan import ClusterPlan, NodePlan
from tools.errors import NodeNotReady


class Rehearsed(LocalCluster):
    """Its only node runs `script`."""

    script = ""

    @property
    def commands(self) -> dict[str, list[str]]:
        return {"eu-1": [sys.executable, "-c", self.script]}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Rehearsed]:
    made = Rehearsed(ClusterPlan((NodePlan("eu-1", "eu"),)), tmp_path)
    yield made
    made.stop()


def test_a_node_that_ended_is_told_with_its_code_and_the_words_of_this_life_only(
    cluster: Rehearsed,
) -> None:
    cluster.log_path("eu-1").write_text("an earlier life\n")
    cluster.script = "print('no disk'); raise SystemExit(3)"
    cluster.start_node("eu-1")
    with pytest.raises(NodeNotReady) as ended:
        cluster.wait_listening("eu-1")
    assert str(ended.value) == "eu-1 ended with code 3; it said:\nno disk"


def test_a_node_that_listens_and_ends_a_moment_later_is_told_too(cluster: Rehearsed) -> None:
    cluster.script = "import time; print('listens on', flush=True); time.sleep(0.2); raise SystemExit('no')"
    cluster.start_node("eu-1")
    with pytest.raises(NodeNotReady, match="eu-1 ended with code 1; it said:\nlistens on\nno"):
        cluster.wait_listening("eu-1")


def test_a_node_that_says_nothing_is_told_with_how_long_was_waited(cluster: Rehearsed) -> None:
    cluster.script = "import time; time.sleep(60)"
    cluster.start_node("eu-1")
    with pytest.raises(NodeNotReady, match=r"eu-1 did not say 'listens on' within 0\.1 s"):
        cluster.wait_log("eu-1", "listens on", timeout_s=0.1)
