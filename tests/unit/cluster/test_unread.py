"""What clients leave lying, all together."""

from __future__ import annotations

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
