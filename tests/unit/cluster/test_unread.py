"""What clients leave lying, all together."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

from cluster.unread import ALL_BYTES_MAX, EACH_BYTES_MAX, LOOK_S, SCARCE_BYTES_MAX, Unread


def test_each_may_leave_much_until_all_leave_too_much_and_again_once_they_have_gone() -> None:
    now_s = 0.0
    unread = Unread(lambda: now_s)
    slow, fast = SimpleNamespace(buffered_bytes=ALL_BYTES_MAX), SimpleNamespace(buffered_bytes=0)
    unread.enter(slow)
    unread.enter(fast)
    assert not unread.scarce and unread.limit_bytes(slow) == EACH_BYTES_MAX
    fast.buffered_bytes = 1
    assert not unread.scarce, "looked at a moment ago"
    now_s += LOOK_S
    assert unread.scarce and unread.limit_bytes(slow) == SCARCE_BYTES_MAX
    assert unread.limit_bytes(fast) == 0, "it takes what it gets"
    unread.leave(slow)
    now_s += LOOK_S
    assert not unread.scarce


def test_who_waits_for_room_begins_in_turns_by_user_as_soon_as_there_is_some() -> None:
    unread, begun = Unread(lambda: 0.0), list[str]()

    def begin(name: str) -> None:
        begun.append(name)
        unread.promise(EACH_BYTES_MAX)

    unread.promise(ALL_BYTES_MAX)
    for name in ("ann 1", "ann 2", "ann 3", "bob 1"):
        unread.when_room(name[:3], partial(begin, name))
    unread.let_begin()
    assert begun == []
    unread.promise(-2 * EACH_BYTES_MAX)
    assert begun == ["ann 1", "bob 1"]
    unread.promise(-EACH_BYTES_MAX)
    assert begun == ["ann 1", "bob 1", "ann 2"]


def test_one_answer_has_room_however_large_where_there_is_no_other() -> None:
    unread = Unread(lambda: 0.0)
    assert unread.has_room(2 * ALL_BYTES_MAX)
    unread.promise(ALL_BYTES_MAX - EACH_BYTES_MAX)
    assert unread.has_room(EACH_BYTES_MAX)
    assert unread.has_room(EACH_BYTES_MAX + 25), (
        "with its frame: who is called for the largest finds its room"
    )
    unread.promise(1)
    assert not unread.has_room(EACH_BYTES_MAX + 25) and unread.has_room(EACH_BYTES_MAX - 1)


def test_who_waits_starves_until_somebody_gets_room() -> None:
    unread = Unread(lambda: 0.0)
    unread.promise(ALL_BYTES_MAX)
    assert not unread.starving()
    for _ in range(2):
        unread.when_room("ann", lambda: unread.promise(EACH_BYTES_MAX))
    assert unread.starving()
    unread.promise(-EACH_BYTES_MAX)
    assert not unread.starving(), "one of them got some"
    assert unread.starving()
