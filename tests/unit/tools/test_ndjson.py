"""Files of JSON lines: pieces, bad lines, and the bookmark that a load goes on from."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from redwire import record
from redwire.errors import RequestInvalid
from redwire.position import ClusterId
from tools.cli.ndjson import PIECE_RECORDS, Bookmark, Place, Prefix, bookmarked, pieces
from tools.errors import LineInvalid

CLUSTER = ClusterId("ab" * 16)


def read(text: bytes, start: Place = Place(), field: str = "id") -> list:  # noqa: B008
    file = io.BytesIO(text)
    file.seek(start.offset)
    return list(pieces(file, "f.ndjson", "c", field, start))


def test_an_empty_file_has_no_piece() -> None:
    assert read(b"") == read(b"\n \r\n\n") == []


def test_each_line_is_one_document_and_the_bytes_are_those_of_the_line() -> None:
    (piece,) = read(b'{"id": "a", "x": 1}\r\n\n{"id": 7}')
    decoded = record.decode_write(memoryview(record.encode_write(piece.records))).records
    assert [(each.id, each.doc) for each in decoded] == [("a", b'{"id": "a", "x": 1}'), ("7", b'{"id": 7}')]
    assert piece.ids == ["a", "7"] and piece.lines == [1, 3]
    assert piece.end == Place(3, 31)


def test_pieces_are_bounded_and_any_of_their_ends_is_a_place_to_go_on_from() -> None:
    text = b"".join(b'{"id": %d}\n' % number for number in range(1_200))
    everything = read(text)
    assert [len(piece.records) for piece in everything] == [PIECE_RECORDS, PIECE_RECORDS, 200]
    rest = read(text, everything[0].end)
    assert [piece.ids for piece in rest] == [piece.ids for piece in everything[1:]]
    assert rest[0].lines[0] == 501


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": ', "malformed|truncated"),
        (b"[1]", "object"),
        (b'{"x": 1}', "missing required field `id`"),
        (b'{"id": true}', "got `bool`"),
        (b'{"id": ""}', "an id has 1 to 512 bytes"),
        (b'{"id": "a", "x": "\xff"}', "."),
        (b'{"id": "%s"}' % (b"x" * 513), "512"),
        (b'{"id": "a", "x": "%s"}' % (b"x" * (8 << 20)), "."),
    ],
)
def test_a_bad_line_is_named_after_what_stands_before_it_was_given_out(line, reason) -> None:
    source = pieces(io.BytesIO(b'{"id": 1}\n{"id": 2}\n' + line + b"\n"), "f.ndjson", "c", "id", Place())
    assert next(source).ids == ["1", "2"]
    with pytest.raises(LineInvalid, match=rf"f\.ndjson: line 3: .*({reason})") as caught:
        next(source)
    assert caught.value.facts == {"file": "f.ndjson", "line": 3}


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (b'{"id": ', "each line is one whole JSON object"),
        (b"[1]", "each line is one whole JSON object"),
        (b'{"x": 1}', "--id-field names the field of each document that is its id"),
        (b'{"id": true}', "an id is a text or a whole number"),
        (b'{"id": ""}', ""),
        (b'{"id": "a", "x": "%s"}' % (b"x" * (8 << 20)), "split the document"),
    ],
)
def test_a_bad_line_is_hinted_at_what_is_wrong_with_it(line: bytes, hint: str) -> None:
    with pytest.raises(LineInvalid) as caught:
        read(b'{"id": 1}\n' + line + b"\n")
    assert caught.value.hint == hint


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    (piece,) = read(b'\xef\xbb\xbf{"id": 1}\n{"id": 2}\n')
    assert piece.ids == ["1", "2"] and piece.end == Place(2, 23)
    decoded = record.decode_write(memoryview(record.encode_write(piece.records))).records
    assert decoded[0].doc == b'{"id": 1}'
    with pytest.raises(LineInvalid, match="line 2"):
        read(b'{"id": 1}\n\xef\xbb\xbf{"id": 2}\n')


def test_utf_16_is_told_as_what_it_is() -> None:
    with pytest.raises(LineInvalid, match="f.ndjson is UTF-16; write it as UTF-8: iconv"):
        read('{"id": 1}\n'.encode("utf-16"))


def test_a_bookmark_is_found_again_after_the_file_has_grown(tmp_path: Path) -> None:
    path = tmp_path / "f.redwire-load"
    text = io.BytesIO(b'{"id": 1}\n{"id": 2}\n')
    assert bookmarked(path, Prefix(text), "c", "id") is None
    Bookmark.make(Prefix(text), CLUSTER, "c", "id", Place(1, 10)).save(path)
    found = bookmarked(path, Prefix(io.BytesIO(text.getvalue() + b'{"id": 3}\n')), "c", "id")
    assert found is not None and (found.place, found.cluster) == (Place(1, 10), CLUSTER)
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "collection", "field", "why"),
    [
        (b'{"id": 9}\n', "c", "id", "of another file, or the lines up to 1 have changed"),
        (b'{"id": 1}\n', "d", "id", "to the collection c"),
        (b'{"id": 1}\n', "c", "name", "by the field id"),
    ],
)
def test_a_bookmark_of_another_load_is_refused(tmp_path: Path, text, collection, field, why) -> None:
    path = tmp_path / "f.redwire-load"
    Bookmark.make(Prefix(io.BytesIO(b'{"id": 1}\n')), CLUSTER, "c", "id", Place(1, 10)).save(path)
    with pytest.raises(RequestInvalid, match=f"{why}.*--restart"):
        bookmarked(path, Prefix(io.BytesIO(text)), collection, field)
    path.write_bytes(b"no bookmark")
    with pytest.raises(RequestInvalid, match="not a bookmark"):
        bookmarked(path, Prefix(io.BytesIO(text)), collection, field)


def test_a_file_that_changed_before_its_bookmark_however_far_is_another_one(tmp_path: Path) -> None:
    lines = [b'{"id": %d}\n' % number for number in range(20_000)]
    text, path = b"".join(lines), tmp_path / "f.redwire-load"
    prefix, place = Prefix(io.BytesIO(text)), Place(15_000, sum(map(len, lines[:15_000])))
    for at in (Place(1, len(lines[0])), place):
        Bookmark.make(prefix, CLUSTER, "c", "id", at).save(path)
    found = bookmarked(path, Prefix(io.BytesIO(text)), "c", "id")
    assert found is not None and found.place == place
    for changed in (text.replace(b"14999", b"99999"), lines[0] + text):
        with pytest.raises(RequestInvalid, match="have changed since"):
            bookmarked(path, Prefix(io.BytesIO(changed)), "c", "id")


@pytest.mark.parametrize(
    ("line", "reason", "hint"),
    [
        (b'{"id": "\xff"}', "not UTF-8", "as UTF-8, and not compressed"),
        (b"\x1f\x8b\x08\x00", "not UTF-8", "as UTF-8, and not compressed"),
        (b'{"id": "%s"}' % (b"x" * (8 << 20)), "more than 8388608 bytes", "split the document"),
    ],
)
def test_what_keeps_a_line_from_being_read_at_all_is_told_as_that(line, reason, hint) -> None:
    with pytest.raises(LineInvalid, match=reason) as caught:
        read(line)
    assert hint in caught.value.hint
