"""Every verb with `--json` on one cluster: what it prints is what docs/COMMANDS.md says, and nothing else."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.forked_command import CommandForks
from tests.command_fields import SECTIONS

pytestmark = pytest.mark.timeout(120)

DONE_S = 40.0
FOUND = 1
"""What the doctor ends with where it finds something."""
ELSEWHERE = {"bench", "demo"}
"""They make clusters of their own; tests/unit/test_commands_document.py has their fields."""
NEVER = {"left_running.*"}
"""Fields that nothing here makes a verb print: of nodes that were started by hand."""
SCRIPT = """
certs init --cluster shop --out certs
certs issue node eu-1 --authority certs
certs issue user ops --authority certs
dev up --region eu:1 --region us:1 --rtt eu-us=2ms
dev status
dev uri
doctor
put c a '{"n": 1}'
get c a
scan c
scan none
delete c a
load rows.ndjson --collection c --id-field n
status
lag
events
topology
monitor --screenshot cluster.svg --history 1
policy show
policy check majority --nodes eu:2,us:1 --rtt eu-us=80ms
policy check majority --nodes eu:2,us:1 --primary eu-1
policy set local --dry-run
policy set 'majority & regions(eu)'
regions list
regions bind us-1 ap --new --dry-run
regions unbind us-1 --dry-run
members add sa-1 sa sa-1.example.net:5050
members list
members promote us-1 --dry-run
members move sa-1 127.0.0.1:1 --dry-run
members remove sa-1
user add bob --role write --password-stdin
user role bob read
user role bob read --no-topology
user token bob --role read --id bob-1
user tokens
user list
user revoke bob-1
user remove bob
dev logs eu-1 -n 2
dev ping eu-us --count 1
dev cut eu-us --one-way
dev slow eu-us 4ms
dev heal
dev kill us-1
dev start us-1
put c b '{}'
dev pause us-1
put c open '{}' --timeout 2
dev resume us-1
resolve KEY
dev down
"""


class Shell:
    """Runs verbs in a folder, on the cluster that lies in it."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self.uri = ""

    def __call__(self, words: list[str]) -> tuple[int, str, str]:
        """Exit code, output and errors of a verb with `--json`."""
        place = ["--dir", str(self._folder / "dev")] if words[0] == "dev" else []
        done = subprocess.run(
            [self._program, *words, *place, "--json"],
            cwd=self._folder,
            env={**os.environ, "REDWIRE_URI": self.uri},
            input="a password\n",
            capture_output=True,
            text=True,
            timeout=DONE_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "rows.ndjson").write_text('{"n": 1}\n{"n": 2}\n')
    with CommandForks(tmp_path / "redwire"):
        shell = Shell(tmp_path / "redwire", tmp_path)
        try:
            yield shell
        finally:
            shell(["dev", "down"])


def printed(verb: str, out: str) -> list[Any]:
    """The documents on standard output."""
    assert out.isascii() and out.endswith("\n"), out
    return [json.loads(line) for line in out.splitlines()] if verb == "events" else [json.loads(out)]


def verb_of(words: list[str]) -> str:
    """The verb that a command line begins with."""
    return next(verb for verb in (" ".join(words[:n]) for n in (3, 2, 1)) if verb in SECTIONS)


def test_every_verb_prints_the_fields_that_are_documented_for_it(shell: Shell) -> None:
    ran, key = set(), ""
    for line in SCRIPT.strip().splitlines():
        words = shlex.split(line.replace("KEY", key))
        verb = verb_of(words)
        code, out, err = shell(words)
        if "--timeout" in words:  # its region is silent: what became of it is open
            assert (code, out) == (3, "")
            key = json.loads(err)["key"]
            continue
        assert code == 0 or (verb, code) == ("doctor", FOUND), (line, err)
        assert err == "", line
        for document in printed(verb, out):
            SECTIONS[verb].check(document)
        ran.add(verb)
        if verb == "dev up":
            shell.uri = json.loads(out)["uris"]["admin"]
    assert ran | ELSEWHERE == set(SECTIONS)
    for verb in ran - {"status", "lag"}:  # of these another test knows every field, and what one shows
        assert set(SECTIONS[verb].fields) - SECTIONS[verb].seen - NEVER == set(), verb
