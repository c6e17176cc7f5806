"""The segment file: header and marks as bytes, the sparse index, and walking."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import pytest

from cluster import segment
from cluster.errors import FormatNewer, FormatOlder, NodeError
from cluster.segment import (
    INDEX_BYTES,
    MARK_BYTES,
    MARK_MAGIC,
    Mark,
    Place,
    Segment,
    Walk,
    Window,
    create_file,
    decode_header,
    encode_header,
    later_marks,
)
from redwire.batch import Batch, make_batch
from redwire.position import EMPTY, Incarnation, Lsn, NodeId, Position, Reign, Term, TermEntry, TermList

INCARNATION = Incarnation("0123456789abcdef" * 2)
PREVIOUS = Position(Term(3), Lsn(40), bytes(range(16)))
TERMS = TermList((TermEntry(Term(1), Lsn(1), 0), TermEntry(Term(3), Lsn(17), (1 << 32) - 1)))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path, INCARNATION, 7, 1 << 16)
    place.folder.mkdir()
    return place


def written(place: Place, data: bytes, name: str = "") -> Path:
    path = place.folder / name if name else place.path(Term(4), Lsn(41))
    path.write_bytes(data)
    return path


def batches(count: int, size: int = 100) -> list[Batch]:
    made, end = [], EMPTY
    for _ in range(count):
        batch = make_batch(Reign(Term(1), NodeId("eu-1")), end, [bytes(size)], 2, 1, Lsn(0))
        made.append(batch)
        end = batch.position
    return made


HEADERS = [
    (Term(4), PREVIOUS, TERMS),
    (Term(1), EMPTY, TermList()),
    (Term(2**63), Position(Term(9), Lsn(2**62), b"\xff" * 16), TermList((TermEntry(Term(9), Lsn(1), 0),))),
]


@pytest.mark.parametrize(("term", "previous", "terms"), HEADERS)
def test_a_header_gives_back_what_it_was_made_of(
    place: Place, term: Term, previous: Position, terms: TermList
) -> None:
    data = encode_header(place, term, previous, terms)
    path = place.path(term, Lsn(previous.lsn + 1))
    for tail in (b"", bytes(100), b"anything"):
        path.write_bytes(data + tail)
        with Window(path) as window:
            segment = decode_header(place, path, window)
        assert isinstance(segment, Segment)
        assert (segment.previous, segment.terms) == (previous, terms)
        assert (segment.begin, segment.size) == (len(data), len(data + tail))


def test_the_table_of_the_header_says_how_long_it_is(place: Place) -> None:
    rows = re.search(r"(\d+) +(\d+)n +the term list.*\n +\1\+\2n +(\d+) +CRC-32", segment.__doc__ or "")
    assert rows is not None
    fixed, each, crc = map(int, rows.groups())
    for terms in (TermList(), TERMS):
        size = fixed + each * len(terms.entries) + crc
        assert len(encode_header(place, Term(4), PREVIOUS, terms)) == size


def test_a_header_cut_short_or_with_any_byte_changed_is_bad(place: Place) -> None:
    data = encode_header(place, Term(4), PREVIOUS, TERMS)
    damaged = [data[:size] for size in range(len(data))]
    damaged += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]
    for bad in damaged:
        path = written(place, bad)
        with Window(path) as window:
            assert isinstance(decode_header(place, path, window), str)


@pytest.mark.parametrize(("form", "error"), [(2, FormatOlder), (4, FormatNewer)])
def test_a_header_of_another_format_is_refused_not_judged(
    place: Place, form: int, error: type[NodeError]
) -> None:
    data = bytearray(encode_header(place, Term(4), PREVIOUS, TERMS))
    data[4] = form
    data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
    path = written(place, bytes(data))
    with Window(path) as window, pytest.raises(error, match=f"format {form}"):
        decode_header(place, path, window)


def test_a_segment_of_another_directory_generation_or_name_is_not_ours(place: Place) -> None:
    data = encode_header(place, Term(4), PREVIOUS, TERMS)
    path = written(place, data)
    renamed = written(place, data, place.path(Term(5), Lsn(41)).name)
    others = (Place(place.root, Incarnation("ff" * 16), 7), Place(place.root, INCARNATION, 8))
    for other in others:
        with Window(path) as window:
            assert "another log" in str(decode_header(other, path, window))
    with Window(renamed) as window:
        assert "name" in str(decode_header(place, renamed, window))


def test_a_mark_counts_only_with_its_own_bytes_place_file_and_directory(place: Place) -> None:
    mark = Mark(Lsn(40), Lsn(2**40))
    segment = Segment(place.path(Term(4), Lsn(41)), place, PREVIOUS, TERMS, 100, 1000)
    data = segment.encode_mark(500, mark)
    assert len(data) == MARK_BYTES
    assert segment.decode_mark(data, 500) == mark
    assert segment.decode_mark(data, 501) is None
    assert segment.decode_mark(data[:-1], 500) is None
    for at in range(MARK_BYTES):
        assert segment.decode_mark(data[:at] + bytes([data[at] ^ 128]) + data[at + 1 :], 500) is None
    elsewhere = Place(place.root, Incarnation("ff" * 16), 7)
    for path, where in ((place.path(Term(4), Lsn(42)), place), (segment.path, elsewhere)):
        assert Segment(path, where, PREVIOUS, TERMS, 100, 1000).decode_mark(data, 500) is None


def test_the_index_leads_to_a_batch_at_or_below_and_stays_small(place: Place) -> None:
    segment = Segment(place.path(Term(1), Lsn(1)), place, EMPTY, TermList(), 84, 1 << 20)
    assert segment.empty
    assert segment.offset_before(Lsn(5)) == 84
    offset, at = 84, {}
    for batch in batches(2_000):
        segment.note(batch, offset)
        at[batch.first] = offset
        offset += len(batch.data)
    assert not segment.empty
    for first, exact in at.items():
        assert exact - INDEX_BYTES - 200 <= segment.offset_before(first) <= exact
        assert segment.offset_before(Lsn(first + 1)) == segment.offset_before(first)
    entries = len({segment.offset_before(lsn) for lsn in at})
    assert entries <= offset // INDEX_BYTES + 1
    segment.forget(at[Lsn(1001)], Lsn(1000))
    assert segment.end == at[Lsn(1001)]
    assert segment.offset_before(Lsn(3999)) < at[Lsn(1001)]


def test_a_walk_yields_marks_and_batches_and_says_why_it_stopped(place: Place) -> None:
    path = place.path(Term(1), Lsn(1))
    segment = Segment(path, place, EMPTY, TermList(), 10, 1000)
    one, two = batches(2)
    mark = segment.encode_mark(10, Mark(Lsn(0), Lsn(0)))
    good = bytes(10) + mark + one.data + two.data
    for tail, why in (
        (b"", ""),
        (bytes(500), ""),
        (b"garbage!" * 20, "starts with"),
        (one.data[:-1], "does not fill"),
        (mark, "mark"),  # valid at offset 10 only
    ):
        path.write_bytes(good + tail)
        with Window(path, window_bytes=64) as window:
            walk = Walk(segment, window, 10)
            assert list(walk) == [Mark(Lsn(0), Lsn(0)), one, two]
        assert walk.offset == len(good)
        assert why in walk.why and bool(why) == bool(walk.why)


def test_later_marks_are_found_behind_anything_and_forged_ones_are_not(place: Place) -> None:
    path = place.path(Term(1), Lsn(1))
    segment = Segment(path, place, EMPTY, TermList(), 0, 1 << 20)
    data = bytearray(1 << 20)
    step = 256 << 10
    places = [
        40,
        step - 10,
        2 * step,
        3 * step - MARK_BYTES + 1,
    ]  # two of them across the pieces that are read
    for offset in places:
        data[offset : offset + MARK_BYTES] = segment.encode_mark(offset, Mark(Lsn(offset), Lsn(0)))
    data[5000:5004] = MARK_MAGIC
    data[6000 : 6000 + MARK_BYTES] = segment.encode_mark(40, Mark(Lsn(77), Lsn(0)))
    path.write_bytes(data)
    with Window(path) as window:
        found, end = later_marks(segment, window, 0)
        assert later_marks(segment, window, 3 * step + 100) == ([], 3 * step + 100)
    assert [mark.durable for mark in found] == places
    assert end == 3 * step + 1


def test_a_new_file_is_allocated_private_and_gone_if_that_fails(place: Place) -> None:
    fd = create_file(place, place.folder / "spare", 1 << 16)
    os.close(fd)
    info = (place.folder / "spare").stat()
    assert (info.st_size, info.st_mode & 0o777) == (1 << 16, 0o600)
    with pytest.raises(OSError):
        create_file(place, place.folder / "huge", 1 << 62)
    assert not (place.folder / "huge").exists()
