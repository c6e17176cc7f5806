"""Configurations that cannot be used: `redwire-node check` says where, and what would be right.

All that a parser can be told is in tests/unit/cluster, in test_config.py and test_cluster_config.py; here
real files meet the real command.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.main import main
from tests.cluster.forked import Forked
from tools.authority import Authority, Issued
from tools.dev.local_cluster import LocalCluster
from tools.dev.plan import ClusterPlan, NodePlan

PATIENCE_S = 30.0

Change = Callable[[dict[str, Any]], object]
"""What is done to a configuration that was in order."""


def alone(document: dict[str, Any], listen: str) -> None:
    """One member, without TLS."""
    document["cluster"]["members"] = document["cluster"]["members"][:1]
    document["node"]["listen"] = listen
    document["tls"] = "off"


WRONG: dict[str, tuple[Change, str]] = {
    "an unknown key": (
        lambda d: d["cluster"].update(polciy="majority"),
        "cluster.polciy: unknown key; did you mean policy?",
    ),
    "an unknown key of a member": (
        lambda d: d["cluster"]["members"][1].update(regoin="us"),
        "cluster.members[1].regoin: unknown key; valid keys: id, region, addr, kind",
    ),
    "an unknown section": (
        lambda d: d.update(retentoin={}),
        "retentoin: unknown key; did you mean retention?",
    ),
    "a missing key": (lambda d: d["node"].pop("listen"), "node.listen: is missing"),
    "a missing section": (lambda d: d.pop("tls"), "tls: is missing"),
    "text for a number": (
        lambda d: d["cluster"].update(policy_timeout_ms="10s"),
        "cluster.policy_timeout_ms: expected whole milliseconds, 1 to 3600000, not '10s'",
    ),
    "a number for text": (lambda d: d["node"].update(listen=5050), "node.listen: expected text, not 5050"),
    "a word that is almost one": (
        lambda d: d["node"].update(role="primry"),
        "node.role: expected primary or replica, not 'primry'; did you mean primary?",
    ),
    "a policy that is almost one": (
        lambda d: d["cluster"].update(policy="majorty"),
        "cluster.policy: policy 'majorty': 'majorty' at character 1 is not a policy; did you mean majority",
    ),
    "more copies than members": (
        lambda d: d["cluster"].update(policy="ack_n=2"),
        "cluster.policy: ack_n=2 can never be met: 1 voters stand beside the primary",
    ),
    "a region without a voter": (
        lambda d: d["cluster"].update(policy="regions(eu,ap)"),
        "cluster.policy: regions(ap,eu) can never be met: no voter in ap; voters are in eu, us",
    ),
    "a floor above the policy": (
        lambda d: d["cluster"].update(policy="local", floor="majority"),
        "cluster.policy: local can be met without the floor majority while eu-1 leads; write majority",
    ),
    "a node that is no member": (
        lambda d: d["node"].update(id="eu-2"),
        "node.id: eu-2 is no member of the cluster shop; did you mean eu-1?",
    ),
    "a member in another region": (
        lambda d: d["node"].update(region="us"),
        "node.region: us, but cluster.members says that eu-1 is in eu; one of them is wrong",
    ),
    "no TLS where others can listen": (
        lambda d: alone(d, "0.0.0.0:5050"),
        "tls: off is for loopback only, and this node listens on 0.0.0.0:5050; make certificates",
    ),
    "no TLS among several": (
        lambda d: d.update(tls="off"),
        "tls: off leaves peers without proof of who they are, and this cluster has several members",
    ),
    "no TLS by an empty key": (lambda d: d.update(tls=None), "tls: is empty: expected a mapping or off"),
}


Issue = Callable[[Authority], Issued]

UNFIT: dict[str, tuple[Issue, str]] = {
    "by another authority": (
        lambda a: Authority.create("shop").issue_node("eu-1"),
        "eu-1.pem: no authority in {folder}/ca.pem has issued this certificate; put the ca.pem of",
    ),
    "of another node": (
        lambda a: a.issue_node("us-1"),
        "eu-1.pem: the certificate names redwire://shop/node/us-1, this node is redwire://shop/node/eu-1",
    ),
    "that has expired": (
        lambda a: a.issue_node("eu-1", days=1, now=datetime.now(UTC) - timedelta(days=9)),
        "eu-1.pem: the certificate has expired on ",
    ),
    "that is not valid yet": (
        lambda a: a.issue_node("eu-1", now=datetime.now(UTC) + timedelta(days=9)),
        "eu-1.pem: the certificate is not valid before ",
    ),
    "with another's key": (
        lambda a: Issued(a.issue_node("eu-1").cert, a.issue_node("eu-1").key, datetime.now(UTC)),
        "eu-1.key: not the key of {folder}/eu-1.pem",
    ),
}
"""Certificates with which the node would start, and meet nobody."""


class Checks:
    """A folder with certificates and a configuration that is in order."""

    def __init__(self, folder: Path) -> None:
        plan = ClusterPlan((NodePlan("eu-1", "eu"), NodePlan("us-1", "us")))
        self.cluster = LocalCluster(plan, folder)
        self.path = self.cluster.config_path("eu-1")
        self._good: dict[str, Any] = yaml.safe_load(self.path.read_text())

    def write(self, change: Change = lambda document: None) -> None:
        """Write the file, changed."""
        document = copy.deepcopy(self._good)
        change(document)
        self.path.write_text(yaml.safe_dump(document, sort_keys=False))

    def issue(self, issue: Issue) -> None:
        """Give the node this certificate."""
        for path in (self.cluster.folder / "eu-1.pem", self.cluster.folder / "eu-1.key"):
            path.unlink()
        issue(self.cluster.authority).save(self.cluster.folder, "eu-1")

    def run(self, action: str, *arguments: str) -> tuple[int, str]:
        """Run the command in a process; exit code and words."""
        said = self.cluster.folder / "said"
        said.unlink(missing_ok=True)
        code = Forked((action, "--config", str(self.path), *arguments), said).wait(PATIENCE_S)
        return code, said.read_text()


FILES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "expected a mapping with node, tls, cluster"),
    "a list": (b"- 1\n", "expected a mapping with node, tls, cluster"),
    "no YAML": (b"node: [1, 2\n", "line 2, column 1: "),
    "no text": (b"node: \xff\xfe", "is no YAML"),
    "a key twice": (
        b"node: {}\ntls: off\nnode: {}\n",
        "line 3, column 1: the key 'node' is given twice, first on line 1",
    ),
    "a laugh": (b"a: &a [x, x]\nb: &b [*a, *a]\n", "anchors and aliases are not used here"),
    "code": (b"node: !!python/object/apply:os.system ['touch pwned']\n", "line 1, column 7: "),
}


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> Checks:
    return Checks(tmp_path_factory.mktemp("checks"))


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_a_check_names_file_and_key_and_what_would_be_right(
    checks: Checks, capsys: pytest.CaptureFixture[str], change: Change, words: str
) -> None:
    checks.write(change)
    assert main(["check", "--config", str(checks.path)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"redwire-node: {checks.path}: {words}"), said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(("text", "words"), FILES.values(), ids=FILES)
def test_a_check_says_of_a_file_that_holds_no_configuration_what_it_is(
    checks: Checks, capsys: pytest.CaptureFixture[str], text: bytes, words: str
) -> None:
    checks.path.write_bytes(text)
    assert main(["check", "--config", str(checks.path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"redwire-node: {checks.path}: ") and words in said
    assert said.count("\n") == 1 and not Path("pwned").exists()


def test_a_process_checks_what_it_is_given_before_it_makes_anything(checks: Checks) -> None:
    checks.write()
    assert checks.run("check") == (0, f"{checks.path}: eu-1 of shop is in order\n")
    checks.write(lambda d: d["node"].update(id="eu-2"))
    code, said = checks.run("run")
    assert code == 1 and f"{checks.path}: node.id: eu-2 is no member" in said
    assert not checks.cluster.data_dir("eu-1").exists()


@pytest.mark.parametrize(("issue", "words"), UNFIT.values(), ids=UNFIT)
def test_a_certificate_that_fits_nobody_is_found_by_a_check_and_refused_at_the_start(
    checks: Checks, issue: Issue, words: str
) -> None:
    checks.write()
    checks.issue(issue)
    said = words.format(folder=checks.cluster.folder)
    try:
        for action in ("check", "run"):
            code, told = checks.run(action)
            assert code == 1 and f"{checks.cluster.folder}/{said}" in told
        assert told.endswith("\n") and told.count("\n") == 1
        assert not checks.cluster.data_dir("eu-1").exists()
    finally:
        checks.issue(lambda authority: authority.issue_node("eu-1", ["127.0.0.1", "localhost"]))


def test_a_check_answers_programs_with_the_same_keys_good_or_bad(checks: Checks) -> None:
    checks.write()
    code, told = checks.run("check", "--json")
    good = json.loads(told)
    assert (code, good["ok"], good["node"], good["errors"]) == (0, True, "eu-1", [])
    checks.write(lambda d: d["node"].update(data_dir=str(checks.path)))
    code, told = checks.run("check", "--json")
    bad = json.loads(told)
    assert (code, bad["ok"]) == (1, False)
    assert bad["errors"][0].keys() == {"code", "message", "hint", "facts"}
    assert bad["errors"][0]["code"] == "DATA_DIR_NO_FOLDER"
    checks.path.write_bytes(b"node: [")
    code, told = checks.run("check", "--json")
    unread = json.loads(told)
    assert (code, unread["ok"], unread["node"], unread["certificate"]) == (1, False, None, None)
    assert good.keys() == bad.keys() == unread.keys()


def test_a_node_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"redwire-node {importlib.metadata.version('redwire-cluster')}\n"


@pytest.mark.slow
def test_a_cluster_section_that_differs_from_the_logs_is_refused_at_start(fleet: Any) -> None:
    shop = fleet("eu-1")
    version = shop.db.put("c", "x", {"n": 1}).version
    assert shop.terminate("eu-1") == 0
    path = shop.config_path("eu-1")
    good = path.read_text()
    store = Authority("store", shop.authority.certificate, shop.authority.key)
    store.issue_node("eu-1", ["127.0.0.1"]).save(shop.folder, "store")
    differences: dict[str, Change] = {
        "cluster.name is store here, is shop in the log": lambda d: (
            d["cluster"].update(name="store"),
            d["tls"].update(cert=str(shop.folder / "store.pem"), key=str(shop.folder / "store.key")),
        ),
        "cluster.policy_timeout_ms is 5000 here, is 10000 in the log": lambda d: d["cluster"].update(
            policy_timeout_ms=5000
        ),
        "cluster.admins: eve stands here, is missing in the log": lambda d: d["cluster"]["admins"].append(
            "eve"
        ),
        "cluster.members: us-9 is a voter in us at 127.0.0.1:1 here, is missing in the log": lambda d: d[
            "cluster"
        ]["members"].append({"id": "us-9", "region": "us", "addr": "127.0.0.1:1"}),
    }
    for words, change in differences.items():
        document = yaml.safe_load(good)
        change(document)
        path.write_text(yaml.safe_dump(document))
        since = shop.mark("eu-1")
        checked = subprocess.run(
            [sys.executable, "-m", "cluster.main", "check", "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert checked.returncode == 1 and words in checked.stderr
        shop.start_node("eu-1")
        assert shop.ends("eu-1") == 1
        said = shop.said("eu-1", since)
        assert words in said and "the log's settings are in force" in said
        assert "listens on" not in said
    path.write_text(good)
    shop.lead("eu-1")
    assert shop.db.get("c", "x").version == version
