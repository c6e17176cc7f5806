"""What a load reads beside a plain file: slow pipes, folders that cannot be written to, a file twice."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
import pytest

from tools.cli.ndjson import Place
from tools.cli.source import File, Stream, opened
from tools.errors import LoadRuns

LINES = b"".join(b'{"id": %d}\n' % number for number in range(1_200))


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


async def test_a_stream_is_cut_as_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "f.ndjson"
    path.write_bytes(LINES)
    with path.open("rb") as file, opened(path, "c", "id") as plain:
        stream = Stream(file.fileno(), "f", "c", "id")
        streamed = [(piece.end, piece.ids) async for piece in stream.pieces(Place())]
        assert streamed == [(piece.end, piece.ids) async for piece in plain.pieces(Place())]
    assert len(streamed) == 3


async def test_who_waits_for_a_pipe_holds_nobody_up() -> None:
    source, sink = os.pipe()
    got = anyio.Event()

    async def read() -> None:
        ids = [ident async for piece in Stream(source, "f", "c", "id").pieces(Place()) for ident in piece.ids]
        assert ids == ["1", "2"]
        got.set()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        for data in (b'{"id": 1}\n{"i', b'd": 2}\n'):
            await anyio.wait_all_tasks_blocked()
            os.write(sink, data)
        await anyio.wait_all_tasks_blocked()
        assert not got.is_set()
        os.close(sink)
    os.close(source)


async def test_what_is_read_once_is_loaded_without_a_bookmark_and_that_is_said(
    cluster, command_line, fifo: Path
) -> None:
    words = ("load", str(fifo), "--collection", "c", "--id-field", "id", "--uri", cluster.uri())

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, fifo.write_bytes, LINES + b"{}\n")
        ran = await command_line(*words)
    assert ran.code == 1 and len(cluster.documents) == 1_200
    assert f"redwire: {fifo} is read once: no bookmark is kept\n" in ran.err
    assert "give it the rest, from line 1201 (tail -n +1201)" in ran.err
    assert [*fifo.parent.iterdir()] == [fifo]

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, fifo.write_bytes, LINES)
        ran = await command_line(*words, "--json")
    assert (ran.code, ran.err, json.loads(ran.out)["documents"]) == (0, "", 1_200)


def test_a_file_whose_folder_cannot_be_written_to_has_no_bookmark(tmp_path: Path) -> None:
    path = tmp_path / "f.ndjson"
    path.write_bytes(LINES)
    with path.open("rb") as lines:
        for once, kept in (("the folder cannot be written to", Place()), ("", Place(1, 10))):
            file = File(lines, path, "c", "id", once)
            file.save(Place(1, 10))
            assert file.start() == kept
            file.done()
            assert [*tmp_path.iterdir()] == [path]


async def test_a_file_that_is_being_loaded_is_loaded_by_nobody_else(
    cluster, command_line, tmp_path: Path
) -> None:
    path = tmp_path / "f.ndjson"
    path.write_bytes(LINES)
    words = ("load", str(path), "--collection", "c", "--id-field", "id", "--uri", cluster.uri())
    with opened(path, "c", "id"):
        ran = await command_line(*words)
        assert ran.code == 1 and f"another load of {path} is at work; wait until it is done" in ran.err
        with pytest.raises(LoadRuns), opened(path, "d", "id"):
            pass
    assert not cluster.documents
    assert (await command_line(*words)).code == 0
