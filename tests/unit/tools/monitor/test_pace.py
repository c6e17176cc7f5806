from __future__ import annotations

from tools.monitor.pace import DRAW_MS, Pace


def test_a_drawing_that_is_wanted_after_a_quiet_time_happens_at_once() -> None:
    pace = Pace()
    assert pace.wanted(0) == 0
    assert pace.wanted(1) is None, "it is planned already"
    pace.drew(2)
    assert pace.wanted(10) == DRAW_MS - 8
    pace.drew(252)
    assert pace.wanted(9_000) == 0
    assert pace.draws == 2


def test_it_is_quiet_when_nothing_was_drawn_or_planned_for_so_long() -> None:
    pace = Pace()
    assert pace.quiet(0, 900)
    pace.wanted(0)
    assert not pace.quiet(5_000, 900)
    pace.drew(5_000)
    assert not pace.quiet(5_899, 900) and pace.quiet(5_900, 900)
