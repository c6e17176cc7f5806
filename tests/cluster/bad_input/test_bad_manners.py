"""Good requests, bad manners: hanging up in the middle, coming in crowds, asking and never reading."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Any

import pytest
import zstandard

from cluster.guests import SENT_BYTES_MAX
from cluster.session_reads import WAITING_MAX
from cluster.unread import ALL_BYTES_MAX as UNREAD_BYTES_MAX
from redwire.errors import Code
from redwire.frame import COMPRESSED, FRAME_BYTES_MAX, HEADER, Kind, encode_frame
from redwire.message.read import Fetch, Scan
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.record import DOC_BYTES_MAX

BOMB = zstandard.ZstdCompressor(level=19).compress(bytes(FRAME_BYTES_MAX - 64))
WAIT_S = 1.5
"""A write beside eight floods: a fifth of a second, and many where each flood is served to its end first."""
SLACK_BYTES = 32 << 20
PATIENCE_S = 15.0
FEW_ANSWERS = 8
"""The largest answers that may be in the making before their size is known, and a copy of each."""
CROWD = 150
"""Sessions at once; strangers in such numbers are in test_bad_handshakes.py."""


def reset(wire: Any) -> None:
    """Close with a reset, as a process that is killed with data unread."""
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def test_whoever_resets_in_the_middle_leaves_nothing_behind(site: Any) -> None:
    halves = {
        kind: HEADER.pack(FRAME_BYTES_MAX, kind, 0, 0, 1) + bytes(100_000)
        for kind in (Kind.WRITE, Kind.BULK_INSERT, Kind.QUERY, Kind.SCAN, 0x99)
    }
    for who in (None, "ops", "us-1"):  # the first round pays for what is kept for ever
        with site.login(who) as wire:
            wire.send(halves[Kind.WRITE])
    before = site.rest_bytes()
    with site.nothing_written():
        for _ in range(5):
            for half in halves.values():
                for wire in (site.login(), site.login("us-1"), site.tls(), site.tcp()):
                    wire.send(half)
                    reset(wire)
    assert site.rss_bytes() < before + (24 << 20)


def test_answers_to_somebody_who_has_gone_are_dropped_and_its_writes_are_whole(site: Any) -> None:
    with site.login("ops") as ops:
        assert site.put(ops, "x", collection="gone").kind == Kind.WRITTEN
    for _ in range(10):
        wire = site.login("writer")
        scans = [encode_frame(Kind.SCAN, Scan("gone").encode(), n) for n in range(20)]
        rows = b",".join(b"{}" for _ in range(100))
        body = b'{"collection":"gone","batch":true,"payloads":[%s]}' % rows.replace(b"{}", b'{"fields":{}}')
        wire.send(*scans, encode_frame(Kind.BULK_INSERT, body, 21))
        reset(wire)
    with site.login("ops") as ops:
        answer = ops.ask(Kind.QUERY, b"SELECT count(*) AS n FROM gone")
        assert b'"n":' in answer.payload
        number = int(answer.payload.split(b'"n":')[1].split(b"}")[0])
    assert number % 100 == 1, "each batch is there as a whole or not at all"


def test_a_crowd_of_sessions_that_ask_at_once_is_answered_one_and_all(site: Any) -> None:
    with site.login("ops") as ops:
        assert site.put(ops, "x").kind == Kind.WRITTEN
    crowd = [site.login() for _ in range(CROWD)]
    for wire in crowd:
        wire.send(*(encode_frame(Kind.FETCH, Fetch("good", "x").encode(), n) for n in range(1, 11)))
        wire.send(encode_frame(Kind.SCAN, Scan("good", limit=10).encode(), 11))
    site.check()
    for wire in crowd:
        answers = [wire.frame() for _ in range(11)]
        assert sorted(answer.correlation for answer in answers) == [*range(1, 12)]
        assert {answer.kind for answer in answers} == {Kind.FETCHED, Kind.SCANNED}
        wire.close()


def test_whoever_asks_for_much_and_reads_nothing_is_read_no_further_and_makes_nobody_wait(site: Any) -> None:
    largest = b'{"a":"%s"}' % (b"x" * (DOC_BYTES_MAX - 8))
    with site.login("ops") as ops:
        assert site.put(ops, "largest", largest, "large").kind == Kind.WRITTEN
    before = site.rest_bytes()
    site.forget_peak()
    with site.login("reader") as wire:
        wire.send(*(encode_frame(Kind.FETCH, Fetch("large", "largest").encode(), n) for n in range(1, 41)))
        site.check()
        peak = site.peak_bytes()
        answers = [wire.frame(60) for _ in range(40)]  # and when it reads at last, all of it is there
        assert {frame.correlation for frame in answers} == set(range(1, 41))
    assert peak < before + FEW_ANSWERS * DOC_BYTES_MAX + SLACK_BYTES


def test_a_crowd_that_takes_no_answer_goes_before_memory_does_and_others_are_answered(site: Any) -> None:
    largest = b'{"a":"%s"}' % (b"x" * (DOC_BYTES_MAX - 8))
    with site.login("ops") as ops:
        assert site.put(ops, "largest", largest, "large").kind == Kind.WRITTEN
        assert site.put(ops, "x").kind == Kind.WRITTEN
    crowd = [site.login() for _ in range(4 * UNREAD_BYTES_MAX // DOC_BYTES_MAX)]
    before = site.rest_bytes()
    site.forget_peak()
    for n, wire in enumerate(crowd):
        asked = Fetch("large", "largest").encode()
        if n % 2:
            wire.send(encode_frame(Kind.FETCH, asked, 1))
        else:
            wire.send(encode_frame(Kind.GET, b'{"collection":"large","id":"largest"}', 1))
    with site.login("reader") as wire:
        begun_s = time.monotonic()
        for _ in range(5):
            assert wire.ask(Kind.FETCH, Fetch("good", "x").encode()).kind == Kind.FETCHED
            time.sleep(0.5)
        assert time.monotonic() - begun_s < PATIENCE_S
    held = 2 * UNREAD_BYTES_MAX  # an answer is held until half of it has left
    assert site.peak_bytes() < before + held + FEW_ANSWERS * DOC_BYTES_MAX + SLACK_BYTES
    for wire in crowd:
        wire.close()
    site.check()


def test_frames_that_never_become_whole_are_kept_within_bounds_and_only_of_who_may_send_them(
    site: Any,
) -> None:
    part = HEADER.pack(FRAME_BYTES_MAX, Kind.WRITE, 0, 0, 1) + bytes(FRAME_BYTES_MAX - HEADER.size - 1)
    before = site.rest_bytes()
    site.forget_peak()
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(site.login()).send(part)
        site.check()
        assert site.peak_bytes() < before + SLACK_BYTES, "whoever may only read cannot have any of it kept"
        writers = [stack.enter_context(site.login("writer")) for _ in range(24)]
        for wire in writers:
            wire.send(part)
        deadline_s = time.monotonic() + PATIENCE_S
        while not (told := [frame for wire in writers for frame in wire.words(0.05)]):
            assert time.monotonic() < deadline_s
        assert all("BUSY" in str(site.failure(frame)) for frame in told) and len(told) < len(writers)
    assert site.peak_bytes() < before + SENT_BYTES_MAX + FEW_ANSWERS * FRAME_BYTES_MAX + SLACK_BYTES
    site.check()


def test_reads_that_wait_for_what_is_never_written_leave_the_session_alive(site: Any) -> None:
    seen = Token(ClusterId(site.status().cluster.id), Term(9), Lsn(1 << 40))
    with site.login("reader") as wire:
        fetch = Fetch("good", "x", seen, 60_000).encode()
        wire.send(*(encode_frame(Kind.FETCH, fetch, n) for n in range(1, WAITING_MAX + 1)))
        assert site.lives(wire)
        error = wire.error(Kind.FETCH, fetch)
        assert error.code is Code.STALE
        assert wire.ask(Kind.FETCH, Fetch("good", "x").encode()).kind == Kind.FETCHED
        assert wire.ask(Kind.BYE).kind == Kind.BYE


BURST_BYTES = 64 << 10
FLOODS = 8


@pytest.mark.parametrize(
    "frame",
    [
        HEADER.pack(HEADER.size, Kind.SETTINGS_REQUEST, 0, 0, 1),
        HEADER.pack(HEADER.size + len(BOMB), Kind.WRITE, COMPRESSED, 0, 1) + BOMB,
    ],
    ids=["small requests", "bombs that the role forbids"],
)
def test_whoever_sends_much_at_once_does_not_keep_others_waiting(site: Any, frame: bytes) -> None:
    with contextlib.ExitStack() as stack:
        ops = stack.enter_context(site.login("ops"))
        floods = [stack.enter_context(site.login()) for _ in range(FLOODS)]
        burst = frame * (BURST_BYTES // len(frame))
        took_s = []
        for turn in range(2):
            for flood in floods:
                flood.send(burst)
            begun_s = time.monotonic()
            assert site.put(ops, f"during-{turn}").kind == Kind.WRITTEN
            took_s.append(time.monotonic() - begun_s)
    assert max(took_s) < WAIT_S
