"""Several ids of one client: what waits in the window of one holds up nothing in the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from redwire.keyring import IDS_MAX, Keyring
from redwire.record import CLIENT_BYTES, NO_CLIENT, OPEN_MAX
from redwire.session_keys import ANSWERED_MAX, YOUNG, SessionKeys

IDS = [bytes([number]) * CLIENT_BYTES for number in range(1, IDS_MAX + 2)]


def take(ring: Keyring, count: int) -> list[tuple[SessionKeys, int]]:
    """So many keys, from the roomiest ids, none of them closed."""
    taken = []
    for _ in range(count):
        keys = ring.roomiest()
        taken.append((keys, keys.take()))
    return taken


def test_a_client_has_one_id_until_a_call_has_waited_for_half_a_window() -> None:
    ring = Keyring(IDS[0])
    first, *others = take(ring, YOUNG)
    for keys, sequence in others:
        keys.close(sequence)
    assert not ring.narrow and first[0].room == OPEN_MAX - YOUNG
    take(ring, 1)
    assert ring.narrow and not ring.full
    first[0].close(first[1])
    assert not ring.narrow


def test_whose_first_server_could_issue_no_id_has_no_room_before_the_first_one() -> None:
    ring = Keyring(NO_CLIENT)
    assert ring.empty and ring.full and ring.narrow
    ring.add(IDS[0])
    assert not ring.empty and not ring.full and not ring.narrow
    assert [(keys.client, sequence) for keys, sequence in take(ring, 1)] == [(IDS[0], 1)]


def test_what_is_kept_and_waited_for_by_nobody_asks_for_no_id() -> None:
    ring = Keyring(IDS[0])
    (keys, first), *_ = take(ring, OPEN_MAX)
    assert ring.narrow and ring.full
    keys.keep(first)
    assert not ring.narrow and not ring.full


def test_with_another_id_there_is_room_again() -> None:
    ring = Keyring(IDS[0])
    take(ring, OPEN_MAX)
    ring.add(IDS[1])
    assert not ring.full and not ring.narrow
    keys, sequence = take(ring, 1)[0]
    assert (keys.client, sequence) == (IDS[1], 1)


def test_an_id_that_is_full_for_what_somebody_keeps_goes_before_one_that_is_full_of_calls() -> None:
    ring = Keyring(IDS[0])
    take(ring, OPEN_MAX)
    ring.add(IDS[1])
    (keys, first), *_ = take(ring, OPEN_MAX)
    keys.keep(first)
    assert ring.roomiest() is keys and take(ring, 1) == [(keys, OPEN_MAX + 1)]


def test_there_are_so_many_ids_and_no_more_are_asked_for() -> None:
    ring = Keyring(IDS[0])
    for client in IDS[1:IDS_MAX]:
        take(ring, OPEN_MAX)
        assert ring.narrow
        ring.add(client)
    take(ring, OPEN_MAX)
    assert ring.full and not ring.narrow
    assert take(ring, 1)[0][1] == 0


def test_where_one_id_is_forgotten_none_of_them_is_used_any_more() -> None:
    ring = Keyring(IDS[0])
    ((old, first),) = take(ring, 1)
    ring.add(IDS[1])
    (other, _), *_ = take(ring, 1)
    ring.renew(IDS[2])
    assert old not in ring and other not in ring
    assert take(ring, 1)[0][0].client == IDS[2]
    for sequence in range(first, first + ANSWERED_MAX + 1):
        ring.resolved(old.key(sequence, ()))
    assert old.oldest == 1


def test_keys_that_were_asked_for_count_in_their_own_id() -> None:
    ring = Keyring(IDS[0])
    ((old, first),) = take(ring, 1)
    old.keep(first)
    ring.resolved(old.key(first, ()))
    ring.add(IDS[1])
    new = ring.roomiest()
    for _ in range(ANSWERED_MAX):
        sequence = new.take()
        new.keep(sequence)
        ring.resolved(new.key(sequence, ()))
    assert (new.oldest, old.oldest) == (1, 1)
    sequence = new.take()
    new.keep(sequence)
    ring.resolved(new.key(sequence, ()))
    assert (new.oldest, old.oldest) == (2, 1)


@given(st.data())
def test_every_key_is_taken_once_and_none_lies_outside_its_window(data: st.DataObject) -> None:
    ring, ids, seen, held = Keyring(IDS[0]), 1, set(), []
    for step in data.draw(st.lists(st.sampled_from("tttttttac"), max_size=60)):
        if step == "a" and ids < IDS_MAX:
            ring.add(IDS[ids])
            ids += 1
        elif step == "c" and held:
            keys, sequence = held.pop(data.draw(st.integers(0, len(held) - 1)))
            keys.close(sequence)
        else:
            for keys, sequence in take(ring, 40):
                key = keys.key(sequence, ())
                assert 0 <= key.sequence - key.oldest < OPEN_MAX
                assert (key.client, key.sequence) not in seen
                seen.add((key.client, key.sequence))
                held.append((keys, sequence))
