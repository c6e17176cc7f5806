"""The runbooks of docs/OPERATIONS.md, followed word for word: every command in a block is run, in order.

Each host is a folder, and its nodes are real processes. What stands for what, and nothing else does:

* `/etc/redwire` and `/var/lib/redwire` lie in the host's folder;
* `eu-1.example.net:5050` is a port of 127.0.0.1, and certificates are issued to that address;
* `scp` copies into another host's folder;
* `systemctl` starts and stops the service's command, and waits as it would for a unit that notifies;
* `runuser` runs the command as whoever runs the test;
* `redwire` is a process that is forked, not one that imports everything anew;
* a node in the foreground has a terminal of its own: the next command comes when it is followed;
* what happens to hosts before a runbook begins, `DISASTERS`, is done by this test;
* a host's `node.yaml` is written by it, as the text says that it differs from the one that is shown.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.cluster.forked_command import CommandForks
from tools.cli.start import main
from tools.dev.cluster_folder import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "OPERATIONS.md").read_text()
HOSTS = ("eu-1", "us-1", "ap-1", "sa-1", "us-2")
REAL_BIN = Path(sys.executable).parent
HERE = "your own machine"
BLOCK_S = 120.0
LINES_MIN = 90
"""Fewer mean that blocks are not found any more."""
NOT_RUN = {
    "python3 -m venv ": "this test runs in the environment that is tested",
    "/opt/redwire/bin/pip ": "the same",
    "export PATH=/opt/redwire/bin": "the same",
    "useradd ": "it takes root, and would change this machine; nodes run as whoever runs the test",
    "chown ": "the same",
    "cp examples/deploy/redwire-node.service ": "the same; test_deployment.py has the unit",
    "systemctl daemon-reload": "the same",
    "systemctl enable ": "the same",
    "redwire monitor": "it wants a terminal, and ends when it is told to; test_monitor.py has it",
}
"""What these lines begin with, and why they are not run."""

SYSTEMCTL = """\
#!/bin/bash
set -eu
[ "$2" = redwire-node ]
stop() {
    [ -f "$PLACE/pid" ] || return 0
    pid=$(cat "$PLACE/pid")
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    rm -f "$PLACE/pid"
}
case $1 in
    stop) stop ;;
    start|restart) stop; node_in_background 'listens on' --config "$PLACE/etc/redwire/node.yaml" ;;
    *) exit 2 ;;
esac
"""
REDWIRE_NODE = """\
#!/bin/bash
set -eu
case $1 in
    check|reload) exec "$REAL_BIN/redwire-node" "$@" ;;
    *) node_in_background 'has caught up at' "$@" ;;
esac
"""
IN_BACKGROUND = """\
#!/bin/bash
set -eu
text=$1; shift
touch "$PLACE/log"; before=$(wc -c < "$PLACE/log")
setsid "$REAL_BIN/redwire-node" "$@" >> "$PLACE/log" 2>&1 < /dev/null &
echo $! > "$PLACE/pid"
until tail -c "+$((before + 1))" "$PLACE/log" | grep -q "$text"; do
    kill -0 $! 2>/dev/null || { tail -3 "$PLACE/log" >&2; exit 1; }
    sleep 0.05
done
"""
RUNUSER = """\
#!/bin/bash
shift 3
exec "$@"
"""
SCP = """\
#!/bin/bash
set -eu
target=${@: -1}
exec cp "${@:1:$#-1}" "$HOSTS/${target%%.example.net:*}/${target#*:/}"
"""


@dataclass(frozen=True)
class Block:
    """One block of the document: under which heading, of which language, the text."""

    heading: str
    language: str
    text: str

    @property
    def places(self) -> list[str]:
        """The hosts that its first line names; your own machine if it names none."""
        first = self.text.splitlines()[0]
        return re.findall(r"\b[a-z]{2}-\d\b", first) if first.startswith("# on ") else [HERE]


def blocks() -> Iterator[Block]:
    """The blocks of the document in their order."""
    heading = ""
    for match in re.finditer(r"^## (?P<heading>[^\n]*)$|^```(\w*)\n(.*?)^```$", DOCUMENT, re.M | re.S):
        if match["heading"]:
            heading = match["heading"]
        else:
            yield Block(heading, match[2], match[3])


class Site:
    """All hosts: folders, ports, and what their nodes' files say."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = dict(zip(HOSTS, free_ports(len(HOSTS)), strict=True))
        self.bin = root / "bin"
        self.bin.mkdir()
        for name, text in {
            "systemctl": SYSTEMCTL,
            "redwire-node": REDWIRE_NODE,
            "node_in_background": IN_BACKGROUND,
            "scp": SCP,
            "runuser": RUNUSER,
        }.items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        for place in (*HOSTS, HERE):
            (self.folder(place) / "etc" / "redwire").mkdir(parents=True)
            (self.folder(place) / "var" / "lib").mkdir(parents=True)
        self._shown = ""
        self.told: list[str] = []
        self._exports: dict[str, str] = {}

    def folder(self, place: str) -> Path:
        return self.root / "hosts" / place

    def mapped(self, text: str, place: str) -> str:
        """What stands in the document, as it has to be said here."""
        text = (
            re.sub(r"(?<![\w-])/(etc|var/lib)/redwire", rf"{self.folder(place)}/\1/redwire", text)
            if not text.startswith("scp ")
            else text
        )
        text = re.sub(r"--host \S+\.example\.net", "--host 127.0.0.1", text)
        text = text.replace('"0.0.0.0:5050"', f'"127.0.0.1:{self.ports.get(place)}"')
        return re.sub(
            r"(\w\w-\d)\.example\.net(:5050|(?=[,/]))",
            lambda match: f"127.0.0.1:{self.ports[match[1]]}",
            text,
        )

    def run(self, block: Block, place: str) -> None:
        """Run a block's lines in one shell, which keeps its exports for the next one of this place."""
        lines = [line for line in block.text.splitlines() if line and not line.startswith("#")]
        lines = [self.mapped(line, place) for line in lines if not line.startswith(tuple(NOT_RUN))]
        exports = self._exports.get(place, "")
        script = "\n".join(["set -euo pipefail", exports, *lines])
        environment = {
            "PATH": f"{self.bin}:{REAL_BIN}:{os.environ['PATH']}",
            "HOME": str(self.folder(place)),
            "PLACE": str(self.folder(place)),
            "HOSTS": str(self.root / "hosts"),
            "REAL_BIN": str(REAL_BIN),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),  # what is tested may not be what is installed
        }
        began = time.monotonic()
        ran = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder(place),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_S,
            check=False,
        )
        told = f"{block.heading}, on {place} ({time.monotonic() - began:.1f} s)\n{block.text}\n{ran.stdout}"
        print(f"--- {told}{ran.stderr}")
        self.told += lines
        assert ran.returncode == 0, f"exit code {ran.returncode}: {told}\n{ran.stderr}\n{self.last_words()}"
        kept = [line for line in lines if line.startswith("export ")]
        self._exports[place] = "\n".join([exports, *kept])

    def write_configs(self, text: str) -> None:
        """The whole file that is shown, and from it those of the other members."""
        self._shown = text
        for node in re.findall(r"\{id: ([\w-]+),", text):
            self._write(node, text[text.index("cluster:") :])

    def write_newcomer(self, cluster: str) -> None:
        """The section `cluster` that is shown is that of the reader in it."""
        (reader,) = re.findall(r"\{id: ([\w-]+),.*kind: reader\}", cluster)
        self._write(reader, cluster)

    def _write(self, node: str, cluster: str) -> None:
        """What differs: id, region, role, and the names of two files."""
        text = self._shown[: self._shown.index("cluster:")]
        shown = yaml.safe_load(text)["node"]
        text = re.sub(rf"\b{shown['id']}\b", node, text)
        text = re.sub(r"(?m)^  region: .*$", f"  region: {node[:2]}", text)
        if node != shown["id"]:
            text = re.sub(r"(?m)^  role: .*$", "  role: replica", text)
        file = self.folder(node) / "etc" / "redwire" / "node.yaml"
        file.write_text(self.mapped(text + cluster, node))

    def burn(self, node: str) -> None:
        """Process and disk are gone in one moment."""
        self.kill(node)
        shutil.rmtree(self.folder(node) / "var")

    def kill(self, node: str) -> None:
        pid = self.folder(node) / "pid"
        if pid.exists():
            number = int(pid.read_text())
            pid.unlink()
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                return
            while Path(f"/proc/{number}").exists() and "Z" not in _state(number):
                time.sleep(0.02)

    def last_words(self) -> str:
        logs = {node: self.folder(node) / "log" for node in HOSTS}
        ends = {node: log.read_text().splitlines()[-15:] for node, log in logs.items() if log.exists()}
        return "\n".join("\n".join([f"--- {node}", *lines]) for node, lines in ends.items())


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


DISASTERS: dict[str, Callable[[Site], None]] = {
    "Lose a region": lambda site: site.burn("us-1"),
    "Lose the primary": lambda site: site.kill("eu-1"),
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        with CommandForks(made.bin / "redwire"):
            yield made
    finally:
        for node in HOSTS:
            made.kill(node)


def test_every_command_of_the_runbooks_does_what_it_says(site: Site) -> None:
    heading = ""
    for block in blocks():
        if block.heading != heading:
            heading = block.heading
            DISASTERS.get(heading, lambda site: None)(site)
        match block.language:
            case "":
                with ThreadPoolExecutor() as terminals:
                    list(terminals.map(partial(site.run, block), block.places))
            case "yaml" if block.text.startswith("node:"):
                site.write_configs(block.text)
            case "yaml":
                site.write_newcomer(block.text)
            case language:
                raise AssertionError(f"nobody runs {language}")
    assert heading == "Lose the primary" and len(site.told) > LINES_MIN


def test_the_installed_command_is_there_and_begins_before_its_imports() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="redwire")
    assert script.load() is main  # which goes on where the forked one begins
    ran = subprocess.run([REAL_BIN / "redwire", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"redwire, version {importlib.metadata.version('redwire-cluster')}\n"


def test_what_is_not_run_stands_in_the_document_and_has_a_reason() -> None:
    lines = [line for block in blocks() for line in block.text.splitlines()]
    for begin, reason in NOT_RUN.items():
        assert reason and any(line.startswith(begin) for line in lines), begin
