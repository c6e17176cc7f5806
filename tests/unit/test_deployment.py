"""What is made to be deployed fits the node: alert rules, the unit, and the document of the metrics."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.config import parse_node_config

ROOT = Path(__file__).parents[2]
METRICS = (ROOT / "docs" / "METRICS.md").read_text()
OPERATIONS = (ROOT / "docs" / "OPERATIONS.md").read_text()
UNIT = ROOT / "examples" / "deploy" / "redwire-node.service"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "examples" / "deploy" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
RUNBOOK = "docs/OPERATIONS.md#"


def served() -> dict[str, set[str]]:
    """The series that the document names, each with its labels, as queries name them."""
    found: dict[str, set[str]] = {}
    for name, kind, _, labels, _ in re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]+) \|([^|]*)\| ([^|]+) \|$", METRICS, re.MULTILINE
    ):
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        own = {"cluster", "node", "le"} | set(re.findall(r"`(\w+)`", labels))
        found |= {name + suffix: own for suffix in suffixes}
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_series_and_labels_that_are_served(rule: dict[str, Any]) -> None:
    series, asked = served(), set(re.findall(r"\b(?:redwire|process)_\w+", rule["expr"]))
    assert asked or rule["alert"] == "RedwireNodeDown"
    assert asked - series.keys() == set()
    labels = {"instance", "job"} if not asked else set.intersection(*(series[name] for name in asked))
    matched = {label for block in re.findall(r"\{([^}]*)\}", rule["expr"]) for label in _labels(block)}
    kept = re.search(r"sum by \(([\w, ]+)\)", rule["expr"])
    left = labels if kept is None else set(kept[1].split(", "))
    assert matched <= (set.union(*(series[name] for name in asked)) if asked else labels) and left <= labels
    used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert used and used <= left


def _labels(block: str) -> list[str]:
    return re.findall(r"(\w+)=", block)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert rule["labels"] in ({"severity": "warning"}, {"severity": "critical"})
    assert re.fullmatch(r"\d+[sm]", rule.get("for", "1m"))
    assert rule["expr"].count("(") == rule["expr"].count(")")
    assert set(rule["annotations"]) == {"summary", "runbook"}
    assert rule["annotations"]["runbook"] == RUNBOOK + rule["alert"].lower()


def test_every_alert_has_a_name_of_its_own() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names)) == 13


def test_the_unit_is_in_order_for_systemd(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine")
    unit = tmp_path / UNIT.name
    command = tmp_path / "redwire-node"  # wherever this one is installed, a blank in its path included
    command.symlink_to(sys.executable)
    text, count = re.subn(r"/opt/redwire/bin/redwire-node", str(command), UNIT.read_text())
    assert count == 2
    unit.write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_runs_the_command_as_it_can_be_typed() -> None:
    lines = re.findall(r"^Exec(\w+)=\S+/redwire-node (.*)$", UNIT.read_text(), re.MULTILINE)
    config = "--config /etc/redwire/node.yaml"
    assert lines == [("Start", config), ("Reload", f"reload {config}")]


def test_the_documents_configuration_is_in_order() -> None:
    ours, theirs = re.findall(r"^```yaml\n(.*?)^```$", METRICS, re.MULTILINE | re.DOTALL)
    node = {"id": "eu-1", "region": "eu", "role": "primary", "listen": "127.0.0.1:5050", "data_dir": "d"}
    members = [{"id": "eu-1", "region": "eu", "addr": "127.0.0.1:5050"}]
    plain = {"node": node, "tls": "off", "cluster": {"name": "shop", "members": members}}
    assert parse_node_config(plain | yaml.safe_load(ours), "node.yaml").metrics.listen is not None
    (job,) = yaml.safe_load(theirs)["scrape_configs"]
    assert f'up{{job="{job["job_name"]}"}} == 0' in [rule["expr"] for rule in RULES]


def test_a_node_without_metrics_imports_nothing_for_them() -> None:
    code = (
        "import sys, cluster.main; names = 'prometheus_client h11 cluster.metrics cluster.probes'.split();"
        "print(*[name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
