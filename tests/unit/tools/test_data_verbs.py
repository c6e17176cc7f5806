"""`redwire put`, `get`, `delete` and `scan` against a fake cluster."""

from __future__ import annotations

import errno
import io
import json
import logging
from collections import deque

import anyio
import pytest

from redwire.client import connect
from redwire.errors import Code, RedwireError, Refused
from redwire.frame import Kind
from redwire.message.read import SCAN_LIMIT_MAX
from redwire.record import CLIENT_BYTES
from tools.cli.connection import _Notices
from tools.cli.failure import EXIT_REFUSED


async def test_a_document_goes_in_comes_out_and_is_deleted(cluster, command_line) -> None:
    uri = ("--uri", cluster.uri())
    put = await command_line("put", "c", "p1", '{"a": 1}', *uri, "--json")
    receipt = json.loads(put.out)["receipt"]
    assert put.code == 0 and json.loads(put.out)["version"] == 1
    assert [ack["node"] for ack in receipt["acks"]] == ["eu-1", "us-1"] and receipt["achieved"] == "majority"
    get = await command_line("get", "c", "p1", *uri, "--read", "any", "--at-least", receipt["token"])
    assert (get.code, get.out) == (0, '{"a": 1}\n')
    described = json.loads((await command_line("get", "c", "p1", *uri, "--json")).out)
    assert described.items() >= {"id": "p1", "version": 1, "document": {"a": 1}}.items()
    gone = await command_line("delete", "c", "p1", *uri)
    assert gone.code == 0 and "deleted, it was at version 1" in gone.out
    again = await command_line("delete", "c", "p1", *uri, "--json")
    assert again.code == 0 and json.loads(again.out)["deleted"] is False
    missing = await command_line("get", "c", "p1", *uri)
    assert missing.code == 1 and "no document c/p1" in missing.err and not missing.out


@pytest.mark.parametrize("number", ["1e999", "9" * 5_000])
async def test_a_number_that_python_has_no_room_for_is_shown_as_it_was_written(
    cluster, command_line, number: str
) -> None:
    uri, stored = ("--uri", cluster.uri()), f'{{"a": {number}}}'
    assert (await command_line("put", "c", "p1", stored, *uri)).code == 0
    for words in (("get", "c", "p1"), ("scan", "c")):
        plain = await command_line(*words, *uri)
        described = await command_line(*words, *uri, "--json")
        assert (plain.code, described.code) == (0, 0) and plain.out.endswith(f"{stored}\n")
        assert f'"document": {stored}}}' in described.out


@pytest.mark.parametrize("stored", ['{"a": "\u00fc\U0001f600"}', '{"a": "\u00fc\U0001f600", "b": 1e999}'])
async def test_what_is_beyond_ascii_is_printed_alike_in_every_locale(
    cluster, command_line, stored: str
) -> None:
    uri = ("--uri", cluster.uri())
    await command_line("put", "c", "p1", stored, *uri)
    for words in (("get", "c", "p1"), ("scan", "c")):
        described = await command_line(*words, *uri, "--json")
        assert described.out.isascii() and r'"a": "\u00fc\ud83d\ude00"' in described.out
        plain = await command_line(*words, *uri, encoding="latin-1")
        assert (plain.code, plain.err) == (0, "") and plain.out.endswith(f"{stored}\n")


async def test_the_uri_may_come_from_the_environment_and_a_document_from_standard_input(
    cluster, command_line, monkeypatch
) -> None:
    monkeypatch.setenv("REDWIRE_URI", cluster.uri())
    assert (await command_line("put", "c", "p1", "-", stdin=b'{"a": "\xc3\xbc"}\n')).code == 0
    assert cluster.documents["c", "p1"][1] == '{"a": "ü"}'.encode()


async def test_a_scan_prints_a_line_or_an_array_element_for_each_document(cluster, command_line) -> None:
    uri = ("--uri", cluster.uri())
    for ident in ("a", "b", "c"):
        await command_line("put", "c", ident, f'{{"n": "{ident}"}}', *uri)
    text = await command_line("scan", "c", *uri, "--after", "a", "--limit", "1")
    assert text.out == 'b\t2\t{"n": "b"}\n'
    array = json.loads((await command_line("scan", "c", *uri, "--json")).out)
    assert [each["id"] for each in array] == ["a", "b", "c"]
    assert json.loads((await command_line("scan", "none", *uri, "--json")).out) == []


@pytest.mark.parametrize(
    ("arguments", "script", "code", "says"),
    [
        (("put", "c", "p1", "[1]"), None, 4, "not a JSON object"),
        (
            ("put", "c", "p1", ""),
            None,
            4,
            'the document is empty; a document is a JSON object, such as {"name"',
        ),
        (("put", "../c", "p1", "{}"), None, 4, "collection name"),
        (("put", "c", "p1", "{}", "--if-version", "9"), None, 4, "does not exist, so it has no version"),
        (("put", "c", "p1", "{}"), Code.FORBIDDEN, 4, "FORBIDDEN"),
        (("put", "c", "p1", "{}"), "unconfirmed", 3, "not confirmed"),
        (("put", "c", "p1", "{}", "--timeout", "2"), "silence", 3, "not known"),
        (("get", "c", "p1", "--read", "moon"), None, 2, "one of primary, nearest"),
        (("get", "c", "p1", "--at-least", "x"), None, 2, "not a freshness token"),
        (("put", "c", "p1"), None, 2, "Missing argument"),
    ],
)
async def test_an_exit_code_for_each_outcome(
    cluster, scripts, command_line, arguments, script, code, says
) -> None:
    if script is not None:
        known = isinstance(script, Code)
        cluster.leader.script.append(scripts.refusing(script) if known else getattr(scripts, script))
    ran = await command_line(*arguments, "--uri", cluster.uri())
    assert ran.code == code and says in ran.err and not ran.out


async def test_for_programs_an_error_has_its_facts_and_no_code_in_its_message(
    cluster, scripts, command_line
) -> None:
    ask = ("put", "c", "p1", "{}", "--if-version", "9", "--json", "--uri", cluster.uri())
    conflict = json.loads((await command_line(*ask)).err)
    receipt = conflict["facts"].pop("receipt")
    assert (conflict["code"], conflict["facts"]) == ("CONFLICT", {"status": "VERSION_MISMATCH", "version": 0})
    assert (receipt["lsn"], receipt["achieved"]) == (1, receipt["requested"])
    cluster.leader.script.append(scripts.unconfirmed)
    unsure = json.loads((await command_line(*ask)).err)
    assert (unsure["code"], unsure["facts"]["receipt"]["lsn"]) == ("NOT_CONFIRMED", 2)
    assert len(unsure["facts"]["receipt"]["acks"]) == 2
    cluster.leader.script.append(scripts.refusing(Code.FORBIDDEN))
    refused = json.loads((await command_line(*ask)).err)
    assert (refused["code"], refused["message"], refused["exit_code"]) == ("FORBIDDEN", "told to", 4)


async def test_an_error_says_where_nobody_answered_and_no_password(command_line) -> None:
    uri = "red://bob:secret@127.0.0.1:1/?timeout_ms=200"
    ran = await command_line("get", "c", "p1", "--uri", uri)
    assert ran.code == 5 and "127.0.0.1:1" in ran.err and "secret" not in ran.err


@pytest.mark.parametrize(
    ("words", "hosts", "code"),
    [
        (("get", "c", "p1"), "127.0.0.1:1,127.0.0.1:2", "DEADLINE_EXCEEDED"),
        (("status",), "127.0.0.1:1,127.0.0.1:2", "DEADLINE_EXCEEDED"),
        (("topology",), "127.0.0.1:1", "CONNECT_FAILED"),
    ],
)
async def test_who_could_not_be_reached_is_a_list_for_programs(command_line, words, hosts, code) -> None:
    ran = await command_line(*words, "--json", "--uri", f"red://{hosts}/?timeout_ms=300")
    told = json.loads(ran.err)
    assert (told["code"], sorted(told["facts"]["addresses"])) == (code, hosts.split(","))


async def test_an_address_at_which_something_else_answers_is_one_too(cluster, command_line) -> None:
    uri = cluster.uri().partition("?")[0]  # whose authority is nobody's here
    ran = await command_line("put", "c", "p1", "{}", "--json", "--uri", uri)
    told = json.loads(ran.err)
    addresses = [node.addr for node in cluster.nodes]
    assert (told["code"], sorted(told["facts"]["addresses"])) == ("CONNECT_FAILED", sorted(addresses))


@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        ("unconfirmed", 0, "committed: 1 APPLIED"),
        ("execute_silently", 0, "committed: 1 APPLIED"),
        ("silence", 4, "certainly not written"),
    ],
)
async def test_the_key_of_an_open_outcome_tells_later_what_became_of_it(
    cluster, scripts, command_line, script, code, says
) -> None:
    cluster.leader.script.append(getattr(scripts, script))
    put = await command_line("put", "c", "p1", "{}", "--timeout", "0.3", "--json", "--uri", cluster.uri())
    failed = json.loads(put.err)
    assert put.code == failed["exit_code"] == 3 and f"redwire resolve {failed['key']}" in failed["hint"]
    asked = await command_line("resolve", failed["key"], "--uri", cluster.uri())
    assert asked.code == code and says in asked.out + asked.err
    if code == 0:
        shown = json.loads(
            (await command_line("resolve", failed["key"], "--json", "--uri", cluster.uri())).out
        )
        assert shown["committed"] and shown["records"] == [{"status": "APPLIED", "version": 1}]
        assert (shown["key"], shown["receipt"]["lsn"]) == (failed["key"], 1)


async def test_whoever_may_not_ask_for_a_key_is_not_told_that_nothing_was_written(
    cluster, command_line
) -> None:
    def forbidden(node: object, wire: object, frame: object) -> None:
        raise Refused(Code.FORBIDDEN, "this key was not issued to this user", hint="ask as its user")

    cluster.leader.HANDLERS = cluster.leader.HANDLERS | {Kind.RESOLVE: forbidden}
    key = "01" * CLIENT_BYTES + "-7"
    asked = await command_line("resolve", key, "--json", "--uri", cluster.uri())
    said = json.loads(asked.err)
    assert (asked.code, said["code"], said["key"]) == (3, "UNKNOWN_OUTCOME", key)
    assert "not issued to this user" in said["message"] and said["hint"] == "ask as its user"


async def test_what_cannot_be_told_of_a_key_is_an_open_outcome(cluster, command_line) -> None:
    key = "01" * CLIENT_BYTES + "-7"
    ask = ("resolve", key, "--timeout", "0.3", "--json", "--uri", cluster.uri())
    cluster.leader.frozen = True
    silent = await command_line(*ask)
    cluster.leader.frozen = False
    cluster.expired = True
    forgotten = await command_line(*ask)
    assert silent.code == forgotten.code == 3
    assert json.loads(silent.err)["key"] == json.loads(forgotten.err)["key"] == key
    assert "was forgotten" in json.loads(forgotten.err)["message"]
    assert (json.loads(silent.err)["code"], json.loads(forgotten.err)["code"]) == (
        "UNKNOWN_OUTCOME",
        "KEY_EXPIRED",
    )
    assert "resolve" not in json.loads(forgotten.err)["hint"]
    unreached = await command_line("resolve", key, "--json", "--uri", "red://127.0.0.1:1/?timeout_ms=200")
    told = json.loads(unreached.err)
    assert (unreached.code, told["code"], told["key"]) == (3, "UNKNOWN_OUTCOME", key)
    assert (await command_line("resolve", "seven", "--uri", cluster.uri())).code == 2


async def test_a_long_wait_is_told_with_its_reason_and_its_end_but_not_to_a_program(
    cluster, command_line, monkeypatch
) -> None:
    monkeypatch.setattr("tools.cli.connection.PATIENCE_S", 0.2)
    cluster.leader.frozen = True
    ask = ("get", "c", "p1", "--timeout", "0.8", "--uri", cluster.uri(cluster.leader))
    told, quiet = await command_line(*ask), await command_line(*ask, "--json")
    assert told.code == quiet.code == 5
    waiting, error = told.err.splitlines()
    assert waiting.startswith("redwire: waiting, 1 s more at most: ") and cluster.leader.addr in waiting
    assert error.startswith("redwire: no node was reached within 0.8 s: ")
    assert json.loads(quiet.err)["code"] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("verb", [("scan", "c"), ("load", "FILE", "--collection", "c", "--id-field", "id")])
async def test_a_long_verb_connects_within_its_own_deadline(command_line, tmp_path, verb) -> None:
    file = tmp_path / "one.ndjson"
    file.write_text('{"id": 1}\n')
    verb = [str(file) if word == "FILE" else word for word in verb]
    ran = await command_line(*verb, "--timeout", "0.4", "--uri", "red://127.0.0.1:1/")
    assert ran.code == 5 and "no node was reached within 0.4 s" in ran.err


@pytest.mark.parametrize("verb", ["status", "lag", "events"])
async def test_who_only_looks_is_told_what_for_it_waits_too(command_line, verb, monkeypatch) -> None:
    monkeypatch.setattr("tools.cli.connection.PATIENCE_S", 0.2)
    ran = await command_line(verb, "--uri", "red://127.0.0.1:1/?timeout_ms=800")
    assert ran.code == 5 and ran.err.splitlines()[0].startswith("redwire: waiting, 1 s more at most: cannot")
    quiet = await command_line(verb, "--json", "--uri", "red://127.0.0.1:1/?timeout_ms=800")
    assert json.loads(quiet.err)["exit_code"] == 5


@pytest.mark.parametrize(("quiet", "told"), [(False, "redwire: of a file\\u001b\n"), (True, "")])
async def test_what_a_client_warns_of_is_told_but_not_to_a_program(cluster, capsys, quiet, told) -> None:
    with _Notices(connect(cluster.uri()), quiet=quiet):
        logging.getLogger("redwire").warning("of a file\x1b")
    assert capsys.readouterr().err == told


async def test_a_client_goes_on_although_nobody_can_be_told_what_it_warns_of(cluster, monkeypatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, text)

    monkeypatch.setattr("sys.stderr", Full())
    with _Notices(connect(cluster.uri()), quiet=False):
        logging.getLogger("redwire").warning("of a file")


async def test_a_call_that_waits_says_so_although_connecting_has_said_something(cluster, capsys) -> None:
    client = connect(cluster.uri())
    async with client:
        with _Notices(client, quiet=False) as notices:
            notices._speak()
            notices.begin(long=False)
            notices._speak()
            notices._speak()
    assert capsys.readouterr().err.count("no answer yet") == 2


@pytest.mark.parametrize("words", [("put", "c", "1", "{}"), ("delete", "c", "1")])
async def test_a_write_waits_for_a_client_id_until_its_deadline(cluster, command_line, words) -> None:
    cluster.leader.issues_ids = False
    ran = await command_line(*words, "--timeout", "0.4", "--json", "--uri", cluster.uri())
    told = json.loads(ran.err)
    assert (ran.code, told["code"]) == (5, "DEADLINE_EXCEEDED")
    assert told["message"] == "not sent within 0.4 s: no node could issue a client id yet"

    async def issue_ids() -> None:
        await anyio.sleep(0.3)
        cluster.leader.issues_ids = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(issue_ids)
        ran = await command_line(*words, "--uri", cluster.uri())
    assert ran.code == 0 and len(cluster.leader.writes) == 1


@pytest.mark.parametrize(
    ("arguments", "reads"),
    [(("get", "c", "p1"), True), (("scan", "c"), True), (("put", "c", "p1", "{}"), False)],
)
async def test_who_finds_no_primary_is_told_that_others_answer_and_what_to_type(
    cluster, command_line, arguments, reads
) -> None:
    cluster.stop(cluster.nodes[0])
    ran = await command_line(*arguments, "--timeout", "1.5", "--uri", cluster.uri())
    assert ran.code == 5 and not ran.out
    assert "no primary was found, though " in ran.err and "see redwire status, redwire doctor" in ran.err
    assert cluster.nodes[1].addr in ran.err.rpartition("though ")[2]
    assert cluster.nodes[0].addr not in ran.err.rpartition("though ")[2]
    assert ("--read any reads from whoever answers" in ran.err) == reads


async def test_who_reads_in_a_region_that_is_out_is_not_told_that_there_is_no_primary(
    cluster, command_line
) -> None:
    cluster.stop(cluster.nodes[1])
    words = ("get", "c", "p1", "--read", f"region:{cluster.nodes[1].region}", "--timeout", "1")
    ran = await command_line(*words, "--uri", cluster.uri())
    assert ran.code == 5 and "primary" not in ran.err
    reached = ran.err.rpartition("no node of that region was reached, though ")[2]
    assert reached.startswith(cluster.leader.addr) and "--read any" in reached


async def test_who_asks_for_a_key_and_finds_no_primary_is_not_told_to_ask_for_it(
    cluster, command_line
) -> None:
    cluster.stop(cluster.nodes[0])
    key = "01" * CLIENT_BYTES + "-7"
    ran = await command_line("resolve", key, "--timeout", "1.5", "--uri", cluster.uri())
    assert ran.code == 3 and "no primary was found, though " in ran.err
    assert "redwire resolve" not in ran.err


async def test_where_nobody_answers_no_hint_says_that_somebody_does(cluster, command_line) -> None:
    for node in cluster.nodes:
        cluster.stop(node)
    ran = await command_line("get", "c", "p1", "--timeout", "0.5", "--uri", cluster.uri())
    assert ran.code == 5 and "no primary" not in ran.err


@pytest.mark.parametrize("words", [("put", "c", "x", "{oops"), ("put", "c", "", "{}"), ("delete", "c", "")])
async def test_what_is_wrong_with_the_only_record_has_no_number(cluster, command_line, words) -> None:
    ran = await command_line(*words, "--uri", cluster.uri())
    assert ran.code == EXIT_REFUSED and "record 0" not in ran.err and ran.err.startswith("redwire: ")


async def test_a_byte_order_mark_is_no_part_of_a_document(cluster, command_line) -> None:
    ran = await command_line("put", "c", "x", "-", "--uri", cluster.uri(), stdin=b'\xef\xbb\xbf{"n": 1}\n')
    assert ran.code == 0
    assert (await command_line("get", "c", "x", "--uri", cluster.uri())).out == '{"n": 1}\n'


async def test_who_reads_from_a_primary_that_hangs_is_told_what_to_type(cluster, command_line) -> None:
    cluster.leader.unheard = frozenset((Kind.FETCH,))
    ran = await command_line("get", "c", "p1", "--timeout", "1", "--uri", cluster.uri())
    assert ran.code == 1
    assert f"in phase answer: {cluster.leader.addr} did not answer within " in ran.err
    assert ran.err.endswith(
        "; the primary may hang: see redwire status, redwire doctor; --read any reads from whoever answers\n"
    )


class AfterOnePage(deque[RedwireError]):
    """Read errors of a node that answers once."""

    asked = 0

    def __bool__(self) -> bool:
        self.asked += 1
        return self.asked > 1

    def popleft(self) -> RedwireError:
        return self[0]


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_scan_that_stops_midway_says_after_which_id_and_has_not_sent_nothing(
    cluster, command_line, as_json
) -> None:
    ids = [f"{number:04d} x" for number in range(SCAN_LIMIT_MAX + 1)]
    cluster.documents |= {("c", ident): (1, b"{}") for ident in ids}
    cluster.nodes[0].reads = AfterOnePage([Refused(Code.BUSY, "too much")])
    uri = ("--uri", cluster.uri(cluster.nodes[0]), "--timeout", "1")
    ran = await command_line("scan", "c", *uri, *(["--json"] if as_json else []))
    assert ran.code == 1 and ran.out.count("\n") >= SCAN_LIMIT_MAX - 1
    last = ids[SCAN_LIMIT_MAX - 1]
    if as_json:
        told = json.loads(ran.err)
        assert (told["exit_code"], told["facts"]["after"]) == (1, last)
    else:
        assert f"stopped after c/{last}: " in ran.err and f"--after '{last}'" in ran.err
