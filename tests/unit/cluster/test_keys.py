from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.client_ids import MARK_BYTES, marked
from cluster.keys import (
    CLIENT_AGE_MS,
    OPEN_MAX,
    Absent,
    Expired,
    Keys,
    Remembered,
    within_window,
)
from redwire.message.client import RESULT, RecordStatus
from redwire.position import Lsn
from redwire.record import CLIENT_BYTES, Key

MARK = b"noise!!!".ljust(MARK_BYTES)
ANN, BOB, EVE = (marked(Lsn(issued), MARK) for issued in (1, 2, 3))
PLAIN = RESULT.pack(RecordStatus.APPLIED, 10)


def keys(**limits: int) -> Keys:
    memory = Keys(**limits)
    memory.advance(Lsn(9), 1_000)
    return memory


def record(memory: Keys, client: bytes, sequence: int, oldest: int = 1, time_ms: int = 1_000) -> bytes:
    key = Key(client, sequence, oldest)
    assert memory.lookup(key) == Absent()
    return memory.record(key, Lsn(10), 1, PLAIN, time_ms)


@pytest.mark.parametrize(
    ("count", "items"),
    [
        (1, RESULT.pack(RecordStatus.APPLIED, 10)),
        (3, b"".join(RESULT.pack(RecordStatus.APPLIED, lsn) for lsn in (10, 11, 12))),
        (1, RESULT.pack(RecordStatus.EXISTS, 4)),
        (2, RESULT.pack(RecordStatus.APPLIED, 10) + RESULT.pack(RecordStatus.DELETED, 7)),
    ],
)
def test_an_executed_request_is_known_with_its_first_lsn_and_items(count: int, items: bytes) -> None:
    memory = keys()
    memory.record(Key(ANN, 1, 1), Lsn(10), count, items, 1_000)
    assert memory.lookup(Key(ANN, 1, 1)) == Remembered(Lsn(10), items)


def test_a_closed_key_is_known_to_have_come_to_nothing_and_closes_no_other() -> None:
    memory = keys()
    record(memory, ANN, 3)
    (entry,) = memory.close(Key(ANN, 2, 2), Lsn(12), 2_000)
    assert memory.lookup(Key(ANN, 2, 1)) == Remembered(Lsn(12), b"")
    assert memory.lookup(Key(ANN, 1, 1)) == Absent()
    assert memory.close(Key(ANN, 2, 2), Lsn(13), 3_000) == []
    assert memory.close(Key(ANN, 3, 3), Lsn(14), 3_000) == [], "what was executed stays so"
    assert isinstance(memory.lookup(Key(ANN, 3, 1)), Remembered)
    again = keys()
    again.replay(entry)
    assert again.lookup(Key(ANN, 2, 2)) == Remembered(Lsn(12), b"")


def test_a_result_in_which_all_was_applied_is_stored_without_items() -> None:
    many = b"".join(RESULT.pack(RecordStatus.APPLIED, lsn) for lsn in range(10, 5010))
    assert len(keys().record(Key(ANN, 1, 1), Lsn(10), 5000, many, 1_000)) < 64


def test_a_result_in_which_all_records_came_to_the_same_takes_little() -> None:
    memory, many = keys(), RESULT.pack(RecordStatus.NOT_FOUND, 0) * 10_000
    entry = memory.record(Key(ANN, 1, 1), Lsn(10), 10_000, many, 1_000)
    assert len(entry) < 100 and memory.held < 1_000
    again = keys()
    again.replay(entry)
    assert again.lookup(Key(ANN, 1, 1)) == Remembered(Lsn(10), many)


def test_beyond_the_bound_in_bytes_whoever_takes_most_makes_room_and_nobody_who_takes_less() -> None:
    memory = keys(bytes_max=100_000)
    memory.advance(Lsn(30), 0)
    small = [marked(Lsn(issued), b"aa" + MARK[2:]) for issued in range(1, 21)]
    large = [marked(Lsn(issued), b"zz" + MARK[2:]) for issued in range(21, 24)]
    listed = b"".join(RESULT.pack(RecordStatus.DELETED, 3 * n % 101) for n in range(4_000))
    for client in small:
        record(memory, client, 1)
    for client in large:
        memory.record(Key(client, 1, 1), Lsn(10), 4_000, listed, 1_000)
        assert memory.held <= 100_000
    assert all(isinstance(memory.lookup(Key(client, 1, 1)), Remembered) for client in (*small, *large[-2:]))
    assert memory.lookup(Key(large[0], 1, 1)) == Expired() and memory.forgotten_through == 21
    for sequence in range(2, 9):
        memory.record(Key(large[1], sequence, sequence), Lsn(10), 4_000, listed, 1_000)
    assert isinstance(memory.lookup(Key(large[2], 1, 1)), Remembered), "what its client has done with is gone"
    memory.record(Key(large[2], 2, 1), Lsn(10), 4_000, listed, 1_000)
    assert memory.lookup(Key(large[1], 8, 8)) == Expired(), "whose last write is the oldest of theirs"


def test_who_takes_more_than_there_is_room_for_is_forgotten_itself_and_nobody_else() -> None:
    memory = keys(bytes_max=20_000)
    record(memory, ANN, 1)
    whole = marked(Lsn(5), b"zz" + MARK[2:])
    listed = b"".join(RESULT.pack(RecordStatus.DELETED, 3 * n % 101) for n in range(4_000))
    memory.record(Key(whole, 1, 1), Lsn(10), 4_000, listed, 1_000)
    assert memory.lookup(Key(whole, 1, 1)) == Expired()
    assert isinstance(memory.lookup(Key(ANN, 1, 1)), Remembered)
    assert len(memory) == 1 and memory.held < 1_000


def test_sequences_are_a_set_so_their_order_is_free() -> None:
    memory = keys()
    for sequence in (5, 2, 9):
        record(memory, ANN, sequence)
    assert isinstance(memory.lookup(Key(ANN, 2, 1)), Remembered)
    assert memory.lookup(Key(ANN, 3, 1)) == Absent()
    assert (len(memory), memory.open) == (1, 3)


def test_below_the_oldest_unresolved_sequence_everything_is_expired() -> None:
    memory = keys()
    record(memory, ANN, 1)
    record(memory, ANN, 2)
    record(memory, ANN, 4, oldest=3)
    assert memory.lookup(Key(ANN, 1, 1)) == Expired()
    assert memory.lookup(Key(ANN, 2, 1)) == Expired()
    assert memory.lookup(Key(ANN, 3, 3)) == Absent()
    assert memory.open == 1


@pytest.mark.parametrize("oldest", [5, 10**12, (1 << 64) - 4])
def test_a_low_water_mark_that_leaps_drops_whatever_it_passes(oldest: int) -> None:
    memory = keys()
    for sequence in (7, 2, 4, 3):
        record(memory, ANN, sequence)
    record(memory, ANN, oldest + 3, oldest=oldest)
    assert memory.open == (2 if oldest <= 7 else 1)
    assert memory.lookup(Key(ANN, 4, 4)) == Expired()
    assert isinstance(memory.lookup(Key(ANN, oldest + 3, oldest)), Remembered)


def test_the_low_water_mark_never_goes_back() -> None:
    memory = keys()
    record(memory, ANN, 6, oldest=5)
    record(memory, ANN, 7, oldest=1)
    assert memory.lookup(Key(ANN, 4, 1)) == Expired()
    assert isinstance(memory.lookup(Key(ANN, 6, 1)), Remembered)


@pytest.mark.parametrize(
    ("key", "within"),
    [
        (Key(ANN, 1, 1), True),
        (Key(ANN, OPEN_MAX, 1), True),
        (Key(ANN, OPEN_MAX + 1, 1), False),
        (Key(ANN, 2 * OPEN_MAX, OPEN_MAX), False),
        (Key(ANN, 1, 2), False),
    ],
)
def test_a_sequence_too_far_above_its_own_oldest_is_never_executed(key: Key, within: bool) -> None:
    memory = keys()
    assert within_window(key) is within
    assert memory.lookup(key) == (Absent() if within else Expired())
    record(memory, ANN, 1)
    assert memory.lookup(Key(ANN, OPEN_MAX, 1)) == Absent()
    assert memory.lookup(Key(ANN, OPEN_MAX + 1, 1)) == Expired()


def test_a_client_is_forgotten_a_day_after_its_last_write() -> None:
    memory = keys()
    record(memory, ANN, 1, time_ms=1_000)
    record(memory, BOB, 1, time_ms=2_000)
    memory.advance(Lsn(20), 1_000 + CLIENT_AGE_MS - 1)
    assert isinstance(memory.lookup(Key(ANN, 1, 1)), Remembered)
    memory.advance(Lsn(20), 1_000 + CLIENT_AGE_MS)
    assert memory.lookup(Key(ANN, 1, 1)) == Expired()
    assert isinstance(memory.lookup(Key(BOB, 1, 1)), Remembered)
    assert (memory.forgotten_through, len(memory), memory.open) == (1, 1, 1)


def test_beyond_the_bound_the_client_whose_last_write_is_oldest_is_forgotten() -> None:
    memory = keys(clients_max=2)
    record(memory, ANN, 1)
    record(memory, BOB, 1)
    record(memory, ANN, 2)
    record(memory, EVE, 1)
    assert memory.lookup(Key(BOB, 1, 1)) == Expired()
    assert isinstance(memory.lookup(Key(ANN, 1, 1)), Remembered)
    assert memory.forgotten_through == 2


def test_whoever_has_most_clients_makes_room_and_nobody_who_has_fewer() -> None:
    memory = keys(clients_max=5)
    memory.advance(Lsn(30), 0)
    few = [marked(Lsn(issued), b"aa" + MARK[2:]) for issued in (1, 2)]
    many = [marked(Lsn(issued), b"zz" + MARK[2:]) for issued in range(3, 23)]
    for client in (*few, *many):
        record(memory, client, 1)
    assert all(isinstance(memory.lookup(Key(client, 1, 1)), Remembered) for client in (*few, *many[-3:]))
    assert memory.lookup(Key(many[-4], 1, 1)) == Expired() and len(memory) == 5
    record(memory, many[-3], 2)
    record(memory, marked(Lsn(30), b"bb" + MARK[2:]), 1)
    assert memory.lookup(Key(many[-2], 1, 1)) == Expired(), "whose last write is the oldest of theirs"


@pytest.mark.parametrize("limits", [{"clients_max": 2_000}, {"bytes_max": 2_000 * 800}])
def test_whoever_has_to_make_room_is_found_without_a_look_at_all_owners(limits: dict[str, int]) -> None:
    """Else a full memory takes milliseconds for each new client, and minutes when it is read again."""
    memory, calls, new = keys(**limits), 0, 500
    memory.advance(Lsn(9_999), 1_000)

    def counted(frame: object, event: str, of: object) -> None:
        nonlocal calls
        calls += event == "call"

    def write(numbers: range) -> None:
        for number in numbers:
            whose = (number % 2_500).to_bytes(2, "big")
            record(memory, marked(Lsn(number), whose + MARK[2:]), 1)

    write(range(2_500))
    before = len(memory)
    sys.setprofile(counted)
    try:
        write(range(2_500, 2_500 + new))
    finally:
        sys.setprofile(None)
    assert len(memory) == before and memory.forgotten_through > 0
    assert calls < 50 * new


def test_an_unknown_client_that_may_be_a_forgotten_one_is_never_executed() -> None:
    memory = keys(clients_max=1)
    record(memory, BOB, 1)
    record(memory, EVE, 1)
    stranger = marked(Lsn(2), bytes(MARK_BYTES))
    younger = marked(Lsn(3), bytes(MARK_BYTES))
    assert memory.lookup(Key(stranger, 1, 1)) == Expired()
    assert memory.lookup(Key(younger, 1, 1)) == Absent()


def test_before_anyone_was_forgotten_even_an_id_of_the_empty_log_is_welcome() -> None:
    assert keys().lookup(Key(marked(Lsn(0), MARK), 1, 1)) == Absent()


def test_an_id_that_the_log_has_not_reached_was_issued_by_nobody() -> None:
    memory = keys()
    assert memory.lookup(Key(marked(Lsn(9), MARK), 1, 1)) == Absent()
    assert memory.lookup(Key(marked(Lsn(10), MARK), 1, 1)) == Expired()
    assert memory.lookup(Key(b"\xff" * CLIENT_BYTES, 1, 1)) == Expired()


CLIENTS = [marked(Lsn(issued), owner + MARK[2:]) for issued in range(4) for owner in (b"aa", b"bb", b"cc")]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(CLIENTS),
        st.integers(1, 12),
        st.integers(0, 5),
        st.integers(1, 40),
        st.sampled_from([RecordStatus.APPLIED, RecordStatus.EXISTS]),
    ),
    max_size=60,
)


def test_who_was_forgotten_for_its_age_crowds_nobody_out_in_a_replay() -> None:
    limits = {"clients_max": 3, "age_ms": 50}
    memory, stored = Keys(**limits), b""
    memory.advance(Lsn(10), 0)
    old, *younger = (
        marked(Lsn(issued), owner + MARK[2:]) for issued, owner in enumerate((b"aa", b"zz", b"zz", b"zz"))
    )
    for client, time_ms in zip((old, *younger), (0, 30, 40, 60), strict=True):
        memory.advance(Lsn(10), time_ms)
        stored += record(memory, client, 1, time_ms=time_ms)
    assert len(memory) == 3
    again = Keys(**limits, forgotten_through=memory.forgotten_through)
    again.replay(stored)
    again.advance(Lsn(10), 60)
    assert again == memory


@given(steps=STEPS, stop=st.integers(0, 60), tail_ms=st.integers(0, 80))
def test_replay_builds_the_memory_again_and_so_does_what_is_left_after_a_rewrite(
    steps: list[tuple[bytes, int, int, int, RecordStatus]], stop: int, tail_ms: int
) -> None:
    limits = {"clients_max": 3, "age_ms": 50, "bytes_max": 3_000}
    memory, stored, lsn, time_ms = Keys(**limits), [], 10, 0
    for place, (client, sequence, back, pause_ms, status) in enumerate(steps):
        key = Key(client, sequence, max(1, sequence - back))
        lsn, time_ms = lsn + 1, time_ms + pause_ms
        memory.advance(Lsn(lsn - 1), time_ms)
        if memory.lookup(key) == Absent():
            items = RESULT.pack(status, lsn) * (1 if status is RecordStatus.APPLIED else lsn % 30)
            stored.append(memory.record(key, Lsn(lsn), len(items) // RESULT.size, items, time_ms))
            assert memory.held <= 3_000
            forgotten = client not in memory._clients
            assert isinstance(memory.lookup(key), Expired if forgotten else Remembered)
        if place == stop:
            rewritten = list(memory.entries())
            assert [last for last, _ in rewritten] == sorted({last for last, _ in rewritten})
            stored = [entries for _, entries in rewritten]
    memory.advance(Lsn(lsn), time_ms + tail_ms)
    again = Keys(**limits, forgotten_through=memory.forgotten_through)
    again.replay(b"".join(stored))
    again.advance(Lsn(lsn), time_ms + tail_ms)
    assert again == memory
    assert list(again._clients) == list(memory._clients)
    owners = list(again._owners)
    assert sorted(ident for owner in owners for ident in owner.clients) == sorted(again._clients)
    assert again.held == sum(owner.held for owner in owners) == sum(c.held for c in again._clients.values())
    assert again.entry_bytes == sum(len(entries) for _, entries in again.entries())
    assert again.open == sum(len(client.results) for client in memory._clients.values())
    assert all(client.results for client in memory._clients.values())
