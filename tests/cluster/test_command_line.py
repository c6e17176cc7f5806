"""The `redwire` command against real nodes: Ctrl-C, open outcomes, and waits that end at once or say why."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.forked_command import CommandForks
from tools.dev.cluster_folder import free_ports

pytestmark = pytest.mark.timeout(120)

DONE_S = 40.0
AT_ONCE_S = 8.0
"""The start of two processes on a busy machine, and much less than the 30 s that a wait takes."""


def command(*arguments: str, uri: str) -> subprocess.Popen[str]:
    """`redwire` with these arguments, as a process of its own that Ctrl-C reaches."""
    return subprocess.Popen(
        [sys.executable, "-m", "tools.cli.main", *arguments],
        env={**os.environ, "REDWIRE_URI": uri},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that ends by itself."""
    out, err = process.communicate(timeout=DONE_S)
    return process.returncode, out, err


def asleep(process: subprocess.Popen[Any]) -> bool:
    """Whether its main thread waits for something, and still does a moment later."""
    stat = Path(f"/proc/{process.pid}/stat")
    states = [stat.read_text().rpartition(") ")[2][0]]
    time.sleep(0.1)
    return [*states, stat.read_text().rpartition(") ")[2][0]] == ["S", "S"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run `redwire` with these arguments; what `ended` tells."""
    program = tmp_path_factory.mktemp("bin") / "redwire"

    def run(*arguments: str, uri: str) -> tuple[int, str, str]:
        environment = {**os.environ, "REDWIRE_URI": uri}
        done = subprocess.run(
            [program, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DONE_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    with CommandForks(program):
        yield run


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    return module_fleet("eu-1", "us-1", "ap-1", policy="regions(eu,us)", policy_timeout_ms=2000)


def key_in(text: str) -> str:
    found = re.search(r"redwire resolve ([0-9a-f]{48}-[0-9]+)", text)
    assert found is not None, text
    return found[1]


def test_a_write_that_a_silent_region_leaves_open_is_resolved_by_the_key_that_it_named(
    shop: Any, ran: Any
) -> None:
    shop.pause("us-1")
    try:
        code, out, err = ran("put", "c", "open", "{}", uri=shop.uri())
    finally:
        shop.resume("us-1")
    assert (code, out) == (3, "") and "not confirmed" in err
    key = key_in(err)
    code, out, _ = ran("resolve", key, "--json", uri=shop.uri())
    assert code == 0 and json.loads(out)["records"][0]["status"] == "APPLIED"
    code, _, err = ran("resolve", f"{key}7", uri=shop.uri())
    assert code == 4 and "certainly not written" in err


def test_who_comes_with_the_certificate_of_a_node_is_told_by_every_verb_which_one_to_take(
    shop: Any, ran: Any
) -> None:
    uri = f"{shop.uri()}&timeout_ms=5000"
    for name in ("cert", "key"):
        uri = re.sub(rf"{name}=[^&]*", f"{name}={shop.folder}/us-1.{name.replace('cert', 'pem')}", uri)
    for words, expected in ((["topology"], 4), (["status"], 4), (["get", "c", "x"], 4)):
        code, out, err = ran(*words, uri=uri)
        assert (code, out) == (expected, "") and "this is a node's certificate" in err, err


def test_ctrl_c_ends_a_put_with_the_key_of_what_may_be_written(shop: Any, ran: Any) -> None:
    shop.pause("us-1")
    try:
        end = shop.status("eu-1").own.received or 0
        put = command("put", "c", "late", "{}", uri=shop.uri())
        shop.until(lambda: (shop.status("eu-1").own.received or 0) > end, "the write is logged")
        put.send_signal(signal.SIGINT)
        code, out, err = ended(put)
    finally:
        shop.resume("us-1")
    assert (code, out) == (130, "") and err.startswith("redwire: interrupted: written or not is not known")
    assert ran("resolve", key_in(err), uri=shop.uri())[0] == 0


def test_ctrl_c_ends_a_scan_with_the_id_after_which_the_same_command_goes_on(
    shop: Any, ran: Any, tmp_path: Path
) -> None:
    file = tmp_path / "many.ndjson"
    file.write_text("".join(f'{{"n": "{n:05}", "x": "{"y" * 400}"}}\n' for n in range(3_000)))
    ran("load", str(file), "--collection", "many", "--id-field", "n", uri=shop.uri())
    scan = command("scan", "many", "--json", uri=shop.uri())
    assert scan.stdout is not None
    begun = scan.stdout.read(1)
    shop.until(lambda: asleep(scan), "nobody reads on, and the pipe is full")
    scan.send_signal(signal.SIGINT)
    code, out, err = ended(scan)
    told = json.loads(err)
    after = json.loads(out.splitlines()[-1].removesuffix(","))["id"]
    assert (code, begun, told["code"], told["exit_code"]) == (130, "[", "INTERRUPTED", 130)
    assert told["facts"]["after"] == after < "02999" and not out.endswith("]\n")
    _, rest, _ = ran("scan", "many", "--after", after, "--json", uri=shop.uri())
    assert json.loads(rest)[0]["id"] == f"{int(after) + 1:05}"


def test_ctrl_c_before_anybody_was_reached_says_that_nothing_was_written() -> None:
    (port,) = free_ports(1)
    put = command("put", "c", "never", "{}", uri=f"red://127.0.0.1:{port}")
    assert put.stderr is not None
    waiting = put.stderr.readline()
    put.send_signal(signal.SIGINT)
    code, _, err = ended(put)
    assert waiting.startswith("redwire: waiting, 8 s more at most: cannot connect to 127.0.0.1:")
    assert (code, err) == (130, "redwire: interrupted: nothing was written\n")


def test_ctrl_c_ends_a_load_that_the_same_command_finishes(shop: Any, ran: Any, tmp_path: Path) -> None:
    file, bookmark = tmp_path / "rows.ndjson", tmp_path / "rows.ndjson.redwire-load"
    file.write_text("".join(f'{{"n": {n}, "x": "{"y" * 400}"}}\n' for n in range(60_000)))
    arguments = ("load", str(file), "--collection", "rows", "--id-field", "n", "--in-flight", "1")
    load = command(*arguments, uri=shop.uri())
    shop.until(bookmark.exists, "a bookmark is kept")
    load.send_signal(signal.SIGINT)
    code, out, err = ended(load)
    assert (code, out) == (130, "")
    told = re.fullmatch(
        r"redwire: interrupted; lines 1 to (\d+) are committed, "
        r"and the same command goes on from line (\d+)\n",
        err,
    )
    assert told is not None, err
    line = json.loads(bookmark.read_bytes())["line"]
    assert (int(told[1]), int(told[2])) == (line, line + 1)
    code, out, _ = ran(*arguments, "--json", uri=shop.uri())
    shown = json.loads(out)
    assert (code, shown["first_line"], shown["documents"]) == (0, line + 1, 60_000 - line)
    assert len(shop.documents("us-1", "rows", shown["token"])) == 60_000
    assert not bookmark.exists()


@pytest.mark.parametrize("scheme", ["red", "reds"])
def test_tls_or_the_lack_of_it_is_told_at_once(shop: Any, ran: Any, fleet: Any, scheme: str) -> None:
    """`red://` to a node with certificates, `reds://` to one without."""
    if scheme == "red":
        uri, says = f"red://127.0.0.1:{shop.ports['eu-1']}", "speaks TLS only; write reds://"
    else:
        plain = fleet("eu-1", start=False)
        path = plain.config_path("eu-1")
        path.write_text(re.sub(r"(?m)^tls:\n(  .*\n)+", "tls: off\n", path.read_text()))
        plain.up()
        uri, says = plain.uri(), "write red:// instead of reds://"
    began = time.monotonic()
    code, _, err = ran("get", "c", "x", uri=uri)
    assert code == 5 and says in err and time.monotonic() - began < AT_ONCE_S


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("policy", "set", "regions(eu,uss)"), 4, "no voter in uss"),
        (("policy", "set", "local", "--floor", "majority", "--dry-run"), 4, "can be met without the floor"),
        (("policy", "set", "local"), 4, "no longer survive the loss of eu-1, "),
        (("members", "promote", "us-2"), 4, "'us-2' is no member of this cluster; did you mean us-1?"),
        (("members", "remove", "eu-1"), 4, "eu-1 leads and cannot be removed"),
        (("regions", "bind", "us-2", "us"), 4, "'us-2' is no member of this cluster"),
        (("regions", "bind", "us-1", "uk"), 4, "no node is bound to 'uk' yet"),
        (("policy", "set"), 2, "nothing is to be changed"),
        (("policy", "set", "majority", "--lost", "us"), 2, "add --confirm-lost us"),
        (("policy", "set", "majority", "--lost", "us", "--confirm-lost", "eu"), 4, "was typed back"),
    ],
)
def test_a_change_that_is_refused_is_told_from_wrong_usage(
    shop: Any, ran: Any, arguments: tuple[str, ...], code: int, says: str
) -> None:
    before = shop.db.admin.settings()
    ended_with, out, err = ran(*arguments, uri=shop.uri())
    assert (ended_with, out) == (code, "") and says in err
    assert shop.db.admin.settings() == before


def test_ctrl_c_where_a_change_is_asked_about_ends_it_and_changes_nothing(shop: Any) -> None:
    """A real terminal, so a real process, whose Ctrl-C reaches whoever waits for the answer."""
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "tools.cli.main", "policy", "set", "local"]
    environment = {**os.environ, "REDWIRE_URI": shop.uri()}
    before = shop.db.admin.settings()
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        try:
            os.close(theirs)
            shown = b""
            while b"Is that meant?" not in shown:
                shown += os.read(ours, 1 << 12)
            shop.until(lambda: asleep(process), "it waits for the answer")
            process.send_signal(signal.SIGINT)
            assert process.wait(AT_ONCE_S) == 130
        finally:
            process.kill()
            os.close(ours)
    assert shop.db.admin.settings() == before


def test_a_scan_of_which_only_the_head_is_read_ends_without_a_word(shop: Any) -> None:
    for name in ("first", "second", "third"):
        shop.db.put("long", name, {"text": "x" * (1 << 20)})
    with command("scan", "long", uri=shop.uri()) as process:
        assert process.stdout is not None and process.stdout.read(1)
        process.stdout.close()
        assert process.stderr is not None and process.stderr.read() == ""
    assert process.returncode == 141


def test_what_a_missing_region_refuses_names_the_options_against_it(shop: Any, ran: Any) -> None:
    uri = shop.uri(timeout_ms="3000")
    shop.kill("us-1")
    try:

        def put() -> bool:
            code, _, err = ran("put", "c", "x", "{}", uri=uri)
            assert "--policy" not in err, "the floor allows nothing less"
            return code == 4 and "bring a voter of the region back" in err

        shop.until(put, "a write is refused")
        code, _, err = ran("policy", "set", "majority", "--yes", uri=uri)
        assert code == 4 and "MISSING_REGIONS" in err and "named with --lost" in err
    finally:
        shop.start_node("us-1")
        shop.converge()


def test_a_user_without_a_primary_is_certainly_not_made(fleet: Any, ran: Any) -> None:
    shop = fleet("eu-1", "us-1", "ap-1")
    shop.kill("eu-1")
    code, _, err = ran("user", "remove", "bob", "--json", uri=shop.uri(timeout_ms="2000"))
    failed = json.loads(err)
    assert (code, failed["exit_code"]) == (5, 5) and "nobody could be asked" in failed["message"]
