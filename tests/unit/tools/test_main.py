"""The outermost handler of the command line: every error leaves in one form; and the help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from redwire import errors
from redwire.errors import Code
from redwire.record import CLIENT_BYTES, Key
from tools.cli.failure import failure
from tools.cli.group import Group
from tools.cli.main import main, redwire
from tools.errors import Interrupted, LineInvalid, LoadStopped, RoleAbove

ROOT = Path(__file__).parents[3]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["redwire", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.mark.parametrize(
    "words", [("get", "c", "i", "--timeout"), ("doctor", "--wait"), ("bench", "--seconds")]
)
@pytest.mark.parametrize("seconds", ["nan", "inf", "1e999"])
def test_a_time_without_an_end_is_wrong_usage(words: tuple[str, ...], seconds: str) -> None:
    ran = CliRunner().invoke(
        redwire, [*words, seconds, *(("--uri", "reds://none") if "get" in words else ())]
    )
    assert ran.exit_code == 2 and f"'{words[-1]}': " in ran.output, ran.output


def test_an_error_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "certs", "issue", "user", "ops", "--authority", str(tmp_path)) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"redwire: {tmp_path / 'ca.pem'} cannot be read: No such file")
    assert errors.count("\n") == 1


def test_an_error_of_the_system_names_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert run(monkeypatch, "certs", "init", "--cluster", "shop", "--out", str(tmp_path / "file" / "x")) == 1
    assert capsys.readouterr().err == f"redwire: {tmp_path / 'file' / 'x'}: Not a directory\n"


def test_wrong_usage_is_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "certs", "init") == 2


def test_done_is_exit_code_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, "certs", "init", "--cluster", "shop", "--out", str(tmp_path)) == 0


def test_with_json_an_error_is_one_object_with_stable_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("certs", "issue", "user", "ops", "--authority", str(tmp_path), "--json")
    assert run(monkeypatch, *arguments) == 1
    shown = json.loads(capsys.readouterr().err)
    assert shown["message"].startswith(f"{tmp_path / 'ca.pem'} cannot be read")
    assert (shown["code"], shown["exit_code"], [*shown]) == (
        "AUTHORITY_INVALID",
        1,
        ["code", "message", "hint", "exit_code", "facts"],
    )


@pytest.mark.parametrize(
    "arguments", [("get", "c", "--json"), ("--json", "nothing"), ("get", "--json", "--moon")]
)
def test_with_json_wrong_usage_is_an_object_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    said = capsys.readouterr()
    shown = json.loads(said.err)
    assert (shown["code"], shown["exit_code"]) == ("USAGE", 2) and shown["hint"].endswith("--help")
    assert not said.out


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "policy", "check", "majority", "--nodes", "eu:1,us:1,ap:1"),
        ("policy", "--json", "check", "--nodes", "eu:1,us:1,ap:1", "--", "majority"),
    ],
)
def test_json_before_a_verb_is_the_verbs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(monkeypatch, *words) == 0
    assert json.loads(capsys.readouterr().out)["policy"] == "majority"


def test_what_follows_a_double_dash_is_no_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "get", "c", "--", "--json") == 2
    assert capsys.readouterr().err.startswith("Usage: ")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("satus",), "status"),
        (("doctr",), "doctor"),
        (("monitr", "--theme", "dark"), "monitor"),
        (("dev", "stauts"), "status"),
        (("certs", "issue", "usr"), "user"),
    ],
)
def test_a_slip_of_a_verb_is_told_the_verb_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], meant: str
) -> None:
    assert run(monkeypatch, *words) == 2
    assert capsys.readouterr().err.endswith(f"; did you mean {meant}?\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("user", "add", "x", "--role", "wirte"), "one of 'read', 'write', 'admin'; did you mean write?"),
        (("user", "add", "x", "--role", "owner"), "'owner' is not one of 'read', 'write', 'admin'."),
        (("completion", "zs"), "did you mean zsh?"),
        (("get", "a", "b", "--read", "nearst"), "unknown read mode 'nearst'; did you mean nearest?"),
        (("scan", "a", "--read", "fast"), "one of primary, nearest, any, region:<name>"),
    ],
)
def test_a_slip_of_a_value_is_told_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert run(monkeypatch, *words) == 2
    assert capsys.readouterr().err.endswith(f"{said}\n")


def test_what_is_no_verb_at_all_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "teleport") == 2
    assert capsys.readouterr().err.endswith("Error: No such command 'teleport'.\n")


def test_who_names_no_cluster_is_told_the_variable_and_where_a_uri_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REDWIRE_URI", raising=False)
    assert run(monkeypatch, "status") == 2
    told = capsys.readouterr().err
    assert "--uri URI, or export REDWIRE_URI;" in told and 'eval "$(redwire dev uri)"' in told


KEY = Key(b"\x01" * CLIENT_BYTES, 7, 1)


def unsure() -> errors.NotConfirmed:
    error = errors.NotConfirmed("not confirmed", hint=errors.ASK_HINT)
    error.key = KEY
    return error


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (errors.Refused(Code.BUSY, "x"), "BUSY", 4),
        (errors.Conflict("x", status="EXISTS", version=1), "CONFLICT", 4),
        (errors.PolicyInvalid("x"), "COMMIT_POLICY_INVALID", 4),
        (unsure(), "NOT_CONFIRMED", 3),
        (errors.UnknownOutcome("x", phase="answer"), "UNKNOWN_OUTCOME", 3),
        (errors.DeadlineExceeded("x", phase="connect"), "DEADLINE_EXCEEDED", 5),
        (errors.DeadlineExceeded("x", phase="answer", sent=True), "DEADLINE_EXCEEDED", 1),
        (errors.ConnectFailed("x", retry=True), "CONNECT_FAILED", 5),
        (errors.AuthenticationFailed("x"), "UNAUTHENTICATED", 5),
        (errors.KeyExpired(), "KEY_EXPIRED", 3),
        (errors.KeyClosed(), "KEY_CLOSED", 4),
        (LoadStopped(errors.Refused(Code.BUSY, "x")), "BUSY", 1),
        (LoadStopped(errors.ConnectFailed("x", retry=True)), "CONNECT_FAILED", 1),
        (errors.RequestInvalid("x"), "REQUEST_INVALID", 4),
        (errors.TooLarge("x", 2, 1), "TOO_LARGE", 4),
        (errors.UriInvalid("x"), "URI_INVALID", 2),
        (errors.TokenInvalid("x"), "TOKEN_INVALID", 2),
        (RoleAbove("x"), "ROLE_ABOVE", 4),
        (LineInvalid("f", 3, "x"), "LINE_INVALID", 1),
        (OSError(2, "No such file", "f"), "SYSTEM", 1),
        (Interrupted("x"), "INTERRUPTED", 130),
        (Interrupted("x", number=15), "INTERRUPTED", 143),
        (click.Abort(), "INTERRUPTED", 130),
        (click.UsageError("x"), "USAGE", 2),
    ],
)
def test_each_error_has_its_code_and_exit_code(error: Exception, code: str, exit_code: int) -> None:
    failed = failure(error)
    assert (failed.code, failed.exit_code) == (code, exit_code)


@pytest.mark.parametrize("stopped", [False, True])
def test_programs_find_the_code_of_a_refusal_once_and_people_read_it_in_front(stopped: bool) -> None:
    refused = errors.Refused(Code.BUSY, "x")
    failed = failure(LoadStopped(refused) if stopped else refused)
    told = json.loads(failed.to_json())
    assert (told["code"], told["message"], str(failed)) == ("BUSY", "x", "redwire: BUSY: x")


def test_an_open_outcome_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDWIRE_URI", raising=False)
    ask = f"ask what became of it: redwire resolve {KEY}"
    assert str(failure(unsure())) == f"redwire: not confirmed; {ask} --uri URI"
    assert json.loads(failure(unsure()).to_json())["key"] == str(KEY)
    monkeypatch.setenv("REDWIRE_URI", "reds://h")
    assert failure(unsure()).hint == ask


def test_a_foreign_sentence_and_a_hint_make_one_line() -> None:
    assert str(errors.RedwireError("it is not valid for 'x'.", hint="check it")) == (
        "it is not valid for 'x'; check it"
    )


def run_into(sink: int, words: tuple[str, ...], buffered: bool) -> tuple[int, bytes]:
    """Exit code and standard error of `redwire` whose output goes to `sink`, which is closed."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    env |= {} if buffered else {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "tools.cli.main", *words]
    done = subprocess.run(command, stdout=sink, stderr=subprocess.PIPE, cwd=ROOT, env=env, check=False)
    os.close(sink)
    return done.returncode, done.stderr


POLICY = ("policy", "check", "majority", "--nodes", "eu:1,us:1,ap:1")
EMPTY = ("policy", "check", "local", "--nodes", "eu:1,us:1,ap:1")  # a promise, for which it ends with 4


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("words", [("--help",), ("completion", "bash"), POLICY, (*POLICY, "--json")])
def test_an_output_that_nobody_reads_any_more_is_no_error_to_speak_of(
    words: tuple[str, ...], buffered: bool
) -> None:
    source, sink = os.pipe()
    os.close(source)
    assert run_into(sink, words, buffered) == (141, b"")


@pytest.mark.parametrize("buffered", [False, True])
def test_nor_is_it_where_there_is_something_else_to_say(buffered: bool) -> None:
    source, sink = os.pipe()
    os.close(source)
    code, said = run_into(sink, EMPTY, buffered)
    assert code == 141 and all(
        line.startswith(b"redwire: local promises one disk") for line in said.splitlines()
    )


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("words", [("--help",), POLICY, (*POLICY, "--json")])
def test_an_output_that_takes_no_more_is_an_error(words: tuple[str, ...], buffered: bool) -> None:
    told = run_into(os.open("/dev/full", os.O_WRONLY), words, buffered)
    assert told[0] == 1 and told[1].count(b"No space left on device") == 1 and b"Traceback" not in told[1]


def test_one_failure_is_told_of_a_command_whose_answer_cannot_leave(tmp_path: Path) -> None:
    words = ("certs", "init", "--cluster", "shop", "--out", str(tmp_path / "certs"), "--json")
    code, said = run_into(os.open("/dev/full", os.O_WRONLY), words, buffered=True)
    assert code == 1 and json.loads(said)["code"] == "SYSTEM"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("put", "c", "x", "-"), "the document is empty"),
        (("user", "add", "app", "--role", "read"), "standard input is no terminal"),
        (("monitor",), "the monitor needs a terminal"),
    ],
)
def test_a_standard_input_that_is_closed_is_an_empty_one(words: tuple[str, ...], told: str) -> None:
    command = ("sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "tools.cli.start", *words)
    uri = ("--uri", "red://127.0.0.1:1")
    done = subprocess.run((*command, *uri), capture_output=True, cwd=ROOT, text=True, check=False)
    assert done.returncode in (1, 2, 4) and told in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--uri", "reds://x", "status"),
            "'--uri' here; options follow the verb, as in: redwire status --uri",
        ),
        (
            ("dev", "--name", "x", "up"),
            "'--name' here; options follow the verb, as in: redwire dev up --name",
        ),
        (("--moon",), "'--moon' here; options follow the verb, as in: redwire VERB --moon"),
        (("--hlep",), "'--hlep'. Did you mean '--help'?"),
    ],
)
def test_an_option_before_the_verb_is_told_where_it_belongs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err.endswith(f"No such option {said}\n")


INTERRUPTED_IMPORT = """
import signal, sys
from importlib.abc import MetaPathFinder

AT = sys.argv.pop(1)

class Interrupt(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == AT:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from tools.cli.start import main
main()
"""


@pytest.mark.parametrize("module", ["click", "tools.cli.failure", "tools.cli.policy", "regions.prover"])
@pytest.mark.parametrize(
    ("more", "said"),
    [((), "redwire: interrupted"), (("--json",), '"code": "INTERRUPTED", "message": "interrupted"')],
)
def test_ctrl_c_while_something_is_imported_is_one_line_too(
    module: str, more: tuple[str, ...], said: str
) -> None:
    words = ("policy", "check", "majority", "--nodes", "eu:1", *more)
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert said in done.stderr and len(done.stderr.splitlines()) <= 2 and "Traceback" not in done.stderr


def groups(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from groups(command, (*path, name))


def test_no_summary_is_cut_off_and_the_exit_codes_are_in_the_help() -> None:
    for path in groups(redwire):
        shown = CliRunner().invoke(redwire, [*path, "--help"], prog_name="redwire", terminal_width=80).output
        assert "..." not in shown.replace("[ARGS]...", ""), path
    shown = CliRunner().invoke(redwire, ["--help"], prog_name="redwire").output
    for line in ("0    done", "3    not confirmed or unknown", "130  interrupted"):
        assert line in shown


def test_the_summary_of_each_verb_is_that_of_its_own_help() -> None:
    ctx = click.Context(redwire)
    own = Group.summaries(redwire, ctx)
    assert redwire.summaries(ctx) == own and list(own) == redwire.list_commands(ctx)


@pytest.mark.parametrize("asked", [{}, {"_REDWIRE_COMPLETE": "zsh_complete", "COMP_WORDS": "redwire "}])
def test_who_lists_the_verbs_pays_for_none_of_them(asked: dict[str, str]) -> None:
    script = (
        "import atexit, sys; sys.argv = ['redwire', '--help']; from tools.cli.main import main;"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    command, environ = [sys.executable, "-c", script], {**os.environ, "COMP_CWORD": "1", **asked}
    done = subprocess.run(command, env=environ, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "resolve" in done.stdout
    assert not {"textual", "rich", "cryptography", "anyio", "redwire.client"} & {*done.stderr.split()}


@pytest.mark.parametrize(
    ("shell", "says"),
    [
        ("bash", "complete -o nosort"),
        ("zsh", "#compdef redwire"),
        ("fish", "complete --no-files --command redwire"),
    ],
)
def test_a_shell_gets_its_completion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str, says: str
) -> None:
    assert run(monkeypatch, "completion", shell) == 0
    script = capsys.readouterr().out
    assert says in script and "_REDWIRE_COMPLETE" in script


@pytest.mark.parametrize(
    ("words", "place", "offers"),
    [
        ("redwire re", 1, {"resolve"}),
        ("redwire put --t", 2, {"--timeout"}),
        ("redwire user ", 2, {"add", "remove"}),
    ],
)
def test_verbs_and_options_are_completed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    place: int,
    offers: set[str],
) -> None:
    monkeypatch.setenv("_REDWIRE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(place))
    assert run(monkeypatch) == 0
    found = {line.partition(",")[2] for line in capsys.readouterr().out.splitlines()}
    assert offers <= found
