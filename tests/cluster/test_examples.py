"""The programs in `examples/`, run as a newcomer would, against three real nodes."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import redwire
from redwire.errors import KeyExpired
from tests.cluster.forked_cluster import ForkedCluster
from tools.accounts import password_user
from tools.dev.plan import ClusterPlan, NodePlan

EXAMPLES = Path(__file__).parents[2] / "examples"
RUN_S = 60
USER, PASSWORD = "app", "correct horse, battery & staple"

SAYS = {
    "quickstart.py": [
        "written: LSN ",
        "read: {'name': 'lamp', 'price': 20} at version ",
        "conflict: it stands at version ",
        "deleted: True",
    ],
    "bulk.py": ["20000 rows in 2 commits, each APPLIED", "2000 of them are above 35 degrees"],
    "driver.py": [
        "insert: {'affected': 1, 'id': ",
        "get: {'ok': True, 'found': True, 'entity': {",
        "select: [{'id': '",
    ],
    "outcomes.py": [
        "order 1: committed by regions(eu,us), at LSN ",
        "order 2: refused, certainly not written (COMMIT_POLICY_BELOW_FLOOR)",
    ],
    "coordinator.py": [
        "nobody would hear of record 1: ",
        "ap has it: committed up to 0, <QuorumWait lsn=1 waiting>",
        "us has it: committed up to 1, <QuorumWait lsn=1 QuorumReached(watermark=1, elapsed_ms=77)>",
    ],
}
"""What each program prints, line by line, as far as it is the same each time."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedCluster]:
    nodes = tuple(NodePlan(f"{region}-1", region) for region in ("eu", "us", "ap"))
    plan = ClusterPlan(nodes, settings={"policy": "regions(eu,us)", "floor": "majority"})
    with ForkedCluster(plan, tmp_path_factory.mktemp("examples")) as running:
        running.wait_ready()
        with redwire.connect_sync(running.uri()) as client:
            client.admin.change_account(password_user(USER, PASSWORD, "write"))
        yield running


@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_example_does_what_it_says(cluster: ForkedCluster, name: str) -> None:
    environment = {**os.environ, "REDWIRE_URI": cluster.uri(user=USER, password=PASSWORD)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], env=environment, capture_output=True, text=True, timeout=RUN_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line[: len(said)] for line, said in zip(lines, SAYS[name], strict=True)] == SAYS[name]


def test_of_an_order_that_found_no_primary_it_is_said_that_it_is_certainly_not_written(
    tmp_path: Path,
) -> None:
    plan = ClusterPlan((NodePlan("eu-1", "eu"), NodePlan("us-1", "us"), NodePlan("ap-1", "ap")))
    with ForkedCluster(plan, tmp_path) as shop:
        shop.wait_ready()
        shop.kill("eu-1")
        environment = {**os.environ, "REDWIRE_URI": shop.uri()}
        program = [sys.executable, str(EXAMPLES / "outcomes.py")]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=RUN_S)
    assert (done.returncode, done.stderr) == (0, "")
    for order, line in enumerate(done.stdout.splitlines(), 1):
        assert line.startswith(f"order {order}: certainly not written: not sent within 5 s")


class Forgetful:
    """A client of a cluster that does not confirm, and has forgotten the key or never had it."""

    def __init__(self, verdict: redwire.Refused) -> None:
        self.verdict = verdict

    async def put(self, *_: object, **__: object) -> None:
        error = redwire.NotConfirmed("logged but not confirmed")
        error.key = redwire.Key(bytes(16), 7, 1)
        raise error

    async def resolve(self, *_: object, **__: object) -> None:
        raise self.verdict


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (redwire.Refused(redwire.Code.NOT_FOUND, "no such request"), "not written, and it never will be"),
        (KeyExpired(), "still not known (KEY_EXPIRED)"),
        (redwire.Refused(redwire.Code.FORBIDDEN, "role read"), "still not known (FORBIDDEN)"),
    ],
)
def test_of_an_order_only_the_cluster_that_knows_says_that_it_is_not_written(
    verdict: redwire.Refused, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDWIRE_URI", "reds://nowhere")
    place = runpy.run_path(str(EXAMPLES / "outcomes.py"))["place"]
    assert anyio.run(place, Forgetful(verdict), "order-1").startswith(said)


@pytest.mark.parametrize("name", sorted(set(SAYS) - {"coordinator.py"}))
def test_an_example_without_a_cluster_says_what_it_lacks(name: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "REDWIRE_URI"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], env=environment, capture_output=True, text=True, timeout=RUN_S
    )
    assert done.returncode == 1 and done.stderr.startswith("set REDWIRE_URI to the cluster, such as reds://")


def test_every_example_is_run() -> None:
    assert sorted(SAYS) == sorted(path.name for path in EXAMPLES.glob("*.py"))
