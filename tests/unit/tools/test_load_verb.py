"""`redwire load` against a fake cluster: all of a file, a part of it, and the rest."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from redwire.errors import Code, ConnectFailed
from redwire.position import ClusterId
from redwire.record import decode_write
from tools.cli import load
from tools.cli.load import _stopped


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "products.ndjson"
    path.write_text("".join(f'{{"sku": {number}, "x": "y"}}\n' for number in range(3_000)))
    return path


def arguments(file: Path, cluster) -> tuple[str, ...]:
    return ("load", str(file), "--collection", "c", "--id-field", "sku", "--json", "--uri", cluster.uri())


async def test_every_line_becomes_a_document_in_requests_of_many(cluster, command_line, file) -> None:
    ran = await command_line(*arguments(file, cluster))
    shown = json.loads(ran.out)
    assert ran.code == 0 and shown["documents"] == 3_000 and shown["first_line"] == 1
    assert len(cluster.documents) == 3_000 and len(cluster.leader.writes) == 6
    assert list(file.parent.iterdir()) == [file]


async def test_a_bad_line_stops_the_load_and_the_rest_follows_once_it_is_corrected(
    cluster, command_line, file
) -> None:
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:1_700], '{"sku": oops}', *lines[1_701:]]))
    ran = await command_line(*arguments(file, cluster))
    assert ran.code == 1 and "products.ndjson: line 1701: " in ran.err
    assert len(cluster.documents) == 1_700
    file.write_text("\n".join(lines))
    ran = await command_line(*arguments(file, cluster))
    shown = json.loads(ran.out)
    assert (ran.code, shown["documents"], shown["first_line"]) == (0, 1_300, 1_701)
    assert len(cluster.documents) == 3_000
    assert list(file.parent.iterdir()) == [file]


async def test_a_refused_piece_leaves_a_bookmark_before_it(cluster, scripts, command_line, file) -> None:
    cluster.leader.script.extend([scripts.commit, scripts.refusing(Code.FORBIDDEN)])
    ran = await command_line(*arguments(file, cluster), "--in-flight", "2")
    told = json.loads(ran.err)
    assert (ran.code, told["code"], told["facts"]) == (1, "FORBIDDEN", {"lines_committed": 500})
    bookmark = json.loads((file.parent / "products.ndjson.redwire-load").read_bytes())
    assert bookmark["line"] == 500
    ran = await command_line(*arguments(file, cluster))
    assert json.loads(ran.out)["first_line"] == 501 and len(cluster.documents) == 3_000


async def test_another_collection_does_not_go_on_from_this_one_unless_told_to_begin_again(
    cluster, scripts, command_line, file
) -> None:
    cluster.leader.script.extend([scripts.commit, scripts.refusing(Code.FORBIDDEN)])
    assert (await command_line(*arguments(file, cluster), "--in-flight", "1")).code == 1
    other = ("load", str(file), "--collection", "d", "--id-field", "sku", "--uri", cluster.uri())
    assert "--restart" in (await command_line(*other)).err
    assert (await command_line(*other, "--restart")).code == 0
    assert ("d", "2999") in cluster.documents


async def test_another_cluster_does_not_go_on_from_where_this_one_is_unless_told_to_begin_again(
    cluster, scripts, command_line, file
) -> None:
    cluster.leader.script.extend([scripts.commit, scripts.refusing(Code.FORBIDDEN)])
    assert (await command_line(*arguments(file, cluster), "--in-flight", "1")).code == 1
    cluster.id = ClusterId("cd" * 16)
    cluster.documents.clear()
    ran = await command_line(*arguments(file, cluster))
    told = json.loads(ran.err)
    assert ran.code == 4 and not cluster.documents
    assert told["message"].endswith("an earlier load to another cluster (abababab)")
    assert "--restart" in told["hint"]
    assert (await command_line(*arguments(file, cluster), "--restart")).code == 0
    assert len(cluster.documents) == 3_000


async def test_a_restart_that_dies_leaves_no_bookmark_of_the_load_before(
    cluster, scripts, command_line, file
) -> None:
    cluster.leader.script.extend([scripts.commit, scripts.refusing(Code.FORBIDDEN)])
    assert (await command_line(*arguments(file, cluster), "--in-flight", "1")).code == 1
    seen = []

    def look(*told) -> None:
        seen.append(list(file.parent.iterdir()))
        scripts.commit(*told)

    cluster.leader.script.append(look)
    assert (await command_line(*arguments(file, cluster), "--restart")).code == 0
    assert seen == [[file]]


@pytest.mark.parametrize("in_flight", ["1", "16"])
async def test_a_load_goes_on_without_a_bookmark_where_none_can_be_written_and_says_so_once(
    cluster, scripts, command_line, file, monkeypatch, in_flight
) -> None:
    monkeypatch.setattr(load, "SAVE_S", 0.0)
    (file.parent / "products.ndjson.redwire-load.new").mkdir()
    words = (*(word for word in arguments(file, cluster) if word != "--json"), "--in-flight", in_flight)
    ran = await command_line(*words)
    assert ran.code == 0 and len(cluster.documents) == 3_000
    assert ran.err.count("products.ndjson.redwire-load cannot be written (Is a directory)") == 1
    cluster.leader.script.extend([scripts.commit, scripts.refusing(Code.FORBIDDEN)])
    ran = await command_line(*words[:-1], "1", "--json")
    told = json.loads(ran.err)
    assert (ran.code, told["facts"]) == (1, {"lines_committed": 500})
    assert "without a bookmark give it the rest, from line 501 (tail -n +501)" in told["hint"]


async def test_a_load_waits_for_a_client_id_until_its_deadline(cluster, command_line, file) -> None:
    cluster.leader.issues_ids = False
    ran = await command_line(*arguments(file, cluster), "--timeout", "0.4")
    told = json.loads(ran.err)
    assert (ran.code, told["code"], told["facts"]["lines_committed"]) == (5, "DEADLINE_EXCEEDED", 0)
    assert "no node could issue a client id yet" in told["message"] and "nothing was written" in told["hint"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(issue_ids, cluster)
        ran = await command_line(*arguments(file, cluster))
    assert ran.code == 0 and len(cluster.documents) == 3_000


async def issue_ids(cluster) -> None:
    await anyio.sleep(0.3)
    cluster.leader.issues_ids = True


async def test_the_word_of_the_server_on_one_record_is_told_as_a_line(cluster, command_line, file) -> None:
    def refuse(node, wire, frame, envelope) -> None:
        from redwire.errors import RequestInvalid

        wire.fail(frame.correlation, RequestInvalid("not to my taste", 7))

    cluster.leader.script.append(refuse)
    file.write_text("\n" + file.read_text())
    ran = await command_line(*arguments(file, cluster), "--in-flight", "1")
    assert ran.code == 1 and "products.ndjson: line 9: not to my taste" in ran.err


async def test_what_was_not_confirmed_is_sent_again_by_the_next_load(
    cluster, scripts, command_line, file
) -> None:
    cluster.leader.script.extend([scripts.commit, scripts.unconfirmed])
    ran = await command_line(*arguments(file, cluster), "--in-flight", "1")
    assert ran.code == 3
    assert (await command_line(*arguments(file, cluster))).code == 0
    first = decode_write(cluster.leader.writes[1].request).records[0].id
    again = decode_write(cluster.leader.writes[2].request).records[0].id
    assert first == again == "500"


async def test_a_load_of_which_nothing_is_committed_leaves_no_bookmark(
    cluster, scripts, command_line, file
) -> None:
    mistyped = ("load", str(file), "--collection", "d", "--id-field", "id", "--uri", cluster.uri())
    ran = await command_line(*mistyped)
    assert ran.code == 1 and "missing required field `id`" in ran.err and "nothing was written" in ran.err
    assert list(file.parent.iterdir()) == [file]
    cluster.leader.script.append(scripts.refusing(Code.FORBIDDEN))
    refused = await command_line(*arguments(file, cluster), "--in-flight", "1")
    assert refused.code == 4 and "begins again at the first line" in json.loads(refused.err)["hint"]
    assert list(file.parent.iterdir()) == [file]
    (told,) = json.loads(refused.err)["facts"].items()
    assert told == ("lines_committed", 0)
    assert (await command_line(*arguments(file, cluster))).code == 0


async def test_a_restart_that_commits_nothing_takes_the_old_bookmark_away(
    cluster, scripts, command_line, file
) -> None:
    cluster.leader.script.extend([scripts.commit, *[scripts.refusing(Code.FORBIDDEN)] * 2])
    first = await command_line(*arguments(file, cluster), "--in-flight", "1")
    assert "lines 1 to 500 are committed" in json.loads(first.err)["hint"]
    assert len(list(file.parent.iterdir())) == 2
    assert (await command_line(*arguments(file, cluster), "--in-flight", "1", "--restart")).code == 4
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("text", ['[{"sku": 1}]', '[\n  {"sku": 1}\n]\n', "\n\n [\n"])
async def test_a_json_array_is_told_as_what_it_is(cluster, command_line, file, text) -> None:
    file.write_text(text)
    ran = await command_line(
        "load", str(file), "--collection", "c", "--id-field", "sku", "--uri", cluster.uri()
    )
    assert ran.code == 1 and "products.ndjson is one JSON array" in ran.err and "jq -c" in ran.err
    assert not cluster.documents


async def test_a_name_that_is_no_collection_is_wrong_usage_and_no_fault_of_a_line(
    cluster, command_line, file
) -> None:
    ran = await command_line(
        "load", str(file), "--collection", "my rows", "--id-field", "sku", "--uri", cluster.uri()
    )
    assert ran.code == 2 and "'my rows' is no name of a collection" in ran.err and "line 1" not in ran.err


async def test_how_to_go_on_after_a_restart_does_not_begin_again(
    cluster, scripts, command_line, file
) -> None:
    cluster.leader.script.extend([scripts.commit, scripts.refusing(Code.FORBIDDEN)])
    ran = await command_line(*arguments(file, cluster), "--in-flight", "1", "--restart")
    assert "the same command without --restart goes on from line 501" in json.loads(ran.err)["hint"]


def test_an_interrupted_load_that_had_reached_nobody_says_that_nothing_was_written() -> None:
    assert _stopped(KeyboardInterrupt(), None, "the same command").hint == "nothing was written"
    unreachable = ConnectFailed("nobody answers", retry=True, hint="see to it")
    assert _stopped(unreachable, None, "the same command").hint == "see to it"
